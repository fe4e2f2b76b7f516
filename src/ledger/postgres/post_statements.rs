//! The statements of a posting, prepared once for each connection.

use std::sync::LazyLock;

use deadpool_postgres::ClientWrapper;
use futures::FutureExt as _;
use tokio_postgres::Statement;

/// Locks every (user, asset); `WHERE false` locks a row without a new version of it. Missing rows are made, in the same order.
const LOCK_PAIRS: &str = "INSERT INTO user_balances (user_id, asset_id, avail, frozen, version) \
     SELECT pair.user_id, pair.asset_id, 0, 0, 0 FROM unnest($1::bigint[], $2::int[]) AS pair(user_id, asset_id) \
     ORDER BY pair.user_id, pair.asset_id \
     ON CONFLICT (user_id, asset_id) DO UPDATE SET version = user_balances.version WHERE false";
/// The record under an id of a transaction, as [`READ_FACTS`] has it.
pub(super) const READ_TRANSACTION: &str = "SELECT transaction_id, NULL, NULL, NULL, NULL, created_at, content, balances \
     FROM ledger_transactions WHERE transaction_id = $1";
/// The record under an id of a trade, as [`READ_FACTS`] has it, with a content of the other columns where another program left it out.
pub(super) const READ_TRADE: &str = "SELECT trade_id, NULL, NULL, NULL, NULL, settled_at, COALESCE(content, \
     json_strip_nulls(json_build_object('trade_id', trade_id, 'symbol_id', symbol_id, 'price', price, 'quantity', quantity, \
     'cost', cost, 'settled_at', settled_at, 'buyer_user_id', buyer_user_id, 'seller_user_id', seller_user_id, \
     'buyer_order_id', buyer_order_id, 'seller_order_id', seller_order_id))::text), balances \
     FROM settled_trades WHERE trade_id = $1";
/// Newest rows, what the outbox has of the users, and records, in one snapshot. The last column says what a row is.
const READ_FACTS: &str = "SELECT pair.user_id, pair.asset_id, newest.seq, newest.avail, newest.frozen, NULL::bigint, NULL::text, \
     NULL::text, 0 FROM unnest($1::bigint[], $2::int[]) AS pair(user_id, asset_id) CROSS JOIN LATERAL \
     (SELECT seq, avail, frozen FROM balance_ledger WHERE user_id = pair.user_id AND asset_id = pair.asset_id \
     ORDER BY seq DESC LIMIT 1) AS newest \
     UNION ALL SELECT owed.user_id, owed.asset_id, held.version, held.avail, held.frozen, held.updated_at, NULL, NULL, 1 \
     FROM redis_outbox AS owed CROSS JOIN LATERAL (SELECT version, avail, frozen, updated_at FROM user_balances \
     WHERE user_id = owed.user_id AND asset_id = owed.asset_id LIMIT 1) AS held WHERE owed.user_id = ANY($1) \
     UNION ALL SELECT transaction_id, NULL, NULL, NULL, NULL, created_at, content, balances, 2 FROM ledger_transactions \
     WHERE transaction_id = ANY($3::bigint[]) \
     UNION ALL SELECT trade_id, NULL, NULL, NULL, NULL, settled_at, content, balances, 3 FROM settled_trades \
     WHERE trade_id = ANY($4::bigint[])";
const READ_ROWS: &str = "SELECT chosen.user_id, chosen.asset_id, chosen.seq, stored.avail, stored.frozen, stored.created_at \
     FROM unnest($1::bigint[], $2::int[], $3::bigint[]) AS chosen(user_id, asset_id, seq) CROSS JOIN LATERAL \
     (SELECT avail, frozen, created_at FROM balance_ledger WHERE user_id = chosen.user_id \
     AND asset_id = chosen.asset_id AND seq = chosen.seq LIMIT 1) AS stored";
const DELETE_UNUSED: &str = "DELETE FROM user_balances AS held USING unnest($1::bigint[], $2::int[]) \
     AS pair(user_id, asset_id) WHERE held.user_id = pair.user_id AND held.asset_id = pair.asset_id AND held.version = 0";
/// Everything of a group but for its trades: ids, ledger rows, current balances, the outbox. A row that a trigger, a rule or a policy left out
/// of the ledger would be acknowledged and not stand: the cast fails with this text, and all of the group rolls back.
const WRITE_GROUP: &str = "WITH claimed AS (INSERT INTO ledger_transactions (transaction_id, content, balances, created_at) \
     SELECT * FROM unnest($17::bigint[], $18::text[], $19::text[], $20::bigint[]) AS claim(id) ORDER BY claim.id), {trades}\
     current AS (INSERT INTO user_balances AS held (user_id, asset_id, version, avail, frozen, updated_at) \
     SELECT * FROM unnest($11::bigint[], $12::int[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[]) \
     ON CONFLICT (user_id, asset_id) DO UPDATE SET avail = EXCLUDED.avail, frozen = EXCLUDED.frozen, \
     version = EXCLUDED.version, updated_at = EXCLUDED.updated_at WHERE COALESCE(held.version, 0) < EXCLUDED.version), \
     queued AS (INSERT INTO redis_outbox AS owed (user_id, asset_id, seq) SELECT * FROM unnest($11, $12, $13) \
     ON CONFLICT (user_id, asset_id) DO UPDATE SET seq = EXCLUDED.seq, written_at = EXCLUDED.written_at \
     WHERE owed.seq < EXCLUDED.seq), \
     written AS (INSERT INTO balance_ledger (user_id, asset_id, seq, delta_avail, delta_frozen, avail, frozen, event_type, \
     ref_id, created_at) SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], \
     $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[]) RETURNING 1) \
     SELECT CASE count(*) WHEN cardinality($1) THEN 1 \
     ELSE (count(*) || ' rows were written to balance_ledger, of ' || cardinality($1))::int END FROM written";
/// Trades, and both sides of each.
const TRADES: &str = "traded AS (INSERT INTO settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, \
     buyer_user_id, seller_user_id, buyer_order_id, seller_order_id, content, balances) \
     SELECT * FROM unnest($21::bigint[], $22::int[], $23::bigint[], $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], \
     $28::bigint[], $29::bigint[], $30::bigint[], $31::text[], $32::text[]) AS trade(id) ORDER BY trade.id), \
     sides AS (INSERT INTO user_trades (user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost, order_id) \
     SELECT side.user_id, trade.symbol, trade.at, trade.id, side.role, trade.price, trade.quantity, trade.cost, side.order_id \
     FROM unnest($21, $22, $23, $24, $25, $26, $27, $28, $29, $30) \
     AS trade(id, symbol, price, quantity, cost, at, buyer, seller, buyer_order, seller_order) CROSS JOIN LATERAL (VALUES \
     (trade.buyer, 0::smallint, trade.buyer_order), (trade.seller, 1::smallint, trade.seller_order)) AS side(user_id, role, order_id)), ";

static WRITE_TRANSACTIONS: LazyLock<String> = LazyLock::new(|| WRITE_GROUP.replace("{trades}", ""));
static WRITE_TRADES: LazyLock<String> = LazyLock::new(|| WRITE_GROUP.replace("{trades}", TRADES));

/// The statements, prepared.
#[derive(Debug)]
pub(super) struct PostStatements {
    pub(super) lock_pairs: Statement,
    pub(super) read_facts: Statement,
    pub(super) read_rows: Statement,
    pub(super) delete_unused: Statement,
    /// A group without trades.
    pub(super) write_transactions: Statement,
    /// A group with trades.
    pub(super) write_trades: Statement,
}

impl PostStatements {
    /// Prepares what this connection has not prepared yet, in one round trip.
    pub(super) async fn prepare(client: &ClientWrapper) -> Result<Self, tokio_postgres::Error> {
        let prepare = |text| client.prepare_cached(text).boxed();
        let (lock_pairs, read_facts, read_rows, delete_unused, write_transactions, write_trades) =
            futures::try_join!(
                prepare(LOCK_PAIRS),
                prepare(READ_FACTS),
                prepare(READ_ROWS),
                prepare(DELETE_UNUSED),
                prepare(&WRITE_TRANSACTIONS),
                prepare(&WRITE_TRADES),
            )?;
        Ok(Self {
            lock_pairs,
            read_facts,
            read_rows,
            delete_unused,
            write_transactions,
            write_trades,
        })
    }
}
