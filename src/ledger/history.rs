//! The search for the row of a statement that stood at a time.
//!
//! **Invariants.** `created_at` does not fall as seqs rise; rows without it are skipped. Rows that are written during the search
//! change nothing below it.
//!
//! **Limits.** [`POINT_READS_MAX`] reads: halving all 2^63 seqs needs no more. Each reads one row, the last up to
//! [`LAST_ROWS_MAX`]; from the first row without `created_at` on, each reads up to [`ROWS_MAX`].

use super::{Cost, LedgerError, Source};
use crate::domain::{AssetId, LedgerSlice, Order, Seq, StatementRow, UnixMillis, UserId};

/// Reads of one search at most.
pub const POINT_READS_MAX: usize = 64;
/// So few rows are read at once at the end, in place of the last halvings.
const LAST_ROWS_MAX: usize = 64;
/// Rows of one read at most, once a row without `created_at` was met.
const ROWS_MAX: usize = 1_000;

/// The seq of the first row from the top whose `created_at` is not later than `at`; none where there is none.
/// Errors: those of the source; `Unavailable` where [`ROWS_MAX`] rows in a row, or more, have no `created_at`, and the reads do not
/// suffice to pass over them.
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
        rows_max: 1,
    };
    // Rows above `highest` are later than `at` or have no time; of those below `lowest`, `found` is the first that is not later.
    let (mut lowest, mut highest) = (1, i64::MAX);
    let mut found = None;
    // The newest row first: most readers ask for a time near the end. Rows from `top` to `middle` have no time.
    let (mut middle, mut top) = (highest, highest);
    while lowest <= highest {
        let rows = search.read_rows(lowest, top).await?;
        let is_timed = |row: &StatementRow| row.created_at.is_some();
        let may_be_more = rows.len() >= search.rows_max;
        if search.rows_max < ROWS_MAX
            && may_be_more
            && rows.first().is_some_and(|row| !is_timed(row))
        {
            // One read of all that is left is the answer where the history is short.
            search.rows_max = ROWS_MAX;
            (middle, top) = (highest, highest);
            continue;
        }
        let is_later = |row: &StatementRow| row.created_at.is_some_and(|created| created > at);
        let not_later = rows.iter().find(|row| is_timed(row) && !is_later(row));
        // More rows may stand from there down.
        let below = rows
            .last()
            .filter(|_| may_be_more)
            .map(|row| row.seq.get().saturating_sub(1));
        // Rows above the slice are not the answer.
        let is_topmost = middle == highest || rows.iter().any(is_later);
        match (not_later.map(|row| row.seq), below) {
            (Some(seq), _) if is_topmost => return Ok(Some(seq)),
            (None, None) if is_topmost => return Ok(found),
            (None, Some(below)) if is_topmost => highest = below,
            (None, Some(below)) if below >= lowest => {
                top = below;
                continue;
            }
            (seq, _) => {
                found = seq.or(found);
                lowest = middle.saturating_add(1);
            }
        }
        middle = search.next_middle(lowest, highest);
        top = middle;
    }
    Ok(found)
}

struct Search<'a> {
    source: &'a dyn Source,
    user: UserId,
    asset: AssetId,
    cost: &'a Cost,
    reads: usize,
    /// Rows of the next read at most.
    rows_max: usize,
}

impl Search<'_> {
    /// The newest rows from `lowest` to `highest`.
    async fn read_rows(
        &mut self,
        lowest: i64,
        highest: i64,
    ) -> Result<Vec<StatementRow>, LedgerError> {
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
            rows_max: self.rows_max,
        };
        self.source.read_statement(slice, self.cost).await
    }

    /// The middle, or the highest seq where one read covers all of them.
    fn next_middle(&mut self, lowest: i64, highest: i64) -> i64 {
        let others = usize::try_from(highest.saturating_sub(lowest));
        let last = self.rows_max.max(LAST_ROWS_MAX);
        if others.is_ok_and(|others| others < last) {
            self.rows_max = last;
            highest
        } else {
            lowest.midpoint(highest)
        }
    }
}

#[cfg(test)]
mod tests;
