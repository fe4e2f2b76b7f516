//! The operations: what each is for, takes, gives, and how it may fail.

use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::{
    failures::header_references,
    histories, ledger,
    operation::{
        Operation, common_failures, done_response, envelope_schema, file_response, ok_response,
        one_or_many, post_failures, schema_ref, single_example,
    },
    samples::{NOBODY, Samples, USER},
    totals,
};
use crate::{
    config::{LedgerSide, Scope},
    http::{
        Failure, docs,
        json::{self, ENTRIES_MAX, NOTIFICATIONS_MAX, USERS_MAX},
        query::Question,
        results::{Invalidated, SettledCounts, WarmedCounts, WrittenEntries},
        routes,
    },
    ledger::LedgerError,
};

/// Every path. `balances_only`: the ledger is somebody else's tables.
pub fn document_paths(
    samples: &Samples<'_>,
    writer: LedgerSide,
    token: bool,
    balances_only: bool,
) -> Value {
    let fails_there = |mut operation: Operation, failure: Failure| {
        if balances_only {
            operation.fails.push(failure);
        }
        operation
    };
    let written = |operation| fails_there(operation, Failure::ReadOnlyLedger);
    let history = |operation| fails_there(operation, Failure::NoHistories);
    let get = |operation: Operation| json!({"get": operation.into_json(token)});
    let post = |operation: Operation| json!({"post": operation.into_json(token)});
    let mut paths = Map::new();
    for (path, id) in routes::BALANCE.into_iter().zip(["balance", "balance_v1"]) {
        paths.insert(path.to_owned(), get(balance_operation(samples, id)));
    }
    let others = [
        (routes::BATCH, post(batch_operation(samples))),
        (routes::SETTLEMENTS, post(settlements_operation(samples))),
        (routes::ENTRIES, post(written(entries_operation(samples)))),
        (
            routes::TRANSACTIONS,
            post(written(ledger::transactions_operation(samples, writer))),
        ),
        (
            routes::TRANSACTION,
            get(ledger::transaction_operation(samples)),
        ),
        (
            routes::TRADES,
            post(written(ledger::trades_operation(samples, writer))),
        ),
        (routes::TRADE, get(ledger::trade_by_id(samples))),
        (
            routes::USER_TRADES,
            get(history(histories::trades_operation(samples))),
        ),
        (
            routes::STATEMENT,
            get(history(histories::statement_operation(samples))),
        ),
        (routes::TOTALS, get(totals::totals_operation(samples))),
        (routes::RATES, post(totals::set_rates(samples))),
        (routes::USER_TOTAL, get(totals::user_total(samples))),
        (routes::INVALIDATE, post(invalidate_operation())),
        (routes::WARM, post(warm_operation())),
        (routes::OPENAPI, get(openapi_operation())),
    ];
    paths.extend(others.map(|(path, item)| (path.to_owned(), item)));
    paths.extend(docs::FILES.map(|file| (file.path.to_owned(), get(page_operation(&file)))));
    Value::Object(paths)
}

fn balance_operation(samples: &Samples<'_>, id: &'static str) -> Operation {
    let data = json!({"type": "array", "items": {"$ref": "#/components/schemas/Balance"}, "description": "By asset id."});
    let nobody = samples.balance_read(false, None);
    let given = samples.balance_read(true, None);
    let examples = json!({
        "something": {"summary": "a user with balances", "value": given.body},
        "nothing": {"summary": "a user who has nothing, or whom nobody knows", "value": nobody.body},
    });
    let ok = json!({
        "description": "All balances of the user, or one.",
        "headers": header_references(&given.headers),
        "content": {"application/json": {"schema": envelope_schema(&data), "examples": examples}},
    });
    let same = samples.balance_read(true, Some(&HeaderValue::from_static("*")));
    let same = json!({
        "description": "The client has these balances.",
        "headers": header_references(&same.headers),
    });
    let mut fails = common_failures(
        Scope::Read,
        Question::parse_query(None, samples.catalogue).err(),
    );
    fails.extend([
        Failure::Shed,
        Failure::Source(LedgerError::Timeout),
        Failure::NotReached,
    ]);
    Operation {
        id,
        tag: "balances",
        scope: Some(Scope::Read),
        summary: "What a user has",
        about: "All balances, by asset id; with `asset` that one only. It shows every asset of the user, or fails.",
        parameters: &[
            "user_id",
            "asset",
            "min_seq",
            "if-none-match",
            "cache-control",
        ],
        ok,
        not_modified: Some(same),
        fails,
        ..Operation::default()
    }
}

fn batch_operation(samples: &Samples<'_>) -> Operation {
    let data = json!({"type": "array", "items": {"$ref": "#/components/schemas/BalancesOf"}});
    let mut fails = post_failures(Scope::Read, json::parse_users::<0>(b"[]").err());
    fails.push(Failure::Source(LedgerError::Timeout));
    Operation {
        id: "balances",
        tag: "balances",
        scope: Some(Scope::Read),
        summary: "What many users have",
        about: "In the order asked, duplicates too. One user that fails fails the request.",
        takes: Some((
            schema_ref("Batch"),
            single_example("two users", &json!({"user_ids": [USER, NOBODY]})),
        )),
        ok: ok_response(
            &data,
            "The balances of each of them.",
            &samples.batch_read(),
        ),
        fails,
        ..Operation::default()
    }
}

fn settlements_operation(samples: &Samples<'_>) -> Operation {
    let (user, asset) = (USER, samples.asset_id());
    let values = json!({"user_id": user, "asset_id": asset, "seq": 18, "avail": 920_000_000_000_i64, "frozen": 0, "created_at": 1_765_352_441_955_i64});
    let examples = json!({
        "one": {"summary": "all of it", "value": values},
        "several": {"summary": "several, which say less", "value": [
            {"user_id": user, "asset_id": asset, "seq": 18}, {"user_id": user, "asset_id": asset}, {"user_id": user},
        ]},
    });
    let mut fails = post_failures(Scope::Settle, json::parse_notifications(b"[{}]").err());
    fails.push(Failure::Promise("".into()));
    Operation {
        id: "settle",
        tag: "settlements",
        scope: Some(Scope::Settle),
        summary: "Tells that balances changed",
        about: "One notification or an array. 200 when all of them are in effect: no later read on this instance shows less. \
                It never waits for the ledger; late, duplicate and reordered ones are harmless. Two pairs of amounts for one seq in one request are refused.",
        takes: Some((one_or_many("Notification", NOTIFICATIONS_MAX), examples)),
        ok: done_response(
            "Settled",
            "They are in effect.",
            &SettledCounts { applied: 1, old: 0 },
        ),
        fails,
        ..Operation::default()
    }
}

fn entries_operation(samples: &Samples<'_>) -> Operation {
    let (user, asset) = (USER, samples.asset_id());
    let entry = json!({
        "user_id": user, "asset_id": asset, "seq": 18, "avail": 920_000_000_000_i64, "frozen": 0,
        "delta_avail": 10_000_000_000_i64, "delta_frozen": 0, "event_type": "deposit", "ref_id": 7, "created_at": 1_765_352_441_955_i64,
    });
    let least = json!([{"user_id": user, "asset_id": asset, "seq": 18, "avail": 920_000_000_000_i64, "frozen": 0}]);
    let examples = json!({
        "one": {"summary": "one entry", "value": entry},
        "several": {"summary": "an array, with what is required", "value": least},
    });
    let mut fails = post_failures(Scope::Settle, json::parse_entries(b"[{}]").err());
    fails.extend([
        Failure::Conflict { index: 0 },
        Failure::Source(LedgerError::Timeout),
        Failure::Promise("".into()),
    ]);
    let written = WrittenEntries {
        written: 1,
        repeated: 0,
    };
    Operation {
        id: "write_entries",
        tag: "settlements",
        scope: Some(Scope::Settle),
        summary: "Writes the ledger",
        about: "One entry or an array: written, then in effect as a notification is. The same amounts again under a seq: 200. \
                Other amounts under a seq that exists: 409, and nothing of the request is written; within one request: 400. After 503 the rows may stand: send the same again.",
        takes: Some((one_or_many("LedgerEntry", ENTRIES_MAX), examples)),
        ok: done_response("Written", "They are written and in effect.", &written),
        fails,
        ..Operation::default()
    }
}

fn invalidate_operation() -> Operation {
    let mut fails = post_failures(Scope::Admin, json::parse_invalidation(b"[]").err());
    fails.push(Failure::Promise("".into()));
    Operation {
        id: "invalidate",
        tag: "cache",
        scope: Some(Scope::Admin),
        summary: "Drops what is held of users",
        about: "In every tier and instance. What must not be undercut stays known, unless `floors` is true.",
        takes: Some((
            schema_ref("Invalidation"),
            single_example("one user", &json!({"user_ids": [USER], "floors": false})),
        )),
        ok: done_response("Invalidated", "It is dropped.", &Invalidated { users: 1 }),
        fails,
        ..Operation::default()
    }
}

fn warm_operation() -> Operation {
    let warmed = WarmedCounts {
        users: 2,
        loaded: 2,
        failed: 0,
    };
    Operation {
        id: "warm",
        tag: "cache",
        scope: Some(Scope::Admin),
        summary: "Loads users before they are asked for",
        about: "A user who is held counts as loaded. A source that is down is counted in `failed`.",
        takes: Some((
            schema_ref("Warming"),
            single_example("two users", &json!({"user_ids": [USER, 1002]})),
        )),
        ok: done_response("Warmed", "How many are held now.", &warmed),
        fails: post_failures(Scope::Admin, json::parse_users::<USERS_MAX>(b"[]").err()),
        ..Operation::default()
    }
}

fn openapi_operation() -> Operation {
    Operation {
        id: "openapi",
        tag: "description",
        scope: None,
        summary: "This document",
        about: "It is on the operators' port too.",
        ok: file_response("application/json", &json!({"type": "object"})),
        fails: vec![],
        ..Operation::default()
    }
}

fn page_operation(file: &docs::File) -> Operation {
    Operation {
        id: file.name,
        tag: "description",
        scope: None,
        summary: file.about,
        about: "All of the page comes from here; it asks no other host.",
        ok: self::file_response(file.kind, &json!({"type": "string"})),
        fails: vec![],
        ..Operation::default()
    }
}
