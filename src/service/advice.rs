//! Advice before the start: the settings', and what this process may do. Told once, in one block.

use super::descriptors::{Connections, DEFAULT_CONNECTIONS, open_files};
use crate::{
    config::{self, Advice, Settings},
    ledger::embedded::LedgerOrigin,
};

/// Tells it.
pub(super) fn log_advice(settings: &Settings) {
    let mut advice = config::advice(settings);
    advice.extend(advise_connections(settings, open_files()));
    if let Some(block) = config::advice_block(&advice) {
        tracing::warn!(advice = %format_args!("\n{block}"), "the settings work, and could hurt");
    }
}

/// Tells of a ledger that is new, or holds sample data. A warning where others than this machine can ask.
pub(super) fn tell_origin(settings: &Settings, origin: LedgerOrigin) {
    let path = settings.embedded.path.display();
    let alone = settings.http.listen.ip().is_loopback();
    let text = match (origin.new, origin.sample) {
        (false, false) => return,
        (true, true) => {
            "a new ledger was made, with sample balances of users 1001 to 1010 (embedded.sample_data)"
        }
        (true, false) => {
            "a new, empty ledger was made: if balances are expected, embedded.path or the mount of its folder is wrong"
        }
        (false, true) => {
            "the ledger was made with sample balances of users 1001 to 1010: they are not real money"
        }
    };
    if alone && origin.sample {
        tracing::info!(%path, "{text}");
    } else {
        tracing::warn!(%path, "{text}");
    }
}

/// Each connection is an open file. The default adapts itself; a number that was chosen cannot be kept in silence.
fn advise_connections(settings: &Settings, open_files: Option<u64>) -> Option<Advice> {
    let wanted = settings.limits.connections;
    let fit = Connections::new(settings, open_files).api;
    let files = open_files?;
    (wanted != DEFAULT_CONNECTIONS && fit < wanted).then(|| {
        Advice::new(
            "limits.connections",
            format!(
                "is {wanted}, and this process may open {files} files (ulimit -n, LimitNOFILE): {fit} connections are accepted, more wait in the backlog"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_connections_than_files_is_told_with_both_numbers() {
        let mut settings = config::default_settings().unwrap();
        settings.limits.connections = 5_000;
        let said = advise_connections(&settings, Some(1_024)).unwrap();
        assert_eq!(said.key, "limits.connections");
        assert!(
            said.text.contains("5000") && said.text.contains("1024") && said.text.contains("784"),
            "{said}"
        );
        settings.limits.connections = 784;
        assert_eq!(advise_connections(&settings, Some(1_024)), None);
        settings.limits.connections = 5_000;
        assert_eq!(advise_connections(&settings, None), None);
    }

    #[test]
    fn the_default_is_lowered_without_a_word() {
        let settings = config::default_settings().unwrap();
        assert_eq!(advise_connections(&settings, Some(1_024)), None);
    }
}
