//! Trades: transactions made of buyer, seller, price and quantity.
//!
//! **Invariants.** A trade changes no asset's sum over all users. Its cost is computed with 128 bits and fits in 63.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    notification::parse_object,
    posting::ChangeSums,
    transaction::{canonical_json, parse_elements},
};
use crate::domain::{
    Amount, AssetId, Catalogue, MalformedId, PostedBalance, PostedChange, Reference, Seq, TradeId,
    Transaction, UnixMillis, UserId,
};

/// Fees that one trade may have.
const FEES_MAX: usize = 4;
/// (user, asset) pairs that a trade can touch: four, and two for each fee.
const BALANCES_MAX: usize = 12;
/// `event_type` of a trade's rows.
const EVENT_TYPE: &str = "trade";

/// The terms of a trade, beside its changes of balances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trade {
    /// The key of idempotence.
    pub id: TradeId,
    /// Its symbol's number in the catalogue.
    pub symbol_id: i32,
    /// The buyer, who receives base.
    pub buyer: UserId,
    /// The seller, who receives quote.
    pub seller: UserId,
    /// Raw quote units for one whole base unit, at least 1.
    pub price: i64,
    /// Raw base units, at least 1.
    pub quantity: i64,
    /// Raw quote units, at least 1.
    pub cost: i64,
    /// The buyer's order.
    pub buyer_order: Option<i64>,
    /// The seller's order.
    pub seller_order: Option<i64>,
    pub settled_at: UnixMillis,
}

/// The amount that a side pays from.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PaysFrom {
    /// The amount that may be spent.
    #[default]
    Avail,
    /// The amount that an order holds back.
    Frozen,
}

/// A fee as JSON: from `avail` to `avail`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[schema(as = Fee)]
#[serde(deny_unknown_fields)]
pub struct FeeWire {
    /// The payer.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    user_id: i64,
    /// The asset.
    #[schema(minimum = 1_i64, maximum = 2_147_483_647_i64)]
    asset_id: i64,
    /// Raw units.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    amount: i64,
    /// The receiver: another user.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    to_user_id: i64,
}

/// A balance after a trade as JSON, where the caller assigns seqs.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[schema(as = PostedBalance)]
#[serde(deny_unknown_fields)]
pub struct BalanceWire {
    /// The user.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    user_id: i64,
    /// The asset.
    #[schema(minimum = 1_i64, maximum = 2_147_483_647_i64)]
    asset_id: i64,
    /// The seq of its row.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    seq: i64,
    /// Raw units after the trade.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    avail: i64,
    /// Raw units after the trade.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    frozen: i64,
}

/// A trade as JSON, before it is checked. Unknown fields are an error.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(
    description = "A trade: the buyer gets the quantity of base, the seller the cost in quote."
)]
#[serde(deny_unknown_fields)]
pub struct TradeWire {
    /// The caller's key of idempotence.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    trade_id: i64,
    /// A name of the catalogue, as in `BTC_USDT`.
    symbol: String,
    /// The buyer, who gets base and pays quote.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    buyer_user_id: i64,
    /// The seller, who gets quote and pays base; may be the buyer.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    seller_user_id: i64,
    /// Raw quote units for one whole base unit.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    price: i64,
    /// Raw base units.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    quantity: i64,
    /// When it was settled: milliseconds since 1970.
    #[schema(minimum = 0_i64, maximum = 9_223_372_036_854_775_807_i64)]
    settled_at: i64,
    /// Raw quote units: price × quantity / 10^(decimals of base), rounded towards zero, or one more.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    cost: Option<i64>,
    /// The buyer's order.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    buyer_order_id: Option<i64>,
    /// The seller's order.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    seller_order_id: Option<i64>,
    /// Where the buyer's cost comes from; `avail` where it is left out.
    buyer_pays_from: Option<PaysFrom>,
    /// Where the seller's quantity comes from; `avail` where it is left out.
    seller_pays_from: Option<PaysFrom>,
    #[schema(value_type = Option<Vec<FeeWire>>, max_items = 4)]
    fees: Option<Vec<Box<RawValue>>>,
    /// Every balance that the trade touches, each once: only where seqs are assigned elsewhere.
    #[schema(value_type = Option<Vec<BalanceWire>>, min_items = 1, max_items = 12)]
    balances: Option<Vec<Box<RawValue>>>,
}

/// The canonical form: fields by name.
#[derive(Serialize)]
struct TradeContent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_order_id: Option<i64>,
    buyer_pays_from: PaysFrom,
    buyer_user_id: i64,
    cost: i64,
    fees: &'a [FeeWire],
    price: i64,
    quantity: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seller_order_id: Option<i64>,
    seller_pays_from: PaysFrom,
    seller_user_id: i64,
    settled_at: i64,
    symbol: &'a str,
    trade_id: i64,
}

impl Trade {
    /// The trade as a transaction, checked against the catalogue.
    /// Errors: the mistake, for the caller to read.
    pub fn parse_trade(json: &str, catalogue: &Catalogue) -> Result<Transaction, String> {
        let wire: TradeWire = parse_object(json)?;
        let text = |malformed: MalformedId| malformed.to_string();
        let side = |name, id| {
            UserId::try_from(id).map_err(|_| format!("{name} must be from 1 to {}", UserId::MAX))
        };
        let (symbol_id, base, quote) = catalogue
            .find_symbol(&wire.symbol)
            .ok_or_else(|| format!("unknown symbol: {}", wire.symbol))?;
        let trade = Self {
            id: TradeId::try_from(wire.trade_id).map_err(text)?,
            symbol_id,
            buyer: side("buyer_user_id", wire.buyer_user_id)?,
            seller: side("seller_user_id", wire.seller_user_id)?,
            price: at_least_one("price", wire.price)?,
            quantity: at_least_one("quantity", wire.quantity)?,
            cost: checked_cost(&wire, catalogue)?,
            buyer_order: wire.buyer_order_id,
            seller_order: wire.seller_order_id,
            settled_at: UnixMillis::parse_named("settled_at", wire.settled_at)?,
        };
        let mut fees: Vec<FeeWire> =
            parse_elements(wire.fees.as_deref().unwrap_or_default(), "fees", FEES_MAX)?;
        let buyer_pays_from = wire.buyer_pays_from.unwrap_or_default();
        let seller_pays_from = wire.seller_pays_from.unwrap_or_default();
        let mut sums = trade.payment_sums(base, quote, buyer_pays_from, seller_pays_from);
        add_fees(&mut sums, &fees)?;
        let changes = sums.into_changes(|_, _| None);
        let balances = wire
            .balances
            .as_deref()
            .map(|raws| given_balances(raws, &changes))
            .transpose()?;
        fees.sort();
        let content = canonical_json(&TradeContent {
            buyer_order_id: wire.buyer_order_id,
            buyer_pays_from,
            buyer_user_id: wire.buyer_user_id,
            cost: trade.cost,
            fees: &fees,
            price: wire.price,
            quantity: wire.quantity,
            seller_order_id: wire.seller_order_id,
            seller_pays_from,
            seller_user_id: wire.seller_user_id,
            settled_at: wire.settled_at,
            symbol: &wire.symbol,
            trade_id: wire.trade_id,
        })?;
        Ok(Transaction {
            reference: Reference::Trade(trade.id),
            content,
            changes,
            event_type: EVENT_TYPE.to_owned(),
            created_at: Some(trade.settled_at),
            overdraft: false,
            balances,
            trade: Some(Box::new(trade)),
        })
    }

    /// Payments and receipts of both sides. Receipts go to `avail`.
    fn payment_sums(
        &self,
        base: AssetId,
        quote: AssetId,
        buyer_pays_from: PaysFrom,
        seller_pays_from: PaysFrom,
    ) -> ChangeSums {
        let (quantity, cost) = (i128::from(self.quantity), i128::from(self.cost));
        let mut sums = ChangeSums::default();
        sums.add_change(self.buyer, base, quantity, 0);
        add_payment(&mut sums, self.buyer, quote, cost, buyer_pays_from);
        add_payment(&mut sums, self.seller, base, quantity, seller_pays_from);
        sums.add_change(self.seller, quote, cost, 0);
        sums
    }
}

fn add_payment(sums: &mut ChangeSums, user: UserId, asset: AssetId, amount: i128, from: PaysFrom) {
    let taken = amount.saturating_neg();
    match from {
        PaysFrom::Avail => sums.add_change(user, asset, taken, 0),
        PaysFrom::Frozen => sums.add_change(user, asset, 0, taken),
    }
}

fn add_fees(sums: &mut ChangeSums, fees: &[FeeWire]) -> Result<(), String> {
    for (index, fee) in fees.iter().enumerate() {
        let wrong = |what: &str| format!("fees[{index}]: {what}");
        let text = |malformed: MalformedId| wrong(&malformed.to_string());
        let payer = UserId::try_from(fee.user_id).map_err(text)?;
        let receiver =
            UserId::try_from(fee.to_user_id).map_err(|_| wrong("to_user_id must be a user_id"))?;
        let asset = AssetId::try_from(fee.asset_id).map_err(text)?;
        if payer == receiver {
            return Err(wrong("to_user_id is the user_id too"));
        }
        at_least_one("amount", fee.amount).map_err(|what| wrong(&what))?;
        let amount = i128::from(fee.amount);
        add_payment(sums, payer, asset, amount, PaysFrom::Avail);
        sums.add_change(receiver, asset, amount, 0);
    }
    Ok(())
}

fn at_least_one(name: &str, number: i64) -> Result<i64, String> {
    if number >= 1 {
        Ok(number)
    } else {
        Err(format!("{name} must be at least 1"))
    }
}

/// The computed cost, or a given one that is one more.
fn checked_cost(wire: &TradeWire, catalogue: &Catalogue) -> Result<i64, String> {
    let amount = Amount::from_raw;
    let computed = catalogue
        .trade_cost(&wire.symbol, amount(wire.price), amount(wire.quantity))
        .map(Amount::raw)
        .filter(|cost| *cost >= 1)
        .ok_or("price × quantity makes a cost of 0, or one above 2^63−1")?;
    match wire.cost {
        None => Ok(computed),
        Some(given) if given == computed || computed.checked_add(1) == Some(given) => Ok(given),
        Some(_) => Err(format!("cost must be {computed}, or one more")),
    }
}

/// The given balances: exactly the pairs that the trade changes, each once.
fn given_balances(
    raws: &[Box<RawValue>],
    changes: &[PostedChange],
) -> Result<Vec<PostedBalance>, String> {
    let wires: Vec<BalanceWire> = parse_elements(raws, "balances", BALANCES_MAX)?;
    let mut balances = Vec::with_capacity(wires.len());
    for (index, wire) in wires.iter().enumerate() {
        let text = |malformed: MalformedId| format!("balances[{index}]: {malformed}");
        balances.push(PostedBalance {
            user_id: UserId::try_from(wire.user_id).map_err(text)?,
            asset_id: AssetId::try_from(wire.asset_id).map_err(text)?,
            seq: Seq::try_from(wire.seq).map_err(text)?,
            avail: Amount::from_raw(wire.avail),
            frozen: Amount::from_raw(wire.frozen),
        });
    }
    balances.sort();
    let given = balances.iter().map(|given| (given.user_id, given.asset_id));
    let touched = changes.iter().map(|change| (change.user, change.asset));
    if given.eq(touched) {
        Ok(balances)
    } else {
        Err("balances must name every user and asset that the trade touches, each once".to_owned())
    }
}

impl PostedBalance {
    /// The ledger row with this balance, of a transaction that changes it so.
    pub fn row_of(&self, transaction: &Transaction) -> crate::domain::Entry {
        let change = transaction
            .changes
            .iter()
            .find(|change| (change.user, change.asset) == (self.user_id, self.asset_id));
        let delta = |of: fn(&PostedChange) -> i128| {
            let sum = change.map(of).and_then(|sum| i64::try_from(sum).ok());
            sum.map(Amount::from_raw)
        };
        crate::domain::Entry {
            user: self.user_id,
            asset: self.asset_id,
            seq: self.seq,
            avail: self.avail,
            frozen: self.frozen,
            delta_avail: delta(|change| change.delta_avail),
            delta_frozen: delta(|change| change.delta_frozen),
            event_type: Some(transaction.event_type.clone()),
            ref_id: Some(transaction.reference.id()),
            created_at: transaction.created_at,
        }
    }
}

#[cfg(test)]
mod tests;
