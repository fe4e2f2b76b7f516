//! What can be asked on the command line, and what is printed. Exit codes: 0 done, 1 it could not be done, 2 the settings or
//! the command line are wrong.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use balance_cache::{
    config::{self, AuthMode, Scope, Settings, SourceKind},
    service::Service,
    source::scylla::schema,
    telemetry,
};
use clap::{Parser, Subcommand};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// A read-through caching proxy for user balances: fast like a constant, and never wrong about money.
#[derive(Debug, Parser)]
#[command(
    name = "balance-cache",
    version,
    after_help = "Without a configuration it serves a sample ledger on this machine:\n  balance-cache\n  curl 'http://127.0.0.1:3001/api/user/balance?user_id=1001'"
)]
struct Arguments {
    /// A TOML file with the settings that differ from the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves (the default).
    Serve,
    /// Looks at the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Makes and looks at the tables in ScyllaDB or Cassandra.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Makes tokens for auth.mode = "token".
    #[command(subcommand)]
    Auth(AuthCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Says what is wrong with the settings, all of it; exit code 2 if anything is.
    Check,
    /// Prints the settings in force, secrets hidden.
    Show,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Makes keyspace, tables and view where they are not there yet.
    Apply,
    /// Says what is there and how far the view is built; exit code 0 when all of it is.
    Status,
    /// Drops the view (not the ledger), so that it can be built anew.
    DropView,
}

#[derive(Debug, Subcommand)]
enum AuthCommand {
    /// Makes a token and prints it with its block for the configuration file. It is shown once.
    Token {
        /// Who will use it.
        #[arg(long, default_value = "client")]
        name: String,
        /// What for: read, settle, admin; comma separated.
        #[arg(long, value_delimiter = ',', default_value = "read", value_parser = scope)]
        scopes: Vec<Scope>,
    },
}

fn scope(text: &str) -> Result<Scope, String> {
    match text {
        "read" => Ok(Scope::Read),
        "settle" => Ok(Scope::Settle),
        "admin" => Ok(Scope::Admin),
        other => Err(format!("{other} is none of read, settle, admin")),
    }
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    // The first one stays: both TLS users of this process take it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = arguments.command.unwrap_or(Command::Serve);
    if let Command::Auth(AuthCommand::Token { name, scopes }) = &command {
        let made = config::token::make(name, scopes, rand::random());
        let text = format!(
            "{}\n\n# for the configuration file, beside [auth] mode = \"token\":\n{}",
            made.token, made.block
        );
        return finish(say(&text));
    }
    let settings = match config::load(arguments.config.as_deref(), config::environment()) {
        Ok(settings) => settings,
        Err(errors) => {
            let _ = writeln!(io::stderr(), "the settings are wrong:\n{errors}");
            return ExitCode::from(2);
        }
    };
    finish(match command {
        Command::Serve => serve(settings),
        Command::Config(ConfigCommand::Check) => {
            let advice = config::advice_block(&config::advice(&settings));
            let advice = advice.map(|block| format!("; they could hurt:\n{block}"));
            say(&format!(
                "the settings are right{}",
                advice.unwrap_or_default()
            ))
        }
        Command::Config(ConfigCommand::Show) => say(config::shown(&settings).trim_end()),
        Command::Schema(what) => return finish_with(run_schema(&what, &settings)),
        Command::Auth(_) => Ok(()),
    })
}

fn finish(result: Result<()>) -> ExitCode {
    finish_with(result.map(|()| ExitCode::SUCCESS))
}

fn finish_with(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "balance-cache: {error:#}");
        ExitCode::FAILURE
    })
}

fn say(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("standard output is closed")
}

fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")
}

fn run_schema(what: &SchemaCommand, settings: &Settings) -> Result<ExitCode> {
    if settings.source.kind != SourceKind::Scylla {
        anyhow::bail!(
            "source.kind is embedded: its tables make themselves. For ScyllaDB or Cassandra set source.kind = \"scylla\""
        );
    }
    runtime()?.block_on(async {
        match what {
            SchemaCommand::Apply => {
                say(schema::apply(&settings.scylla, &settings.source)
                    .await?
                    .to_string()
                    .trim_end())?;
            }
            SchemaCommand::DropView => {
                say(&schema::drop_view(&settings.scylla, &settings.source)
                    .await?
                    .to_string())?;
            }
            SchemaCommand::Status => {
                let status = schema::status(&settings.scylla, &settings.source).await?;
                say(status.to_string().trim_end())?;
                return Ok(if status.is_ready() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                });
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn serve(settings: Settings) -> Result<()> {
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
             API      http://{api}\n  \
             probes   http://{operators}/readyz   metrics  http://{operators}/metrics\n\
             try it:  curl -i{token} 'http://{api}/api/user/balance?user_id=1001'",
            env!("CARGO_PKG_VERSION"),
            self.source,
        ))
    }
}
