//! The keys and rows of the ledger's tables.

use redb::{ReadableTable as _, Table, TableDefinition};

use crate::{
    domain::{Amount, AssetId, Balance, Entry, Seq, Snapshot, UnixMillis},
    ledger::LedgerError,
};

/// (user, asset, seq) ascending: the newest row of an asset is the last of its range.
pub(super) type LedgerKey = (i64, i32, i64);
/// avail, frozen, `delta_avail`, `delta_frozen`, `event_type`, `ref_id`, `created_at`
pub(super) type LedgerRow = (
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<&'static str>,
    Option<i64>,
    Option<i64>,
);
/// (user, asset)
pub(super) type BalanceKey = (i64, i32);
/// avail, frozen, version, `updated_at`
pub(super) type BalanceRow = (i64, i64, i64, Option<i64>);

pub(super) const LEDGER: TableDefinition<LedgerKey, LedgerRow> =
    TableDefinition::new("balance_ledger");
pub(super) const BALANCES: TableDefinition<BalanceKey, BalanceRow> =
    TableDefinition::new("user_balances");
pub(super) const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

/// The columns that both tables have of a balance: asset, seq, avail, frozen, `created_at`.
pub(super) type CurrentColumns = (i32, i64, i64, i64, Option<i64>);

/// The rows as balances. An id below 1 is nothing that was ever written here.
pub(super) fn snapshot_of_rows(
    rows: Vec<CurrentColumns>,
    said_at: UnixMillis,
) -> Result<Snapshot, LedgerError> {
    let corrupt = |what| LedgerError::Corrupt(format!("{what}").into());
    let balance = |(asset, seq, avail, frozen, at): CurrentColumns| {
        Ok(Balance {
            asset: AssetId::new(asset).map_err(corrupt)?,
            seq: Seq::new(seq).map_err(corrupt)?,
            avail: Amount::from_raw(avail),
            frozen: Amount::from_raw(frozen),
            updated_at: at.map(UnixMillis),
            said_at,
        })
    };
    let balances: Result<Vec<_>, LedgerError> = rows.into_iter().map(balance).collect();
    balances.map(Snapshot::new)
}

pub(super) fn key_of(entry: &Entry) -> LedgerKey {
    (entry.user.get(), entry.asset.get(), entry.seq.get())
}

pub(super) fn append_row(
    ledger: &mut Table<'_, LedgerKey, LedgerRow>,
    key: LedgerKey,
    entry: &Entry,
) -> Result<(), redb::Error> {
    let row = (
        entry.avail.raw(),
        entry.frozen.raw(),
        entry.delta_avail.map(Amount::raw),
        entry.delta_frozen.map(Amount::raw),
        entry.event_type.as_deref(),
        entry.ref_id,
        entry.created_at.map(|at| at.0),
    );
    ledger.insert(key, row)?;
    Ok(())
}

/// The current state only moves forward: entries come in any order. Whether it did.
pub(super) fn forward_balance(
    balances: &mut Table<'_, BalanceKey, BalanceRow>,
    (user, asset, seq): LedgerKey,
    row: BalanceRow,
) -> Result<bool, redb::Error> {
    let held = balances.get((user, asset))?.map(|row| row.value().2);
    let moves = held.is_none_or(|held| held < seq);
    if moves {
        balances.insert((user, asset), row)?;
    }
    Ok(moves)
}
