//! The rows of one (user, asset) in view, table and ledger, how they differ, and the count of all.

use std::fmt;

use balance_cache::domain::{AssetId, Balance, Catalogue, UserId};
use serde::Serialize;

/// Parts that the token ring is cut into; progress is counted in them.
pub(super) const STRETCHES: u32 = 256;

/// How two places differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
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

impl Kind {
    pub(super) const fn word(self) -> &'static str {
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
type Place = Option<Option<Balance>>;

/// One (user, asset) in all places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trio {
    pub(super) user: UserId,
    pub(super) asset: AssetId,
    pub(super) ledger: Option<Balance>,
    pub(super) view: Place,
    pub(super) table: Place,
}

/// A difference, for a line and for programs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Difference {
    pub(super) kind: Kind,
    pub(super) user: i64,
    pub(super) asset: String,
    pub(super) said: String,
}

const fn seq(row: Option<&Balance>) -> i64 {
    match row {
        Some(row) => row.seq.get(),
        None => 0,
    }
}

impl Trio {
    fn places(&self) -> [(&'static str, Place, [Kind; 3]); 2] {
        use Kind::{TableAhead, TableAmounts, TableBehind, ViewAhead, ViewAmounts, ViewBehind};
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
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let mut found = Vec::new();
        for (_, place, [behind, ahead, amounts]) in self.places() {
            let Some(row) = place else { continue };
            match (row, self.ledger) {
                (row, ledger) if seq(row.as_ref()) < seq(ledger.as_ref()) => found.push(behind),
                (row, ledger) if seq(row.as_ref()) > seq(ledger.as_ref()) => found.push(ahead),
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
    pub(super) fn settled(&self, kind: Kind, later: &Self) -> bool {
        let reached = |row: Place, least: i64| row.is_none_or(|row| seq(row.as_ref()) >= least);
        let had = |row: Place| row.map_or(0, |row| seq(row.as_ref()));
        match kind {
            Kind::ViewBehind => {
                reached(later.view, seq(self.ledger.as_ref()))
                    && !later.kinds().contains(&Kind::ViewAmounts)
            }
            Kind::TableBehind => {
                reached(later.table, seq(self.ledger.as_ref()))
                    && !later.kinds().contains(&Kind::TableAmounts)
            }
            Kind::ViewAhead => seq(later.ledger.as_ref()) >= had(self.view),
            Kind::TableAhead => seq(later.ledger.as_ref()) >= had(self.table),
            Kind::ViewAmounts | Kind::TableAmounts => !later.kinds().contains(&kind),
            // Those are judged by `conservation`.
            Kind::RowBroken | Kind::RowStray | Kind::RecordIncomplete | Kind::RecordDiffers => {
                false
            }
        }
    }

    /// In words, with amounts as people write them.
    pub(super) fn difference(&self, kind: Kind, catalogue: &Catalogue) -> Difference {
        let known = catalogue.get(self.asset);
        let (asset, decimals) = known.unwrap_or_else(|| (self.asset.to_string(), 0));
        let row = |row: Option<Balance>| {
            row.map_or_else(
                || "nothing".to_owned(),
                |row| {
                    let (avail, frozen) =
                        (row.avail.decimal(decimals), row.frozen.decimal(decimals));
                    format!("seq {} (avail {avail}, frozen {frozen})", row.seq)
                },
            )
        };
        let [view, table] = self.places();
        let (name, place, _) = match kind {
            Kind::ViewBehind | Kind::ViewAhead | Kind::ViewAmounts => view,
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
pub(super) struct Tally {
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

impl Tally {
    /// A comparison was made: of one asset of some user.
    pub(super) fn compared(&mut self, trio: &Trio) {
        self.assets = self.assets.saturating_add(1);
        let rows = [Some(trio.ledger), trio.view, trio.table];
        let rows = rows.into_iter().flatten().flatten().count();
        self.rows = self.rows.saturating_add(u64::try_from(rows).unwrap_or(0));
    }

    pub(super) fn count(&mut self, kind: Kind) {
        let counter = match kind {
            Kind::ViewBehind => &mut self.view_behind,
            Kind::ViewAhead => &mut self.view_ahead,
            Kind::ViewAmounts => &mut self.view_amounts,
            Kind::TableBehind => &mut self.table_behind,
            Kind::TableAhead => &mut self.table_ahead,
            Kind::TableAmounts => &mut self.table_amounts,
            Kind::RowBroken => &mut self.rows_broken,
            Kind::RowStray => &mut self.rows_stray,
            Kind::RecordIncomplete => &mut self.rows_missing,
            Kind::RecordDiffers => &mut self.rows_unlike_record,
        };
        *counter = counter.saturating_add(1);
    }

    fn kinds(&self) -> [(Kind, u64); 10] {
        [
            (Kind::ViewBehind, self.view_behind),
            (Kind::ViewAhead, self.view_ahead),
            (Kind::ViewAmounts, self.view_amounts),
            (Kind::TableBehind, self.table_behind),
            (Kind::TableAhead, self.table_ahead),
            (Kind::TableAmounts, self.table_amounts),
            (Kind::RowBroken, self.rows_broken),
            (Kind::RowStray, self.rows_stray),
            (Kind::RecordIncomplete, self.rows_missing),
            (Kind::RecordDiffers, self.rows_unlike_record),
        ]
    }

    pub(super) fn differences(&self) -> u64 {
        self.kinds()
            .iter()
            .fold(0, |all, (_, count)| all.saturating_add(*count))
    }
}

impl fmt::Display for Tally {
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
            self.differences()
        )?;
        for (kind, count) in self.kinds() {
            if count > 0 {
                write!(f, ", {}: {count}", kind.word())?;
            }
        }
        write!(f, ", {lag} settled (lag)")
    }
}

#[cfg(test)]
mod tests {
    use balance_cache::domain::{Amount, Seq, UnixMillis};

    use super::*;

    fn row(seq: i64, avail: i64) -> Option<Balance> {
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

    fn trio(ledger: Option<Balance>, view: Place, table: Place) -> Trio {
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
        let ledger = row(18, 5);
        let view = |view| trio(ledger, Some(view), None).kinds();
        assert_eq!(view(row(18, 5)), []);
        assert_eq!(view(row(17, 5)), [Kind::ViewBehind]);
        assert_eq!(view(None), [Kind::ViewBehind]);
        assert_eq!(view(row(19, 5)), [Kind::ViewAhead]);
        assert_eq!(view(row(18, 6)), [Kind::ViewAmounts]);
        let both = trio(None, Some(row(1, 1)), Some(row(1, 1)));
        assert_eq!(both.kinds(), [Kind::ViewAhead, Kind::TableAhead]);
        assert_eq!(
            trio(ledger, None, None).kinds(),
            [],
            "what is not compared does not differ"
        );
    }

    #[test]
    fn lag_settles_though_the_ledger_goes_on_and_a_wrong_amount_does_not() {
        let first = trio(row(18, 5), Some(row(17, 4)), None);
        let later = trio(row(30, 9), Some(row(18, 5)), None);
        assert!(first.settled(Kind::ViewBehind, &later));
        assert!(!first.settled(Kind::ViewBehind, &first));
        let wrong = trio(row(18, 5), Some(row(18, 4)), None);
        assert!(!first.settled(Kind::ViewBehind, &wrong));
        assert!(!wrong.settled(Kind::ViewAmounts, &wrong));
        let ahead = trio(row(18, 5), Some(row(19, 6)), None);
        assert!(ahead.settled(Kind::ViewAhead, &trio(row(19, 6), Some(row(19, 6)), None)));
        assert!(!ahead.settled(Kind::ViewAhead, &ahead));
    }
}
