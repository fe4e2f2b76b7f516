//! Columns and keys of the tables and of the view, as they have to be.

/// A column as the schema tables describe it: name, type, role, position in the role, order.
pub(super) type Column = (&'static str, &'static str, &'static str, i32, &'static str);

const fn column(name: &'static str) -> Column {
    (name, "bigint", "regular", -1, "none")
}

const fn key(name: &'static str, cql: &'static str, at: i32) -> Column {
    (name, cql, "partition_key", at, "none")
}

const fn sorted(name: &'static str, cql: &'static str, at: i32, order: &'static str) -> Column {
    (name, cql, "clustering", at, order)
}

pub(super) const LEDGER_COLUMNS: &[Column] = &[
    key("user_id", "bigint", 0),
    key("asset_id", "int", 1),
    sorted("seq", "bigint", 0, "desc"),
    column("delta_avail"),
    column("delta_frozen"),
    column("avail"),
    column("frozen"),
    ("event_type", "text", "regular", -1, "none"),
    column("ref_id"),
    column("created_at"),
];
pub(super) const TABLE_COLUMNS: &[Column] = &[
    key("user_id", "bigint", 0),
    sorted("asset_id", "int", 0, "asc"),
    column("avail"),
    column("frozen"),
    column("version"),
    column("updated_at"),
];
pub(super) const VIEW_COLUMNS: &[Column] = &[
    key("user_id", "bigint", 0),
    sorted("asset_id", "int", 0, "asc"),
    sorted("seq", "bigint", 1, "desc"),
    column("avail"),
    column("frozen"),
    column("created_at"),
];

pub(super) const SETTLED_TRADES_COLUMNS: &[Column] = &[
    key("trade_id", "bigint", 0),
    ("symbol_id", "int", "regular", -1, "none"),
    column("price"),
    column("quantity"),
    column("cost"),
    column("settled_at"),
    column("buyer_user_id"),
    column("seller_user_id"),
    column("buyer_order_id"),
    column("seller_order_id"),
    ("content", "text", "regular", -1, "none"),
    ("balances", "text", "regular", -1, "none"),
];
pub(super) const USER_TRADES_COLUMNS: &[Column] = &[
    key("user_id", "bigint", 0),
    key("symbol_id", "int", 1),
    sorted("settled_at", "bigint", 0, "desc"),
    sorted("trade_id", "bigint", 1, "desc"),
    sorted("role", "tinyint", 2, "asc"),
    column("price"),
    column("quantity"),
    column("cost"),
    column("order_id"),
];

pub(super) const TRANSACTIONS_COLUMNS: &[Column] = &[
    key("transaction_id", "bigint", 0),
    ("content", "text", "regular", -1, "none"),
    ("balances", "text", "regular", -1, "none"),
    column("created_at"),
];
pub(super) const JOURNAL_COLUMNS: &[Column] = &[
    key("journal", "int", 0),
    sorted("position", "bigint", 0, "asc"),
    column("tail"),
    column("removed"),
    ("record", "text", "regular", -1, "none"),
];
