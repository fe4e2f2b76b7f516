//! The driver alone, with the transaction that a writer needs: balances locked and read, one ledger row for each, the current state, and the
//! record by which a repetition is told. It has no outbox: only a cache needs one.

use std::collections::HashMap;

use balance_cache::domain::{PostedChange, Transaction};
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_postgres::{Client, Statement, types::ToSql};

use crate::{CONNECTIONS, connect_bare, market::Deal, support::postgres::PgServer};

const LOCK: &str = "INSERT INTO trading.user_balances (user_id, asset_id, avail, frozen, version) \
     SELECT pair.user_id, pair.asset_id, 0, 0, 0 FROM unnest($1::bigint[], $2::int[]) AS pair(user_id, asset_id) \
     ORDER BY pair.user_id, pair.asset_id \
     ON CONFLICT (user_id, asset_id) DO UPDATE SET version = user_balances.version WHERE false";
const HEADS: &str = "SELECT pair.user_id, pair.asset_id, newest.seq, newest.avail, newest.frozen \
     FROM unnest($1::bigint[], $2::int[]) AS pair(user_id, asset_id) CROSS JOIN LATERAL \
     (SELECT seq, avail, frozen FROM trading.balance_ledger WHERE user_id = pair.user_id AND asset_id = pair.asset_id \
     ORDER BY seq DESC LIMIT 1) AS newest";
const LEDGER: &str = "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, delta_avail, delta_frozen, avail, frozen, \
     event_type, ref_id, created_at) SELECT row.user_id, row.asset_id, row.seq, row.delta_avail, row.delta_frozen, row.avail, \
     row.frozen, $8, $9, 77 FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) \
     AS row(user_id, asset_id, seq, delta_avail, delta_frozen, avail, frozen)";
const BALANCES: &str = "INSERT INTO trading.user_balances AS held (user_id, asset_id, avail, frozen, version, updated_at) \
     SELECT row.user_id, row.asset_id, row.avail, row.frozen, row.seq, 77 FROM unnest($1::bigint[], $2::int[], $3::bigint[], \
     $4::bigint[], $5::bigint[]) AS row(user_id, asset_id, seq, avail, frozen) \
     ON CONFLICT (user_id, asset_id) DO UPDATE SET avail = EXCLUDED.avail, frozen = EXCLUDED.frozen, \
     version = EXCLUDED.version, updated_at = EXCLUDED.updated_at";
const SIDES: &str = "INSERT INTO trading.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost) \
     VALUES ($1, 1, 77, $3, 0::smallint, 200000000, 10, 20), ($2, 1, 77, $3, 1::smallint, 200000000, 10, 20)";

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The statements of one connection.
struct Lane {
    client: Client,
    lock: Statement,
    stored: [Statement; 2],
    heads: Statement,
    ledger: Statement,
    balances: Statement,
    transaction: Statement,
    trade: Statement,
    sides: Statement,
}

/// Connections, each with its statements.
pub struct Bare {
    free: Mutex<Vec<Lane>>,
    permits: Semaphore,
}

/// The rows of a transaction, a column each.
#[derive(Default)]
struct Rows {
    users: Vec<i64>,
    assets: Vec<i32>,
    seqs: Vec<i64>,
    delta_avails: Vec<i64>,
    delta_frozens: Vec<i64>,
    avails: Vec<i64>,
    frozens: Vec<i64>,
}

impl Lane {
    async fn open(server: &PgServer, database: &str) -> Self {
        let client = connect_bare(server, database).await;
        let prepare = async |text: &str| client.prepare(text).await.unwrap();
        let set =
            "SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off";
        client.batch_execute(set).await.unwrap();
        Self {
            lock: prepare(LOCK).await,
            stored: [
                prepare("SELECT content, balances FROM trading.ledger_transactions WHERE transaction_id = $1").await,
                prepare("SELECT content, balances FROM trading.settled_trades WHERE trade_id = $1").await,
            ],
            heads: prepare(HEADS).await,
            ledger: prepare(LEDGER).await,
            balances: prepare(BALANCES).await,
            transaction: prepare("INSERT INTO trading.ledger_transactions (transaction_id, content, balances, created_at) VALUES ($1, $2, $3, 77)").await,
            trade: prepare("INSERT INTO trading.settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, buyer_user_id, seller_user_id, content, balances) VALUES ($1, 1, 200000000, 10, 20, 77, $2, $3, $4, $5)").await,
            sides: prepare(SIDES).await,
            client,
        }
    }

    /// Everything of a round trip is sent at once, as the service does.
    async fn settle(&self, deal: &Deal) {
        let (client, transaction) = (&self.client, &deal.transaction);
        let mut rows = Rows::default();
        for change in &transaction.changes {
            rows.users.push(change.user.get());
            rows.assets.push(change.asset.get());
        }
        let [of_transaction, of_trade] = &self.stored;
        let stored = if transaction.trade.is_some() {
            of_trade
        } else {
            of_transaction
        };
        let of_pairs: Values<'_> = &[&rows.users, &rows.assets];
        let of_id: Values<'_> = &[&deal.id];
        let ((), _, stored, heads) = futures::try_join!(
            client.batch_execute("BEGIN"),
            client.execute(&self.lock, of_pairs),
            client.query(stored, of_id),
            client.query(&self.heads, of_pairs),
        )
        .unwrap();
        assert!(stored.is_empty(), "each is settled once");
        let heads: HashMap<(i64, i32), (i64, i64, i64)> = heads
            .iter()
            .map(|row| {
                (
                    (row.get(0), row.get(1)),
                    (row.get(2), row.get(3), row.get(4)),
                )
            })
            .collect();
        for change in &transaction.changes {
            rows.add(change, &heads);
        }
        self.write(deal.id, transaction, &rows).await;
    }

    async fn write(&self, id: i64, transaction: &Transaction, rows: &Rows) {
        let client = &self.client;
        let (content, written) = (&transaction.content, rows.to_text());
        let claims = async {
            let Some(trade) = transaction.trade.as_deref() else {
                client
                    .execute(&self.transaction, &[&id, content, &written])
                    .await?;
                return Ok(());
            };
            let (buyer, seller) = (trade.buyer.get(), trade.seller.get());
            let of_trade: Values<'_> = &[&id, &buyer, &seller, content, &written];
            let of_sides: Values<'_> = &[&buyer, &seller, &id];
            futures::try_join!(
                client.execute(&self.trade, of_trade),
                client.execute(&self.sides, of_sides),
            )?;
            Ok(())
        };
        let in_ledger: Values<'_> = &[
            &rows.users,
            &rows.assets,
            &rows.seqs,
            &rows.delta_avails,
            &rows.delta_frozens,
            &rows.avails,
            &rows.frozens,
            &transaction.event_type,
            &id,
        ];
        let current: Values<'_> = &[
            &rows.users,
            &rows.assets,
            &rows.seqs,
            &rows.avails,
            &rows.frozens,
        ];
        futures::try_join!(
            claims,
            client.execute(&self.ledger, in_ledger),
            client.execute(&self.balances, current),
            client.batch_execute("COMMIT"),
        )
        .unwrap();
    }
}

impl Rows {
    fn add(&mut self, change: &PostedChange, heads: &HashMap<(i64, i32), (i64, i64, i64)>) {
        let key = (change.user.get(), change.asset.get());
        let (seq, avail, frozen) = heads.get(&key).copied().unwrap_or_default();
        let delta = |wide: i128| i64::try_from(wide).unwrap();
        let (delta_avail, delta_frozen) = (delta(change.delta_avail), delta(change.delta_frozen));
        let (avail, frozen) = (
            avail.checked_add(delta_avail).unwrap(),
            frozen.checked_add(delta_frozen).unwrap(),
        );
        assert!(avail >= 0 && frozen >= 0, "everybody has enough");
        self.seqs.push(seq + 1);
        self.delta_avails.push(delta_avail);
        self.delta_frozens.push(delta_frozen);
        self.avails.push(avail);
        self.frozens.push(frozen);
    }

    /// The text that the record keeps of them.
    fn to_text(&self) -> String {
        let keys = self.users.iter().zip(&self.assets).zip(&self.seqs);
        let amounts = self.avails.iter().zip(&self.frozens);
        let rows: Vec<_> = keys.zip(amounts).collect();
        serde_json::to_string(&rows).unwrap()
    }
}

impl Bare {
    pub async fn open(server: &PgServer, database: &str) -> Self {
        let lanes = (0..CONNECTIONS).map(async |_| Ok::<_, ()>(Lane::open(server, database).await));
        Self {
            free: Mutex::new(try_join_all(lanes).await.unwrap()),
            permits: Semaphore::new(CONNECTIONS),
        }
    }

    pub async fn settle(&self, deal: &Deal) {
        let _permit = self.permits.acquire().await.unwrap();
        let lane = self.free.lock().pop().unwrap();
        lane.settle(deal).await;
        self.free.lock().push(lane);
    }
}
