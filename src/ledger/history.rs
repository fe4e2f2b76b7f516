//! The search for the row of a statement that stood at a time.
//!
//! **Invariants.** `created_at` does not fall as seqs rise; rows without it are skipped. Rows that are written during the search
//! change nothing below it.
//!
//! **Limits.** [`POINT_READS_MAX`] reads: halving all 2^63 seqs needs no more. Each reads one row; behind a row without `created_at` the
//! next one reads up to [`SKIPPED_MAX`].

use super::{Cost, LedgerError, Source};
use crate::domain::{AssetId, LedgerSlice, Order, Seq, UnixMillis, UserId};

/// Reads of one search at most.
pub const POINT_READS_MAX: usize = 64;
/// Rows without `created_at` that one read passes over at most.
const SKIPPED_MAX: usize = 1_000;

/// The seq of the first row from the top whose `created_at` is not later than `at`; none where there is none.
/// Errors: those of the source; `Unavailable` where so many rows in a row have no `created_at` that the reads do not suffice.
pub async fn find_seq_at(
    source: &dyn Source,
    (user, asset): (UserId, AssetId),
    at: UnixMillis,
    cost: &Cost,
) -> Result<Option<Seq>, LedgerError> {
    let mut search = Search {
        source,
        user,
        asset,
        cost,
        reads: 0,
    };
    let (mut lowest, mut highest) = (1, i64::MAX);
    let mut found = None;
    // The newest row first: most readers ask for a time near the end.
    let mut middle = highest;
    while lowest <= highest {
        match search.newest_dated(lowest, middle).await? {
            Some((seq, created_at)) if created_at > at => {
                let Some(below) = seq.get().checked_sub(1) else {
                    break;
                };
                highest = below;
            }
            dated => {
                found = dated.map(|(seq, _)| seq).or(found);
                let Some(above) = middle.checked_add(1) else {
                    break;
                };
                lowest = above;
            }
        }
        middle = lowest.midpoint(highest);
    }
    Ok(found)
}

struct Search<'a> {
    source: &'a dyn Source,
    user: UserId,
    asset: AssetId,
    cost: &'a Cost,
    reads: usize,
}

impl Search<'_> {
    /// The newest row with a `created_at` from `lowest` to `highest`.
    async fn newest_dated(
        &mut self,
        lowest: i64,
        highest: i64,
    ) -> Result<Option<(Seq, UnixMillis)>, LedgerError> {
        let (mut highest, mut rows_max) = (highest, 1);
        while lowest <= highest {
            if self.reads >= POINT_READS_MAX {
                return Err(LedgerError::unavailable(
                    "too many rows in a row have no created_at to search by",
                ));
            }
            self.reads = self.reads.saturating_add(1);
            let slice = LedgerSlice {
                user: self.user,
                asset: self.asset,
                lowest,
                highest,
                order: Order::NewestFirst,
                rows_max,
            };
            let rows = self.source.read_statement(slice, self.cost).await?;
            let dated = rows
                .iter()
                .find_map(|row| row.created_at.map(|at| (row.seq, at)));
            let last = rows.last().map(|row| row.seq);
            match (dated, last) {
                (Some(dated), _) => return Ok(Some(dated)),
                (None, Some(last)) if rows.len() >= rows_max => {
                    highest = last.get().saturating_sub(1);
                }
                (None, _) => return Ok(None),
            }
            rows_max = SKIPPED_MAX;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
