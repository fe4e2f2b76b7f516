//! What operators are given, held against itself and against the settings: compose, Prometheus' rules, Grafana's boards, the
//! document, systemd and Kubernetes. No server runs here; `tests/it` asks the same rules and boards of real ones.

#[cfg(test)]
mod alerts;
#[cfg(test)]
mod boards;
#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod compose;
#[cfg(test)]
mod deploy;

#[cfg(test)]
mod support {
    use std::{collections::BTreeSet, fs};

    use serde_json::Value;

    /// A file of the repository.
    pub fn file(name: &str) -> String {
        let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// YAML with its anchors resolved and its merges done, as JSON.
    pub fn yaml(name: &str) -> Value {
        let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&file(name)).unwrap();
        value.apply_merge().unwrap();
        serde_json::to_value(value).unwrap()
    }

    /// A list; nothing where there is none.
    pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
        value.as_array().into_iter().flatten()
    }

    pub fn text(value: &Value) -> &str {
        value.as_str().unwrap_or_default()
    }

    /// The default of a setting.
    pub fn default_of(section: &str, key: &str) -> toml::Value {
        let defaults: toml::Table = toml::from_str(&file("config/default.toml")).unwrap();
        let section = defaults
            .get(section)
            .unwrap_or_else(|| panic!("no section {section}"));
        section
            .get(key)
            .unwrap_or_else(|| panic!("no setting {key}"))
            .clone()
    }

    pub fn number_of(section: &str, key: &str) -> u64 {
        u64::try_from(default_of(section, key).as_integer().unwrap()).unwrap()
    }

    /// The name of an environment variable must be that of a setting.
    #[track_caller]
    pub fn is_setting(variable: &str) {
        let path = variable
            .strip_prefix("BALANCE_CACHE__")
            .unwrap_or_else(|| panic!("{variable} is no setting"))
            .to_lowercase();
        let (section, key) = path.split_once("__").unwrap();
        let mut keys = key.split("__");
        let mut value = default_of(section, keys.next().unwrap());
        for key in keys {
            value = value
                .get(key)
                .unwrap_or_else(|| panic!("{variable} is no setting"))
                .clone();
        }
    }

    /// How long stopping may take, in seconds: open requests, then what they began.
    pub fn drain() -> u64 {
        2 * number_of("limits", "drain_ms") / 1_000
    }

    /// The names of metrics and recorded series in an expression.
    pub fn names(expression: &str) -> BTreeSet<String> {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        expression
            .split(|c| !part(c))
            .filter(|word| word.contains("balance_cache_"))
            .map(str::to_owned)
            .collect()
    }

    /// The metrics that `docs/OPERATIONS.md` lists; `tests/it` holds them against `/metrics`.
    pub fn metrics() -> BTreeSet<String> {
        let rows = file("docs/OPERATIONS.md");
        let rows = rows.lines().filter_map(|line| line.strip_prefix("| `"));
        let found: BTreeSet<String> = rows
            .map(|row| format!("balance_cache_{}", row.split(['`', '{']).next().unwrap()))
            .collect();
        assert!(found.len() > 20);
        found
    }

    /// Whether it is a metric, or a part of a histogram.
    pub fn is_metric(name: &str) -> bool {
        let histogram = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        metrics().contains(name) || histogram.is_some_and(|name| metrics().contains(name))
    }
}
