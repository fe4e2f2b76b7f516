//! `serve`: starts the service, says where it listens, and waits for the signals that reload its settings or end it.
//!
//! With `telemetry.format = "json"` every line of it is JSON: what is printed at the start, log lines, and the error that
//! ends it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Result;
use balance_cache::{
    config::{self, AuthMode, Errors, LogFormat, PostgresAddress, Settings, SourceKind},
    ledger::embedded::LedgerOrigin,
    service::{Reloader, RunningService},
    telemetry::log,
};
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::{
    ledger_file,
    output::{print_error, print_line},
    signals::{Signals, hangup_signals},
    start_runtime,
};

/// Serves until a signal comes. `file` is read again on SIGHUP.
pub(crate) fn run_serve(settings: Settings, file: Option<&Path>) -> Result<ExitCode> {
    let format = settings.telemetry.format;
    match serve_until_signal(settings, file.map(Path::to_owned)) {
        Err(error) if format == LogFormat::Json => {
            log::in_json(std::io::stderr, || {
                tracing::error!(error = format!("{error:#}"), "balance-cache ends");
            });
            Ok(ExitCode::FAILURE)
        }
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

/// Tells why there is no service, in the form of log lines that the settings ask for.
pub(crate) fn report_bad_settings(errors: &Errors) {
    match errors.log_format() {
        LogFormat::Json => log::in_json(std::io::stderr, || {
            for mistake in errors.all_mistakes() {
                tracing::error!(config.mistake = %mistake, "the settings are wrong");
            }
        }),
        LogFormat::Text => print_error(&format!("the settings are wrong:\n{errors}")),
    }
}

fn serve_until_signal(settings: Settings, file: Option<PathBuf>) -> Result<()> {
    #[cfg(feature = "failpoints")]
    let _points = fail::FailScenario::setup();
    let filter = log::start_logging(&settings.telemetry).map_err(anyhow::Error::msg)?;
    start_runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        let mut signals = Signals::new()?;
        let hangups = hangup_signals()?;
        for variable in config::unknown_variables(config::read_environment()) {
            tracing::warn!(variable, "this variable begins like a setting and is none");
        }
        let greeting = Greeting::from_settings(&settings);
        ledger_file::check_before_start(&settings)?;
        let service = RunningService::open_service(settings, shutdown.clone())?;
        greeting.print_greeting(service.bound_addresses(), service.ledger_origin())?;
        let reloader = Arc::new(service.new_reloader(Some(filter)));
        let run = service.run_until_shutdown();
        tokio::pin!(run);
        tokio::select! {
            () = &mut run => return Ok(()),
            () = reload_on(hangups, &reloader, file) => {}
            () = signals.wait_end() => {
                tracing::info!("stopping: a second signal ends at once");
                shutdown.cancel();
            }
        }
        tokio::select! {
            () = run => {}
            () = signals.wait_end() => anyhow::bail!("ended by a second signal"),
        }
        Ok(())
    })
}

/// Reads the settings again whenever SIGHUP comes, from where they came at the start.
async fn reload_on(mut hangups: Signal, reloader: &Arc<Reloader>, file: Option<PathBuf>) {
    while hangups.recv().await.is_some() {
        let (reloader, file) = (Arc::clone(reloader), file.clone());
        // Files are read: not on a thread that serves.
        let reload = tokio::task::spawn_blocking(move || {
            reloader.reload_settings(config::load_settings(
                file.as_deref(),
                config::read_environment(),
            ));
        });
        if reload.await.is_err() {
            tracing::error!("reloading the settings met a bug");
        }
    }
    // The runtime is gone only after this.
    std::future::pending::<()>().await;
}

/// The text printed at the start: what to open, and what to try.
struct Greeting {
    source: String,
    redis: bool,
    token: bool,
    format: LogFormat,
}

impl Greeting {
    fn from_settings(settings: &Settings) -> Self {
        let source = match settings.source.kind {
            SourceKind::Embedded => format!("embedded ledger {}", settings.embedded.path.display()),
            SourceKind::Scylla => {
                format!(
                    "keyspace {} at {}",
                    settings.scylla.keyspace,
                    settings.scylla.nodes.join(", ")
                )
            }
            SourceKind::Postgres => {
                let address = PostgresAddress::parse_url(&settings.postgres.url);
                let place = address.map_or_else(|_| String::new(), |it| it.show_place());
                format!("schema {} at {place}", settings.postgres.schema)
            }
        };
        Self {
            source,
            redis: !settings.redis.url.is_empty(),
            token: settings.auth.mode == AuthMode::Token,
            format: settings.telemetry.format,
        }
    }

    fn print_greeting(
        &self,
        (api, operators): (std::net::SocketAddr, std::net::SocketAddr),
        ledger: Option<LedgerOrigin>,
    ) -> Result<()> {
        let ledger = match ledger {
            Some(LedgerOrigin {
                new: true,
                sample: true,
            }) => ", NEW, with SAMPLE balances of users 1001 to 1010",
            Some(LedgerOrigin { new: true, .. }) => ", NEW and EMPTY",
            Some(LedgerOrigin { sample: true, .. }) => {
                ", made with SAMPLE balances of users 1001 to 1010"
            }
            Some(_) | None => "",
        };
        let tiers = if self.redis {
            "memory, Redis"
        } else {
            "memory (no Redis: this is the only instance)"
        };
        if self.format == LogFormat::Json {
            log::in_json(std::io::stdout, || {
                tracing::info!(
                    version = env!("CARGO_PKG_VERSION"),
                    tiers,
                    source = self.source,
                    api = %format_args!("http://{api}"),
                    documentation = %format_args!("http://{api}/docs"),
                    dashboard = %format_args!("http://{operators}/dashboard"),
                    readiness = %format_args!("http://{operators}/readyz"),
                    metrics = %format_args!("http://{operators}/metrics"),
                    "balance-cache is starting"
                );
            });
            return Ok(());
        }
        let token = if self.token {
            " -H 'Authorization: Bearer …'"
        } else {
            ""
        };
        print_line(&format!(
            "balance-cache {}\n  \
             tiers    {tiers}\n  \
             source   {}{ledger}\n  \
             API      http://{api}   to try it  http://{api}/docs\n  \
             page     http://{operators}/dashboard\n  \
             probes   http://{operators}/readyz   metrics  http://{operators}/metrics\n\
             try it:  curl -i{token} 'http://{api}/api/user/balance?user_id=1001'",
            env!("CARGO_PKG_VERSION"),
            self.source,
        ))
    }
}
