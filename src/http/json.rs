//! The bodies that clients send: users, notifications, entries.
//!
//! **Invariants.** A list is checked whole before anything of it is handed on; the first bad element is named by its
//! index, counted from 0. One seq has one pair of amounts within a request. Nothing here panics on any bytes.
//!
//! **Limits.** Lists are cut off while they are read, not afterwards; depth is `serde_json`'s 128.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::openapi::shapes;
use crate::{
    config::LedgerSide,
    domain::{
        Amount, AssetId, Catalogue, Entry, Notification, NotifiedChange, Seq, Trade, Transaction,
        UserId, parse_json,
    },
};

/// Users in one batch read.
pub const BATCH_MAX: usize = 1_000;
/// Users in one request to invalidate or to warm.
pub const USERS_MAX: usize = 10_000;
/// Notifications in one request.
pub const NOTIFICATIONS_MAX: usize = 10_000;
/// Ledger entries in one request.
pub const ENTRIES_MAX: usize = 1_000;
/// Transactions, or trades, in one request.
pub const TRANSACTIONS_MAX: usize = 1_000;

/// Users, each by its number.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Users<'a, const MAX: usize> {
    /// In any order, duplicates too.
    #[serde(borrow)]
    #[schema(value_type = Vec<shapes::UserIdShape>)]
    user_ids: Raws<'a, MAX>,
}

/// Users to drop, each by its number.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invalidation<'a> {
    /// In any order, duplicates too.
    #[serde(borrow)]
    #[schema(value_type = Vec<shapes::UserIdShape>)]
    user_ids: Raws<'a, USERS_MAX>,
    /// Whether what must not be undercut is forgotten too.
    #[serde(default)]
    floors: bool,
}

/// At most `MAX` elements, each as it stands in the body.
pub struct Raws<'a, const MAX: usize>(pub(super) Vec<&'a RawValue>);

/// The users of `{"user_ids":[…]}`, at most `MAX`.
/// Errors: the mistake, for the caller to read.
pub fn parse_users<const MAX: usize>(body: &[u8]) -> Result<Vec<UserId>, String> {
    parse_user_ids(&parse_object::<Users<'_, MAX>>(body)?.user_ids)
}

/// The users of `{"user_ids":[…],"floors":true}`, and whether floors are forgotten too.
/// Errors: the mistake, for the caller to read.
pub fn parse_invalidation(body: &[u8]) -> Result<(Vec<UserId>, bool), String> {
    let Invalidation { user_ids, floors } = parse_object(body)?;
    Ok((parse_user_ids(&user_ids)?, floors))
}

/// One notification or an array of them.
/// Errors: the mistake, for the caller to read.
pub fn parse_notifications(body: &[u8]) -> Result<Vec<Notification>, String> {
    let amounts = |notification: &Notification| match notification.said {
        NotifiedChange::Values {
            asset,
            seq,
            avail,
            frozen,
        } => Some(((notification.user, asset, seq), (avail, frozen))),
        NotifiedChange::Seq { .. } | NotifiedChange::Asset { .. } | NotifiedChange::User => None,
    };
    one_or_many::<_, NOTIFICATIONS_MAX>(body, Notification::parse_notification, amounts)
}

/// One ledger entry or an array of them.
/// Errors: the mistake, for the caller to read.
pub fn parse_entries(body: &[u8]) -> Result<Vec<Entry>, String> {
    let amounts = |entry: &Entry| {
        Some((
            (entry.user, entry.asset, entry.seq),
            (entry.avail, entry.frozen),
        ))
    };
    one_or_many::<_, ENTRIES_MAX>(body, Entry::parse_entry, amounts)
}

/// One transaction or an array of them.
/// Errors: the mistake, for the caller to read.
pub fn parse_transactions(body: &[u8]) -> Result<Vec<Transaction>, String> {
    one_or_many::<_, TRANSACTIONS_MAX>(body, Transaction::parse_transaction, |_| None)
}

/// One trade or an array of them; with `balances` exactly where an external writer assigns seqs. None: they are left out there.
/// Errors: the mistake, for the caller to read.
pub fn parse_trades(
    body: &[u8],
    catalogue: &Catalogue,
    writer: LedgerSide,
) -> Result<Option<Vec<Transaction>>, String> {
    let parse = |json: &str| {
        let trade = Trade::parse_trade(json, catalogue)?;
        match (writer, &trade.balances) {
            (LedgerSide::Service, Some(_)) => {
                Err("balances are computed here (ledger.writer): leave them out".to_owned())
            }
            (LedgerSide::Service, None) | (LedgerSide::External, _) => Ok(trade),
        }
    };
    let trades = one_or_many::<_, TRANSACTIONS_MAX>(body, parse, |_| None)?;
    let whole =
        writer == LedgerSide::Service || trades.iter().all(|trade| trade.balances.is_some());
    Ok(whole.then_some(trades))
}

/// Whether the body is an array.
pub fn is_list(body: &[u8]) -> bool {
    first_byte(body) == Some(b'[')
}

type EntryKey = (UserId, AssetId, Seq);

fn one_or_many<T, const MAX: usize>(
    body: &[u8],
    parse: impl Fn(&str) -> Result<T, String>,
    amounts: impl Fn(&T) -> Option<(EntryKey, (Amount, Amount))>,
) -> Result<Vec<T>, String> {
    if first_byte(body) != Some(b'[') {
        let text = str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
        return Ok(vec![parse_object_text(text.trim_ascii_start(), &parse)?]);
    }
    let raws = parse_json::<Raws<'_, MAX>>(body)?;
    let mut said: HashMap<EntryKey, (Amount, Amount)> = HashMap::new();
    let mut all = Vec::with_capacity(raws.0.len());
    for (index, raw) in raws.0.into_iter().enumerate() {
        let element = parse_object_text(raw.get(), &parse)
            .map_err(|what| format!("element {index}: {what}"))?;
        if let Some((key, now)) = amounts(&element)
            && said.insert(key, now).is_some_and(|before| before != now)
        {
            return Err(format!(
                "element {index}: its seq has other amounts earlier in this request"
            ));
        }
        all.push(element);
    }
    Ok(all)
}

/// Parses an element that must be a JSON object: a derived `Deserialize` would take an array of its fields too.
pub(super) fn parse_object_text<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, String> {
    if !text.starts_with('{') {
        return Err("must be a JSON object".to_owned());
    }
    parse(text)
}

pub(super) fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    if first_byte(body) != Some(b'{') {
        return Err("the body must be a JSON object".to_owned());
    }
    parse_json(body)
}

fn first_byte(body: &[u8]) -> Option<u8> {
    body.trim_ascii_start().first().copied()
}

fn parse_user_ids<const MAX: usize>(raws: &Raws<'_, MAX>) -> Result<Vec<UserId>, String> {
    raws.0
        .iter()
        .enumerate()
        .map(|(index, raw)| {
            raw.get()
                .parse()
                .map_err(|malformed| format!("user_ids[{index}]: {malformed}"))
        })
        .collect()
}

// === impl Raws ===

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Raws<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementsVisitor<const MAX: usize>;

        impl<'de, const MAX: usize> Visitor<'de> for ElementsVisitor<MAX> {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX} elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut raws = Vec::new();
                loop {
                    let index = raws.len();
                    let next = seq.next_element::<&'de RawValue>().map_err(|error| {
                        A::Error::custom(format_args!("element {index}: {error}"))
                    })?;
                    match next {
                        None => return Ok(raws),
                        Some(_) if index >= MAX => {
                            return Err(A::Error::custom(format_args!("more than {MAX} elements")));
                        }
                        Some(raw) => raws.push(raw),
                    }
                }
            }
        }

        deserializer
            .deserialize_seq(ElementsVisitor::<MAX>)
            .map(Self)
    }
}
