//! Which module may know which. Data goes down, news comes in; nothing goes up or sideways.

use proc_macro2::TokenStream;

use crate::scan::{ending, files, local_names, paths, split, tokens};

/// Each module of `src/`, and what it may name of the others.
const EDGES: [(&str, &[&str]); 24] = [
    ("domain", &[]),
    ("clock", &["domain"]),
    ("config", &["domain"]),
    ("render", &["domain"]),
    ("cache_status", &[]),
    ("diagnosis", &[]),
    ("fail_points", &[]),
    (
        "telemetry",
        &["domain", "config", "diagnosis", "cache_status"],
    ),
    ("protocol", &["domain"]),
    (
        "cache",
        &[
            "domain",
            "protocol",
            "config",
            "diagnosis",
            "render",
            "telemetry",
            "cache_status",
        ],
    ),
    (
        "ledger",
        &["domain", "clock", "config", "diagnosis", "telemetry"],
    ),
    (
        "audit",
        &[
            "domain",
            "protocol",
            "clock",
            "config",
            "telemetry",
            "cache_status",
            "ledger",
        ],
    ),
    ("admission", &["domain", "config"]),
    (
        "read",
        &[
            "admission",
            "audit",
            "domain",
            "clock",
            "config",
            "protocol",
            "render",
            "telemetry",
            "cache_status",
            "cache",
            "ledger",
        ],
    ),
    (
        "apply",
        &[
            "audit",
            "domain",
            "protocol",
            "clock",
            "telemetry",
            "cache_status",
            "cache",
            "ledger",
        ],
    ),
    ("rates", &["domain", "telemetry", "cache"]),
    (
        "totals",
        &["domain", "config", "telemetry", "cache", "ledger"],
    ),
    (
        "settle",
        &["cache_status", "domain", "telemetry", "ledger", "apply"],
    ),
    (
        "feed",
        &[
            "domain",
            "protocol",
            "clock",
            "config",
            "diagnosis",
            "telemetry",
            "cache",
            "ledger",
            "apply",
        ],
    ),
    (
        "http",
        &[
            "domain",
            "clock",
            "config",
            "render",
            "telemetry",
            "read",
            "apply",
            "settle",
            "cache_status",
            "ledger",
        ],
    ),
    ("ops", &["domain", "http", "telemetry", "cache_status"]),
    ("service", EVERY),
    ("cli", EVERY),
    ("main", EVERY),
];

/// Compiled to nothing outside tests, so every module may name it.
const ANYWHERE: &str = "fail_points";

/// The assembly and the command line may name every module.
const EVERY: &[&str] = &[
    "audit",
    "domain",
    "clock",
    "config",
    "diagnosis",
    "render",
    "telemetry",
    "cache_status",
    "protocol",
    "cache",
    "ledger",
    "admission",
    "read",
    "apply",
    "rates",
    "totals",
    "settle",
    "feed",
    "http",
    "ops",
    "service",
];

/// Edges over which only words may go, no machinery.
const VOCABULARY: [(&str, &str, &[&str]); 3] = [
    ("http", "ledger", &["LedgerError", "WrittenCounts"]),
    ("feed", "ledger", &["self", "LedgerError", "postgres"]),
    (
        "ops",
        "http",
        &[
            "Body",
            "HostError",
            "Hosts",
            "NOSNIFF",
            "RequestIds",
            "REQUEST_ID",
            "cross_origin",
            "listener",
            "openapi",
        ],
    ),
];

/// One foreign crate, one place: where paths into it may be written. A place covers the files that begin with it.
const PLACES: [(&str, &[&str]); 26] = [
    ("moka", &["cache/memory.rs"]),
    ("bigdecimal", &["domain/rate.rs", "domain/valuation.rs"]),
    ("redis", &["cache/redis"]),
    ("deadpool_redis", &["cache/redis"]),
    ("scylla", &["ledger/scylla"]),
    ("tokio_postgres", &["ledger/postgres"]),
    ("deadpool_postgres", &["ledger/postgres"]),
    ("tokio_rustls", &["ledger/postgres/tls.rs"]),
    ("redb", &["ledger/embedded"]),
    ("rdkafka", &["feed/kafka"]),
    ("metrics", &["telemetry"]),
    ("opentelemetry", &["telemetry/traces.rs"]),
    ("opentelemetry_sdk", &["telemetry/traces.rs"]),
    ("opentelemetry_otlp", &["telemetry/traces.rs"]),
    ("tracing_opentelemetry", &["telemetry/traces.rs"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("axum", &["http", "ops"]),
    (
        "utoipa",
        &[
            "http",
            "domain/entry.rs",
            "domain/notification.rs",
            "domain/trade.rs",
            "domain/transaction.rs",
        ],
    ),
    ("hyper", &["http", "cli/client.rs"]),
    ("hyper_util", &["cli/client.rs"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("indicatif", &["cli/progress.rs"]),
    ("pulldown_cmark", &["ops/runbook.rs"]),
    ("anstream", &["cli"]),
    ("anstyle", &["cli"]),
];

/// What a file does that it may not. `file` is a path below `src/`.
fn faults(file: &str, stream: TokenStream) -> Vec<String> {
    let (production, _tests) = split(stream);
    let module = file.split(['/', '.']).next().unwrap();
    let mut found = forbidden_edges(file, module, &production);
    let local = local_names(&production);
    for path in paths(production) {
        let Some(head) = path.segments.first() else {
            continue;
        };
        let ours = !path.global && local.contains(head);
        let place = PLACES.iter().find(|(name, _)| name == head);
        if let Some((name, places)) = place
            && !ours
            && !places.iter().any(|place| file.starts_with(place))
        {
            found.push(format!(
                "{file}: {module} -> {name} (belongs to src/{})",
                places.join("*, src/")
            ));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn forbidden_edges(file: &str, module: &str, production: &TokenStream) -> Vec<String> {
    if module == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == module) else {
        return vec![format!(
            "{file}: module {module} is not in the table of edges"
        )];
    };
    let depth = file.split('/').count();
    let mut found = Vec::new();
    for path in paths(production.clone()) {
        let Some(rest) = below_the_root(&path.segments, module, depth) else {
            continue;
        };
        let target = rest.first().map_or("*", String::as_str);
        let words = VOCABULARY
            .iter()
            .find(|(from, to, _)| *from == module && *to == target);
        if target != module && target != ANYWHERE && !allowed.contains(&target) {
            found.push(format!("{file}: {module} -> {target}"));
        } else if let Some((_, _, words)) = words {
            let named = rest.get(1).map_or("*", String::as_str);
            if !words.contains(&named) {
                found.push(format!("{file}: {module} -> {target}::{named}"));
            }
        }
    }
    found
}

/// What follows the crate's root in a path that starts there.
fn below_the_root<'a>(path: &'a [String], module: &str, depth: usize) -> Option<&'a [String]> {
    let supers = path
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    let (head, rest) = path.split_first()?;
    let from_root = head == "crate" || (module == "main" && head == "balance_cache");
    if from_root {
        Some(rest)
    } else if supers > 0 && supers == depth {
        path.get(supers..)
    } else {
        None
    }
}

#[test]
fn every_module_names_only_what_is_below_it() {
    let mut found = Vec::new();
    for file in files("src") {
        let short = file.strip_prefix("src/").unwrap();
        let of_tests = short.ends_with("/tests.rs") || short.contains("/tests/");
        if ending(short) == "rs" && !of_tests {
            found.extend(faults(short, tokens(&file)));
        }
    }
    assert!(found.is_empty(), "forbidden edges:\n{}", found.join("\n"));
}

#[test]
fn an_edge_is_found_in_every_form_it_can_be_written() {
    for text in [
        "use crate::cache;",
        "use crate::{domain::UserId, cache::{self, memory}};",
        "use super::cache::Hit;",
        "fn f() -> Vec<crate::cache::Hit> { todo() }",
        "fn f() { log!(\"{}\", crate::cache::NAME) }",
    ] {
        let found = faults("ledger.rs", text.parse().unwrap());
        assert_eq!(found, ["ledger.rs: ledger -> cache"], "{text}");
    }
    let strange = faults("wallet/money.rs", "use crate::domain;".parse().unwrap());
    assert_eq!(
        strange,
        ["wallet/money.rs: module wallet is not in the table of edges"]
    );
    let glob = faults("render.rs", "use crate::*;".parse().unwrap());
    assert_eq!(glob, ["render.rs: render -> *"]);
    let main = faults(
        "main.rs",
        "use balance_cache::wallet::run;".parse().unwrap(),
    );
    assert_eq!(main, ["main.rs: main -> wallet"]);
}

#[test]
fn what_is_allowed_is_not_found() {
    for (file, text) in [
        ("ledger.rs", "use crate::{domain::UserId, clock::Clock};"),
        (
            "ledger.rs",
            "// crate::cache\nconst NAME: &str = \"crate::cache\";",
        ),
        ("ledger.rs", "#[cfg(test)] mod tests { use crate::cache; }"),
        (
            "ledger/scylla.rs",
            "use super::Error; use crate::ledger::Source;",
        ),
        (
            "http.rs",
            "use crate::ledger::{LedgerError, WrittenCounts};",
        ),
        ("cache.rs", "pub mod redis; fn f() { redis::start() }"),
        (
            "read.rs",
            "use crate::cache::{memory, redis}; fn f() { redis::get() }",
        ),
        ("cache/redis/script.rs", "use redis::Script;"),
    ] {
        assert_eq!(
            faults(file, text.parse().unwrap()),
            [""; 0],
            "{file}: {text}"
        );
    }
}

#[test]
fn only_words_go_from_the_source_to_http() {
    let found = faults(
        "http/head.rs",
        "use crate::ledger::{LedgerError, scylla::Scylla};"
            .parse()
            .unwrap(),
    );
    assert_eq!(found, ["http/head.rs: http -> ledger::scylla"]);
}

#[test]
fn a_foreign_crate_out_of_its_place_is_found() {
    for text in [
        "use moka::sync::Cache;",
        "use moka;",
        "fn f(cache: &::moka::sync::Cache<u64, u64>) {}",
        "use std::{fmt}; use {moka::sync::Cache, std::io};",
    ] {
        let found = faults("read.rs", text.parse().unwrap());
        assert_eq!(
            found,
            ["read.rs: read -> moka (belongs to src/cache/memory.rs)"],
            "{text}"
        );
    }
    let found = faults("service.rs", "use axum::Router;".parse().unwrap());
    assert_eq!(
        found,
        ["service.rs: service -> axum (belongs to src/http*, src/ops)"]
    );
}
