//! Writes entries into the ledger, then the current state beside it.
//!
//! All rows are read first; then the ledger is written, then `user_balances`. The same request completes a broken one.
//!
//! **Invariants.** A seq that exists with other amounts stops the request before anything is written. Values are absolute (seed
//! fault 4) and rows of `user_balances` carry their seq as timestamp, so order, repetition and self-trades (seed fault 5) are harmless.
//!
//! **Cancellation.** Some of the entries may stand; they may be written again.
//!
//! **Limits.** [`AT_ONCE`] statements at a time. Two writers of one seq at the same moment are not seen. `ScyllaDB` refuses timestamps
//! more than three days ahead (seqs above about 1.8 × 10^15) unless `restrict_future_timestamp` is off.

use std::collections::{HashMap, hash_map};

use futures::{StreamExt, TryStreamExt, stream};
use scylla::{DeserializeRow, serialize::row::SerializeRow, value::MaybeUnset};

use super::statements::{LiveSession, unreadable_row};
use crate::{
    domain::{Amount, AssetId, Entry, Seq, UnixMillis, UserId},
    ledger::{LedgerError, WriteError, WrittenCounts},
};

const AT_ONCE: usize = 64;

/// The row under a seq.
#[derive(Debug, Clone, Copy, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub(super) struct StandingAmounts {
    pub(super) avail: Option<i64>,
    pub(super) frozen: Option<i64>,
    pub(super) created_at: Option<i64>,
}

impl StandingAmounts {
    fn has_amounts_of(&self, entry: &Entry) -> bool {
        let amount = |stored: Option<i64>| Amount::from_raw(stored.unwrap_or_default());
        amount(self.avail) == entry.avail && amount(self.frozen) == entry.frozen
    }
}

/// An entry with its place in the request.
type Indexed<'a> = (usize, &'a Entry);

/// An entry with the row that stands under its key.
struct CheckedEntry<'a> {
    entry: &'a Entry,
    stored: Option<StandingAmounts>,
}

pub(super) async fn write_entries(
    live: &LiveSession,
    entries: &[Entry],
) -> Result<WrittenCounts, WriteError> {
    let (distinct, doubled) = distinct_entries(entries)?;
    let checked = check_entries(live, distinct).await?;
    let fresh: Vec<_> = checked
        .iter()
        .filter(|checked| checked.stored.is_none())
        .map(|checked| insert_ledger(live, checked.entry))
        .collect();
    let written = fresh.len();
    let repeated = checked
        .len()
        .saturating_sub(written)
        .saturating_add(doubled);
    run_each(fresh).await?;
    let table: Vec<_> = checked
        .iter()
        .map(|checked| insert_table(live, checked))
        .collect();
    run_each(table).await?;
    Ok(WrittenCounts {
        written: u64::try_from(written).unwrap_or(u64::MAX),
        repeated: u64::try_from(repeated).unwrap_or(u64::MAX),
    })
}

/// The entries with their index, without those that say the same as an earlier one; how many those were.
fn distinct_entries(entries: &[Entry]) -> Result<(Vec<Indexed<'_>>, usize), WriteError> {
    let mut seen: HashMap<(UserId, AssetId, Seq), &Entry> = HashMap::with_capacity(entries.len());
    let mut kept = Vec::with_capacity(entries.len());
    let mut doubled = 0_usize;
    for (index, entry) in entries.iter().enumerate() {
        match seen.entry((entry.user, entry.asset, entry.seq)) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(entry);
                kept.push((index, entry));
            }
            hash_map::Entry::Occupied(first) => {
                let first = first.get();
                if (first.avail, first.frozen) != (entry.avail, entry.frozen) {
                    return Err(WriteError::Conflict { index });
                }
                doubled = doubled.saturating_add(1);
            }
        }
    }
    Ok((kept, doubled))
}

async fn check_entries<'a>(
    live: &LiveSession,
    entries: Vec<Indexed<'a>>,
) -> Result<Vec<CheckedEntry<'a>>, WriteError> {
    let checks: Vec<_> = entries
        .into_iter()
        .map(|(index, entry)| check_one(live, index, entry))
        .collect();
    // In order, so that of several conflicts the first is named.
    stream::iter(checks).buffered(AT_ONCE).try_collect().await
}

async fn check_one<'a>(
    live: &LiveSession,
    index: usize,
    entry: &'a Entry,
) -> Result<CheckedEntry<'a>, WriteError> {
    let key = (entry.user.get(), entry.asset.get(), entry.seq.get());
    let rows = live.query_rows(&live.ledger_row, key).await?;
    let stored = rows
        .maybe_first_row::<StandingAmounts>()
        .map_err(unreadable_row)?;
    if stored.is_some_and(|stored| !stored.has_amounts_of(entry)) {
        return Err(WriteError::Conflict { index });
    }
    Ok(CheckedEntry { entry, stored })
}

async fn run_each(
    writes: Vec<impl Future<Output = Result<(), LedgerError>>>,
) -> Result<(), LedgerError> {
    stream::iter(writes)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn insert_ledger(live: &LiveSession, entry: &Entry) -> Result<(), LedgerError> {
    let values = ledger_values(entry);
    live.run_statement(&live.insert_ledger, values)
        .await
        .map(drop)
}

/// The values of a ledger row. Absent values stay unset: a null would be a tombstone in every row.
pub(super) fn ledger_values(entry: &Entry) -> impl SerializeRow + use<'_> {
    let raw =
        |amount: Option<Amount>| amount.map_or(MaybeUnset::Unset, |a| MaybeUnset::Set(a.raw()));
    let created_at = entry.created_at.map(|UnixMillis(at)| at);
    (
        entry.user.get(),
        entry.asset.get(),
        entry.seq.get(),
        raw(entry.delta_avail),
        raw(entry.delta_frozen),
        entry.avail.raw(),
        entry.frozen.raw(),
        entry
            .event_type
            .as_deref()
            .map_or(MaybeUnset::Unset, MaybeUnset::Set),
        entry.ref_id.map_or(MaybeUnset::Unset, MaybeUnset::Set),
        created_at.map_or(MaybeUnset::Unset, MaybeUnset::Set),
    )
}

/// The current state, with the timestamp of the event as the ledger has it: a repetition that leaves it out would
/// write a null under the same timestamp, and the null would win.
async fn insert_table(
    live: &LiveSession,
    CheckedEntry { entry, stored }: &CheckedEntry<'_>,
) -> Result<(), LedgerError> {
    let said = entry.created_at.map(|UnixMillis(at)| at);
    let values = (
        entry.user.get(),
        entry.asset.get(),
        entry.avail.raw(),
        entry.frozen.raw(),
        entry.seq.get(),
        stored.map_or(said, |stored| stored.created_at),
        entry.seq.get(),
    );
    live.run_statement(&live.insert_table, values)
        .await
        .map(drop)
}
