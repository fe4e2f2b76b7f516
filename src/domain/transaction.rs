//! Transactions: ledger entries that stand together or not at all, under the caller's id.
//!
//! **Invariants.** `changes` are sorted by user and asset, each pair once. `content` is equal for two requests exactly if
//! they are equal as JSON once defaults are filled in, whatever the order of keys and of entries.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{notification::parse_object, posting::ChangeSums};
use crate::domain::{
    AssetId, PostedBalance, PostedChange, Trade, TradeId, TransactionId, UnixMillis, UserId,
};

/// Entries that one transaction may have.
pub const ENTRIES_PER_TRANSACTION_MAX: usize = 64;
/// Characters of an event type.
const EVENT_TYPE_MAX: usize = 32;
/// The `event_type` of a transaction that names none.
const EVENT_TYPE: &str = "adjustment";

/// The id of a transaction. Transactions and trades have separate ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    Transaction(TransactionId),
    Trade(TradeId),
}

impl Reference {
    /// The number, as the ledger's `ref_id` holds it.
    pub const fn id(self) -> i64 {
        match self {
            Self::Transaction(id) => id.get(),
            Self::Trade(id) => id.get(),
        }
    }
}

/// A transaction, checked. A trade is one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The key of idempotence.
    pub reference: Reference,
    /// Canonical JSON of what was sent, defaults filled in, without `balances`.
    pub content: String,
    /// The changes, by user and asset.
    pub changes: Vec<PostedChange>,
    /// `event_type` of its rows.
    pub event_type: String,
    /// `created_at` of its rows; none: the moment of writing.
    pub created_at: Option<UnixMillis>,
    /// It may lower amounts below 0.
    pub overdraft: bool,
    /// The rows as the caller assigned them (`ledger.writer = "external"`), by user and asset.
    pub balances: Option<Vec<PostedBalance>>,
    pub trade: Option<Box<Trade>>,
}

/// One entry of a transaction as JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[schema(as = TransactionEntry)]
#[serde(deny_unknown_fields)]
pub struct ChangeWire {
    /// The user of the balance.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    user_id: i64,
    /// The asset.
    #[schema(minimum = 1_i64, maximum = 2_147_483_647_i64)]
    asset_id: i64,
    /// Change of `avail` in raw units; 0 where it is left out.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<i64>, minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    delta_avail: i64,
    /// Change of `frozen` in raw units; 0 where it is left out.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<i64>, minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    delta_frozen: i64,
    /// The seq that has to stand; 0: no row yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0_i64, maximum = 9_223_372_036_854_775_807_i64)]
    expect_seq: Option<i64>,
}

/// A transaction as JSON, before it is checked. Unknown fields are an error.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(description = "Entries that stand together or not at all.")]
#[serde(deny_unknown_fields)]
pub struct TransactionWire {
    /// The caller's key of idempotence.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    transaction_id: i64,
    /// Several of one user and asset count as their sum.
    #[schema(value_type = Vec<ChangeWire>, min_items = 1, max_items = 64)]
    entries: Vec<Box<RawValue>>,
    /// The event type; `adjustment` where it is left out.
    #[schema(pattern = "^[a-z_]{1,32}$")]
    event_type: Option<String>,
    /// When it happened: milliseconds since 1970; the moment of writing where it is left out.
    #[schema(minimum = 0_i64, maximum = 9_223_372_036_854_775_807_i64)]
    created_at: Option<i64>,
    /// Amounts may fall below 0.
    overdraft: Option<bool>,
}

/// The canonical form: fields by name.
#[derive(Serialize)]
struct TransactionContent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<i64>,
    entries: &'a [ChangeWire],
    event_type: &'a str,
    overdraft: bool,
    transaction_id: i64,
}

impl Transaction {
    /// The transaction, checked.
    /// Errors: the mistake, for the caller to read.
    pub fn parse_transaction(json: &str) -> Result<Self, String> {
        let wire: TransactionWire = parse_object(json)?;
        let id = TransactionId::try_from(wire.transaction_id).map_err(|bad| bad.to_string())?;
        let event_type = wire.event_type.unwrap_or_else(|| EVENT_TYPE.to_owned());
        if !is_event_type(&event_type) {
            return Err(format!(
                "event_type must be 1 to {EVENT_TYPE_MAX} of a-z and _"
            ));
        }
        let mut entries: Vec<ChangeWire> =
            parse_elements(&wire.entries, "entries", ENTRIES_PER_TRANSACTION_MAX)?;
        if entries.is_empty() {
            return Err("entries must have at least one element".to_owned());
        }
        let changes = parse_changes(&entries)?;
        if changes.iter().all(PostedChange::is_zero) {
            return Err("every sum is zero: nothing would change".to_owned());
        }
        let created_at = wire
            .created_at
            .map(|millis| UnixMillis::parse_named("created_at", millis))
            .transpose()?;
        entries.sort();
        let overdraft = wire.overdraft.unwrap_or(false);
        let content = canonical_json(&TransactionContent {
            created_at: wire.created_at,
            entries: &entries,
            event_type: &event_type,
            overdraft,
            transaction_id: wire.transaction_id,
        })?;
        Ok(Self {
            reference: Reference::Transaction(id),
            content,
            changes,
            event_type,
            created_at,
            overdraft,
            balances: None,
            trade: None,
        })
    }
}

fn parse_changes(entries: &[ChangeWire]) -> Result<Vec<PostedChange>, String> {
    let mut sums = ChangeSums::default();
    let mut expected = std::collections::HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let wrong = |what: String| format!("entries[{index}]: {what}");
        let user = UserId::try_from(entry.user_id).map_err(|bad| wrong(bad.to_string()))?;
        let asset = AssetId::try_from(entry.asset_id).map_err(|bad| wrong(bad.to_string()))?;
        if entry.expect_seq.is_some_and(|seq| seq < 0) {
            return Err(wrong("expect_seq must be at least 0".to_owned()));
        }
        let before = expected.insert((user, asset), entry.expect_seq);
        if before.is_some_and(|before| before != entry.expect_seq) {
            return Err(wrong(
                "expect_seq differs from an earlier entry of this user and asset".to_owned(),
            ));
        }
        sums.add_change(
            user,
            asset,
            i128::from(entry.delta_avail),
            i128::from(entry.delta_frozen),
        );
    }
    Ok(sums.into_changes(|user, asset| expected.get(&(user, asset)).copied().flatten()))
}

fn is_event_type(text: &str) -> bool {
    (1..=EVENT_TYPE_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// A list of objects, each checked by itself and named by its index.
pub(super) fn parse_elements<T: serde::de::DeserializeOwned>(
    raws: &[Box<RawValue>],
    name: &str,
    max: usize,
) -> Result<Vec<T>, String> {
    if raws.len() > max {
        return Err(format!("{name} has more than {max} elements"));
    }
    let parsed = raws.iter().enumerate().map(|(index, raw)| {
        parse_object(raw.get()).map_err(|what| format!("{name}[{index}]: {what}"))
    });
    parsed.collect()
}

/// A null counts as left out.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

pub(super) fn canonical_json(content: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(content).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
