//! Which module may know which. Data goes down, news comes in; nothing goes up or sideways.

use proc_macro2::TokenStream;

use crate::scan::{ending, files, local_names, paths, split, tokens};

/// Each module of `src/`, and what it may name of the others.
const EDGES: [(&str, &[&str]); 21] = [
    ("domain", &[]),
    ("clock", &["domain"]),
    ("config", &["domain"]),
    ("render", &["domain"]),
    ("trail", &[]),
    ("diagnosis", &[]),
    ("telemetry", &["domain", "config", "diagnosis", "trail"]),
    ("protocol", &[]),
    ("floor", &["domain", "clock", "protocol"]),
    (
        "tiers",
        &[
            "domain",
            "config",
            "diagnosis",
            "floor",
            "render",
            "telemetry",
            "trail",
        ],
    ),
    (
        "source",
        &["domain", "clock", "config", "diagnosis", "telemetry"],
    ),
    (
        "audit",
        &[
            "domain",
            "clock",
            "config",
            "telemetry",
            "trail",
            "floor",
            "source",
        ],
    ),
    (
        "read",
        &[
            "audit",
            "domain",
            "clock",
            "config",
            "protocol",
            "render",
            "telemetry",
            "trail",
            "tiers",
            "floor",
            "source",
        ],
    ),
    (
        "apply",
        &[
            "audit",
            "domain",
            "clock",
            "config",
            "telemetry",
            "trail",
            "tiers",
            "floor",
            "source",
        ],
    ),
    ("settle", &["domain", "telemetry", "source", "apply"]),
    (
        "feed",
        &[
            "domain",
            "clock",
            "config",
            "diagnosis",
            "telemetry",
            "tiers",
            "floor",
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
            "trail",
            "source",
        ],
    ),
    ("ops", &["domain", "http", "telemetry", "trail"]),
    ("service", EVERY),
    ("cli", EVERY),
    ("main", EVERY),
];

/// The assembly and the command line may name every module.
const EVERY: &[&str] = &[
    "audit",
    "domain",
    "clock",
    "config",
    "diagnosis",
    "render",
    "telemetry",
    "trail",
    "protocol",
    "floor",
    "tiers",
    "source",
    "read",
    "apply",
    "settle",
    "feed",
    "http",
    "ops",
    "service",
];

/// Edges over which only words may go, no machinery.
const VOCABULARY: [(&str, &str, &[&str]); 2] = [
    ("http", "source", &["Error", "Written"]),
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
const PLACES: [(&str, &[&str]); 21] = [
    ("moka", &["tiers/memory.rs"]),
    ("redis", &["tiers/redis"]),
    ("deadpool_redis", &["tiers/redis"]),
    ("scylla", &["source/scylla"]),
    ("redb", &["source/embedded"]),
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
        if target != module && !allowed.contains(&target) {
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
        "use crate::tiers;",
        "use crate::{domain::UserId, tiers::{self, memory}};",
        "use super::tiers::Hit;",
        "fn f() -> Vec<crate::tiers::Hit> { todo() }",
        "fn f() { log!(\"{}\", crate::tiers::NAME) }",
    ] {
        let found = faults("source.rs", text.parse().unwrap());
        assert_eq!(found, ["source.rs: source -> tiers"], "{text}");
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
        ("source.rs", "use crate::{domain::UserId, clock::Clock};"),
        (
            "source.rs",
            "// crate::tiers\nconst NAME: &str = \"crate::tiers\";",
        ),
        ("source.rs", "#[cfg(test)] mod tests { use crate::tiers; }"),
        (
            "source/scylla.rs",
            "use super::Error; use crate::source::Source;",
        ),
        ("http.rs", "use crate::source::{Error, Written};"),
        ("tiers.rs", "pub mod redis; fn f() { redis::start() }"),
        (
            "read.rs",
            "use crate::tiers::{memory, redis}; fn f() { redis::get() }",
        ),
        ("tiers/redis/script.rs", "use redis::Script;"),
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
        "use crate::source::{Error, scylla::Scylla};"
            .parse()
            .unwrap(),
    );
    assert_eq!(found, ["http/head.rs: http -> source::scylla"]);
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
            ["read.rs: read -> moka (belongs to src/tiers/memory.rs)"],
            "{text}"
        );
    }
    let found = faults("service.rs", "use axum::Router;".parse().unwrap());
    assert_eq!(
        found,
        ["service.rs: service -> axum (belongs to src/http*, src/ops)"]
    );
}
