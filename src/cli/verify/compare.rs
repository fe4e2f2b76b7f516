//! The rows of one (user, asset) in view, table and ledger, how they differ, and the count of all.

use std::fmt;

use balance_cache::domain::{AssetId, Balance, Catalogue, UserId};
use serde::Serialize;

use super::difference::{Difference, DifferenceKind, describe_rows};

/// Parts that the token ring is cut into; progress is counted in them.
pub(super) const STRETCHES: u32 = 256;

/// Random places in a row without a new user, after which the rest of a sample is read in order.
pub(super) const REPEATED_PLACES_MAX: u32 = 16;

/// The newest row of one (user, asset) in a place that is compared; none at the outside: it is not compared.
type ComparedPlace = Option<Option<Balance>>;

/// One (user, asset) in the ledger and in the places that are compared with it: view and table, or Redis and the service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trio {
    pub(super) user: UserId,
    pub(super) asset: AssetId,
    pub(super) ledger: Option<Balance>,
    pub(super) view: ComparedPlace,
    pub(super) table: ComparedPlace,
    pub(super) redis: ComparedPlace,
    pub(super) service: ComparedPlace,
}

const fn row_seq(row: Option<&Balance>) -> i64 {
    match row {
        Some(row) => row.seq.get(),
        None => 0,
    }
}

/// A place by its name, its row, and how it can differ: behind, ahead, in its amounts.
type NamedPlace = (&'static str, ComparedPlace, [DifferenceKind; 3]);

impl Trio {
    /// The ledger's row alone.
    pub(super) const fn of_ledger(user: UserId, asset: AssetId, ledger: Option<Balance>) -> Self {
        Self {
            user,
            asset,
            ledger,
            view: None,
            table: None,
            redis: None,
            service: None,
        }
    }

    fn compared_places(&self) -> [NamedPlace; 4] {
        use DifferenceKind::{
            RedisAhead, RedisAmounts, RedisBehind, ServiceAhead, ServiceAmounts, ServiceBehind,
            TableAhead, TableAmounts, TableBehind, ViewAhead, ViewAmounts, ViewBehind,
        };
        [
            ("the view", self.view, [ViewBehind, ViewAhead, ViewAmounts]),
            (
                "user_balances",
                self.table,
                [TableBehind, TableAhead, TableAmounts],
            ),
            ("Redis", self.redis, [RedisBehind, RedisAhead, RedisAmounts]),
            (
                "the service",
                self.service,
                [ServiceBehind, ServiceAhead, ServiceAmounts],
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

    /// The place that can differ like this.
    fn place_of(&self, kind: DifferenceKind) -> Option<NamedPlace> {
        let mut places = self.compared_places().into_iter();
        places.find(|(_, _, kinds)| kinds.contains(&kind))
    }

    /// Whether a difference that was seen at first is gone in what was read later.
    pub(super) fn is_settled(&self, kind: DifferenceKind, later: &Self) -> bool {
        let (Some((_, held, _)), Some((_, held_later, [behind, ahead, amounts]))) =
            (self.place_of(kind), later.place_of(kind))
        else {
            // Those are judged where they are found.
            return false;
        };
        let kinds = later.difference_kinds();
        if ![behind, ahead, amounts]
            .iter()
            .any(|kind| kinds.contains(kind))
        {
            return true;
        }
        if kind == behind {
            let first = row_seq(self.ledger.as_ref());
            let has_come = held_later.is_none_or(|row| row_seq(row.as_ref()) >= first);
            has_come && !kinds.contains(&amounts)
        } else if kind == ahead {
            let was_held = held.map_or(0, |row| row_seq(row.as_ref()));
            row_seq(later.ledger.as_ref()) >= was_held
        } else {
            !kinds.contains(&kind)
        }
    }

    /// In words, with amounts as people write them.
    pub(super) fn describe_difference(
        &self,
        kind: DifferenceKind,
        catalogue: &Catalogue,
    ) -> Difference {
        let (name, place, _) = self.place_of(kind).unwrap_or(("", None, [kind; 3]));
        let rows = (self.asset, place.flatten(), self.ledger);
        describe_rows((name, "the ledger"), kind, self.user, rows, catalogue)
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
    pub(super) redis_behind: u64,
    pub(super) redis_ahead: u64,
    pub(super) redis_amounts: u64,
    pub(super) service_behind: u64,
    pub(super) service_ahead: u64,
    pub(super) service_amounts: u64,
    pub(super) ledger_unreadable: u64,
    pub(super) statements_differ: u64,
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
        let places = trio.compared_places().map(|(_, place, _)| place);
        let rows = [Some(trio.ledger)].into_iter().chain(places);
        let rows = rows.flatten().flatten().count();
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
            DifferenceKind::RedisBehind => &mut self.redis_behind,
            DifferenceKind::RedisAhead => &mut self.redis_ahead,
            DifferenceKind::RedisAmounts => &mut self.redis_amounts,
            DifferenceKind::ServiceBehind => &mut self.service_behind,
            DifferenceKind::ServiceAhead => &mut self.service_ahead,
            DifferenceKind::ServiceAmounts => &mut self.service_amounts,
            DifferenceKind::LedgerUnreadable => &mut self.ledger_unreadable,
            DifferenceKind::StatementsDiffer => &mut self.statements_differ,
            DifferenceKind::RowBroken => &mut self.rows_broken,
            DifferenceKind::RowStray => &mut self.rows_stray,
            DifferenceKind::RecordIncomplete => &mut self.rows_missing,
            DifferenceKind::RecordDiffers => &mut self.rows_unlike_record,
        };
        *counter = counter.saturating_add(1);
    }

    fn counts_by_kind(&self) -> [(DifferenceKind, u64); 18] {
        [
            (DifferenceKind::ViewBehind, self.view_behind),
            (DifferenceKind::ViewAhead, self.view_ahead),
            (DifferenceKind::ViewAmounts, self.view_amounts),
            (DifferenceKind::TableBehind, self.table_behind),
            (DifferenceKind::TableAhead, self.table_ahead),
            (DifferenceKind::TableAmounts, self.table_amounts),
            (DifferenceKind::RedisBehind, self.redis_behind),
            (DifferenceKind::RedisAhead, self.redis_ahead),
            (DifferenceKind::RedisAmounts, self.redis_amounts),
            (DifferenceKind::ServiceBehind, self.service_behind),
            (DifferenceKind::ServiceAhead, self.service_ahead),
            (DifferenceKind::ServiceAmounts, self.service_amounts),
            (DifferenceKind::LedgerUnreadable, self.ledger_unreadable),
            (DifferenceKind::StatementsDiffer, self.statements_differ),
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
            view,
            table,
            ..Trio::of_ledger(UserId::new(7).unwrap(), AssetId::new(1).unwrap(), ledger)
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
