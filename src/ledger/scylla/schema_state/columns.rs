//! Columns and keys of the tables and of the view, as they have to be.

/// A column as the schema tables describe it: name, type, role, position in the role, order.
pub(super) type Column = (&'static str, &'static str, &'static str, i32, &'static str);

const fn plain_column(name: &'static str) -> Column {
    (name, "bigint", "regular", -1, "none")
}

const fn key_column(name: &'static str, cql: &'static str, at: i32) -> Column {
    (name, cql, "partition_key", at, "none")
}

const fn sorted_column(
    name: &'static str,
    cql: &'static str,
    at: i32,
    order: &'static str,
) -> Column {
    (name, cql, "clustering", at, order)
}

pub(super) const LEDGER_COLUMNS: &[Column] = &[
    key_column("user_id", "bigint", 0),
    key_column("asset_id", "int", 1),
    sorted_column("seq", "bigint", 0, "desc"),
    plain_column("delta_avail"),
    plain_column("delta_frozen"),
    plain_column("avail"),
    plain_column("frozen"),
    ("event_type", "text", "regular", -1, "none"),
    plain_column("ref_id"),
    plain_column("created_at"),
];
pub(super) const TABLE_COLUMNS: &[Column] = &[
    key_column("user_id", "bigint", 0),
    sorted_column("asset_id", "int", 0, "asc"),
    plain_column("avail"),
    plain_column("frozen"),
    plain_column("version"),
    plain_column("updated_at"),
];
pub(super) const VIEW_COLUMNS: &[Column] = &[
    key_column("user_id", "bigint", 0),
    sorted_column("asset_id", "int", 0, "asc"),
    sorted_column("seq", "bigint", 1, "desc"),
    plain_column("avail"),
    plain_column("frozen"),
    plain_column("created_at"),
];

pub(super) const SETTLED_TRADES_COLUMNS: &[Column] = &[
    key_column("trade_id", "bigint", 0),
    ("symbol_id", "int", "regular", -1, "none"),
    plain_column("price"),
    plain_column("quantity"),
    plain_column("cost"),
    plain_column("settled_at"),
    plain_column("buyer_user_id"),
    plain_column("seller_user_id"),
    plain_column("buyer_order_id"),
    plain_column("seller_order_id"),
    ("content", "text", "regular", -1, "none"),
    ("balances", "text", "regular", -1, "none"),
];
pub(super) const USER_TRADES_COLUMNS: &[Column] = &[
    key_column("user_id", "bigint", 0),
    key_column("symbol_id", "int", 1),
    sorted_column("settled_at", "bigint", 0, "desc"),
    sorted_column("trade_id", "bigint", 1, "desc"),
    sorted_column("role", "tinyint", 2, "asc"),
    plain_column("price"),
    plain_column("quantity"),
    plain_column("cost"),
    plain_column("order_id"),
];

pub(super) const TRANSACTIONS_COLUMNS: &[Column] = &[
    key_column("transaction_id", "bigint", 0),
    ("content", "text", "regular", -1, "none"),
    ("balances", "text", "regular", -1, "none"),
    plain_column("created_at"),
];
pub(super) const JOURNAL_COLUMNS: &[Column] = &[
    key_column("journal", "int", 0),
    sorted_column("position", "bigint", 0, "asc"),
    plain_column("tail"),
    plain_column("removed"),
    ("record", "text", "regular", -1, "none"),
];
