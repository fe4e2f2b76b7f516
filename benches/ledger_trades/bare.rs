//! The driver alone, with the statements of a trade.

use balance_cache::domain::PostedBalance;
use futures::future::try_join_all;
use scylla::{
    client::session::Session,
    response::query_result::QueryResult,
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::{CqlValue, Row},
};
use tokio::sync::Mutex;

use super::market::{Deal, FUNDS};

/// As long as the record of a trade.
const RECORD_BYTES: usize = 900;

/// seq, avail, frozen, `created_at`
type Head = (i64, i64, i64, Option<i64>);

/// The keyspace of the bare driver: the same tables, and nobody else writes there.
pub const KEYSPACE: &str = "bare";

pub struct Bare {
    session: Session,
    stored: PreparedStatement,
    head: PreparedStatement,
    row: PreparedStatement,
    append: Batch,
    remove: PreparedStatement,
    ledger: PreparedStatement,
    table: PreparedStatement,
    trade: PreparedStatement,
    side: PreparedStatement,
    claim: PreparedStatement,
    next_row: PreparedStatement,
    /// The tail of the journal.
    tail: Mutex<i64>,
    record: String,
}

impl Bare {
    pub async fn new(session: Session) -> Self {
        let prepare = async |text: &str| {
            let mut statement = session.prepare(text).await.unwrap();
            statement.set_is_idempotent(true);
            statement
        };
        let advance = prepare("UPDATE bare.ledger_journal SET tail = ?, removed = ? WHERE journal = 0 AND position = 0 IF tail = ?").await;
        let write =
            prepare("INSERT INTO bare.ledger_journal (journal, position, record) VALUES (0, ?, ?)")
                .await;
        let mut append = Batch::new(BatchType::Unlogged);
        append.append_statement(advance);
        append.append_statement(write);
        Self {
            stored: prepare("SELECT symbol_id, buyer_user_id, settled_at, content, balances FROM bare.settled_trades WHERE trade_id = ?").await,
            head: prepare("SELECT seq, avail, frozen, created_at FROM bare.balance_ledger WHERE user_id = ? AND asset_id = ? LIMIT 1").await,
            row: prepare("SELECT avail, frozen, created_at FROM bare.balance_ledger WHERE user_id = ? AND asset_id = ? AND seq = ?").await,
            append,
            remove: prepare("DELETE FROM bare.ledger_journal WHERE journal = 0 AND position = ?").await,
            ledger: prepare("INSERT INTO bare.balance_ledger (user_id, asset_id, seq, delta_avail, delta_frozen, avail, frozen, event_type, ref_id, created_at) VALUES (?, ?, ?, 1, 0, ?, 0, 'trade', ?, 77)").await,
            table: prepare("INSERT INTO bare.user_balances (user_id, asset_id, avail, frozen, version, updated_at) VALUES (?, ?, ?, 0, ?, 77) USING TIMESTAMP ?").await,
            trade: prepare("INSERT INTO bare.settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, buyer_user_id, seller_user_id, content, balances) VALUES (?, 1, 200000000, 10, 20, 77, ?, ?, ?, '[]')").await,
            side: prepare("INSERT INTO bare.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost) VALUES (?, 1, 77, ?, ?, 200000000, 10, 20)").await,
            claim: prepare("INSERT INTO bare.settled_trades (trade_id, content) VALUES (?, ?) IF NOT EXISTS").await,
            next_row: prepare("INSERT INTO bare.balance_ledger (user_id, asset_id, seq, delta_avail, delta_frozen, avail, frozen, event_type, ref_id, created_at) VALUES (?, ?, ?, ?, 0, ?, 0, 'trade', ?, 77) IF NOT EXISTS").await,
            tail: Mutex::new(0),
            record: "x".repeat(RECORD_BYTES),
            session,
        }
    }

    /// The statements of the service for a trade that brings its seqs; the append to the journal only if asked for. Appends of
    /// several clients follow one another, for each has to know the tail.
    pub async fn write_given(&self, deal: &Deal, with_journal: bool) {
        let session = &self.session;
        let balances = deal.transaction.balances.as_deref().unwrap();
        let key = |one: &PostedBalance| (one.user_id.get(), one.asset_id.get(), one.seq.get());
        let stored = async { session.execute_unpaged(&self.stored, (deal.id,)).await };
        let heads = balances.iter().map(|one| {
            let (user, asset, _) = key(one);
            session.execute_unpaged(&self.head, (user, asset))
        });
        let rows = balances
            .iter()
            .map(|one| session.execute_unpaged(&self.row, key(one)));
        futures::try_join!(stored, try_join_all(heads), try_join_all(rows)).unwrap();
        let position = if with_journal {
            Some(self.append_record().await)
        } else {
            None
        };
        let users = balances.chunk_by(|one, other| one.user_id == other.user_id);
        let of_users = users.map(|rows| {
            let statements = vec![self.table.clone().into(); rows.len()];
            let values = rows.iter().map(|one| {
                let (user, asset, seq) = key(one);
                (user, asset, one.avail.raw(), seq, seq)
            });
            let values: Vec<_> = values.collect();
            let batch = Batch::new_with_statements(BatchType::Unlogged, statements);
            async move { session.batch(&batch, values).await }
        });
        try_join_all(of_users).await.unwrap();
        let rows = balances.iter().map(|one| {
            let (user, asset, seq) = key(one);
            let values = (user, asset, seq, one.avail.raw(), deal.id);
            session.execute_unpaged(&self.ledger, values)
        });
        try_join_all(rows).await.unwrap();
        let trade = deal.transaction.trade.as_deref().unwrap();
        let (buyer, seller) = (trade.buyer.get(), trade.seller.get());
        let content = deal.transaction.content.as_str();
        let trade = session.execute_unpaged(&self.trade, (deal.id, buyer, seller, content));
        let sold = session.execute_unpaged(&self.side, (seller, deal.id, 1_i8));
        futures::try_join!(trade, sold).unwrap();
        let bought = (buyer, deal.id, 0_i8);
        session.execute_unpaged(&self.side, bought).await.unwrap();
        if let Some(position) = position {
            session
                .execute_unpaged(&self.remove, (position,))
                .await
                .unwrap();
        }
    }

    async fn append_record(&self) -> i64 {
        let mut tail = self.tail.lock().await;
        let next = *tail + 1;
        let advance = (next, 0_i64, (*tail > 0).then_some(*tail));
        let values = (advance, (next, self.record.as_str()));
        let result = self.session.batch(&self.append, values).await.unwrap();
        assert!(is_applied(result), "nobody else appends");
        *tail = next;
        next
    }

    /// The lightweight transactions that a trade needs without a journal, one after the other: one for its id, one for the next row of each
    /// (user, asset), which is tried again where another trade took the seq. It has no undo, no current state and no history.
    pub async fn settle_row_by_row(&self, deal: &Deal) {
        let claim = (deal.id, deal.transaction.content.as_str());
        loop {
            if self.try_one(&self.claim, claim).await {
                break;
            }
        }
        for change in &deal.transaction.changes {
            let (user, asset) = (change.user.get(), change.asset.get());
            let delta = i64::try_from(change.delta_avail).unwrap();
            loop {
                let head = self
                    .session
                    .execute_unpaged(&self.head, (user, asset))
                    .await;
                let Ok(head) = head else { continue };
                let head = head.into_rows_result().unwrap();
                let head = head.maybe_first_row::<Head>().unwrap();
                let (seq, avail, ..) = head.unwrap_or((0, FUNDS, 0, None));
                let row = (user, asset, seq + 1, delta, avail + delta, deal.id);
                if self.try_one(&self.next_row, row).await {
                    break;
                }
            }
        }
    }

    /// One lightweight transaction: the first row of a user.
    pub async fn deposit(&self, deal: &Deal) {
        let change = deal.transaction.changes.first().unwrap();
        let (user, asset) = (change.user.get(), change.asset.get());
        let row = (user, asset, 1_i64, FUNDS, FUNDS, deal.id);
        assert!(
            self.try_one(&self.next_row, row).await,
            "nobody else writes it"
        );
    }

    /// Whether it was applied; not where the database gave up on contention.
    async fn try_one(
        &self,
        statement: &PreparedStatement,
        values: impl scylla::serialize::row::SerializeRow,
    ) -> bool {
        let done = self.session.execute_unpaged(statement, values).await;
        done.is_ok_and(is_applied)
    }
}

fn is_applied(result: QueryResult) -> bool {
    let rows = result.into_rows_result().unwrap();
    let first = rows.first_row::<Row>().unwrap().columns.into_iter().next();
    first.flatten() == Some(CqlValue::Boolean(true))
}
