//! The statements of a posting, prepared once for each connection.

use deadpool_postgres::ClientWrapper;
use futures::FutureExt as _;
use tokio_postgres::Statement;

/// Locks every (user, asset); `WHERE false` locks a row without a new version of it. Missing rows are made, in the same order.
const LOCK_PAIRS: &str = "INSERT INTO user_balances (user_id, asset_id, avail, frozen, version) \
     SELECT pair.user_id, pair.asset_id, 0, 0, 0 FROM unnest($1::bigint[], $2::int[]) AS pair(user_id, asset_id) \
     ORDER BY pair.user_id, pair.asset_id \
     ON CONFLICT (user_id, asset_id) DO UPDATE SET version = user_balances.version WHERE false";
/// The records under these ids of transactions.
pub(super) const READ_TRANSACTIONS: &str = "SELECT transaction_id, content, balances, created_at FROM ledger_transactions \
     WHERE transaction_id = ANY($1)";
/// The records under these ids of trades.
pub(super) const READ_TRADES: &str =
    "SELECT trade_id, content, balances, settled_at FROM settled_trades WHERE trade_id = ANY($1)";
const READ_HEADS: &str = "SELECT pair.user_id, pair.asset_id, newest.seq, newest.avail, newest.frozen \
     FROM unnest($1::bigint[], $2::int[]) AS pair(user_id, asset_id) CROSS JOIN LATERAL \
     (SELECT seq, avail, frozen FROM balance_ledger WHERE user_id = pair.user_id AND asset_id = pair.asset_id \
     ORDER BY seq DESC LIMIT 1) AS newest";
const READ_ROWS: &str = "SELECT chosen.user_id, chosen.asset_id, chosen.seq, stored.avail, stored.frozen, stored.created_at \
     FROM unnest($1::bigint[], $2::int[], $3::bigint[]) AS chosen(user_id, asset_id, seq) CROSS JOIN LATERAL \
     (SELECT avail, frozen, created_at FROM balance_ledger WHERE user_id = chosen.user_id \
     AND asset_id = chosen.asset_id AND seq = chosen.seq LIMIT 1) AS stored";
const READ_OWED: &str = "SELECT owed.user_id, owed.asset_id, held.version, held.avail, held.frozen, held.updated_at \
     FROM redis_outbox AS owed CROSS JOIN LATERAL (SELECT version, avail, frozen, updated_at FROM user_balances \
     WHERE user_id = owed.user_id AND asset_id = owed.asset_id LIMIT 1) AS held WHERE owed.user_id = ANY($1)";
/// A row that a trigger, a rule or a policy left out would be acknowledged and not stand: the cast fails with this text, and all of the
/// group rolls back.
const WRITE_LEDGER: &str = "WITH written AS (INSERT INTO balance_ledger (user_id, asset_id, seq, delta_avail, delta_frozen, avail, \
     frozen, event_type, ref_id, created_at) SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], \
     $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[]) RETURNING 1) \
     SELECT CASE count(*) WHEN cardinality($1) THEN 1 \
     ELSE (count(*) || ' rows were written to balance_ledger, of ' || cardinality($1))::int END FROM written";
const WRITE_BALANCES: &str = "INSERT INTO user_balances AS held (user_id, asset_id, avail, frozen, version, updated_at) \
     SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
     ON CONFLICT (user_id, asset_id) DO UPDATE SET avail = EXCLUDED.avail, frozen = EXCLUDED.frozen, \
     version = EXCLUDED.version, updated_at = EXCLUDED.updated_at WHERE COALESCE(held.version, 0) < EXCLUDED.version";
const DELETE_UNUSED: &str = "DELETE FROM user_balances AS held USING unnest($1::bigint[], $2::int[]) \
     AS pair(user_id, asset_id) WHERE held.user_id = pair.user_id AND held.asset_id = pair.asset_id AND held.version = 0";
const WRITE_TRANSACTIONS: &str = "INSERT INTO ledger_transactions (transaction_id, content, balances, created_at) \
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS claim(id) ORDER BY claim.id";
const WRITE_TRADES: &str = "INSERT INTO settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, \
     buyer_user_id, seller_user_id, buyer_order_id, seller_order_id, content, balances) \
     SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
     $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::text[]) AS trade(id) ORDER BY trade.id";
const WRITE_SIDES: &str = "INSERT INTO user_trades (user_id, symbol_id, settled_at, trade_id, role, price, quantity, \
     cost, order_id) SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::smallint[], \
     $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])";
const WRITE_OUTBOX: &str = "INSERT INTO redis_outbox AS owed (user_id, asset_id, seq) \
     SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[]) \
     ON CONFLICT (user_id, asset_id) DO UPDATE SET seq = EXCLUDED.seq, written_at = EXCLUDED.written_at \
     WHERE owed.seq < EXCLUDED.seq";

/// The statements, prepared.
#[derive(Debug)]
pub(super) struct PostStatements {
    pub(super) lock_pairs: Statement,
    pub(super) read_transactions: Statement,
    pub(super) read_trades: Statement,
    pub(super) read_heads: Statement,
    pub(super) read_rows: Statement,
    pub(super) read_owed: Statement,
    pub(super) write_ledger: Statement,
    pub(super) write_balances: Statement,
    pub(super) delete_unused: Statement,
    pub(super) write_transactions: Statement,
    pub(super) write_trades: Statement,
    pub(super) write_sides: Statement,
    pub(super) write_outbox: Statement,
}

impl PostStatements {
    /// Prepares what this connection has not prepared yet, in one round trip.
    pub(super) async fn prepare(client: &ClientWrapper) -> Result<Self, tokio_postgres::Error> {
        let prepare = |text: &'static str| client.prepare_cached(text).boxed();
        let (reads, writes, others) = futures::try_join!(
            async {
                futures::try_join!(
                    prepare(LOCK_PAIRS),
                    prepare(READ_TRANSACTIONS),
                    prepare(READ_TRADES),
                    prepare(READ_HEADS),
                    prepare(READ_ROWS),
                )
            },
            async {
                futures::try_join!(
                    prepare(WRITE_LEDGER),
                    prepare(WRITE_BALANCES),
                    prepare(DELETE_UNUSED),
                    prepare(WRITE_TRANSACTIONS),
                    prepare(WRITE_TRADES),
                )
            },
            async {
                futures::try_join!(
                    prepare(WRITE_SIDES),
                    prepare(READ_OWED),
                    prepare(WRITE_OUTBOX)
                )
            },
        )?;
        let (lock_pairs, read_transactions, read_trades, read_heads, read_rows) = reads;
        let (write_ledger, write_balances, delete_unused, write_transactions, write_trades) =
            writes;
        let (write_sides, read_owed, write_outbox) = others;
        Ok(Self {
            lock_pairs,
            read_transactions,
            read_trades,
            read_heads,
            read_rows,
            read_owed,
            write_ledger,
            write_balances,
            delete_unused,
            write_transactions,
            write_trades,
            write_sides,
            write_outbox,
        })
    }
}
