//! One SQL transaction that posts a group of requests, in two round trips: lock and read; write and commit.
//!
//! **Invariants.** Every (user, asset) of the group is locked before anything of it is read, in one order: by user, then asset. A
//! pair without a row gets one of version 0, which no other session sees: it is moved forward, deleted, or rolled back.
//! Ids are claimed by their primary keys, in order. So two groups never wait for each other in a circle.
//!
//! **Cancellation.** Dropped in the middle, the connection is closed: the server rolls back, or has committed.
//!
//! **Limits.** `source.timeout_ms` for each round trip. The server ends a transaction that its client leaves idle for as long.

use std::collections::BTreeSet;

use deadpool_postgres::ClientWrapper;
use futures::future::BoxFuture;
use tokio::time::timeout;
use tokio_postgres::{Row as SqlRow, Statement};

use super::{
    columns::{KeyColumns, LedgerColumns, PairColumns, claims_of, newest_rows},
    pool::{PgConnection, PgPool, Values},
    post_failure::PostFailure,
    post_rows::{add_fact, standing_of},
    post_statements::PostStatements,
};
use crate::{
    clock,
    domain::{Notification, Reference},
    fail_points,
    ledger::{
        LedgerError,
        item::Item,
        judge::{
            Judged, JudgedAnswer, LedgerFacts, LedgerRequest, StandingKey, UserAsset, given_rows,
            judge_requests, judged_pairs,
        },
    },
};

/// Each statement sees what was committed before it began, whatever the default of the database is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// A statement on its way.
type Sent<'s> = BoxFuture<'s, Result<Vec<SqlRow>, tokio_postgres::Error>>;

/// A group that was posted.
#[derive(Debug)]
pub(super) struct Posted {
    /// One for each request, in their order.
    pub(super) answers: Vec<JudgedAnswer>,
    /// Balances of the same users that stand and that Redis may not know: they are announced with those of the group (P10).
    pub(super) owed: Vec<Notification>,
}

/// A group, and the connections that it may be posted on.
pub(super) struct Poster<'p> {
    pub(super) pool: &'p PgPool,
    pub(super) requests: &'p [LedgerRequest],
}

impl Poster<'_> {
    /// Posts the group on this connection, which goes back to its pool unless it failed.
    pub(super) async fn post(&self, mut connection: PgConnection) -> Result<Posted, PostFailure> {
        let client: &ClientWrapper = connection.cached_client().map_err(PostFailure::of)?;
        let prepared = self.in_time(PostStatements::prepare(client)).await;
        let statements = prepared.map_err(PostFailure::of_trip)?;
        let result = self.post_open(client, &statements).await;
        let is_clean = match &result {
            Ok(_) => true,
            Err(failure) => {
                failure.keeps_connection()
                    && self.in_time(client.batch_execute("ROLLBACK")).await.is_ok()
            }
        };
        match &result {
            _ if is_clean => connection.give_back(),
            Err(failure) if failure.is_silence() => self.pool.leave_to_server(connection),
            Ok(_) | Err(_) => {}
        }
        result
    }

    async fn post_open(
        &self,
        client: &ClientWrapper,
        statements: &PostStatements,
    ) -> Result<Posted, PostFailure> {
        let reads = self.read_facts(client, statements);
        let (facts, owed) = reads.await?;
        let Judged { items, answers } = judge_requests(self.requests, facts, clock::wall_now());
        if items.is_empty() {
            let rolled_back = self.in_time(client.batch_execute("ROLLBACK")).await;
            rolled_back.map_err(PostFailure::of_trip)?;
            return Ok(Posted { answers, owed });
        }
        fail_points::reach("ledger-before-commit");
        let written = self.write_items(client, statements, &items).await;
        written.map_err(PostFailure::of_trip)?;
        fail_points::reach("ledger-committed");
        if fail_points::reach("commit-answer-lost") {
            return Err(PostFailure {
                error: LedgerError::unavailable("the answer to the commit was lost"),
                kind: super::post_failure::PostFailureKind::Connection,
            });
        }
        Ok(Posted { answers, owed })
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Option<tokio_postgres::Error>> {
        match timeout(self.pool.timeout(), work).await {
            Ok(done) => done.map_err(Some),
            Err(_) => Err(None),
        }
    }

    fn pairs(&self) -> BTreeSet<UserAsset> {
        self.requests.iter().flat_map(judged_pairs).collect()
    }

    /// Locks all pairs, then reads what the group is judged by, and what the outbox has of its users.
    async fn read_facts(
        &self,
        client: &ClientWrapper,
        statements: &PostStatements,
    ) -> Result<(LedgerFacts, Vec<Notification>), PostFailure> {
        let pairs: PairColumns = self.pairs().into_iter().collect();
        let chosen: BTreeSet<StandingKey> = self.requests.iter().flat_map(given_rows).collect();
        let chosen: KeyColumns = chosen.into_iter().collect();
        let (transactions, trades) = self.ids();
        let of_pairs: Values<'_> = &[&pairs.users, &pairs.assets];
        let of_rows: Values<'_> = &[&chosen.pairs.users, &chosen.pairs.assets, &chosen.seqs];
        let of_facts: Values<'_> = &[&pairs.users, &pairs.assets, &transactions, &trades];
        // Sent at once, and run one after the other: each sees what was committed before its locks were had.
        let all = async {
            futures::try_join!(
                client.batch_execute(BEGIN),
                client.execute(&statements.lock_pairs, of_pairs),
                client.query(&statements.read_facts, of_facts),
                query_if(
                    client,
                    !chosen.seqs.is_empty(),
                    &statements.read_rows,
                    of_rows
                ),
            )
        };
        let read = self.in_time(all).await;
        let ((), _, found, rows) = read.map_err(PostFailure::of_trip)?;
        let (mut facts, mut owed) = (LedgerFacts::default(), Vec::new());
        for row in &found {
            add_fact(row, &mut facts, &mut owed).map_err(PostFailure::of)?;
        }
        let rows: Result<_, LedgerError> = rows.iter().map(standing_of).collect();
        facts.rows = rows.map_err(PostFailure::of)?;
        Ok((facts, owed))
    }

    /// Ids of transactions, and of trades.
    fn ids(&self) -> (Vec<i64>, Vec<i64>) {
        let (mut transactions, mut trades) = (Vec::new(), Vec::new());
        for request in self.requests {
            let LedgerRequest::Transaction(transaction) = request else {
                continue;
            };
            match transaction.reference {
                Reference::Transaction(id) => transactions.push(id.get()),
                Reference::Trade(id) => trades.push(id.get()),
            }
        }
        (transactions, trades)
    }

    /// Writes all rows, and commits.
    async fn write_items(
        &self,
        client: &ClientWrapper,
        statements: &PostStatements,
        items: &[Item],
    ) -> Result<(), Option<tokio_postgres::Error>> {
        let fresh = items.iter().flat_map(|item| &item.rows);
        let fresh = fresh.filter(|row| !row.stood).map(|row| &row.entry);
        let ledger: LedgerColumns<'_> = fresh.collect();
        let newest = newest_rows(items);
        // Those of requests that were refused, or contradict what stands.
        let mut unused = self.pairs();
        unused.retain(|pair| !newest.contains_key(pair));
        let unused: PairColumns = unused.into_iter().collect();
        let table: LedgerColumns<'_> = newest.values().copied().collect();
        let (transactions, trades) = claims_of(items);
        let mut values = Vec::with_capacity(32);
        values.extend(ledger.ledger_values());
        values.extend(table.table_values());
        values.extend(transactions.values());
        let write = if trades.symbols.is_empty() {
            &statements.write_transactions
        } else {
            values.extend(trades.values());
            &statements.write_trades
        };
        let out_of_table: Values<'_> = &[&unused.users, &unused.assets];
        let writes = async {
            futures::try_join!(
                client.query(write, &values),
                query_if(
                    client,
                    !unused.users.is_empty(),
                    &statements.delete_unused,
                    out_of_table
                ),
                // After an error before it, it rolls back.
                client.batch_execute("COMMIT"),
            )
        };
        self.in_time(writes).await.map(drop)
    }
}

/// Runs a statement where there is anything to do.
fn query_if<'s>(
    client: &'s ClientWrapper,
    is_needed: bool,
    statement: &'s Statement,
    parameters: Values<'s>,
) -> Sent<'s> {
    if is_needed {
        Box::pin(client.query(statement, parameters))
    } else {
        Box::pin(async { Ok(Vec::new()) })
    }
}
