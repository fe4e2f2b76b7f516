//! The forms of what is written and read by hand, for speed: described here as types, and held to it by tests that
//! compare real answers with the description.

#![expect(dead_code, reason = "described, never made")]

use serde::Serialize;
use utoipa::ToSchema;

/// A user's number.
#[derive(ToSchema)]
#[schema(
    minimum = 1_i64,
    maximum = 9_223_372_036_854_775_807_i64,
    examples(1001)
)]
pub struct UserId(i64);

/// An exact decimal: no exponent, no trailing zeros, full precision.
#[derive(ToSchema)]
#[schema(
    pattern = r"^(-?(0\.[0-9]{0,17}[1-9]|[1-9][0-9]{0,18}(\.[0-9]{0,17}[1-9])?)|0)$",
    examples("9100")
)]
pub struct Amount(String);

/// What a user has in one asset.
#[derive(ToSchema)]
pub struct Balance {
    /// Its name, or the number of an asset that the catalogue does not know.
    asset: String,
    /// What can be used.
    avail: Amount,
    /// What is held back.
    frozen: Amount,
    /// The version of this balance: rises with every change.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    seq: i64,
    /// When this version was made: milliseconds since 1970; null where nobody said it.
    #[schema(required, minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    updated_at: Option<i64>,
    /// There where the catalogue does not know the asset: the amounts are raw units then.
    #[schema(value_type = Unit, required = false)]
    unit: Option<Unit>,
}

/// What an amount is counted in, where it is not whole units.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The smallest unit of the ledger.
    Raw,
}

/// All balances of one user of many.
#[derive(ToSchema)]
pub struct BalancesOf {
    /// Whose.
    user_id: UserId,
    /// By asset id.
    balances: Vec<Balance>,
    /// There where the answer is not as good as promised: below a known floor, or the last known while the source is down.
    #[schema(value_type = Detail, required = false)]
    detail: Option<Detail>,
}

/// What a reader has to know about an answer that is not as good as promised.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// A floor is known that not even the ledger reaches yet.
    Behind,
    /// The source is down; this is what was known last.
    Stale,
}
