//! "Did you mean": the key, choice or variable that a misspelled one comes closest to.

use toml::{Table, Value};

use super::{PREFIX, places::join_key};

/// The beginning of the service's variables, in any case.
const ENVIRONMENT: &str = "BALANCE_CACHE_";

/// Variables that are none of the settings: the token of the command line, and what the tests of this repository read.
const KNOWN: [&str; 6] = [
    "BALANCE_CACHE_TOKEN",
    "BALANCE_CACHE_TEST_",
    "BALANCE_CACHE_FUZZ_",
    "BALANCE_CACHE_CHAOS_",
    "BALANCE_CACHE_BENCH_",
    "BALANCE_CACHE_SCREENSHOTS",
];

/// Letters that may differ in a variable that is taken for a misspelled one.
const DIFFERENCES_MAX: usize = 2;

/// A variable that begins like ours and sets no key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StrayVariable {
    /// Not meant for the settings: known to the tools, made by Kubernetes, or another program's.
    Foreign,
    /// So close to the variable of this key that nothing else can be meant.
    Meant {
        /// The key, `redis.url`.
        key: String,
    },
    /// A variable that may belong to another program.
    Unknown,
}

/// Returns the candidate with the smallest edit distance to `given`, if it is close enough.
pub(super) fn nearest_word<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let given = given.to_lowercase();
    let most = (given.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            let differences = strsim::damerau_levenshtein(&given, &candidate.to_lowercase());
            // A word that goes on where the other one ends: `warning`, `urls`.
            let begins = given.len() > 2 && given.starts_with(candidate);
            (if begins { 1 } else { differences }, candidate)
        })
        .filter(|(differences, _)| *differences <= most)
        .min_by_key(|(differences, _)| *differences)
        .map(|(_, candidate)| candidate)
}

/// The key that `name` in `section` comes closest to: spelled the same but for its signs, in the same section, or of the
/// same name in another one.
pub(super) fn suggest_key(
    schema: &Table,
    section: &str,
    known: &Table,
    name: &str,
) -> Option<String> {
    let all = all_keys(schema);
    let find = |wanted: &dyn Fn(&str) -> bool| all.iter().find(|key| wanted(key)).cloned();
    let letters = squeeze_text(&format!("{section}{name}"));
    let same_letters = find(&|key| squeeze_text(key) == letters);
    let beside = || {
        let nearest = nearest_word(name, known.keys().map(String::as_str))?;
        Some(join_key(section, nearest))
    };
    let elsewhere = || find(&|key| key.rsplit('.').next() == Some(name));
    same_letters.or_else(beside).or_else(elsewhere)
}

/// All keys that a variable can set.
pub(super) fn all_keys(schema: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (section, value) in schema {
        if let Value::Table(table) = value {
            add_keys(section, table, &mut keys);
        }
    }
    keys
}

fn add_keys(section: &str, table: &Table, keys: &mut Vec<String>) {
    for (name, value) in table {
        let key = join_key(section, name);
        match value {
            Value::Table(inner) => add_keys(&key, inner, keys),
            Value::Array(list) if list.first().is_some_and(Value::is_table) => {}
            _ => keys.push(key),
        }
    }
}

pub(super) fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// Whether the name begins like ours, in any case.
pub(super) fn is_like_ours(name: &str) -> bool {
    name.get(..ENVIRONMENT.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(ENVIRONMENT))
}

/// Judges a variable that begins like the service's and lacks the prefix of a setting.
pub(super) fn judge_stray(schema: &Table, name: &str, value: &str) -> StrayVariable {
    let rest = name.get(ENVIRONMENT.len()..).unwrap_or_default();
    if KNOWN.iter().any(|known| name.starts_with(known)) || is_of_kubernetes(rest, value) {
        return StrayVariable::Foreign;
    }
    let given = squeeze_text(rest);
    let all = all_keys(schema);
    let best = all
        .iter()
        .map(|key| (strsim::damerau_levenshtein(&given, &squeeze_text(key)), key))
        .filter(|(differences, _)| *differences <= DIFFERENCES_MAX)
        .min_by_key(|(differences, _)| *differences);
    match best {
        Some((_, key)) => StrayVariable::Meant { key: key.clone() },
        None => StrayVariable::Unknown,
    }
}

/// Matches the variables that Kubernetes sets for a service whose name begins with `balance-cache`.
fn is_of_kubernetes(rest: &str, value: &str) -> bool {
    let address = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || (rest.ends_with("PORT") && address)
        || ["_TCP", "_UDP", "_SCTP"]
            .iter()
            .any(|protocol| rest.contains("PORT_") && rest.contains(protocol))
}

/// Letters and digits alone, in lower case.
fn squeeze_text(text: &str) -> String {
    let kept = text.chars().filter(|letter| letter.is_alphanumeric());
    kept.collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULT;

    #[test]
    fn a_variable_with_one_underscore_is_taken_for_the_key_that_it_names() {
        let schema = DEFAULT.parse().unwrap();
        for (name, key) in [
            ("BALANCE_CACHE_REDIS_URL", "redis.url"),
            ("BALANCE_CACHE_REDIS__URL", "redis.url"),
            ("balance_cache__redis__url", "redis.url"),
            ("BALANCE_CACHE_REDIS_URI", "redis.url"),
            ("BALANCE_CACHE_HTTP_LISTN", "http.listen"),
            ("BALANCE_CACHE_MEMORY_MAX_BYTES", "memory.max_bytes"),
        ] {
            let meant = StrayVariable::Meant {
                key: key.to_owned(),
            };
            assert!(is_like_ours(name));
            assert_eq!(judge_stray(&schema, name, "x"), meant, "{name}");
        }
        for (name, value, expected) in [
            ("BALANCE_CACHE_TOKEN", "bc_x", StrayVariable::Foreign),
            (
                "BALANCE_CACHE_PORT",
                "tcp://10.0.0.1:3001",
                StrayVariable::Foreign,
            ),
            (
                "BALANCE_CACHE_SERVICE_HOST",
                "10.0.0.1",
                StrayVariable::Foreign,
            ),
            (
                "BALANCE_CACHE_REDIS_PORT",
                "tcp://10.0.0.1:6379",
                StrayVariable::Foreign,
            ),
            (
                "BALANCE_CACHE_PORT_3001_TCP_ADDR",
                "10.0.0.1",
                StrayVariable::Foreign,
            ),
            ("BALANCE_CACHE_TEST_HITS", "1", StrayVariable::Foreign),
            ("BALANCE_CACHE_IMAGE", "x", StrayVariable::Unknown),
        ] {
            assert_eq!(judge_stray(&schema, name, value), expected, "{name}");
        }
    }

    #[test]
    fn the_nearest_word_is_alike_or_none() {
        assert_eq!(nearest_word("urll", ["url", "mode"]), Some("url"));
        assert_eq!(
            nearest_word("tokens", ["none", "network", "token"]),
            Some("token")
        );
        assert_eq!(nearest_word("qwertz", ["url", "mode"]), None);
    }
}
