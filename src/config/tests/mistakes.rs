use super::{load_text, mistaken_keys};

/// The text of a file, its lines apart by ` | `, and the keys that it is refused for.
const MISTAKES: &str = r#"
# Unknown, and of the wrong kind.
typo = 1 => typo
"redis.url" = "redis://h" => redis.url
redis = 1 => redis
redis.urll = "" => redis.urll
redis.url.x = 1 => redis.url
memory.ttl_ms = "10" => memory.ttl_ms
memory.ttl_ms = 10.5 => memory.ttl_ms
memory.ttl_ms = -1 => memory.ttl_ms
stale.enabled = 1 => stale.enabled
http.listen = "localhost" => http.listen
redis.mode = "many" => redis.mode
scylla.nodes = "h:1" => scylla.nodes
scylla.nodes = ["h:1", 2] => scylla.nodes
scylla.consistency = "most" => scylla.consistency
source.kind = "mysql" | source.read_from = "x" => source.kind, source.read_from
assets = 1 => assets
assets = [1] => assets[0]
assets = [{id = 1, name = "A"}] => assets[0].decimals
assets = [{id = 1, name = "A", decimals = -1, x = 1}] => assets[0].decimals, assets[0].x
assets = [{id = 4294967296, name = 5, decimals = 8}] => assets[0].id, assets[0].name
assets = [{id = 1, name = "7", decimals = 19}] => assets[0].name, assets[0].decimals
symbols = [{id = 1, name = "A_B", base = "A", quote = "B"}] => symbols[0].base, symbols[0].quote

# The writer, which assigns seqs.
ledger.writer = "both" => ledger.writer
ledger.writer = "external" => ledger.writer
ledger.recovery_ms = 0 => ledger.recovery_ms

# Listeners and callers.
http.listen = "0.0.0.0:3001" => auth.mode
http.listen = "127.0.0.1:3002" => ops.listen
ops.listen = "0.0.0.0:3001" => ops.listen, auth.mode
ops.listen = "10.0.0.1:3002" => auth.mode
http.listen = "[::]:3001" | ops.listen = "10.0.0.1:3002" => auth.mode, auth.mode
auth.mode = "token" => auth.tokens
auth.tokens = [{name = "", sha256 = "ab", scopes = []}] => auth.tokens[0].name, auth.tokens[0].sha256, auth.tokens[0].scopes
auth.tokens = [{name = "a", sha256 = "***", scopes = ["root"]}] => auth.tokens[0].scopes, auth.tokens[0].sha256
auth.tokens = [{name = "a", scopes = ["read", "read"]}] => auth.tokens[0].sha256, auth.tokens[0].scopes

# Redis.
redis.url = "http://h" => redis.url
redis.url = "h:6379" => redis.url
redis.url = "redis://" => redis.url
redis.url = "redis://h:0" => redis.url
redis.url = "redis://h:99999" => redis.url
redis.url = "redis://h/x" => redis.url
redis.url = "redis://u:***@h" => redis.url
redis.url = "redis://***@h" => redis.url
redis.url = "redis://h:1/3?password=secret" => redis.url
redis.url = "redis://h?pass=secret" => redis.url
redis.url = "redis://h?secret" => redis.url
redis.url = "redis://h?protocol=4" => redis.url
redis.url = "unix:///tmp/s?auth=secret" => redis.url
redis.url = "unix:///tmp/s?db=x" => redis.url
redis.url = "unix:///tmp/s?pass=***" => redis.url
redis.url = " redis://h" => redis.url
redis.url = "," => redis.url
redis.url = "unix://tmp/sock" => redis.url
redis.url = "redis://a,redis://b" => redis.url
redis.mode = "cluster" | redis.url = "redis://a/1,redis://b" => redis.url
redis.mode = "cluster" | redis.url = "unix:///tmp/s" => redis.url
redis.mode = "cluster" | redis.url = "redis://a,rediss://b" | redis.ca_file = "x" => redis.url
redis.mode = "sentinel" | redis.url = "redis://u:a@h,redis://u:b@i" => redis.url
redis.mode = "sentinel" | redis.url = "redis://u:a@h,redis://v:a@i" => redis.url
redis.mode = "sentinel" | redis.url = "redis://h,redis://i,redis://:a@j" => redis.url
redis.mode = "sentinel" | redis.url = "redis://h/1,redis://i" => redis.url
redis.mode = "cluster" | redis.url = "redis://h?protocol=3,redis://i" => redis.url
redis.url = "rediss://h" => redis.ca_file
redis.url = "REDISS://h" => redis.ca_file
redis.url = "rediss://h#insecure" | redis.ca_file = "x" => redis.url
redis.namespace = "a:b" => redis.namespace
redis.connections = 0 | redis.breaker_failures = 0 => redis.connections, redis.breaker_failures

# Settlement.
settlement.stream = "" => settlement.stream
settlement.stream = "balance:invalidations" => settlement.stream
settlement.stream = "settlement:events:dead" => settlement.stream
settlement.stream = "x:settlement:events:dead" | redis.namespace = "x" => settlement.stream

# The source.
source.kind = "scylla" | scylla.nodes = [] => scylla.nodes
scylla.nodes = ["h", "h:x", "::1:9042", "[::1]:9042", ":1", "h:0", "h:1"] => scylla.nodes[0], scylla.nodes[1], scylla.nodes[2], scylla.nodes[4], scylla.nodes[5]
scylla.keyspace = "Trading" => scylla.keyspace
scylla.keyspace = "a; DROP" => scylla.keyspace
scylla.rack = "r1" => scylla.rack
scylla.username = "u" => scylla.password
scylla.username = "u" | scylla.password = "***" => scylla.password
scylla.tls_ca_file = "a" | scylla.tls_cert_file = "c" => scylla.tls_cert_file
scylla.tls_cert_file = "c" | scylla.tls_key_file = "k" => scylla.tls_ca_file
scylla.replication_factor = 0 => scylla.replication_factor
embedded.path = "" => embedded.path

# Bounds and times.
memory.max_bytes = 1000 => memory.max_bytes
settlement.change_log_max_bytes = 1000 => settlement.change_log_max_bytes
memory.ttl_ms = 0 => memory.ttl_ms
limits.body_bytes = 0 | limits.connections = 0 | limits.source_loads = 0 => limits.body_bytes, limits.connections, limits.source_loads
limits.header_timeout_ms = 86400001 => limits.header_timeout_ms
stale.max_age_ms = 0 => stale.max_age_ms
source.timeout_ms = 2001 => source.timeout_ms
settlement.floor_ttl_ms = 72200 => settlement.floor_ttl_ms
memory.ttl_ms = 600000 => settlement.floor_ttl_ms
settlement.max_staleness_ms = 49 => settlement.max_staleness_ms
settlement.max_staleness_ms = 15001 => settlement.max_staleness_ms
settlement.lag_budget_ms = 1001 => settlement.lag_budget_ms
telemetry.log = "info,x=nonsense" => telemetry.log
telemetry.otlp_endpoint = "grpc://h:4317" => telemetry.otlp_endpoint
"#;

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
fn a_list_of_one_user_database_and_protocol_is_taken_however_they_are_written() {
    let of = |url| format!("[redis]\nmode = \"sentinel\"\nurl = \"{url}\"");
    for url in [
        "redis://h,redis://i:1",
        "redis://u:a@h/2?protocol=3, valkey://u:a@i/02/?protocol=resp3",
        "redis://h/0?protocol=2,redis://i/,redis://j?protocol=resp2",
    ] {
        assert_eq!(mistaken_keys(&of(url), &[]), [""; 0], "{url}");
    }
    let errors = load_text(&of("redis://:a@h,redis://:b@i/x"), &[]).unwrap_err();
    let said = errors.to_string();
    for part in ["the same in every address", "the number of a database"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn every_mistake_of_a_file_is_told_by_its_key() {
    let mut checked = 0;
    for (text, keys) in MISTAKES.lines().filter_map(|line| line.split_once(" => ")) {
        let text = text.replace(" | ", "\n");
        let expected: Vec<&str> = keys.split(", ").collect();
        assert_eq!(mistaken_keys(&text, &[]), expected, "{text}");
        checked += 1;
    }
    assert!(checked > 80, "{checked}");
    if cfg!(not(feature = "otel")) {
        let endpoint = "telemetry.otlp_endpoint = \"http://h:4318\"";
        assert_eq!(mistaken_keys(endpoint, &[]), ["telemetry.otlp_endpoint"]);
    }
}
