//! What is worth a thought before it starts: the settings' advice, and what this process may do. Told once, in one block.

use crate::config::{self, Advice, Settings};

/// Where Linux says what a process may do.
const LIMITS: &str = "/proc/self/limits";
/// Files that are open beside the clients' connections: listeners, the ledger, Redis, the database.
const OTHER_FILES: u64 = 128;

/// Tells it.
pub(super) fn tell(settings: &Settings) {
    let limits = std::fs::read_to_string(LIMITS).unwrap_or_default();
    let mut advice = config::advice(settings);
    advice.extend(connections(settings, open_files(&limits)));
    if let Some(block) = config::advice_block(&advice) {
        tracing::warn!(advice = %format_args!("\n{block}"), "the settings work, and could hurt");
    }
}

/// Each connection is an open file.
fn connections(settings: &Settings, open_files: Option<u64>) -> Option<Advice> {
    let wanted = u64::try_from(settings.limits.connections).unwrap_or(u64::MAX);
    let may = open_files?;
    (wanted.saturating_add(OTHER_FILES) > may).then(|| {
        Advice::new(
            "limits.connections",
            format!(
                "is {wanted}, and this process may open {may} files (ulimit -n, LimitNOFILE): beyond that, connections cannot be accepted"
            ),
        )
    })
}

/// How many files this process may have open. None where that is not limited, or nobody says.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: &str = "Limit                     Soft Limit           Hard Limit           Units     \nMax processes             63432                63432                processes \nMax open files            1024                 524288               files     \n";

    #[test]
    fn more_connections_than_files_is_told_with_both_numbers() {
        let mut settings = config::defaults().unwrap();
        let said = connections(&settings, open_files(LINUX)).unwrap();
        assert_eq!(said.key, "limits.connections");
        assert!(
            said.text.contains("20000") && said.text.contains("1024"),
            "{said}"
        );
        settings.limits.connections = 896;
        assert_eq!(connections(&settings, open_files(LINUX)), None);
    }

    #[test]
    fn where_nobody_says_nothing_is_told() {
        let settings = config::defaults().unwrap();
        for limits in [
            "",
            "Max open files            unlimited            unlimited            files",
        ] {
            assert_eq!(connections(&settings, open_files(limits)), None);
        }
    }
}
