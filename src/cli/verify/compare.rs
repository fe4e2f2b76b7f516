//! The rows of one (user, asset) in view, table and ledger, how they differ, and the count of all.

use std::fmt;

use balance_cache::domain::{AssetId, Balance, Catalogue, UserId};
use serde::Serialize;

/// Parts that the token ring is cut into; progress is counted in them.
pub(super) const STRETCHES: u32 = 256;

/// Random places in a row without a new user, after which the rest of a sample is read in order.
pub(super) const REPEATED_PLACES_MAX: u32 = 16;

/// How two places differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DifferenceKind {
    ViewBehind,
    ViewAhead,
    ViewAmounts,
    TableBehind,
    TableAhead,
    TableAmounts,
    RowBroken,
    RowStray,
    RecordIncomplete,
    RecordDiffers,
}

impl DifferenceKind {
    pub(super) const fn kind_text(self) -> &'static str {
        match self {
            Self::ViewBehind => "view behind",
            Self::ViewAhead => "view ahead",
            Self::ViewAmounts => "view amounts differ",
            Self::TableBehind => "table behind",
            Self::TableAhead => "table ahead",
            Self::TableAmounts => "table amounts differ",
            Self::RowBroken => "row does not add up",
            Self::RowStray => "row of no trade",
            Self::RecordIncomplete => "row missing",
            Self::RecordDiffers => "row differs from its record",
        }
    }
}

/// The newest row of one (user, asset) in a place that is compared; none at the outside: it is not compared.
type ComparedPlace = Option<Option<Balance>>;

/// One (user, asset) in all places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trio {
    pub(super) user: UserId,
    pub(super) asset: AssetId,
    pub(super) ledger: Option<Balance>,
    pub(super) view: ComparedPlace,
    pub(super) table: ComparedPlace,
}

/// A difference, for a line and for programs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Difference {
    pub(super) kind: DifferenceKind,
    pub(super) user: i64,
    pub(super) asset: String,
    pub(super) said: String,
}

const fn row_seq(row: Option<&Balance>) -> i64 {
    match row {
        Some(row) => row.seq.get(),
        None => 0,
    }
}

impl Trio {
    fn compared_places(&self) -> [(&'static str, ComparedPlace, [DifferenceKind; 3]); 2] {
        use DifferenceKind::{
            TableAhead, TableAmounts, TableBehind, ViewAhead, ViewAmounts, ViewBehind,
        };
        [
            ("the view", self.view, [ViewBehind, ViewAhead, ViewAmounts]),
            (
                "user_balances",
                self.table,
                [TableBehind, TableAhead, TableAmounts],
            ),
        ]
    }

    /// How the places differ from the ledger.
    pub(super) fn difference_kinds(&self) -> Vec<DifferenceKind> {
        let mut found = Vec::new();
        for (_, place, [behind, ahead, amounts]) in self.compared_places() {
            let Some(row) = place else { continue };
            match (row, self.ledger) {
                (row, ledger) if row_seq(row.as_ref()) < row_seq(ledger.as_ref()) => {
                    found.push(behind);
                }
                (row, ledger) if row_seq(row.as_ref()) > row_seq(ledger.as_ref()) => {
                    found.push(ahead);
                }
                (Some(row), Some(ledger))
                    if (row.avail, row.frozen) != (ledger.avail, ledger.frozen) =>
                {
                    found.push(amounts);
                }
                _ => {}
            }
        }
        found
    }

    /// Whether a difference that was seen at first is gone in what was read later.
    pub(super) fn is_settled(&self, kind: DifferenceKind, later: &Self) -> bool {
        let reached =
            |row: ComparedPlace, least: i64| row.is_none_or(|row| row_seq(row.as_ref()) >= least);
        let had = |row: ComparedPlace| row.map_or(0, |row| row_seq(row.as_ref()));
        match kind {
            DifferenceKind::ViewBehind => {
                reached(later.view, row_seq(self.ledger.as_ref()))
                    && !later
                        .difference_kinds()
                        .contains(&DifferenceKind::ViewAmounts)
            }
            DifferenceKind::TableBehind => {
                reached(later.table, row_seq(self.ledger.as_ref()))
                    && !later
                        .difference_kinds()
                        .contains(&DifferenceKind::TableAmounts)
            }
            DifferenceKind::ViewAhead => row_seq(later.ledger.as_ref()) >= had(self.view),
            DifferenceKind::TableAhead => row_seq(later.ledger.as_ref()) >= had(self.table),
            DifferenceKind::ViewAmounts | DifferenceKind::TableAmounts => {
                !later.difference_kinds().contains(&kind)
            }
            // Those are judged by `conservation`.
            DifferenceKind::RowBroken
            | DifferenceKind::RowStray
            | DifferenceKind::RecordIncomplete
            | DifferenceKind::RecordDiffers => false,
        }
    }

    /// In words, with amounts as people write them.
    pub(super) fn describe_difference(
        &self,
        kind: DifferenceKind,
        catalogue: &Catalogue,
    ) -> Difference {
        let known = catalogue.get_asset(self.asset);
        let (asset, decimals) = known.unwrap_or_else(|| (self.asset.to_string(), 0));
        let row = |row: Option<Balance>| {
            row.map_or_else(
                || "nothing".to_owned(),
                |row| {
                    let (avail, frozen) = (
                        row.avail.to_decimal(decimals),
                        row.frozen.to_decimal(decimals),
                    );
                    format!("seq {} (avail {avail}, frozen {frozen})", row.seq)
                },
            )
        };
        let [view, table] = self.compared_places();
        let (name, place, _) = match kind {
            DifferenceKind::ViewBehind
            | DifferenceKind::ViewAhead
            | DifferenceKind::ViewAmounts => view,
            _ => table,
        };
        let said = format!(
            "{name} has {} of {asset}, the ledger has {}",
            row(place.flatten()),
            row(self.ledger)
        );
        Difference {
            kind,
            user: self.user.get(),
            asset,
            said,
        }
    }
}

/// The count of everything.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct VerifyTally {
    pub(super) users: u64,
    pub(super) assets: u64,
    pub(super) rows: u64,
    pub(super) view_behind: u64,
    pub(super) view_ahead: u64,
    pub(super) view_amounts: u64,
    pub(super) table_behind: u64,
    pub(super) table_ahead: u64,
    pub(super) table_amounts: u64,
    pub(super) rows_broken: u64,
    pub(super) rows_stray: u64,
    pub(super) rows_missing: u64,
    pub(super) rows_unlike_record: u64,
    /// Differences that settled within the grace time.
    pub(super) lag: u64,
}

impl VerifyTally {
    /// A comparison was made: of one asset of some user.
    pub(super) fn count_compared(&mut self, trio: &Trio) {
        self.assets = self.assets.saturating_add(1);
        let rows = [Some(trio.ledger), trio.view, trio.table];
        let rows = rows.into_iter().flatten().flatten().count();
        self.rows = self.rows.saturating_add(u64::try_from(rows).unwrap_or(0));
    }

    pub(super) fn count_difference(&mut self, kind: DifferenceKind) {
        let counter = match kind {
            DifferenceKind::ViewBehind => &mut self.view_behind,
            DifferenceKind::ViewAhead => &mut self.view_ahead,
            DifferenceKind::ViewAmounts => &mut self.view_amounts,
            DifferenceKind::TableBehind => &mut self.table_behind,
            DifferenceKind::TableAhead => &mut self.table_ahead,
            DifferenceKind::TableAmounts => &mut self.table_amounts,
            DifferenceKind::RowBroken => &mut self.rows_broken,
            DifferenceKind::RowStray => &mut self.rows_stray,
            DifferenceKind::RecordIncomplete => &mut self.rows_missing,
            DifferenceKind::RecordDiffers => &mut self.rows_unlike_record,
        };
        *counter = counter.saturating_add(1);
    }

    fn counts_by_kind(&self) -> [(DifferenceKind, u64); 10] {
        [
            (DifferenceKind::ViewBehind, self.view_behind),
            (DifferenceKind::ViewAhead, self.view_ahead),
            (DifferenceKind::ViewAmounts, self.view_amounts),
            (DifferenceKind::TableBehind, self.table_behind),
            (DifferenceKind::TableAhead, self.table_ahead),
            (DifferenceKind::TableAmounts, self.table_amounts),
            (DifferenceKind::RowBroken, self.rows_broken),
            (DifferenceKind::RowStray, self.rows_stray),
            (DifferenceKind::RecordIncomplete, self.rows_missing),
            (DifferenceKind::RecordDiffers, self.rows_unlike_record),
        ]
    }

    pub(super) fn sum_differences(&self) -> u64 {
        self.counts_by_kind()
            .iter()
            .fold(0, |all, (_, count)| all.saturating_add(*count))
    }
}

impl fmt::Display for VerifyTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            users,
            assets,
            rows,
            lag,
            ..
        } = self;
        write!(
            f,
            "{users} users, {assets} assets, {rows} rows compared, {} differences",
            self.sum_differences()
        )?;
        for (kind, count) in self.counts_by_kind() {
            if count > 0 {
                write!(f, ", {}: {count}", kind.kind_text())?;
            }
        }
        write!(f, ", {lag} settled (lag)")
    }
}

#[cfg(test)]
mod tests {
    use balance_cache::domain::{Amount, Seq, UnixMillis};

    use super::*;

    fn sample_row(seq: i64, avail: i64) -> Option<Balance> {
        let balance = Balance {
            asset: AssetId::new(1).unwrap(),
            seq: Seq::new(seq).unwrap(),
            avail: Amount::from_raw(avail),
            frozen: Amount::from_raw(0),
            updated_at: None,
            said_at: UnixMillis(0),
        };
        (seq > 0).then_some(balance)
    }

    fn sample_trio(ledger: Option<Balance>, view: ComparedPlace, table: ComparedPlace) -> Trio {
        Trio {
            user: UserId::new(7).unwrap(),
            asset: AssetId::new(1).unwrap(),
            ledger,
            view,
            table,
        }
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        let ledger = sample_row(18, 5);
        let view = |view| sample_trio(ledger, Some(view), None).difference_kinds();
        assert_eq!(view(sample_row(18, 5)), []);
        assert_eq!(view(sample_row(17, 5)), [DifferenceKind::ViewBehind]);
        assert_eq!(view(None), [DifferenceKind::ViewBehind]);
        assert_eq!(view(sample_row(19, 5)), [DifferenceKind::ViewAhead]);
        assert_eq!(view(sample_row(18, 6)), [DifferenceKind::ViewAmounts]);
        let both = sample_trio(None, Some(sample_row(1, 1)), Some(sample_row(1, 1)));
        assert_eq!(
            both.difference_kinds(),
            [DifferenceKind::ViewAhead, DifferenceKind::TableAhead]
        );
        assert_eq!(
            sample_trio(ledger, None, None).difference_kinds(),
            [],
            "what is not compared does not differ"
        );
    }

    #[test]
    fn lag_settles_though_the_ledger_goes_on_and_a_wrong_amount_does_not() {
        let first = sample_trio(sample_row(18, 5), Some(sample_row(17, 4)), None);
        let later = sample_trio(sample_row(30, 9), Some(sample_row(18, 5)), None);
        assert!(first.is_settled(DifferenceKind::ViewBehind, &later));
        assert!(!first.is_settled(DifferenceKind::ViewBehind, &first));
        let wrong = sample_trio(sample_row(18, 5), Some(sample_row(18, 4)), None);
        assert!(!first.is_settled(DifferenceKind::ViewBehind, &wrong));
        assert!(!wrong.is_settled(DifferenceKind::ViewAmounts, &wrong));
        let ahead = sample_trio(sample_row(18, 5), Some(sample_row(19, 6)), None);
        assert!(ahead.is_settled(
            DifferenceKind::ViewAhead,
            &sample_trio(sample_row(19, 6), Some(sample_row(19, 6)), None)
        ));
        assert!(!ahead.is_settled(DifferenceKind::ViewAhead, &ahead));
    }
}
