use std::{collections::BTreeSet, ffi::OsString, io::Write as _};

use super::*;

mod advice;
mod mapped;
mod mistakes;
mod postgres;
mod properties;

const TOKEN: &str = "[[auth.tokens]]\nname = \"wallet\"\nsha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\nscopes = [\"read\"]\n";

fn load_text(text: &str, env: &[(&str, &str)]) -> Result<Settings, Errors> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    load_settings(Some(file.path()), env.iter().copied())
}

/// The keys of all mistakes, in the order told.
fn mistaken_keys(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    match load_text(text, env) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .all_mistakes()
            .iter()
            .map(|mistake| mistake.key.clone())
            .collect(),
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = default_settings().unwrap();
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:3001");
    assert_eq!(settings.ops.listen.to_string(), "127.0.0.1:3002");
    assert_eq!(settings.memory.max_bytes, 268_435_456);
    assert_eq!(settings.memory.ttl_ms.as_millis(), 10_000);
    assert_eq!(settings.redis.url, "");
    assert_eq!(settings.redis.snapshot_ttl_ms.as_millis(), 60_000);
    assert_eq!(settings.source.timeout_ms.as_millis(), 1_000);
    assert_eq!(settings.scylla.nodes, ["127.0.0.1:9042"]);
    assert_eq!(settings.scylla.keyspace, "trading");
    assert_eq!(settings.embedded.path, Path::new("data/ledger.redb"));
    assert_eq!(settings.settlement.stream, "settlement:events");
    assert_eq!(settings.settlement.floor_ttl_ms.as_millis(), 600_000);
    assert_eq!(settings.limits.source_loads, 256);
    let assets: Vec<_> = settings
        .assets
        .iter()
        .map(|asset| (asset.id, asset.name.as_str(), asset.decimals))
        .collect();
    assert_eq!(assets, [(1, "BTC", 8), (2, "USDT", 8), (3, "ETH", 8)]);
    assert!(advice(&settings).is_empty());
}

#[test]
fn the_default_file_names_every_key_and_no_other() {
    fn key_names(prefix: &str, table: &toml::Table, into: &mut BTreeSet<String>) {
        for (name, value) in table {
            match value {
                toml::Value::Table(inner) => key_names(&format!("{prefix}{name}."), inner, into),
                _ => drop(into.insert(format!("{prefix}{name}"))),
            }
        }
    }
    let (mut written, mut known) = (BTreeSet::new(), BTreeSet::new());
    key_names("", &DEFAULT.parse().unwrap(), &mut written);
    let settings = toml::Table::try_from(default_settings().unwrap()).unwrap();
    key_names("", &settings, &mut known);
    assert!(DEFAULT.contains("# [[auth.tokens]]"), "shown as a comment");
    written.insert("auth.tokens".to_owned());
    assert_eq!(written, known);
}

#[test]
fn the_file_overrides_the_defaults_and_the_environment_overrides_the_file() {
    let settings = load_text(
        "[redis]\nurl = \"redis://file:1\"\nnamespace = \"file\"\n[scylla]\nnodes = [\"file:1\"]\n",
        &[
            ("BALANCE_CACHE__REDIS__URL", "redis://env:2"),
            ("BALANCE_CACHE__SCYLLA__NODES", "a:1, b:2"),
            ("BALANCE_CACHE__STALE__ENABLED", "true"),
            ("BALANCE_CACHE__MEMORY__TTL_MS", "1500"),
            ("BALANCE_CACHE__SETTLEMENT__STREAM", "17"),
            ("BALANCE_CACHE_PORT", "tcp://10.0.0.1:80"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(settings.redis.url, "redis://env:2");
    assert_eq!(settings.redis.namespace, "file");
    assert_eq!(settings.scylla.nodes, ["a:1", "b:2"]);
    assert!(settings.stale.enabled);
    assert_eq!(settings.memory.ttl_ms.as_millis(), 1_500);
    assert_eq!(settings.settlement.stream, "17", "a text stays a text");
}

#[test]
fn a_namespace_has_a_kafka_group_of_its_own_unless_the_group_is_named() {
    for (text, group) in [
        ("", "balance-cache"),
        ("[redis]\nnamespace = \"eu\"\n", "eu:balance-cache"),
        (
            "[redis]\nnamespace = \"eu\"\n[settlement.kafka]\ngroup = \"mine\"\n",
            "mine",
        ),
    ] {
        let settings = load_text(text, &[]).unwrap();
        assert_eq!(settings.settlement.kafka.group, group, "{text}");
    }
}

#[test]
fn an_empty_variable_empties_a_text_and_a_list() {
    let settings = load_text(
        "[redis]\nurl = \"redis://file:1\"\n",
        &[
            ("BALANCE_CACHE__REDIS__URL", ""),
            ("BALANCE_CACHE__SCYLLA__NODES", ""),
        ],
    )
    .unwrap();
    assert_eq!(settings.redis.url, "");
    assert!(settings.scylla.nodes.is_empty());
}

#[test]
fn a_file_that_lists_assets_replaces_the_list_and_drops_default_symbols_that_do_not_fit() {
    let gold = "[[assets]]\nid = 9\nname = \"GOLD\"\ndecimals = 2\n";
    let settings = load_text(gold, &[]).unwrap();
    assert_eq!(settings.assets.len(), 1);
    assert!(settings.symbols.is_empty());
    let symbol = "[[symbols]]\nid = 1\nname = \"GOLD_BTC\"\nbase = \"GOLD\"\nquote = \"BTC\"\n";
    assert_eq!(
        mistaken_keys(&format!("{gold}{symbol}"), &[]),
        ["symbols[0].quote"]
    );
    assert!(load_text("assets = []\n", &[]).unwrap().symbols.is_empty());
}

#[test]
fn small_times_that_keep_their_order_are_accepted() {
    let small = "[settlement]\nmax_staleness_ms = 200\nfloor_ttl_ms = 5000\n[memory]\nttl_ms = 1000\n[redis]\nsnapshot_ttl_ms = 2000\n[limits]\ndeadline_ms = 1500\n";
    load_text(small, &[]).unwrap();
}

#[test]
fn the_examples_load() {
    let local = include_str!("../../config/local.toml");
    let production = include_str!("../../config/production.toml");
    load_text(local, &[]).unwrap();
    assert_eq!(
        mistaken_keys(production, &[]),
        ["auth.tokens"],
        "no token is listed"
    );
    let settings = load_text(&format!("{production}\n{TOKEN}"), &[]).unwrap();
    assert_eq!(settings.source.kind, SourceKind::Scylla);
    let password = [
        ("BALANCE_CACHE__SCYLLA__USERNAME", "u"),
        ("BALANCE_CACHE__SCYLLA__PASSWORD", "p"),
    ];
    load_text(&format!("{production}\n{TOKEN}"), &password).unwrap();
}

#[test]
fn every_mistake_of_the_environment_is_told_by_its_key() {
    for (name, value, key) in [
        ("BALANCE_CACHE__TYPO", "1", "typo"),
        ("BALANCE_CACHE__", "1", ""),
        ("BALANCE_CACHE__REDIS", "1", "redis"),
        ("BALANCE_CACHE__REDIS__URLL", "1", "redis.urll"),
        ("BALANCE_CACHE__REDIS__URL__X", "1", "redis.url.x"),
        ("BALANCE_CACHE__Redis__Url", "", "redis.url"),
        ("BALANCE_CACHE__MEMORY__TTL_MS", "10s", "memory.ttl_ms"),
        ("BALANCE_CACHE__MEMORY__TTL_MS", "", "memory.ttl_ms"),
        ("BALANCE_CACHE__STALE__ENABLED", "yes", "stale.enabled"),
        ("BALANCE_CACHE__HTTP__LISTEN", "3001", "http.listen"),
        ("BALANCE_CACHE__ASSETS", "BTC", "assets"),
        ("BALANCE_CACHE__ASSETS__0__NAME", "X", "assets.0.name"),
        ("BALANCE_CACHE__AUTH__TOKENS", "t", "auth.tokens"),
        (
            "BALANCE_CACHE__SCYLLA__NODES",
            "a:1,,b:1",
            "scylla.nodes[1]",
        ),
    ] {
        let errors = load_text("", &[(name, value)]).unwrap_err();
        let [mistake] = errors.all_mistakes() else {
            panic!("{name}: {errors}")
        };
        assert_eq!(mistake.key, key, "{errors}");
        let origin = ValueOrigin::Variable(name.to_owned());
        assert_eq!(mistake.origin, origin, "{errors}");
    }
}

#[test]
fn all_mistakes_of_all_layers_are_in_one_message_with_their_origins() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"typo = 1\n[http]\nlisten = \"0.0.0.0:1\"\n[memory]\nttl_ms = 0\n")
        .unwrap();
    let errors = load_settings(
        Some(file.path()),
        [("BALANCE_CACHE__LIMITS__DEADLINE_MS", "soon")],
    )
    .unwrap_err();
    let path = file.path().display();
    let message = errors.to_string();
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 4, "{message}");
    assert!(lines[0].starts_with("typo: unknown section"), "{message}");
    assert!(
        lines[0].ends_with(&format!("(file {path}, line 1)")),
        "{message}"
    );
    assert_eq!(
        lines[1],
        "limits.deadline_ms: must be a whole number, as in BALANCE_CACHE__LIMITS__DEADLINE_MS=2000 (variable BALANCE_CACHE__LIMITS__DEADLINE_MS)"
    );
    assert!(lines[2].starts_with("auth.mode: "), "{message}");
    assert!(
        lines[2].ends_with(&format!("(file {path}, line 3)")),
        "{message}"
    );
    assert!(lines[3].starts_with("memory.ttl_ms: "), "{message}");
}

#[test]
fn a_file_that_cannot_be_used_is_a_mistake_beside_the_others() {
    let env = [("BALANCE_CACHE__TYPO", "1")];
    let missing = load_settings(Some(Path::new("/nonexistent/file.toml")), env).unwrap_err();
    assert_eq!(missing.all_mistakes().len(), 2, "{missing}");
    assert!(missing.to_string().contains("cannot be read"), "{missing}");
    let folder = load_settings(Some(Path::new("/")), env).unwrap_err();
    assert_eq!(folder.all_mistakes().len(), 2, "{folder}");
    let secret = "[redis]\n\nurl = redis://u:secret@h\n";
    let syntax = load_text(secret, &[]).unwrap_err().to_string();
    assert!(syntax.starts_with("line 3: "), "{syntax}");
    assert!(!syntax.contains("secret"), "{syntax}");
    assert_eq!(syntax.lines().count(), 1, "{syntax}");
}

#[test]
fn a_mistake_is_told_with_its_line_the_accepted_form_and_what_may_be_meant() {
    for (text, line, parts) in [
        ("[redis]\nurll = \"\"", 2, &["did you mean redis.url?"][..]),
        ("[reddis]\nurl = \"\"", 1, &["did you mean redis?"]),
        (
            "sample_data = false",
            1,
            &["did you mean embedded.sample_data?"],
        ),
        (
            "[redis]\nmax_bytes = 1",
            2,
            &["did you mean memory.max_bytes?"],
        ),
        (
            "[auth]\n\nmode = \"tokens\"",
            3,
            &["none, network, token", "did you mean \"token\"?"],
        ),
        (
            "[memory]\nttl_ms = \"10\"",
            2,
            &["a whole number", "ttl_ms = 10000"],
        ),
        ("[memory]\nttl_ms = -1", 2, &["from 0 on", "ttl_ms = 10000"]),
        (
            "[http]\nlisten = \"3001\"",
            2,
            &["an IP address and a port", "\"127.0.0.1:3001\""],
        ),
        ("[stale]\nenabled = \"yes\"", 2, &["true or false"]),
        (
            "[telemetry]\nlog = \"verbose\"",
            2,
            &["off, error, warn, info, debug, trace", "scylla=warn"],
        ),
        (
            "[[assets]]\nid = 1\nname = \"A\"\n[[assets]]\nid = 2\nnam = \"B\"\ndecimals = 1",
            6,
            &["assets.name"],
        ),
    ] {
        let said = load_text(text, &[]).unwrap_err().to_string();
        assert!(said.contains(&format!(", line {line})")), "{text}: {said}");
        for part in parts {
            assert!(said.contains(part), "{text}: {part} is not in\n{said}");
        }
    }
}

#[test]
fn a_variable_that_can_only_be_meant_for_a_key_is_refused_and_an_unknown_one_is_told() {
    for name in ["BALANCE_CACHE_REDIS_URL", "balance_cache__redis__url"] {
        let errors = load_text("", &[(name, "redis://secret")]).unwrap_err();
        let said = errors.to_string();
        assert!(
            said.contains("did you mean BALANCE_CACHE__REDIS__URL?"),
            "{said}"
        );
        assert!(said.contains(name) && !said.contains("secret"), "{said}");
    }
    let nested = load_text("", &[("BALANCE_CACHE__REDIS_URL", "x")]).unwrap_err();
    assert!(
        nested
            .to_string()
            .contains("did you mean BALANCE_CACHE__REDIS__URL?"),
        "{nested}"
    );
    let env = [
        ("BALANCE_CACHE_IMAGE", "x"),
        ("BALANCE_CACHE_TOKEN", "t"),
        ("PATH", "/bin"),
    ];
    load_text("", &env).unwrap();
    assert_eq!(unknown_variables(env), ["BALANCE_CACHE_IMAGE"]);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_told_only_if_it_is_ours() {
    use std::os::unix::ffi::OsStringExt as _;

    let odd = |text: &str| OsString::from_vec([text.as_bytes(), b"\xff"].concat());
    let env = [
        (odd("OTHER"), odd("x")),
        (OsString::from("OTHER"), odd("x")),
        (OsString::from("BALANCE_CACHE__REDIS__URL"), odd("redis://")),
        (odd("BALANCE_CACHE__REDIS__"), OsString::from("x")),
    ];
    let errors = load_settings(None, env).unwrap_err();
    assert_eq!(errors.all_mistakes().len(), 2, "{errors}");
    assert!(errors.to_string().contains("redis.url: is not UTF-8"));
}

#[test]
fn allowed_but_worth_a_line() {
    let text = format!(
        "[http]\nlisten = \"0.0.0.0:1\"\n[ops]\nlisten = \"10.0.0.1:2\"\n[redis]\nurl = \"redis://h\"\n[auth]\nmode = \"network\"\n{TOKEN}"
    );
    assert_eq!(advice(&load_text(&text, &[]).unwrap()).len(), 5);
}

#[test]
fn the_settings_of_the_compose_file_load() {
    let compose = include_str!("../../docker-compose.yml");
    // Each set of variables has a name, by which several services share it.
    let sets: Vec<_> = compose.split("environment: &").skip(1).collect();
    assert_eq!(sets.len(), 3);
    for set in sets {
        let env: Vec<_> = set
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .map(|(name, value)| (name, value.trim_matches('"')))
            .collect();
        assert!(env.contains(&("BALANCE_CACHE__AUTH__MODE", "network")));
        load_text("", &env).unwrap();
    }
}

#[test]
fn seqs_are_assigned_by_what_suits_the_source_unless_a_file_says_it() {
    let writer = |text: &str| load_text(text, &[]).unwrap().seq_writer();
    assert_eq!(writer(""), LedgerSide::Service);
    assert_eq!(
        writer("[ledger]\nwriter = \"service\""),
        LedgerSide::Service
    );
    let scylla = "[source]\nkind = \"scylla\"\n";
    assert_eq!(writer(scylla), LedgerSide::External);
    let said = format!("{scylla}[ledger]\nwriter = \"external\"");
    assert_eq!(writer(&said), LedgerSide::External);
    let assigns = format!("{scylla}[ledger]\nwriter = \"service\"");
    assert_eq!(writer(&assigns), LedgerSide::Service);
}

mod secrets;
