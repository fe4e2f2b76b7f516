//! A row as it was read in both tables, more than once, and how it counts.
//!
//! **Limits.** [`SHOWN_MAX`] differences are shown.

use balance_cache::ledger::scylla::backfill::{BackfillKey, ComparedRow, RowContent};
use serde::Serialize;

/// Differences that are shown.
const SHOWN_MAX: usize = 100;

/// The result.
#[derive(Debug, Default, Serialize)]
pub(super) struct TableComparison {
    /// Rows that the source says should stand.
    pub(super) expected: u64,
    /// Rows that stand.
    pub(super) standing: u64,
    pub(super) missing: u64,
    pub(super) different: u64,
    /// Rows of the target that no row of the source stands behind.
    pub(super) unexpected: u64,
    /// Rows of trades that are not finished.
    pub(super) pending: u64,
    /// Rows that were written meanwhile.
    pub(super) settled: u64,
    /// More rows differ than were looked at: the counts of differences are the least that there are.
    pub(super) incomplete: bool,
    /// Some of the differences.
    pub(super) shown: Vec<String>,
}

impl TableComparison {
    /// Whether both tables hold the same.
    pub(super) const fn is_same(&self) -> bool {
        self.missing == 0 && self.different == 0 && self.unexpected == 0 && !self.incomplete
    }

    fn show_line(&mut self, text: String) {
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(text);
        }
    }

    pub(super) fn count_look(&mut self, look: &RowInBoth) {
        let RowInBoth {
            key,
            content,
            settled,
            pending,
        } = look;
        let (counter, text) = match (content.expected, content.standing) {
            _ if *pending => (&mut self.pending, None),
            _ if *settled => (&mut self.settled, None),
            (Some(_), None) => (&mut self.missing, Some(format!("missing: {key}"))),
            (None, Some(_)) => (&mut self.unexpected, Some(format!("unexpected: {key}"))),
            (Some(should), Some(is)) => {
                let words = format!(
                    "different: {key}: {} instead of {}",
                    content_text(is),
                    content_text(should)
                );
                (&mut self.different, Some(words))
            }
            (None, None) => (&mut self.settled, None),
        };
        *counter = counter.saturating_add(1);
        if let Some(text) = text {
            self.show_line(text);
        }
    }
}

/// A row that differed at first, as it was read last.
pub(super) struct RowInBoth {
    pub(super) key: BackfillKey,
    pub(super) content: ContentInBoth,
    pub(super) settled: bool,
    pub(super) pending: bool,
}

/// The content of a row as both tables have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentInBoth {
    pub(super) expected: Option<RowContent>,
    pub(super) standing: Option<RowContent>,
}

impl ContentInBoth {
    pub(super) fn of_row(row: &ComparedRow) -> Self {
        Self {
            expected: row.expected.map(|row| row.content),
            standing: row.standing.map(|row| row.content),
        }
    }

    /// Whether a row that differed at first does not differ in what was read later.
    ///
    /// A balance that is written all the time may never be read the same twice. It is settled once each table has reached the version
    /// that the other one had at first, and no version was read with two contents.
    pub(super) fn is_settled(&self, key: BackfillKey, later: &Self) -> bool {
        if later.expected == later.standing {
            return true;
        }
        let (BackfillKey::Balance { .. }, Some(should), Some(is)) =
            (key, later.expected, later.standing)
        else {
            return false;
        };
        let reached = row_version(is) >= self.expected.map_or(0, row_version)
            && row_version(should) >= self.standing.map_or(0, row_version);
        let mut expected = [self.expected, later.expected].into_iter().flatten();
        let standing = [self.standing, later.standing];
        let agrees = |should: RowContent| {
            let mut standing = standing.iter().flatten();
            standing.all(|is| row_version(*is) != row_version(should) || *is == should)
        };
        reached && expected.all(agrees)
    }
}

/// The version of a balance; 0 where it has none.
fn row_version([version, ..]: RowContent) -> i64 {
    version.unwrap_or_default()
}

fn content_text(content: RowContent) -> String {
    let words = content.map(|column| column.map_or_else(|| "null".to_owned(), |it| it.to_string()));
    format!("({})", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BALANCE: BackfillKey = BackfillKey::Balance { user: 7, asset: 1 };

    /// Version and available amount in the source and in the target; version 0 is no row.
    fn read_as(source: (i64, i64), target: (i64, i64)) -> ContentInBoth {
        let content = |(version, avail): (i64, i64)| {
            (version > 0).then_some([Some(version), Some(avail), Some(0), Some(5)])
        };
        ContentInBoth {
            expected: content(source),
            standing: content(target),
        }
    }

    fn is_balance_settled(first: ContentInBoth, later: ContentInBoth) -> bool {
        first.is_settled(BALANCE, &later)
    }

    #[test]
    fn a_balance_that_is_written_all_the_time_is_settled_once_both_reached_what_was_read_first() {
        let ahead = read_as((10, 1), (12, 3));
        assert!(is_balance_settled(ahead, read_as((20, 4), (22, 6))));
        assert!(is_balance_settled(ahead, read_as((12, 3), (13, 7))));
        let behind = read_as((10, 1), (9, 8));
        assert!(is_balance_settled(behind, read_as((11, 2), (10, 1))));
        let new = read_as((1, 1), (0, 0));
        assert!(is_balance_settled(new, read_as((3, 3), (2, 2))));
        let equal = read_as((4, 4), (4, 4));
        assert!(is_balance_settled(read_as((4, 4), (4, 5)), equal));
    }

    #[test]
    fn a_balance_that_stays_behind_or_ahead_or_is_gone_is_not_settled() {
        let behind = read_as((10, 1), (9, 8));
        assert!(!is_balance_settled(behind, behind));
        assert!(!is_balance_settled(behind, read_as((30, 1), (9, 8))));
        assert!(!is_balance_settled(behind, read_as((10, 1), (0, 0))));
        let ahead = read_as((10, 1), (12, 3));
        assert!(!is_balance_settled(ahead, ahead));
        assert!(!is_balance_settled(ahead, read_as((11, 2), (12, 3))));
        assert!(!is_balance_settled(ahead, read_as((0, 0), (12, 3))));
        let unexpected = read_as((0, 0), (2, 2));
        assert!(!is_balance_settled(unexpected, unexpected));
    }

    #[test]
    fn one_version_with_two_amounts_is_a_difference_in_whichever_reads_it_was() {
        let behind = read_as((10, 1), (9, 8));
        assert!(!is_balance_settled(behind, read_as((10, 1), (10, 2))));
        assert!(!is_balance_settled(behind, read_as((11, 2), (10, 2))));
        let ahead = read_as((10, 1), (12, 3));
        assert!(!is_balance_settled(ahead, read_as((12, 4), (13, 7))));
    }

    #[test]
    fn a_side_of_a_trade_is_settled_only_if_both_are_the_same() {
        let trade = BackfillKey::Trade {
            user: 7,
            symbol: 1,
            settled_at: 5,
            trade: 9,
            role: 0,
        };
        let (first, later) = (read_as((10, 1), (12, 3)), read_as((20, 4), (22, 6)));
        assert!(!first.is_settled(trade, &later));
        assert!(first.is_settled(trade, &read_as((10, 1), (10, 1))));
    }

    #[test]
    fn a_row_that_is_settled_is_no_difference_though_it_was_not_read_the_same() {
        let mut found = TableComparison::default();
        for (settled, content) in [
            (true, read_as((20, 4), (22, 6))),
            (false, read_as((10, 1), (10, 2))),
            (false, read_as((10, 1), (0, 0))),
        ] {
            found.count_look(&RowInBoth {
                key: BALANCE,
                content,
                settled,
                pending: false,
            });
        }
        assert_eq!((found.settled, found.different, found.missing), (1, 1, 1));
        let different = "different: user 7, asset 1: (10, 2, 0, 5) instead of (10, 1, 0, 5)";
        assert_eq!(found.shown, [different, "missing: user 7, asset 1"]);
    }
}
