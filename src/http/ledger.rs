//! Transactions and trades: how they are asked for, and how what became of them is told.

use std::{collections::BTreeMap, fmt::Write as _};

use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Api, Backend, answer,
    failure::Failure,
    handler::{Shared, Told, whole},
    json, query,
};
use crate::{
    config::{Scope, Writer},
    domain::{
        Catalogue, Malformed, Outcome, PostedBalance, Receipt, Reference, SettleState,
        StoredTransaction, Transaction,
    },
    telemetry::Via,
};

/// The result of one transaction or trade.
#[derive(Debug, Serialize)]
pub struct SettledTransaction<'a> {
    /// Of a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<i64>,
    /// Of a trade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trade_id: Option<i64>,
    /// `written`, `repeated`, `refused` or `conflict`.
    pub result: &'static str,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// After it, by user and asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balances: Option<&'a [PostedBalance]>,
    /// By user, as a read takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<BTreeMap<String, String>>,
}

pub(super) async fn transactions<B: Backend>(
    State(api): State<Shared<B>>,
    request: Request,
) -> Told {
    let body = whole(&api, request, Scope::Settle).await?;
    let transactions = json::transactions(&body)
        .inspect_err(|_| api.backend.malformed(Via::Ledger))
        .map_err(Failure::malformed)?;
    if api.backend.writer() == Writer::External && !transactions.is_empty() {
        return Err(Failure::SeqsElsewhere);
    }
    settle(&api, transactions, json::is_list(&body)).await
}

pub(super) async fn trades<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    let body = whole(&api, request, Scope::Settle).await?;
    let trades = json::trades(&body, &api.catalogue, api.backend.writer())
        .inspect_err(|_| api.backend.malformed(Via::Ledger))
        .map_err(Failure::malformed)?
        .ok_or(Failure::SeqsElsewhere)?;
    settle(&api, trades, json::is_list(&body)).await
}

async fn settle<B: Backend>(api: &Api<B>, transactions: Vec<Transaction>, list: bool) -> Told {
    let rows = transactions.iter().fold(0, |rows: usize, transaction| {
        rows.saturating_add(transaction.changes.len())
    });
    let _room = api.elements.changes(rows)?;
    let references: Vec<Reference> = transactions.iter().map(|one| one.reference).collect();
    let outcomes = if transactions.is_empty() {
        Vec::new()
    } else {
        api.timed(|deadline| api.backend.settle_transactions(transactions, deadline))
            .await??
    };
    if outcomes.len() != references.len() {
        return Err(Failure::Bug(
            "the ledger answered for another number of transactions",
        ));
    }
    let both = references.into_iter().zip(&outcomes);
    let mut told = both.map(|(reference, outcome)| told(reference, outcome, &api.catalogue));
    if list {
        return answer::done(&told.collect::<Vec<_>>());
    }
    match outcomes.first() {
        Some(Outcome::Refused(refusal)) => Err(Failure::Refused(refusal.to_string().into())),
        Some(Outcome::Conflict(why)) => Err(Failure::Contradicts(why.to_string().into())),
        Some(Outcome::Written(_) | Outcome::Repeated(_)) | None => answer::done(&told.next()),
    }
}

/// The answer for one outcome.
pub(super) fn told<'a>(
    reference: Reference,
    outcome: &'a Outcome,
    catalogue: &Catalogue,
) -> SettledTransaction<'a> {
    let (result, receipt, msg) = match outcome {
        Outcome::Written(receipt) => ("written", Some(receipt), None),
        Outcome::Repeated(receipt) => ("repeated", Some(receipt), None),
        Outcome::Refused(refusal) => ("refused", None, Some(refusal.to_string())),
        Outcome::Conflict(why) => ("conflict", None, Some(why.to_string())),
    };
    let (transaction_id, trade_id) = match reference {
        Reference::Transaction(id) => (Some(id.get()), None),
        Reference::Trade(id) => (None, Some(id.get())),
    };
    SettledTransaction {
        transaction_id,
        trade_id,
        result,
        msg,
        balances: receipt.map(|receipt| receipt.balances.as_slice()),
        min_seq: receipt.map(|receipt| min_seq(receipt, catalogue)),
    }
}

/// `BTC:18,USDT:12` for each user.
fn min_seq(receipt: &Receipt, catalogue: &Catalogue) -> BTreeMap<String, String> {
    let mut users: BTreeMap<String, String> = BTreeMap::new();
    for balance in &receipt.balances {
        let text = users.entry(balance.user_id.to_string()).or_default();
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to a string cannot fail.
        let _ = match catalogue.get(balance.asset_id) {
            Some((name, _)) => write!(text, "{name}:{}", balance.seq),
            None => write!(text, "{}:{}", balance.asset_id, balance.seq),
        };
    }
    users
}

pub(super) async fn transaction<B: Backend>(
    State(api): State<Shared<B>>,
    request: Request,
) -> Told {
    let reference = asked(&api, &request, |id| id.parse().map(Reference::Transaction))?;
    found(&api, reference).await
}

pub(super) async fn trade<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    let reference = asked(&api, &request, |id| id.parse().map(Reference::Trade))?;
    found(&api, reference).await
}

/// The id at the end of the path, as it stands there.
fn asked<B: Backend>(
    api: &Api<B>,
    request: &Request,
    parse: impl FnOnce(&str) -> Result<Reference, Malformed>,
) -> Result<Reference, Failure> {
    api.allow(request.headers(), Scope::Settle)?;
    query::none(request.uri().query()).map_err(Failure::malformed)?;
    let id = request.uri().path().rsplit('/').next().unwrap_or_default();
    parse(id).map_err(|malformed| Failure::malformed(malformed.to_string()))
}

async fn found<B: Backend>(api: &Api<B>, reference: Reference) -> Told {
    let found = api
        .timed(|deadline| api.backend.find_transaction(reference, deadline))
        .await?;
    let stored = found
        .map_err(Failure::Source)?
        .ok_or(Failure::NothingThere)?;
    answer::done(&shown(reference, &stored).ok_or(Failure::Bug("a transaction is no object"))?)
}

/// Every field that was sent, with defaults, and what it came to. None: the content is no JSON object.
pub(super) fn shown(
    reference: Reference,
    stored: &StoredTransaction,
) -> Option<Map<String, Value>> {
    let mut fields: Map<String, Value> = serde_json::from_str(&stored.content).ok()?;
    if let Reference::Transaction(_) = reference {
        let created_at = stored.receipt.created_at.0.into();
        fields.insert("created_at".to_owned(), created_at);
    }
    let balances = serde_json::to_value(&stored.receipt.balances).ok()?;
    let state = match stored.state {
        SettleState::Done => "done",
        SettleState::Pending => "pending",
    };
    fields.insert("state".to_owned(), state.into());
    fields.insert("balances".to_owned(), balances);
    Some(fields)
}
