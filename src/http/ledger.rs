//! Transactions and trades: how they are asked for, and how what became of them is told.

use std::{collections::BTreeMap, fmt::Write as _};

use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Api, Backend, answer,
    failure::Failure,
    handler::{HandlerResult, SharedApi, read_posted_body},
    json, query,
};
use crate::{
    config::{LedgerSide, Scope},
    domain::{
        Catalogue, MalformedId, PostedBalance, Receipt, Reference, SettleOutcome, SettleState,
        StoredTransaction, Transaction,
    },
    telemetry::Via,
};

/// The result of one transaction or trade.
#[derive(Debug, Serialize)]
pub struct SettledTransactionLine<'a> {
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

pub(super) async fn post_transactions<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    let body = read_posted_body(&api, request, Scope::Settle).await?;
    let transactions = json::parse_transactions(&body)
        .inspect_err(|_| api.backend.count_malformed(Via::Ledger))
        .map_err(Failure::malformed_request)?;
    if api.backend.shows_balances_only() {
        return Err(Failure::ReadOnlyLedger);
    }
    if api.backend.seq_writer() == LedgerSide::External && !transactions.is_empty() {
        return Err(Failure::SeqsElsewhere);
    }
    settle_transactions(&api, transactions, json::is_list(&body)).await
}

pub(super) async fn post_trades<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    let body = read_posted_body(&api, request, Scope::Settle).await?;
    let trades = json::parse_trades(&body, &api.catalogue, api.backend.seq_writer())
        .inspect_err(|_| api.backend.count_malformed(Via::Ledger))
        .map_err(Failure::malformed_request)?
        .ok_or(Failure::SeqsElsewhere)?;
    if api.backend.shows_balances_only() {
        return Err(Failure::ReadOnlyLedger);
    }
    settle_transactions(&api, trades, json::is_list(&body)).await
}

async fn settle_transactions<B: Backend>(
    api: &Api<B>,
    transactions: Vec<Transaction>,
    list: bool,
) -> HandlerResult {
    let rows = transactions.iter().fold(0, |rows: usize, transaction| {
        rows.saturating_add(transaction.changes.len())
    });
    let _room = api.elements.reserve_changes(rows)?;
    let references: Vec<Reference> = transactions.iter().map(|one| one.reference).collect();
    let outcomes = if transactions.is_empty() {
        Vec::new()
    } else {
        api.run_with_deadline(|deadline| api.backend.settle_transactions(transactions, deadline))
            .await??
    };
    if outcomes.len() != references.len() {
        return Err(Failure::Bug(
            "the ledger answered for another number of transactions",
        ));
    }
    let both = references.into_iter().zip(&outcomes);
    let mut told =
        both.map(|(reference, outcome)| describe_outcome(reference, outcome, &api.catalogue));
    if list {
        return answer::done_response(&told.collect::<Vec<_>>());
    }
    match outcomes.first() {
        Some(SettleOutcome::Refused(refusal)) => Err(Failure::Refused(refusal.to_string().into())),
        Some(SettleOutcome::Conflict(why)) => Err(Failure::Contradicts(why.to_string().into())),
        Some(SettleOutcome::Written(_) | SettleOutcome::Repeated(_)) | None => {
            answer::done_response(&told.next())
        }
    }
}

pub(super) fn describe_outcome<'a>(
    reference: Reference,
    outcome: &'a SettleOutcome,
    catalogue: &Catalogue,
) -> SettledTransactionLine<'a> {
    let (result, receipt, msg) = match outcome {
        SettleOutcome::Written(receipt) => ("written", Some(receipt), None),
        SettleOutcome::Repeated(receipt) => ("repeated", Some(receipt), None),
        SettleOutcome::Refused(refusal) => ("refused", None, Some(refusal.to_string())),
        SettleOutcome::Conflict(why) => ("conflict", None, Some(why.to_string())),
    };
    let (transaction_id, trade_id) = match reference {
        Reference::Transaction(id) => (Some(id.get()), None),
        Reference::Trade(id) => (None, Some(id.get())),
    };
    SettledTransactionLine {
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
        let _ = match catalogue.get_asset(balance.asset_id) {
            Some((name, _)) => write!(text, "{name}:{}", balance.seq),
            None => write!(text, "{}:{}", balance.asset_id, balance.seq),
        };
    }
    users
}

pub(super) async fn get_transaction<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    let reference = parse_reference(&api, &request, |id| id.parse().map(Reference::Transaction))?;
    find_settled(&api, reference).await
}

pub(super) async fn get_trade<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    let reference = parse_reference(&api, &request, |id| id.parse().map(Reference::Trade))?;
    find_settled(&api, reference).await
}

/// Checks access and parses the id at the end of the path.
fn parse_reference<B: Backend>(
    api: &Api<B>,
    request: &Request,
    parse: impl FnOnce(&str) -> Result<Reference, MalformedId>,
) -> Result<Reference, Failure> {
    api.authorize_request(request.headers(), Scope::Settle)?;
    query::refuse_parameters(request.uri().query()).map_err(Failure::malformed_request)?;
    let id = request.uri().path().rsplit('/').next().unwrap_or_default();
    parse(id).map_err(|malformed| Failure::malformed_request(malformed.to_string()))
}

async fn find_settled<B: Backend>(api: &Api<B>, reference: Reference) -> HandlerResult {
    if api.backend.shows_balances_only() {
        return Err(Failure::NothingThere);
    }
    let found = api
        .run_with_deadline(|deadline| api.backend.find_transaction(reference, deadline))
        .await?;
    let stored = found
        .map_err(Failure::Source)?
        .ok_or(Failure::NothingThere)?;
    let mut shown =
        describe_stored(reference, &stored).ok_or(Failure::Bug("a transaction is no object"))?;
    // A trade that another program wrote has the id of its symbol alone.
    if let Some(id) = shown.remove("symbol_id") {
        let known = id.as_i64().and_then(|id| i32::try_from(id).ok());
        let catalogue = api.catalogue.current_table();
        let name = known.and_then(|id| catalogue.symbol_name(id));
        let symbol = name.map_or_else(|| id.to_string(), str::to_owned);
        shown.insert("symbol".to_owned(), symbol.into());
    }
    answer::done_response(&shown)
}

/// Every field that was sent, with defaults, and what it came to. None: the content is no JSON object.
pub(super) fn describe_stored(
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
