//! One SQL transaction that posts a group of requests, in two round trips: lock and read; write and commit.
//!
//! **Invariants.** Every (user, asset) of the group is locked before anything of it is read, in one order: by user, then asset. A
//! pair without a row gets one of version 0, which no other session sees: it is moved forward, deleted, or rolled back.
//! Ids are claimed by their primary keys, in order. So two groups never wait for each other in a circle.
//!
//! **Cancellation.** Dropped in the middle, the connection is closed: the server rolls back, or has committed.
//!
//! **Limits.** `source.timeout_ms` for each round trip. The server ends a transaction that its client leaves idle for as long.

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::ClientWrapper;
use futures::future::BoxFuture;
use tokio::time::timeout;
use tokio_postgres::{Row as SqlRow, Statement};

use super::{
    columns::{KeyColumns, LedgerColumns, PairColumns, claims_of, newest_rows},
    pool::{PgConnection, PgPool, Values},
    post_failure::PostFailure,
    post_rows::{head_of, owed_of, standing_of, stored_of},
    post_statements::PostStatements,
};
use crate::{
    clock,
    domain::{Notification, Reference, TradeId, TransactionId},
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
            return Ok(Posted {
                answers,
                owed: Vec::new(),
            });
        }
        fail::fail_point!("ledger-before-commit");
        let written = self.write_items(client, statements, &items).await;
        written.map_err(PostFailure::of_trip)?;
        fail::fail_point!("ledger-committed");
        fail::fail_point!("commit-answer-lost", |_| Err(PostFailure {
            error: LedgerError::unavailable("the answer to the commit was lost"),
            kind: super::post_failure::PostFailureKind::Connection,
        }));
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
        let pairs = self.pairs();
        let users: BTreeSet<i64> = pairs.iter().map(|(user, _)| user.get()).collect();
        let users: Vec<i64> = users.into_iter().collect();
        let pairs: PairColumns = pairs.into_iter().collect();
        let chosen: BTreeSet<StandingKey> = self.requests.iter().flat_map(given_rows).collect();
        let chosen: KeyColumns = chosen.into_iter().collect();
        let (transactions, trades) = self.ids();
        let of_pairs: Values<'_> = &[&pairs.users, &pairs.assets];
        let of_rows: Values<'_> = &[&chosen.pairs.users, &chosen.pairs.assets, &chosen.seqs];
        let of_transactions: Values<'_> = &[&transactions];
        let of_trades: Values<'_> = &[&trades];
        let of_users: Values<'_> = &[&users];
        // Sent at once, and run one after the other: each sees what was committed before its locks were had.
        let all = async {
            futures::try_join!(
                client.batch_execute(BEGIN),
                client.execute(&statements.lock_pairs, of_pairs),
                query_if(
                    client,
                    !transactions.is_empty(),
                    &statements.read_transactions,
                    of_transactions
                ),
                query_if(
                    client,
                    !trades.is_empty(),
                    &statements.read_trades,
                    of_trades
                ),
                query_if(client, true, &statements.read_heads, of_pairs),
                query_if(
                    client,
                    !chosen.seqs.is_empty(),
                    &statements.read_rows,
                    of_rows
                ),
                query_if(client, true, &statements.read_owed, of_users),
            )
        };
        let read = self.in_time(all).await;
        let ((), _, transactions, trades, heads, rows, owed) =
            read.map_err(PostFailure::of_trip)?;
        let mut stored = HashMap::new();
        for row in transactions {
            let (id, found) = stored_of(&row).map_err(PostFailure::of)?;
            let id = TransactionId::new(id).map_err(PostFailure::corrupt)?;
            stored.insert(Reference::Transaction(id), found);
        }
        for row in trades {
            let (id, found) = stored_of(&row).map_err(PostFailure::of)?;
            let id = TradeId::new(id).map_err(PostFailure::corrupt)?;
            stored.insert(Reference::Trade(id), found);
        }
        let heads: Result<_, LedgerError> = heads.iter().map(head_of).collect();
        let rows: Result<_, LedgerError> = rows.iter().map(standing_of).collect();
        let owed: Result<_, LedgerError> = owed.iter().map(owed_of).collect();
        let facts = LedgerFacts {
            stored,
            heads: heads.map_err(PostFailure::of)?,
            rows: rows.map_err(PostFailure::of)?,
        };
        Ok((facts, owed.map_err(PostFailure::of)?))
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
        let sides = trades.sides();
        let (in_ledger, in_table) = (ledger.ledger_values(), table.table_values());
        let (in_transactions, in_trades) = (transactions.values(), trades.values());
        let in_sides = sides.values();
        let out_of_table: Values<'_> = &[&unused.users, &unused.assets];
        let owed = &table.keys;
        let in_outbox: Values<'_> = &[&owed.pairs.users, &owed.pairs.assets, &owed.seqs];
        let writes = async {
            futures::try_join!(
                query_if(
                    client,
                    !transactions.ids.is_empty(),
                    &statements.write_transactions,
                    &in_transactions
                ),
                query_if(
                    client,
                    !trades.symbols.is_empty(),
                    &statements.write_trades,
                    &in_trades
                ),
                query_if(
                    client,
                    !sides.users.is_empty(),
                    &statements.write_sides,
                    &in_sides
                ),
                query_if(
                    client,
                    !ledger.avails.is_empty(),
                    &statements.write_ledger,
                    &in_ledger
                ),
                query_if(client, true, &statements.write_balances, &in_table),
                query_if(
                    client,
                    !unused.users.is_empty(),
                    &statements.delete_unused,
                    out_of_table
                ),
                query_if(client, true, &statements.write_outbox, in_outbox),
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
