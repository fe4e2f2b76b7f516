//! `serve`: starts the service, says where it listens, and waits for the signals that end it.

use anyhow::{Context, Result};
use balance_cache::{
    config::{AuthMode, Settings, SourceKind},
    service::Service,
    telemetry,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{output::say, runtime};

/// Serves until a signal comes.
pub(crate) fn serve(settings: Settings) -> Result<()> {
    #[cfg(feature = "failpoints")]
    let _points = fail::FailScenario::setup();
    telemetry::log::start(&settings.telemetry).map_err(anyhow::Error::msg)?;
    runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        let mut signals = Signals::new()?;
        let greeting = Greeting::of(&settings);
        let service = Service::open(settings, shutdown.clone())?;
        greeting.print(service.addresses())?;
        let run = service.run();
        tokio::pin!(run);
        tokio::select! {
            () = &mut run => return Ok(()),
            () = signals.next() => {
                tracing::info!("stopping: a second signal ends at once");
                shutdown.cancel();
            }
        }
        tokio::select! {
            () = run => {}
            () = signals.next() => anyhow::bail!("ended by a second signal"),
        }
        Ok(())
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("signals cannot be waited for");
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What is printed at the start: what to open, and what to try.
struct Greeting {
    source: String,
    redis: bool,
    token: bool,
}

impl Greeting {
    fn of(settings: &Settings) -> Self {
        let source = match settings.source.kind {
            SourceKind::Embedded => format!("embedded ledger {}", settings.embedded.path.display()),
            SourceKind::Scylla => {
                format!(
                    "keyspace {} at {}",
                    settings.scylla.keyspace,
                    settings.scylla.nodes.join(", ")
                )
            }
        };
        Self {
            source,
            redis: !settings.redis.url.is_empty(),
            token: settings.auth.mode == AuthMode::Token,
        }
    }

    fn print(&self, (api, operators): (std::net::SocketAddr, std::net::SocketAddr)) -> Result<()> {
        let tiers = if self.redis {
            "memory, Redis"
        } else {
            "memory (no Redis: this is the only instance)"
        };
        let token = if self.token {
            " -H 'Authorization: Bearer …'"
        } else {
            ""
        };
        say(&format!(
            "balance-cache {}\n  \
             tiers    {tiers}\n  \
             source   {}\n  \
             API      http://{api}   to try it  http://{api}/docs\n  \
             page     http://{operators}/dashboard\n  \
             probes   http://{operators}/readyz   metrics  http://{operators}/metrics\n\
             try it:  curl -i{token} 'http://{api}/api/user/balance?user_id=1001'",
            env!("CARGO_PKG_VERSION"),
            self.source,
        ))
    }
}
