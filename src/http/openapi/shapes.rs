//! The forms of what is written and read by hand, for speed: described here as types, and held to it by tests that
//! compare real answers with the description.

#![expect(dead_code, reason = "described, never made")]

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{BalanceWire, ChangeWire, FeeWire, PaysFrom};

/// A user's number.
#[derive(ToSchema)]
#[schema(
    as = UserId,
    minimum = 1_i64,
    maximum = 9_223_372_036_854_775_807_i64,
    examples(1001)
)]
pub struct UserIdShape(i64);

/// An exact decimal: no exponent, no trailing zeros, full precision.
#[derive(ToSchema)]
#[schema(
    as = Amount,
    pattern = r"^(-?(0\.[0-9]{0,17}[1-9]|[1-9][0-9]{0,18}(\.[0-9]{0,17}[1-9])?)|0)$",
    examples("9100")
)]
pub struct AmountShape(String);

/// A sum of amounts, or a value: as an amount, with more digits where it needs them.
#[derive(ToSchema)]
#[schema(
    pattern = r"^(-?(0\.[0-9]{0,17}[1-9]|[1-9][0-9]*(\.[0-9]{0,17}[1-9])?)|0)$",
    examples("9100")
)]
pub struct WideAmount(String);

/// A rate: an exact decimal above 0, without trailing zeros.
#[derive(ToSchema)]
#[schema(
    pattern = r"^(0\.[0-9]{0,39}[1-9]|[1-9][0-9]{0,39}(\.[0-9]{0,39}[1-9])?)$",
    examples("50000.5")
)]
pub struct RateText(String);

/// The result of a transaction.
#[derive(ToSchema)]
#[schema(as = SettledTransaction)]
pub struct SettledTransactionShape {
    /// Its id.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    transaction_id: i64,
    result: SettleResult,
    /// After it, by user and asset; not where it was refused or is in conflict.
    #[schema(value_type = Vec<BalanceWire>, required = false)]
    balances: Option<Vec<BalanceWire>>,
    /// By user, what a read takes as `min_seq`.
    #[schema(value_type = HashMap<String, String>, required = false)]
    min_seq: Option<HashMap<String, String>>,
    /// Why it was refused or is in conflict.
    #[schema(value_type = String, required = false)]
    msg: Option<String>,
}

/// The result of a trade.
#[derive(ToSchema)]
pub struct SettledTrade {
    /// Its id.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    trade_id: i64,
    result: SettleResult,
    /// After it, by user and asset; not where it was refused or is in conflict.
    #[schema(value_type = Vec<BalanceWire>, required = false)]
    balances: Option<Vec<BalanceWire>>,
    /// By user, what a read takes as `min_seq`.
    #[schema(value_type = HashMap<String, String>, required = false)]
    min_seq: Option<HashMap<String, String>>,
    /// Why it was refused or is in conflict.
    #[schema(value_type = String, required = false)]
    msg: Option<String>,
}

/// The result.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum SettleResult {
    /// It stands since now.
    Written,
    /// It stood already, with the same content.
    Repeated,
    /// A balance refused it; in arrays only.
    Refused,
    /// It contradicts what stands; in arrays only.
    Conflict,
}

/// How far a transaction is.
#[derive(ToSchema)]
#[schema(as = SettleState, rename_all = "snake_case")]
pub enum SettleStateShape {
    /// It stands whole.
    Done,
    /// It is being written.
    Pending,
}

/// A transaction that stands.
#[derive(ToSchema)]
#[schema(as = StoredTransaction)]
pub struct StoredTransactionShape {
    /// Its id.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    transaction_id: i64,
    /// As they were sent, in an order of their own.
    #[schema(value_type = Vec<ChangeWire>)]
    entries: Vec<ChangeWire>,
    /// The event type.
    event_type: String,
    /// When: milliseconds since 1970.
    created_at: i64,
    /// Amounts may have fallen below 0.
    overdraft: bool,
    state: SettleStateShape,
    /// After it, by user and asset.
    #[schema(value_type = Vec<BalanceWire>)]
    balances: Vec<BalanceWire>,
}

/// A trade that stands.
#[derive(ToSchema)]
pub struct StoredTrade {
    /// Its id.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    trade_id: i64,
    /// A name of the catalogue.
    symbol: String,
    /// The buyer, who got base and paid quote.
    buyer_user_id: UserIdShape,
    /// The seller, who got quote and paid base.
    seller_user_id: UserIdShape,
    /// Raw quote units for one whole base unit.
    price: i64,
    /// Raw base units.
    quantity: i64,
    /// Raw quote units.
    cost: i64,
    /// When it was settled: milliseconds since 1970.
    settled_at: i64,
    /// The buyer's order.
    #[schema(value_type = i64, required = false)]
    buyer_order_id: Option<i64>,
    /// The seller's order.
    #[schema(value_type = i64, required = false)]
    seller_order_id: Option<i64>,
    #[schema(value_type = PaysFrom)]
    buyer_pays_from: PaysFrom,
    #[schema(value_type = PaysFrom)]
    seller_pays_from: PaysFrom,
    /// In an order of their own.
    #[schema(value_type = Vec<FeeWire>)]
    fees: Vec<FeeWire>,
    state: SettleStateShape,
    /// After it, by user and asset.
    #[schema(value_type = Vec<BalanceWire>)]
    balances: Vec<BalanceWire>,
}

/// A user's balance in one asset.
#[derive(ToSchema)]
#[schema(as = Balance)]
pub struct BalanceShape {
    /// Its name, or the number of an asset that the catalogue does not know.
    asset: String,
    /// The usable part.
    avail: AmountShape,
    /// The amount held back.
    frozen: AmountShape,
    /// The version of this balance: rises with every change.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    seq: i64,
    /// When this version was made: milliseconds since 1970; null where nobody said it.
    #[schema(required, minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    updated_at: Option<i64>,
    /// There where the catalogue does not know the asset: the amounts are raw units then.
    #[schema(value_type = UnitShape, required = false)]
    unit: Option<UnitShape>,
}

/// The unit of an amount, where it is not whole units.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unit)]
#[serde(rename_all = "snake_case")]
pub enum UnitShape {
    /// The smallest unit of the ledger.
    Raw,
}

/// All balances of one user of many.
#[derive(ToSchema)]
pub struct BalancesOf {
    /// The user.
    user_id: UserIdShape,
    /// By asset id.
    balances: Vec<BalanceShape>,
    /// There where the answer is not as good as promised: below a known floor, or the last known while the source is down.
    #[schema(value_type = DetailShape, required = false)]
    detail: Option<DetailShape>,
}

/// The reason why an answer is not as good as promised.
#[derive(Serialize, ToSchema)]
#[schema(as = Detail)]
#[serde(rename_all = "snake_case")]
pub enum DetailShape {
    /// A floor is known that not even the ledger reaches yet.
    Behind,
    /// The source is down; this is what was known last.
    Stale,
}
