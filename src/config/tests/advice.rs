//! Settings that work and hurt.

use super::*;

/// The text of a file, its lines apart by ` | `, and the keys that something is told of.
const ADVICE: &str = r#"
# Callers.
auth.mode = "network" => auth.mode
auth.mode = "network" | ops.listen = "10.0.0.1:2" => auth.mode, ops.listen
auth.mode = "network" | http.listen = "0.0.0.0:3001" => auth.mode, embedded.sample_data

# Tiers that do not fit.
auth.mode = "network" | http.listen = "0.0.0.0:3001" | source.kind = "scylla" => auth.mode, redis.url
redis.url = "redis://h" => source.kind
source.kind = "scylla" | redis.url = "redis://h" | memory.ttl_ms = 61000 => memory.ttl_ms
source.kind = "scylla" | redis.url = "redis://h" | redis.snapshot_ttl_ms = 301000 => redis.snapshot_ttl_ms
stale.enabled = true | stale.max_age_ms = 601000 => stale.max_age_ms

# Times that eat the deadline.
source.timeout_ms = 2000 => source.timeout_ms
source.kind = "scylla" | redis.url = "redis://h" | redis.timeout_ms = 2000 => redis.timeout_ms
source.kind = "scylla" | redis.url = "redis://h" | redis.lease_wait_ms = 2000 => redis.lease_wait_ms
limits.drain_ms = 1000 => limits.drain_ms

# A source that shows less than there is.
source.kind = "scylla" | redis.url = "redis://h" | source.read_from = "ledger" => source.read_from
source.kind = "scylla" | redis.url = "redis://h" | scylla.consistency = "one" => scylla.consistency
source.kind = "scylla" | redis.url = "redis://h" | scylla.consistency = "local_one" => scylla.consistency
source.kind = "scylla" | redis.url = "redis://h" | scylla.view_check = "warn" => scylla.view_check
source.kind = "scylla" | redis.url = "redis://h" | scylla.view_check = "off" => scylla.view_check

# PostgreSQL elsewhere wants TLS, and replicas are for what may lag.
source.kind = "postgres" | postgres.url = "postgresql://app@db1,127.0.0.1/money" => postgres.sslmode
source.kind = "postgres" | source.read_from = "ledger" | postgres.read_urls = ["postgresql://db2/money"] => postgres.read_urls

# An auditor that sees nothing.
audit.samples_per_second = 0 => audit.samples_per_second
audit.samples_per_second = 13 => audit.reads_per_second
"#;

fn advised_keys(text: &str) -> Vec<&'static str> {
    let settings = load_text(text, &[]).unwrap();
    advice(&settings).iter().map(|advice| advice.key).collect()
}

#[test]
fn each_setting_that_hurts_is_told_by_its_key() {
    let mut checked = 0;
    for (text, keys) in ADVICE.lines().filter_map(|line| line.split_once(" => ")) {
        let expected: Vec<&str> = keys.split(", ").collect();
        assert_eq!(advised_keys(&text.replace(" | ", "\n")), expected, "{text}");
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
    let asset = |id| format!("[[assets]]\nid = {id}\nname = \"A{id}\"\ndecimals = 8\n");
    let assets: String = (1..=101).map(asset).collect();
    let many = format!(
        "redis.url = \"redis://h\"\nsource.kind = \"scylla\"\nsource.read_from = \"ledger\"\n{assets}"
    );
    assert_eq!(advised_keys(&many), ["source.read_from", "assets"]);
}

#[test]
fn the_defaults_and_a_usual_deployment_need_none() {
    assert_eq!(advised_keys(""), [""; 0]);
    assert_eq!(advised_keys("source.kind = \"postgres\""), [""; 0]);
    let usual = "source.kind = \"scylla\"\nredis.url = \"redis://h\"\nhttp.listen = \"0.0.0.0:3001\"\nauth.mode = \"token\"";
    assert_eq!(advised_keys(&format!("{usual}\n{TOKEN}")), [""; 0]);
}

#[test]
fn a_block_has_a_line_for_each_with_its_key_first() {
    assert_eq!(advice_block(&[]), None);
    let advice = [Advice::new("a.b", "is so"), Advice::new("c", "is not")];
    let block = advice_block(&advice);
    assert_eq!(block.as_deref(), Some("  a.b: is so\n  c: is not"));
}
