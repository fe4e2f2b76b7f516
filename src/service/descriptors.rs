//! How many connections fit into the files that this process may open.
//!
//! **Invariants.** The operators' listener has connections of its own, whatever clients do: a probe is answered when the API's
//! connections are used up.

use crate::config::Settings;

/// Where Linux says what a process may do.
const LIMITS: &str = "/proc/self/limits";
/// Files that are open beside connections: listeners, the ledger, Redis, the database.
const OTHER_FILES: usize = 128;
/// Connections of operators: probes, scrapes, dashboards.
const OPERATORS_MAX: usize = 256;
/// The default of `limits.connections`: an upper bound, lowered silently if fewer files may be open.
pub const DEFAULT_CONNECTIONS: usize = 20_000;

/// Connections of each listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Connections of clients.
    pub api: usize,
    /// Connections of operators.
    pub operators: usize,
}

impl Connections {
    /// Computes the connections that the settings ask for and `open_files` allows.
    pub fn new(settings: &Settings, open_files: Option<u64>) -> Self {
        let wanted = settings.limits.connections.max(1);
        let operators = wanted.min(OPERATORS_MAX);
        let Some(files) = open_files.and_then(|files| usize::try_from(files).ok()) else {
            return Self {
                api: wanted,
                operators,
            };
        };
        let part = |of: usize, parts: usize| of.checked_div(parts).unwrap_or(0);
        let free = files.saturating_sub(OTHER_FILES.min(part(files, 3)));
        let operators = operators.min(part(free, 8)).max(1);
        Self {
            api: wanted.min(free.saturating_sub(operators)).max(1),
            operators,
        }
    }

    pub fn of_this_process(settings: &Settings) -> Self {
        Self::new(settings, open_files())
    }
}

/// How many files this process may have open. None where that is not limited, or the system does not say.
pub fn open_files() -> Option<u64> {
    parse_open_files(&std::fs::read_to_string(LIMITS).unwrap_or_default())
}

/// Parses the limit from the text of `/proc/self/limits`.
pub(super) fn parse_open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn connections_of_both_listeners_fit_into_the_open_files() {
        for (wanted, files, api, operators) in [
            (20_000, None, 20_000, 256),
            (20_000, Some(1_000_000), 20_000, 256),
            (20_000, Some(20_384), 20_000, 256),
            (20_000, Some(1_024), 784, 112),
            (20_000, Some(256), 150, 21),
            (20_000, Some(64), 38, 5),
            (5_000, Some(300), 175, 25),
            (200, Some(1_024), 200, 112),
            (1, Some(1_024), 1, 1),
            (20_000, Some(1), 1, 1),
        ] {
            let mut settings = config::default_settings().unwrap();
            settings.limits.connections = wanted;
            let made = Connections::new(&settings, files);
            assert_eq!(
                made,
                Connections { api, operators },
                "{wanted} of {files:?}"
            );
        }
    }

    #[test]
    fn the_default_is_the_one_of_the_settings() {
        let settings = config::default_settings().unwrap();
        assert_eq!(settings.limits.connections, DEFAULT_CONNECTIONS);
    }

    #[test]
    fn the_soft_limit_is_read_where_the_system_says_it() {
        let line = "Max open files            1024                 524288               files     ";
        let linux = format!(
            "Max processes             63432                63432                processes \n{line}\n"
        );
        assert_eq!(parse_open_files(&linux), Some(1_024));
        for limits in [
            "",
            "Max open files            unlimited            unlimited            files",
        ] {
            assert_eq!(parse_open_files(limits), None);
        }
    }
}
