//! `telemetry.log`: a level of balance-cache itself, and levels of other crates by their names.
//!
//! A bare level is that of balance-cache alone. Other crates (scylla, redis, hyper, …) write nothing unless they are named.

use tracing_subscriber::EnvFilter;

/// Levels from silent to loud.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The crate whose lines a bare level selects.
const OWN_CRATE: &str = "balance_cache";

const ACCEPTED: &str = "accepted are off, error, warn, info, debug, trace, and behind it levels of single \
                        modules or crates, as in \"info,balance_cache::read=debug,scylla=warn\"";

/// The filter as `EnvFilter` takes it.
/// Errors: a filter that cannot be read, with the accepted forms.
pub fn filter_directives(text: &str) -> Result<String, String> {
    let parts = text.split(',').map(str::trim);
    let mut directives = Vec::new();
    let mut selects_own_lines = false;
    for part in parts.filter(|part| !part.is_empty()) {
        let (target, level) = part.rsplit_once('=').unwrap_or((OWN_CRATE, part));
        let level = level.trim().to_ascii_lowercase();
        if !LEVELS.contains(&level.as_str()) {
            return Err(format!("{level:?} is no level; {ACCEPTED}"));
        }
        let directive = format!("{}={level}", target.trim());
        if target.trim().is_empty() || EnvFilter::try_new(&directive).is_err() {
            return Err(format!("{part:?} cannot be read; {ACCEPTED}"));
        }
        selects_own_lines |= target.trim().starts_with(OWN_CRATE) || target.starts_with('[');
        directives.push(directive);
    }
    if selects_own_lines {
        Ok(directives.join(","))
    } else {
        Err(format!(
            "names no level for balance-cache itself, which would be silent; {ACCEPTED}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_that_of_balance_cache_and_other_crates_are_named() {
        for (text, expected) in [
            ("info", "balance_cache=info"),
            (" WARN ", "balance_cache=warn"),
            ("off", "balance_cache=off"),
            ("info, scylla=debug", "balance_cache=info,scylla=debug"),
            (
                "warn,balance_cache::read=trace",
                "balance_cache=warn,balance_cache::read=trace",
            ),
            ("balance_cache=info", "balance_cache=info"),
        ] {
            assert_eq!(filter_directives(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_filter_that_would_silence_everything_by_accident_is_refused_with_the_accepted_forms() {
        for bad in [
            "verbose",
            "",
            ",",
            "information",
            "info,x=nonsense",
            "scylla=debug",
            "balance_cache",
            "info,=warn",
            "info,x=",
            "2",
            "balance-cash=info",
        ] {
            let said = filter_directives(bad).unwrap_err();
            assert!(said.contains("off, error, warn, info"), "{bad}: {said}");
        }
    }
}
