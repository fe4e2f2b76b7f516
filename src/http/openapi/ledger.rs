//! The operations of transactions and trades. Examples are parsed and answered by what parses and answers real ones.

use serde_json::{Value, json};

use super::{
    operation::{Operation, common_failures, ok_response, one_or_many, post_failures, schema_ref},
    put_field,
    samples::{Samples, USER, parse_json_body},
};
use crate::{
    config::{LedgerSide, Scope},
    domain::{
        Catalogue, Conflict, PostingRefusal, Receipt, Reference, RefusalReason, SettleOutcome,
        SettleState, StoredTransaction, Trade, Transaction, UnixMillis,
    },
    http::{
        Failure, answer,
        json::{self, TRANSACTIONS_MAX},
        ledger::{describe_outcome, describe_stored},
    },
    ledger::LedgerError,
};

/// The id of the examples.
pub const ID: i64 = 9_001;
const SELLER: i64 = 1002;
const SETTLED_AT: i64 = 1_765_352_441_955;

/// The schema of a trade, with this catalogue's symbols, and with `balances` where an external writer assigns seqs.
pub fn trade_schema(mut schema: Value, catalogue: &Catalogue, writer: LedgerSide) -> Value {
    let symbols = catalogue.symbol_names();
    if let (Some(symbol), false) = (schema.pointer_mut("/properties/symbol"), symbols.is_empty()) {
        put_field(symbol, "enum", json!(symbols));
    }
    match writer {
        LedgerSide::Service => {
            if let Some(Value::Object(properties)) = schema.pointer_mut("/properties") {
                properties.remove("balances");
            }
        }
        LedgerSide::External => {
            if let Some(Value::Array(required)) = schema.pointer_mut("/required") {
                required.push(json!("balances"));
            }
        }
    }
    schema
}

fn sample_transaction(samples: &Samples<'_>, id: i64, event: &str, frozen: i64) -> Value {
    json!({"transaction_id": id, "event_type": event, "entries": [
        {"user_id": USER, "asset_id": samples.asset_id(), "delta_avail": 500_000_000_i64.saturating_sub(frozen), "delta_frozen": frozen},
    ]})
}

fn sample_trade(samples: &Samples<'_>, id: i64, writer: LedgerSide) -> Value {
    let symbols = samples.catalogue.symbol_names();
    let symbol = symbols.first().map_or("BTC_USDT", String::as_str);
    let mut trade = json!({
        "trade_id": id, "symbol": symbol, "buyer_user_id": USER, "seller_user_id": SELLER,
        "price": 5_000_000_000_000_i64, "quantity": 1_000_000, "settled_at": SETTLED_AT,
    });
    if writer == LedgerSide::External {
        let parsed = Trade::parse_trade(&trade.to_string(), samples.catalogue);
        let changes = parsed.map(|trade| trade.changes).unwrap_or_default();
        let balances = changes.iter().map(|change| {
            json!({"user_id": change.user, "asset_id": change.asset, "seq": 100, "avail": 90_000_000_000_i64, "frozen": 0})
        });
        put_field(&mut trade, "balances", balances.collect());
    }
    trade
}

/// The result of such a transaction in an empty ledger.
fn sample_receipt(transaction: &Transaction) -> Receipt {
    let overdrawn = Transaction {
        overdraft: true,
        ..transaction.clone()
    };
    let rows = overdrawn.rows_above(&[], UnixMillis(SETTLED_AT));
    Receipt::of_rows(&rows.unwrap_or_default(), UnixMillis(SETTLED_AT))
}

fn settled_example(samples: &Samples<'_>, transaction: Result<Transaction, String>) -> Value {
    let Ok(transaction) = transaction else {
        return json!({"status": 0, "msg": "ok", "data": []});
    };
    let outcome = SettleOutcome::Written(sample_receipt(&transaction));
    let told = describe_outcome(transaction.reference, &outcome, samples.catalogue);
    parse_json_body(&answer::done_body(&told).unwrap_or_default())
}

fn stored_example(transaction: Result<Transaction, String>) -> Option<Value> {
    let transaction = transaction.ok()?;
    let stands = StoredTransaction {
        state: SettleState::Done,
        receipt: sample_receipt(&transaction),
        content: transaction.content,
    };
    let shown = describe_stored(transaction.reference, &stands)?;
    Some(parse_json_body(
        &answer::done_body(&shown).unwrap_or_default(),
    ))
}

/// The ways in which both kinds fail.
fn settlement_failures(mistake: Option<String>, writer: LedgerSide) -> Vec<Failure> {
    let mut fails = post_failures(Scope::Settle, mistake);
    fails.extend([
        Failure::Contradicts(Conflict::OtherContent.to_string().into()),
        Failure::Source(LedgerError::Timeout),
        Failure::Promise("".into()),
    ]);
    match writer {
        LedgerSide::Service => {
            fails.extend(sample_refusal().map(|why| Failure::Refused(why.into())));
        }
        LedgerSide::External => fails.push(Failure::SeqsElsewhere),
    }
    fails
}

fn sample_refusal() -> Option<String> {
    let refusal = PostingRefusal {
        user: USER.try_into().ok()?,
        asset: 1_i64.try_into().ok()?,
        reason: RefusalReason::AvailBelowZero,
    };
    Some(refusal.to_string())
}

fn results_schema(name: &str) -> Value {
    let one = schema_ref(name);
    json!({"anyOf": [one, {"type": "array", "items": one}]})
}

pub fn transactions_operation(samples: &Samples<'_>, writer: LedgerSide) -> Operation {
    let one = sample_transaction(samples, ID, "deposit", 0);
    let several = json!([
        sample_transaction(samples, ID.saturating_add(1), "deposit", 0),
        sample_transaction(samples, ID.saturating_add(2), "hold", 500_000_000),
    ]);
    let example = settled_example(samples, Transaction::parse_transaction(&one.to_string()));
    let examples = json!({
        "one": {"summary": "a deposit", "value": one},
        "several": {"summary": "a deposit and a hold", "value": several},
    });
    Operation {
        id: "settle_transactions",
        tag: "ledger",
        scope: Some(Scope::Settle),
        summary: "Settles transactions",
        about: "One transaction or an array, in this order. Entries of one transaction stand together or not at all, and exactly once: \
                the same content again under an id is a repetition and has the seqs and balances of the first time. \
                A transaction that would lower an amount below 0 is refused, unless it says `overdraft`. \
                In an array each stands for itself. After 503 send all of it again.",
        takes: Some((one_or_many("Transaction", TRANSACTIONS_MAX), examples)),
        ok: ok_response(
            &results_schema("SettledTransaction"),
            "What became of each.",
            &example,
        ),
        fails: settlement_failures(json::parse_transactions(b"[{}]").err(), writer),
        ..Operation::default()
    }
}

pub fn trades_operation(samples: &Samples<'_>, writer: LedgerSide) -> Operation {
    let one = sample_trade(samples, ID, writer);
    let several = json!([sample_trade(samples, ID, writer)]);
    let example = settled_example(
        samples,
        Trade::parse_trade(&one.to_string(), samples.catalogue),
    );
    let examples = json!({
        "one": {"summary": "a trade", "value": one},
        "several": {"summary": "an array", "value": several},
    });
    let mistake = json::parse_trades(b"[{}]", samples.catalogue, writer).err();
    Operation {
        id: "settle_trades",
        tag: "ledger",
        scope: Some(Scope::Settle),
        summary: "Settles trades",
        about: "One trade or an array, in this order. Four balances (two for a trade with oneself), the fees and the trade stand together or \
                not at all, and exactly once. The buyer pays the cost: price × quantity / 10^(decimals of base), rounded towards zero.",
        takes: Some((one_or_many("Trade", TRANSACTIONS_MAX), examples)),
        ok: ok_response(
            &results_schema("SettledTrade"),
            "What became of each.",
            &example,
        ),
        fails: settlement_failures(mistake, writer),
        ..Operation::default()
    }
}

pub fn transaction_operation(samples: &Samples<'_>) -> Operation {
    let sample = sample_transaction(samples, ID, "deposit", 0).to_string();
    let reference = |id: &str| id.parse().map(Reference::Transaction);
    Operation {
        id: "transaction",
        summary: "A transaction that stands",
        ..by_id(
            "StoredTransaction",
            stored_example(Transaction::parse_transaction(&sample)),
            reference("0").err().map(|malformed| malformed.to_string()),
        )
    }
}

pub fn trade_by_id(samples: &Samples<'_>) -> Operation {
    let sample = sample_trade(samples, ID, LedgerSide::Service).to_string();
    let reference = |id: &str| id.parse().map(Reference::Trade);
    Operation {
        id: "trade",
        summary: "A trade that stands",
        ..by_id(
            "StoredTrade",
            stored_example(Trade::parse_trade(&sample, samples.catalogue)),
            reference("0").err().map(|malformed| malformed.to_string()),
        )
    }
}

fn by_id(name: &str, example: Option<Value>, mistake: Option<String>) -> Operation {
    let data = schema_ref(name);
    let mut given = ok_response(&data, "What was sent, and what it came to.", &Value::Null);
    if let Some(media) = given.pointer_mut("/content/application~1json") {
        let examples = example.map_or_else(|| json!({}), |value| json!({"one": {"value": value}}));
        put_field(media, "examples", examples);
    }
    let mut fails = common_failures(Scope::Settle, mistake);
    fails.extend([Failure::NothingThere, Failure::Source(LedgerError::Timeout)]);
    Operation {
        tag: "ledger",
        scope: Some(Scope::Settle),
        about: "Every field that was sent, with defaults, and the balances of the first time.",
        parameters: &["id"],
        ok: given,
        fails,
        ..Operation::default()
    }
}
