//! The signals of a running service: which end it, which reload its settings, and which it ignores.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// `SIGXFSZ`, of a file beyond `ulimit -f`: the write fails with an error instead.
const FILE_TOO_LARGE: i32 = 25;

/// The signals of this process. Must be made before the first one can come.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Waits for SIGTERM and SIGINT from here on, and ignores what would end the process and has no meaning for it. (SIGPIPE
    /// is ignored by Rust's own start.)
    pub(super) fn new() -> Result<Self> {
        for ignored in [
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::alarm(),
            SignalKind::io(),
            SignalKind::from_raw(FILE_TOO_LARGE),
        ] {
            // A handler stays for the life of the process, also when nobody waits for it.
            drop(signal_stream(ignored)?);
        }
        Ok(Self {
            terminate: signal_stream(SignalKind::terminate())?,
            interrupt: signal_stream(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one that ends the process.
    pub(super) async fn wait_end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP: several at once count as one.
pub(super) fn hangup_signals() -> Result<Signal> {
    signal_stream(SignalKind::hangup())
}

fn signal_stream(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("signals cannot be waited for")
}
