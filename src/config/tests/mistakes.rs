use super::{load_text, mistaken_keys};

/// A file's text, and the keys that it is refused for.
const MISTAKES: &[(&str, &[&str])] = &[
    // Unknown, and of the wrong kind.
    ("typo = 1", &["typo"]),
    ("\"redis.url\" = \"redis://h\"", &["redis.url"]),
    ("redis = 1", &["redis"]),
    ("[redis]\nurll = \"\"", &["redis.urll"]),
    ("[redis.url]\nx = 1", &["redis.url"]),
    ("[memory]\nttl_ms = \"10\"", &["memory.ttl_ms"]),
    ("[memory]\nttl_ms = 10.5", &["memory.ttl_ms"]),
    ("[memory]\nttl_ms = -1", &["memory.ttl_ms"]),
    ("[stale]\nenabled = 1", &["stale.enabled"]),
    ("[http]\nlisten = \"localhost\"", &["http.listen"]),
    ("[redis]\nmode = \"many\"", &["redis.mode"]),
    ("[scylla]\nnodes = \"h:1\"", &["scylla.nodes"]),
    ("[scylla]\nnodes = [\"h:1\", 2]", &["scylla.nodes"]),
    ("[scylla]\nconsistency = \"most\"", &["scylla.consistency"]),
    (
        "[source]\nkind = \"mysql\"\nread_from = \"x\"",
        &["source.kind", "source.read_from"],
    ),
    ("assets = 1", &["assets"]),
    ("assets = [1]", &["assets[0]"]),
    ("[[assets]]\nid = 1\nname = \"A\"", &["assets[0].decimals"]),
    (
        "[[assets]]\nid = 1\nname = \"A\"\ndecimals = -1\nx = 1",
        &["assets[0].decimals", "assets[0].x"],
    ),
    (
        "[[assets]]\nid = 4294967296\nname = 5\ndecimals = 8",
        &["assets[0].id", "assets[0].name"],
    ),
    (
        "[[assets]]\nid = 1\nname = \"7\"\ndecimals = 19",
        &["assets[0].name", "assets[0].decimals"],
    ),
    (
        "[[symbols]]\nid = 1\nname = \"A_B\"\nbase = \"A\"\nquote = \"B\"",
        &["symbols[0].base", "symbols[0].quote"],
    ),
    // The writer, which assigns seqs.
    ("[ledger]\nwriter = \"both\"", &["ledger.writer"]),
    ("[ledger]\nwriter = \"external\"", &["ledger.writer"]),
    ("[ledger]\nrecovery_ms = 0", &["ledger.recovery_ms"]),
    // Listeners and callers.
    ("[http]\nlisten = \"0.0.0.0:3001\"", &["auth.mode"]),
    ("[http]\nlisten = \"127.0.0.1:3002\"", &["ops.listen"]),
    (
        "[ops]\nlisten = \"0.0.0.0:3001\"",
        &["ops.listen", "auth.mode"],
    ),
    ("[ops]\nlisten = \"10.0.0.1:3002\"", &["auth.mode"]),
    (
        "[http]\nlisten = \"[::]:3001\"\n[ops]\nlisten = \"10.0.0.1:3002\"",
        &["auth.mode", "auth.mode"],
    ),
    ("[auth]\nmode = \"token\"", &["auth.tokens"]),
    (
        "[[auth.tokens]]\nname = \"\"\nsha256 = \"ab\"\nscopes = []",
        &[
            "auth.tokens[0].name",
            "auth.tokens[0].sha256",
            "auth.tokens[0].scopes",
        ],
    ),
    (
        "[[auth.tokens]]\nname = \"a\"\nsha256 = \"***\"\nscopes = [\"root\"]",
        &["auth.tokens[0].scopes", "auth.tokens[0].sha256"],
    ),
    (
        "[[auth.tokens]]\nname = \"a\"\nscopes = [\"read\", \"read\"]",
        &["auth.tokens[0].sha256", "auth.tokens[0].scopes"],
    ),
    // Redis.
    ("[redis]\nurl = \"http://h\"", &["redis.url"]),
    ("[redis]\nurl = \"h:6379\"", &["redis.url"]),
    ("[redis]\nurl = \"redis://\"", &["redis.url"]),
    ("[redis]\nurl = \"redis://h:0\"", &["redis.url"]),
    ("[redis]\nurl = \"redis://h:99999\"", &["redis.url"]),
    ("[redis]\nurl = \"redis://h/x\"", &["redis.url"]),
    ("[redis]\nurl = \"redis://u:***@h\"", &["redis.url"]),
    ("[redis]\nurl = \"redis://***@h\"", &["redis.url"]),
    (
        "[redis]\nurl = \"redis://h:1/3?password=secret\"",
        &["redis.url"],
    ),
    ("[redis]\nurl = \"redis://h?pass=secret\"", &["redis.url"]),
    ("[redis]\nurl = \"redis://h?secret\"", &["redis.url"]),
    ("[redis]\nurl = \"redis://h?protocol=4\"", &["redis.url"]),
    (
        "[redis]\nurl = \"unix:///tmp/s?auth=secret\"",
        &["redis.url"],
    ),
    ("[redis]\nurl = \"unix:///tmp/s?db=x\"", &["redis.url"]),
    ("[redis]\nurl = \"unix:///tmp/s?pass=***\"", &["redis.url"]),
    ("[redis]\nurl = \" redis://h\"", &["redis.url"]),
    ("[redis]\nurl = \",\"", &["redis.url"]),
    ("[redis]\nurl = \"unix://tmp/sock\"", &["redis.url"]),
    ("[redis]\nurl = \"redis://a,redis://b\"", &["redis.url"]),
    (
        "[redis]\nmode = \"cluster\"\nurl = \"redis://a/1,redis://b\"",
        &["redis.url"],
    ),
    (
        "[redis]\nmode = \"cluster\"\nurl = \"unix:///tmp/s\"",
        &["redis.url"],
    ),
    (
        "[redis]\nmode = \"cluster\"\nurl = \"redis://a,rediss://b\"\nca_file = \"x\"",
        &["redis.url"],
    ),
    ("[redis]\nurl = \"rediss://h\"", &["redis.ca_file"]),
    ("[redis]\nurl = \"REDISS://h\"", &["redis.ca_file"]),
    (
        "[redis]\nurl = \"rediss://h#insecure\"\nca_file = \"x\"",
        &["redis.url"],
    ),
    ("[redis]\nnamespace = \"a:b\"", &["redis.namespace"]),
    (
        "[redis]\nconnections = 0\nbreaker_failures = 0",
        &["redis.connections", "redis.breaker_failures"],
    ),
    // Settlement.
    ("[settlement]\nstream = \"\"", &["settlement.stream"]),
    (
        "[settlement]\nstream = \"balance:invalidations\"",
        &["settlement.stream"],
    ),
    (
        "[settlement]\nstream = \"settlement:events:dead\"",
        &["settlement.stream"],
    ),
    (
        "[settlement]\nstream = \"x:settlement:events:dead\"\n[redis]\nnamespace = \"x\"",
        &["settlement.stream"],
    ),
    // The source.
    (
        "[source]\nkind = \"scylla\"\n[scylla]\nnodes = []",
        &["scylla.nodes"],
    ),
    (
        "[scylla]\nnodes = [\"h\", \"h:x\", \"::1:9042\", \"[::1]:9042\", \":1\", \"h:0\", \"h:1\"]",
        &[
            "scylla.nodes[0]",
            "scylla.nodes[1]",
            "scylla.nodes[2]",
            "scylla.nodes[4]",
            "scylla.nodes[5]",
        ],
    ),
    ("[scylla]\nkeyspace = \"Trading\"", &["scylla.keyspace"]),
    ("[scylla]\nkeyspace = \"a; DROP\"", &["scylla.keyspace"]),
    ("[scylla]\nrack = \"r1\"", &["scylla.rack"]),
    ("[scylla]\nusername = \"u\"", &["scylla.password"]),
    (
        "[scylla]\nusername = \"u\"\npassword = \"***\"",
        &["scylla.password"],
    ),
    (
        "[scylla]\ntls_ca_file = \"a\"\ntls_cert_file = \"c\"",
        &["scylla.tls_cert_file"],
    ),
    (
        "[scylla]\ntls_cert_file = \"c\"\ntls_key_file = \"k\"",
        &["scylla.tls_ca_file"],
    ),
    (
        "[scylla]\nreplication_factor = 0",
        &["scylla.replication_factor"],
    ),
    ("[embedded]\npath = \"\"", &["embedded.path"]),
    // Bounds and times.
    ("[memory]\nmax_bytes = 1000", &["memory.max_bytes"]),
    (
        "[settlement]\nchange_log_max_bytes = 1000",
        &["settlement.change_log_max_bytes"],
    ),
    ("[memory]\nttl_ms = 0", &["memory.ttl_ms"]),
    (
        "[limits]\nbody_bytes = 0\nconnections = 0\nsource_loads = 0",
        &[
            "limits.body_bytes",
            "limits.connections",
            "limits.source_loads",
        ],
    ),
    (
        "[limits]\nheader_timeout_ms = 86400001",
        &["limits.header_timeout_ms"],
    ),
    ("[stale]\nmax_age_ms = 0", &["stale.max_age_ms"]),
    ("[source]\ntimeout_ms = 2001", &["source.timeout_ms"]),
    (
        "[settlement]\nfloor_ttl_ms = 72200",
        &["settlement.floor_ttl_ms"],
    ),
    ("[memory]\nttl_ms = 600000", &["settlement.floor_ttl_ms"]),
    (
        "[settlement]\nmax_staleness_ms = 49",
        &["settlement.max_staleness_ms"],
    ),
    (
        "[settlement]\nmax_staleness_ms = 15001",
        &["settlement.max_staleness_ms"],
    ),
    (
        "[settlement]\nlag_budget_ms = 1001",
        &["settlement.lag_budget_ms"],
    ),
    ("[telemetry]\nlog = \"info,x=nonsense\"", &["telemetry.log"]),
    (
        "[telemetry]\notlp_endpoint = \"grpc://h:4317\"",
        &["telemetry.otlp_endpoint"],
    ),
    #[cfg(not(feature = "otel"))]
    (
        "[telemetry]\notlp_endpoint = \"http://h:4318\"",
        &["telemetry.otlp_endpoint"],
    ),
];

/// One mistake beside another, which must not hide it.
const BESIDE: &[(&str, &[&str])] = &[
    // A field of the wrong kind, beside a range and duplicates in the same list.
    (
        "[[assets]]\nid = \"x\"\nname = \"A\"\ndecimals = 99\n[[assets]]\nid = 2\nname = \"A\"\ndecimals = 8\n\
         [[assets]]\nid = 2\nname = 7\ndecimals = 8\n",
        &[
            "assets[0].id",
            "assets[2].name",
            "assets[0].decimals",
            "assets[2].id",
            "assets[1].name",
        ],
    ),
    (
        "assets = [1, {id = 0, name = \"BTC\", decimals = 8}, {id = 1, name = \"BTC\", decimals = 8}]",
        &["assets[0]", "assets[1].id", "assets[2].name"],
    ),
    // A range beside duplicates of the same element.
    (
        "[[assets]]\nid = 1\nname = \"A\"\ndecimals = 99\n[[assets]]\nid = 1\nname = \"A\"\ndecimals = 8\n",
        &["assets[0].decimals", "assets[1].id", "assets[1].name"],
    ),
    (
        "[[symbols]]\nid = 0\nname = \"M\"\nbase = \"BTC\"\nquote = \"XAU\"\n[[symbols]]\nid = 1\nname = \"M\"\n\
         base = \"BTC\"\nquote = \"BTC\"\n[[symbols]]\nid = 1\nname = 2\nbase = \"X\"\nquote = \"X\"\n",
        &[
            "symbols[2].name",
            "symbols[0].id",
            "symbols[0].quote",
            "symbols[1].quote",
            "symbols[2].base",
            "symbols[2].quote",
            "symbols[2].id",
            "symbols[1].name",
        ],
    ),
    // A symbol of an asset whose name is wrong, or not known, is not wrong for it.
    (
        "[[assets]]\nid = 1\nname = \"A B\"\ndecimals = 8\n[[symbols]]\nid = 1\nname = \"M\"\nbase = \"A B\"\nquote = \"Q\"",
        &["assets[0].name", "symbols[0].quote"],
    ),
    (
        "[[assets]]\nid = 1\ndecimals = 8\n[[symbols]]\nid = 0\nname = \"M\"\nbase = \"A\"\nquote = \"Q\"",
        &["assets[0].name", "symbols[0].id"],
    ),
    (
        "[[auth.tokens]]\nname = \"a\"\nsha256 = 1\nscopes = []\n[[auth.tokens]]\nname = \"a\"\nsha256 = \"ab\"\n\
         scopes = [\"read\"]\n",
        &[
            "auth.tokens[0].sha256",
            "auth.tokens[0].scopes",
            "auth.tokens[1].sha256",
            "auth.tokens[1].name",
        ],
    ),
    // A range beside combinations, and combinations beside each other.
    (
        "[limits]\ndeadline_ms = 1\n[settlement]\nlag_budget_ms = 999999\n[memory]\nttl_ms = 0\n",
        &[
            "memory.ttl_ms",
            "settlement.floor_ttl_ms",
            "source.timeout_ms",
            "settlement.lag_budget_ms",
        ],
    ),
    (
        "[settlement]\nmax_staleness_ms = 1000\nfloor_ttl_ms = 3999\n[redis]\nsnapshot_ttl_ms = 3999\n",
        &[
            "settlement.floor_ttl_ms",
            "settlement.max_staleness_ms",
            "settlement.max_staleness_ms",
        ],
    ),
    (
        "[redis]\nmode = \"many\"\nurl = \"rediss://h:0\"",
        &["redis.mode", "redis.ca_file", "redis.url"],
    ),
];

#[test]
fn no_mistake_hides_another() {
    for (text, expected) in BESIDE {
        let errors = load_text(text, &[]);
        assert_eq!(mistaken_keys(text, &[]), *expected, "{text}\n{errors:?}");
    }
}

#[test]
fn a_refusal_of_two_keys_names_both() {
    let message = |text| load_text(text, &[]).unwrap_err().to_string();
    let both = message("[http]\nlisten = \"0.0.0.0:1\"\n[ops]\nlisten = \"0.0.0.0:2\"");
    let lines: Vec<_> = both.lines().collect();
    assert!(lines[0].contains("http.listen"), "{both}");
    assert!(lines[1].contains("ops.listen"), "{both}");
    let late = message("[settlement]\nlag_budget_ms = 1001");
    assert!(late.starts_with("settlement.lag_budget_ms: "), "{late}");
    assert!(late.contains("limits.deadline_ms"), "{late}");
}

#[test]
fn every_mistake_of_a_file_is_told_by_its_key() {
    for (text, expected) in MISTAKES {
        assert_eq!(
            mistaken_keys(text, &[]),
            *expected,
            "{text}\n{:?}",
            load_text(text, &[])
        );
    }
}
