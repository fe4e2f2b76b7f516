//! Sums `user_balances` over all users, by parts of the token ring.
//!
//! A row is trusted as a load from the table trusts it (`table`): where a cell was not written at the row's seq, the ledger's row is
//! counted in its place.
//!
//! **Invariants.** An empty `user_balances` beside a ledger that is not empty is an error, not a total of nothing.
//!
//! **Cancellation.** Nothing is kept of a scan that is dropped.
//!
//! **Limits.** Not of one moment: a transfer that happens between two parts may be counted twice or not at all. [`PARTS`] parts one
//! after the other, [`PAGE_MAX`] rows a page; a page that fails is asked for [`TRIES`] times.

use std::collections::BTreeMap;

use scylla::{
    DeserializeRow,
    response::{PagingState, PagingStateResponse, query_result::QueryRowsResult},
    statement::prepared::PreparedStatement,
};

use super::{
    Scylla,
    inspect::TokenRange,
    ledger,
    names::Names,
    statements::{
        BalanceColumnsRow, LiveSession, prepare_failed, rows_of, statement_error, unreadable_row,
    },
    table::is_of_one_write,
};
use crate::{
    clock,
    domain::{AssetId, AssetSum, Balance, Snapshot, Totals, UnixMillis, UserId},
    ledger::{
        Cost, LedgerError,
        totals::{ScannedTotals, TotalsScan, permille_of},
    },
};

const PARTS: u32 = 256;
const PAGE_MAX: u32 = 1_000;
const TRIES: u32 = 3;

const SELECT: &str = "SELECT user_id, asset_id, version, avail, frozen, WRITETIME(version), WRITETIME(avail), WRITETIME(frozen), \
     WRITETIME(updated_at) FROM {ks}.user_balances WHERE token(user_id) > ? AND token(user_id) <= ?";

const SELECT_LEDGER: &str = "SELECT user_id FROM {ks}.balance_ledger LIMIT 1";

/// A row, and when each of its cells was written, as the writer said.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct ScannedRow {
    user_id: i64,
    asset_id: i32,
    version: Option<i64>,
    avail: Option<i64>,
    frozen: Option<i64>,
    version_written: Option<i64>,
    avail_written: Option<i64>,
    frozen_written: Option<i64>,
    updated_at_written: Option<i64>,
}

impl ScannedRow {
    fn is_trusted(&self) -> bool {
        let written = [
            self.version_written,
            self.avail_written,
            self.frozen_written,
            self.updated_at_written,
        ];
        is_of_one_write(self.version, written)
    }

    /// None for a row that is no balance: without a seq.
    fn to_balance(&self) -> Option<Balance> {
        let row = BalanceColumnsRow {
            asset_id: self.asset_id,
            seq: self.version,
            avail: self.avail,
            frozen: self.frozen,
            created_at: None,
        };
        row.to_balance(UnixMillis(0)).ok()
    }
}

/// A scan under way.
struct TotalsPass<'a> {
    live: &'a LiveSession,
    scan: &'a TotalsScan,
    sums: BTreeMap<AssetId, AssetSum>,
    untrusted_rows: u64,
}

impl Scylla {
    /// Sums all rows of `user_balances`.
    pub(super) async fn scan_totals(
        &self,
        scan: &TotalsScan,
    ) -> Result<ScannedTotals, LedgerError> {
        let live = self.live_connection()?;
        let names = &self.connector.names;
        let began = clock::wall_now();
        let mut statement = prepare_scan(&live, names, SELECT).await?;
        let page = scan.step_rows(PAGE_MAX);
        statement.set_page_size(i32::try_from(page).unwrap_or(i32::MAX));
        let mut summing = TotalsPass {
            live: &live,
            scan,
            sums: BTreeMap::new(),
            untrusted_rows: 0,
        };
        for (done, part) in (1..).zip(TokenRange::split_ring(PARTS)) {
            summing.add_part(&statement, part).await?;
            scan.set_progress(permille_of(done, u64::from(PARTS)));
        }
        if scan.rows_read() == 0 && !is_ledger_empty(&live, names).await? {
            return Err(LedgerError::unavailable(
                "user_balances is empty and balance_ledger is not: totals need a writer that fills it",
            ));
        }
        Ok(ScannedTotals {
            totals: Totals {
                assets: summing.sums,
                began,
                ended: clock::wall_now(),
            },
            maintained: None,
            untrusted_rows: summing.untrusted_rows,
        })
    }
}

async fn prepare_scan(
    live: &LiveSession,
    names: &Names,
    text: &str,
) -> Result<PreparedStatement, LedgerError> {
    let prepared = live.session.prepare(names.fill_in(text)).await;
    let mut prepared = prepared.map_err(|error| prepare_failed(&error))?;
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

async fn is_ledger_empty(live: &LiveSession, names: &Names) -> Result<bool, LedgerError> {
    let statement = prepare_scan(live, names, SELECT_LEDGER).await?;
    let found = live.session.execute_unpaged(&statement, ()).await;
    let rows = rows_of(found.map_err(|error| statement_error(&error))?)?;
    Ok(rows.rows_num() == 0)
}

impl TotalsPass<'_> {
    async fn add_part(
        &mut self,
        statement: &PreparedStatement,
        part: TokenRange,
    ) -> Result<(), LedgerError> {
        let mut at = Some(PagingState::start());
        while let Some(state) = at {
            let (rows, next) = self.read_page(statement, part, &state).await?;
            self.add_page(&rows).await?;
            at = next;
        }
        Ok(())
    }

    async fn read_page(
        &self,
        statement: &PreparedStatement,
        part: TokenRange,
        at: &PagingState,
    ) -> Result<(QueryRowsResult, Option<PagingState>), LedgerError> {
        let ends = (part.from, part.to);
        let mut tries = 1;
        loop {
            let session = &self.live.session;
            let asked = session.execute_single_page(statement, ends, at.clone());
            match asked.await {
                Ok((result, PagingStateResponse::HasMorePages { state })) => {
                    return Ok((rows_of(result)?, Some(state)));
                }
                Ok((result, PagingStateResponse::NoMorePages)) => {
                    return Ok((rows_of(result)?, None));
                }
                Err(_) if tries < TRIES => tries = tries.saturating_add(1),
                Err(error) => return Err(statement_error(&error)),
            }
        }
    }

    async fn add_page(&mut self, rows: &QueryRowsResult) -> Result<(), LedgerError> {
        let mut untrusted: BTreeMap<UserId, Vec<ScannedRow>> = BTreeMap::new();
        for row in rows.rows::<ScannedRow>().map_err(unreadable_row)? {
            let row = row.map_err(unreadable_row)?;
            // A row that no user or no asset of ours can have.
            let (Ok(user), Ok(_)) = (UserId::new(row.user_id), AssetId::new(row.asset_id)) else {
                self.untrusted_rows = self.untrusted_rows.saturating_add(1);
                continue;
            };
            match row.to_balance().filter(|_| row.is_trusted()) {
                Some(balance) => self.add_balance(&balance)?,
                None => untrusted.entry(user).or_default().push(row),
            }
        }
        let read = u64::try_from(rows.rows_num()).unwrap_or(u64::MAX);
        for (user, rows) in untrusted {
            self.add_untrusted(user, &rows).await?;
        }
        self.scan.pace_rows(read).await;
        Ok(())
    }

    /// Counts the ledger's rows in place of these.
    async fn add_untrusted(
        &mut self,
        user: UserId,
        rows: &[ScannedRow],
    ) -> Result<(), LedgerError> {
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.untrusted_rows = self.untrusted_rows.saturating_add(count);
        let assets: Vec<AssetId> = rows
            .iter()
            .filter_map(|row| AssetId::new(row.asset_id).ok())
            .collect();
        let ledger = ledger::load_latest((self.live, &Cost::default()), user, &assets).await?;
        let shown = Snapshot::new(rows.iter().filter_map(ScannedRow::to_balance).collect());
        for balance in ledger.complete_with(&shown).balances() {
            self.add_balance(balance)?;
        }
        self.scan.pace_rows(count).await;
        Ok(())
    }

    fn add_balance(&mut self, balance: &Balance) -> Result<(), LedgerError> {
        let sum = self.sums.entry(balance.asset).or_default();
        *sum = sum
            .with_user(balance.avail, balance.frozen)
            .ok_or_else(|| LedgerError::Corrupt("a total does not fit into 128 bits".into()))?;
        Ok(())
    }
}
