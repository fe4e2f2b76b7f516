//! Conservation (contract W2): the rows of each history add up, every trade stands whole, and no row stands beside it.
//!
//! **Invariants.** A row is the row before it and its deltas. What is held of an asset is what its histories began with and the
//! sum of all deltas. The rows of a trade are those of its record, and their deltas add up to nothing.
//!
//! **Deliberately absent**: a row without deltas proves nothing; the difference from the row before counts as its delta. A deposit
//! of a wrong amount that is wrong in all columns alike, and a history that is missing with its row of `user_balances`, cannot be
//! seen from here.

mod records;

use std::{collections::BTreeMap, fmt};

use balance_cache::{
    domain::{AssetId, Catalogue},
    ledger::records::{HistoryRow, RowKey, SettledRecord},
};
use serde::{Serialize, Serializer};

use self::records::new_difference;
pub(super) use self::records::{compare_recorded, describe_stray};
use super::difference::{Difference, DifferenceKind};

/// Raw units, both amounts together. Sums of 64-bit amounts do not reach the ends of 128 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Units(i128);

/// Sums of one asset over all users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ConservationSums {
    /// By `user_balances`.
    pub(super) held: Units,
    /// By the newest rows of the ledger.
    pub(super) newest: Units,
    /// Before the first row of each history.
    pub(super) opening: Units,
    /// The deltas of trades that stand.
    pub(super) by_trades: Units,
    /// The deltas of transactions, by their records.
    pub(super) by_transactions: Units,
    /// All other deltas; those of transactions among them.
    pub(super) by_others: Units,
    rows: u64,
    rows_without_deltas: u64,
}

/// Everything that adds up, while it is gathered.
#[derive(Debug, Default)]
pub(super) struct Conservation {
    sums: BTreeMap<i32, ConservationSums>,
    /// The row that was seen last, and whether it is of a trade that stands.
    newer: Option<(HistoryRow, bool)>,
    pub(super) records: u64,
    pub(super) pending: u64,
    pub(super) unreadable_records: u64,
}

impl ConservationSums {
    /// The deltas of neither trades nor transactions.
    const fn by_rest(&self) -> Units {
        Units(self.by_others.0.saturating_sub(self.by_transactions.0))
    }
}

impl Units {
    fn add_units(&mut self, more: i128) {
        self.0 = self.0.saturating_add(more);
    }

    /// Formats the amount with its decimals.
    fn decimal_text(self, decimals: u8) -> String {
        let digits = self.0.unsigned_abs().to_string();
        let places = usize::from(decimals);
        let padded = format!("{digits:0>width$}", width = places.saturating_add(1));
        let (whole, rest) = padded.split_at(padded.len().saturating_sub(places));
        let sign = if self.0 < 0 { "-" } else { "" };
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() {
            format!("{sign}{whole}")
        } else {
            format!("{sign}{whole}.{rest}")
        }
    }
}

impl Serialize for Units {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Both amounts of a row.
fn row_amounts(row: &HistoryRow) -> (i128, i128) {
    (i128::from(row.avail), i128::from(row.frozen))
}

/// Both deltas, where the writer says any.
fn row_deltas(row: &HistoryRow) -> Option<(i128, i128)> {
    let said = row.delta_avail.is_some() || row.delta_frozen.is_some();
    let delta = |of: Option<i64>| i128::from(of.unwrap_or_default());
    said.then(|| (delta(row.delta_avail), delta(row.delta_frozen)))
}

const fn sum_amounts((avail, frozen): (i128, i128)) -> i128 {
    avail.saturating_add(frozen)
}

fn add_amounts(one: (i128, i128), other: (i128, i128)) -> (i128, i128) {
    (one.0.saturating_add(other.0), one.1.saturating_add(other.1))
}

fn subtract_amounts(one: (i128, i128), other: (i128, i128)) -> (i128, i128) {
    (one.0.saturating_sub(other.0), one.1.saturating_sub(other.1))
}

/// A row and the row before it: the amounts that the newer one should have, where it does not add up.
pub(super) fn check_step(newer: HistoryRow, older: HistoryRow) -> Option<BrokenRow> {
    let should = add_amounts(row_amounts(&older), row_deltas(&newer)?);
    (should != row_amounts(&newer)).then_some(BrokenRow {
        newer,
        older,
        should,
    })
}

impl Conservation {
    /// A row of `user_balances`.
    pub(super) fn add_held(&mut self, asset: i32, avail: i64, frozen: i64) {
        let held = &mut self.sums.entry(asset).or_default().held;
        held.add_units(sum_amounts((i128::from(avail), i128::from(frozen))));
    }

    /// The next row: histories one after the other, of each the newest row first. `of_trade`: it is one of the rows of a
    /// trade that stands. Returns the amounts that the newer row should have, where it does not add up.
    pub(super) fn add_row(&mut self, row: HistoryRow, of_trade: bool) -> Option<BrokenRow> {
        let newer = self.newer.replace((row, of_trade));
        match newer {
            Some((newer, newer_of_trade)) if history_of(newer.key) == history_of(row.key) => {
                self.add_step(newer, newer_of_trade, row)
            }
            newer => {
                if let Some((oldest, oldest_of_trade)) = newer {
                    self.add_oldest(oldest, oldest_of_trade);
                }
                let sums = self.sums.entry(row.key.1).or_default();
                sums.newest.add_units(sum_amounts(row_amounts(&row)));
                None
            }
        }
    }

    /// There are no more rows.
    pub(super) fn end_rows(&mut self) {
        if let Some((oldest, of_trade)) = self.newer.take() {
            self.add_oldest(oldest, of_trade);
        }
    }

    fn add_step(
        &mut self,
        newer: HistoryRow,
        of_trade: bool,
        older: HistoryRow,
    ) -> Option<BrokenRow> {
        let has = row_amounts(&newer);
        let said = row_deltas(&newer);
        let moved = said.unwrap_or_else(|| subtract_amounts(has, row_amounts(&older)));
        self.count_row(newer.key.1, said.is_none(), of_trade, moved);
        check_step(newer, older)
    }

    fn add_oldest(&mut self, oldest: HistoryRow, of_trade: bool) {
        let said = row_deltas(&oldest);
        let moved = said.unwrap_or_default();
        self.count_row(oldest.key.1, said.is_none(), of_trade, moved);
        let before = subtract_amounts(row_amounts(&oldest), moved);
        let sums = self.sums.entry(oldest.key.1).or_default();
        sums.opening.add_units(sum_amounts(before));
    }

    fn count_row(&mut self, asset: i32, without: bool, of_trade: bool, moved: (i128, i128)) {
        let sums = self.sums.entry(asset).or_default();
        sums.rows = sums.rows.saturating_add(1);
        sums.rows_without_deltas = sums.rows_without_deltas.saturating_add(u64::from(without));
        let side = if of_trade {
            &mut sums.by_trades
        } else {
            &mut sums.by_others
        };
        side.add_units(sum_amounts(moved));
    }

    /// A record whose rows are to stand: the deltas of a transaction count for its assets.
    pub(super) fn add_record(&mut self, record: &SettledRecord, catalogue: &Catalogue) {
        if record.is_trade {
            return;
        }
        for row in record.recorded_rows(catalogue).unwrap_or_default() {
            if let Some(moved) = row.deltas {
                let sums = self.sums.entry(row.row_key().1).or_default();
                sums.by_transactions.add_units(sum_amounts(moved));
            }
        }
    }

    /// A sentence for each asset.
    pub(super) fn asset_sentences(&self, catalogue: &Catalogue, with_table: bool) -> Vec<String> {
        let assets = self.sums.iter();
        assets
            .map(|(asset, sums)| {
                let (name, decimals) = name_and_decimals(*asset, catalogue);
                let text = |units: Units| units.decimal_text(decimals);
                let mut line = format!(
                    "{name}: {} in the ledger = {} at the beginning + {} by trades + {} by transactions + {} by everything else",
                    text(sums.newest),
                    text(sums.opening),
                    text(sums.by_trades),
                    text(sums.by_transactions),
                    text(sums.by_rest()),
                );
                if with_table {
                    line.extend(["; ", &text(sums.held), " in user_balances"]);
                }
                if sums.rows_without_deltas > 0 {
                    let (without, rows) = (sums.rows_without_deltas, sums.rows);
                    let (without, rows) = (without.to_string(), rows.to_string());
                    line.extend(["; ", &without, " of ", &rows, " rows have no deltas"]);
                }
                line
            })
            .collect()
    }

    /// For programs.
    pub(super) fn json_page(&self, catalogue: &Catalogue) -> ConservationPage {
        let assets = self.sums.iter().map(|(asset, sums)| AssetPage {
            asset: name_and_decimals(*asset, catalogue).0,
            in_user_balances: sums.held,
            in_ledger: sums.newest,
            at_beginning: sums.opening,
            by_trades: sums.by_trades,
            by_transactions: sums.by_transactions,
            by_others: sums.by_rest(),
            rows: sums.rows,
            rows_without_deltas: sums.rows_without_deltas,
        });
        ConservationPage {
            assets: assets.collect(),
            records: self.records,
            records_pending: self.pending,
            records_unreadable: self.unreadable_records,
        }
    }

    #[cfg(test)]
    fn sums_of(&self, asset: i32) -> [i128; 4] {
        let sums = self.sums.get(&asset).copied().unwrap_or_default();
        [sums.newest, sums.opening, sums.by_trades, sums.by_rest()].map(|units| units.0)
    }
}

const fn history_of((user, asset, _): RowKey) -> (i64, i32) {
    (user, asset)
}

fn name_and_decimals(asset: i32, catalogue: &Catalogue) -> (String, u8) {
    let known = AssetId::new(asset)
        .ok()
        .and_then(|id| catalogue.get_asset(id));
    known.unwrap_or_else(|| (asset.to_string(), 0))
}

/// Sums of all assets, for programs. Raw units as text: they may have more than 64 bits.
#[derive(Debug, Serialize)]
pub(super) struct ConservationPage {
    assets: Vec<AssetPage>,
    /// Transactions and trades whose rows were looked at.
    records: u64,
    records_pending: u64,
    records_unreadable: u64,
}

#[derive(Debug, Serialize)]
struct AssetPage {
    asset: String,
    in_user_balances: Units,
    in_ledger: Units,
    at_beginning: Units,
    by_trades: Units,
    by_transactions: Units,
    by_others: Units,
    rows: u64,
    rows_without_deltas: u64,
}

/// A row that is not the row before it and its deltas.
#[derive(Debug, Clone, Copy)]
pub(super) struct BrokenRow {
    pub(super) newer: HistoryRow,
    older: HistoryRow,
    should: (i128, i128),
}

/// Both amounts, as people write them.
struct ShownAmounts((i128, i128), u8);

impl fmt::Display for ShownAmounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self((avail, frozen), decimals) = self;
        let text = |units: &i128| Units(*units).decimal_text(*decimals);
        write!(f, "avail {}, frozen {}", text(avail), text(frozen))
    }
}

impl BrokenRow {
    pub(super) fn describe_difference(&self, catalogue: &Catalogue) -> Difference {
        let (user, asset, seq) = self.newer.key;
        let (name, decimals) = name_and_decimals(asset, catalogue);
        let said = format!(
            "seq {seq} of {name} has {}; seq {} and its deltas make {}",
            ShownAmounts(row_amounts(&self.newer), decimals),
            self.older.key.2,
            ShownAmounts(self.should, decimals),
        );
        new_difference(DifferenceKind::RowBroken, user, name, said)
    }
}

#[cfg(test)]
mod tests;
