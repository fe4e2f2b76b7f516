//! A load from `user_balances`, one row for each asset.
//!
//! A writer gives every cell its row's seq as the timestamp. A cell with another timestamp was written by another program: a
//! row mended by hand has the time of day in microseconds, far above any seq, and hides every later write of that column.
//!
//! **Invariants.** A row with such a cell is not shown where the ledger has the asset; the ledger's newest row is.

use scylla::{DeserializeRow, statement::prepared::PreparedStatement};

use super::{
    ledger,
    statements::{BalanceColumnsRow, LiveSession, unreadable_row},
};
use crate::{
    clock,
    domain::{AssetId, Balance, Snapshot, UnixMillis, UserId},
    ledger::{Cost, LedgerError},
};

/// A row, and when each of its cells was written, as the writer said.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct TimedRow {
    asset_id: i32,
    version: Option<i64>,
    avail: Option<i64>,
    frozen: Option<i64>,
    updated_at: Option<i64>,
    version_written: Option<i64>,
    avail_written: Option<i64>,
    frozen_written: Option<i64>,
    updated_at_written: Option<i64>,
}

impl TimedRow {
    /// Every cell that is there carries the row's seq as its timestamp.
    fn is_of_one_write(&self) -> bool {
        let written = [
            self.version_written,
            self.avail_written,
            self.frozen_written,
            self.updated_at_written,
        ];
        is_of_one_write(self.version, written)
    }

    fn to_balance(&self, said_at: UnixMillis) -> Result<Balance, LedgerError> {
        let row = BalanceColumnsRow {
            asset_id: self.asset_id,
            seq: self.version,
            avail: self.avail,
            frozen: self.frozen,
            created_at: self.updated_at,
        };
        row.to_balance(said_at)
    }
}

/// Every cell that is there carries the row's seq as its timestamp.
pub(super) fn is_of_one_write(version: Option<i64>, written: [Option<i64>; 4]) -> bool {
    let mut stamps = written.into_iter().flatten();
    stamps.all(|at| Some(at) == version)
}

/// The writer of `user_balances`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableWriter {
    /// This service alone.
    Service,
    /// Others too: a row that is not of one write may be of another time, and counts for nothing.
    Others,
}

/// Completes balances that were read row by row: one transaction's rows of one user become visible together here, and before
/// they do in the ledger (P10).
pub(super) async fn make_whole(
    from: (&LiveSession, &Cost),
    user: UserId,
    read: Snapshot,
    writer: TableWriter,
    is_asked: impl Fn(AssetId) -> bool,
) -> Result<Snapshot, LedgerError> {
    let (live, _) = from;
    let current = match writer {
        TableWriter::Service => {
            load_snapshot(from, &live.table_rows, user, clock::wall_now()).await?
        }
        TableWriter::Others => {
            read_rows(from, &live.table_rows, user, clock::wall_now())
                .await?
                .0
        }
    };
    let asked = current.balances().iter().copied();
    let asked = asked.filter(|balance| is_asked(balance.asset)).collect();
    Ok(read.merge_with(&Snapshot::new(asked)))
}

/// The rows of the user: those that are of one write, and the others.
async fn read_rows(
    (live, cost): (&LiveSession, &Cost),
    statement: &PreparedStatement,
    user: UserId,
    said_at: UnixMillis,
) -> Result<(Snapshot, Vec<Balance>), LedgerError> {
    let rows = live.query_counted(cost, statement, (user.get(),)).await?;
    let (mut balances, mut untrusted) = (Vec::new(), Vec::new());
    for row in rows.rows::<TimedRow>().map_err(unreadable_row)? {
        let row = row.map_err(unreadable_row)?;
        let balance = row.to_balance(said_at)?;
        if row.is_of_one_write() {
            balances.push(balance);
        } else {
            untrusted.push(balance);
        }
    }
    Ok((Snapshot::new(balances), untrusted))
}

pub(super) async fn load_snapshot(
    (live, cost): (&LiveSession, &Cost),
    statement: &PreparedStatement,
    user: UserId,
    said_at: UnixMillis,
) -> Result<Snapshot, LedgerError> {
    let (trusted, untrusted) = read_rows((live, cost), statement, user, said_at).await?;
    if untrusted.is_empty() {
        return Ok(trusted);
    }
    cost.add_untrusted(untrusted.len());
    if let Some(left_out) = live.limited_log.permit_line() {
        tracing::warn!(
            user.id = user.get(),
            rows = untrusted.len(),
            lines.left_out = left_out,
            "rows of user_balances were not written with their seq as the timestamp: read from the ledger"
        );
    }
    let assets: Vec<AssetId> = untrusted.iter().map(|balance| balance.asset).collect();
    let ledger = ledger::load_latest((live, cost), user, &assets).await?;
    let rest = ledger.complete_with(&Snapshot::new(untrusted));
    Ok(trusted.merge_with(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_trusted_only_if_each_cell_was_written_at_its_seq() {
        let row = |written: [Option<i64>; 4]| {
            let [
                version_written,
                avail_written,
                frozen_written,
                updated_at_written,
            ] = written;
            let row = TimedRow {
                asset_id: 1,
                version: Some(17),
                avail: Some(1),
                frozen: None,
                updated_at: None,
                version_written,
                avail_written,
                frozen_written,
                updated_at_written,
            };
            row.is_of_one_write()
        };
        let (seq, now) = (Some(17), Some(1_765_352_441_955_000));
        assert!(row([seq, seq, seq, seq]));
        assert!(row([seq, seq, None, None]), "columns that were left out");
        for at in 0..4 {
            let mut written = [seq; 4];
            written[at] = now;
            assert!(!row(written), "{at}");
        }
    }
}
