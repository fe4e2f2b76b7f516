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
    inspect::Stretch,
    ledger,
    names::Names,
    statements::{Live, Row, failed, prepare_failed, rows_of, unreadable},
    table::is_of_one_write,
};
use crate::{
    clock,
    domain::{AssetId, AssetSum, Balance, Snapshot, Totals, UnixMillis, UserId},
    ledger::{
        Cost, Error,
        totals::{ScannedTotals, TotalsScan, permille},
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
    fn balance(&self) -> Option<Balance> {
        let row = Row {
            asset_id: self.asset_id,
            seq: self.version,
            avail: self.avail,
            frozen: self.frozen,
            created_at: None,
        };
        row.balance(UnixMillis(0)).ok()
    }
}

/// A scan under way.
struct Summing<'a> {
    live: &'a Live,
    scan: &'a TotalsScan,
    sums: BTreeMap<AssetId, AssetSum>,
    untrusted_rows: u64,
}

impl Scylla {
    /// Sums all rows of `user_balances`.
    pub(super) async fn scan_totals(&self, scan: &TotalsScan) -> Result<ScannedTotals, Error> {
        let live = self.live()?;
        let names = &self.connector.names;
        let began = clock::wall();
        let mut statement = prepare(&live, names, SELECT).await?;
        let page = scan.step(PAGE_MAX);
        statement.set_page_size(i32::try_from(page).unwrap_or(i32::MAX));
        let mut summing = Summing {
            live: &live,
            scan,
            sums: BTreeMap::new(),
            untrusted_rows: 0,
        };
        for (done, part) in (1..).zip(Stretch::ring(PARTS)) {
            summing.add_part(&statement, part).await?;
            scan.set_progress(permille(done, u64::from(PARTS)));
        }
        if scan.rows() == 0 && !is_ledger_empty(&live, names).await? {
            return Err(Error::unavailable(
                "user_balances is empty and balance_ledger is not: totals need a writer that fills it",
            ));
        }
        Ok(ScannedTotals {
            totals: Totals {
                assets: summing.sums,
                began,
                ended: clock::wall(),
            },
            maintained: None,
            untrusted_rows: summing.untrusted_rows,
        })
    }
}

async fn prepare(live: &Live, names: &Names, text: &str) -> Result<PreparedStatement, Error> {
    let prepared = live.session.prepare(names.fill(text)).await;
    let mut prepared = prepared.map_err(|error| prepare_failed(&error))?;
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

async fn is_ledger_empty(live: &Live, names: &Names) -> Result<bool, Error> {
    let statement = prepare(live, names, SELECT_LEDGER).await?;
    let found = live.session.execute_unpaged(&statement, ()).await;
    let rows = rows_of(found.map_err(|error| failed(&error))?)?;
    Ok(rows.rows_num() == 0)
}

impl Summing<'_> {
    async fn add_part(
        &mut self,
        statement: &PreparedStatement,
        part: Stretch,
    ) -> Result<(), Error> {
        let mut at = Some(PagingState::start());
        while let Some(state) = at {
            let (rows, next) = self.page(statement, part, &state).await?;
            self.add_page(&rows).await?;
            at = next;
        }
        Ok(())
    }

    async fn page(
        &self,
        statement: &PreparedStatement,
        part: Stretch,
        at: &PagingState,
    ) -> Result<(QueryRowsResult, Option<PagingState>), Error> {
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
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    async fn add_page(&mut self, rows: &QueryRowsResult) -> Result<(), Error> {
        let mut untrusted: BTreeMap<UserId, Vec<ScannedRow>> = BTreeMap::new();
        for row in rows.rows::<ScannedRow>().map_err(unreadable)? {
            let row = row.map_err(unreadable)?;
            // A row that no user or no asset of ours can have.
            let (Ok(user), Ok(_)) = (UserId::new(row.user_id), AssetId::new(row.asset_id)) else {
                self.untrusted_rows = self.untrusted_rows.saturating_add(1);
                continue;
            };
            match row.balance().filter(|_| row.is_trusted()) {
                Some(balance) => self.add(&balance)?,
                None => untrusted.entry(user).or_default().push(row),
            }
        }
        let read = u64::try_from(rows.rows_num()).unwrap_or(u64::MAX);
        for (user, rows) in untrusted {
            self.add_untrusted(user, &rows).await?;
        }
        self.scan.pace(read).await;
        Ok(())
    }

    /// Counts the ledger's rows in place of these.
    async fn add_untrusted(&mut self, user: UserId, rows: &[ScannedRow]) -> Result<(), Error> {
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.untrusted_rows = self.untrusted_rows.saturating_add(count);
        let assets: Vec<AssetId> = rows
            .iter()
            .filter_map(|row| AssetId::new(row.asset_id).ok())
            .collect();
        let ledger = ledger::latest((self.live, &Cost::default()), user, &assets).await?;
        let shown = Snapshot::new(rows.iter().filter_map(ScannedRow::balance).collect());
        for balance in ledger.complete_with(&shown).balances() {
            self.add(balance)?;
        }
        self.scan.pace(count).await;
        Ok(())
    }

    fn add(&mut self, balance: &Balance) -> Result<(), Error> {
        let sum = self.sums.entry(balance.asset).or_default();
        *sum = sum
            .with_user(balance.avail, balance.frozen)
            .ok_or_else(|| Error::Corrupt("a total does not fit into 128 bits".into()))?;
        Ok(())
    }
}
