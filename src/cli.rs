//! The commands of the command line, and their output. Exit codes of every subcommand: 0 done, 1 it could not be done
//! (or differences, or faults, were found), 2 the settings or the command line are wrong.
//!
//! `get`, `verify` and `doctor` look at the parts from outside and write nowhere; what they look through is `look` in
//! `tiers::redis`, `source::scylla` and `source::embedded`. Foreign crates of the command line alone: clap in
//! `arguments`, hyper's client in `client`, indicatif in `progress`.

mod arguments;
mod backfill;
mod client;
mod doctor;
mod get;
mod history;
mod ledger;
mod ledger_file;
mod output;
mod pace;
mod progress;
mod schema;
mod serve;
mod service_view;
mod shadow;
mod signals;
mod simulate;
mod trace;
mod users;
mod verify;
mod warm;

use std::process::ExitCode;

use anyhow::{Context, Result};
use balance_cache::config;
use clap::{CommandFactory, Parser};
use tokio::runtime::{Builder, Runtime};

use self::{
    arguments::{Arguments, AuthCommand, Command, ConfigCommand, LedgerCommand},
    output::{Unable, print_error, print_line},
};

/// Does what the command line says.
pub(crate) fn run_command() -> ExitCode {
    let Arguments { config, command } = Arguments::parse();
    // The first one stays: both TLS users of this process take it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = match command.unwrap_or(Command::Serve) {
        Command::Auth(AuthCommand::Token { name, scopes }) => {
            let made = config::token::make_token(&name, &scopes, rand::random());
            return finish_command(print_line(&format!(
                "{}\n\n# for the configuration file, beside [auth] mode = \"token\":\n{}",
                made.token, made.block
            )));
        }
        Command::Completions { shell } => return finish_command(print_completions(shell)),
        Command::Ledger(LedgerCommand::CheckHere { file }) => {
            return finish_with(ledger_file::check_here(&file));
        }
        command => command,
    };
    let settings = match config::load_settings(config.as_deref(), config::read_environment()) {
        Ok(settings) => settings,
        Err(errors) => {
            match command {
                Command::Serve => serve::report_bad_settings(&errors),
                _ => print_error(&format!("the settings are wrong:\n{errors}")),
            }
            return ExitCode::from(2);
        }
    };
    finish_with(match command {
        Command::Serve => serve::run_serve(settings, config.as_deref()),
        Command::Config(ConfigCommand::Check) => {
            for variable in config::unknown_variables(config::read_environment()) {
                print_error(&format!(
                    "the variable {variable} begins like a setting and is none; a setting is {PREFIX}SECTION__KEY",
                    PREFIX = config::PREFIX
                ));
            }
            let advice = config::advice_block(&config::advice(&settings));
            let advice = advice.map(|block| format!("; they could hurt:\n{block}"));
            exit_success(print_line(&format!(
                "the settings are right{}",
                advice.unwrap_or_default()
            )))
        }
        Command::Config(ConfigCommand::Show) => {
            exit_success(print_line(config::shown(&settings).trim_end()))
        }
        Command::Schema(what) => schema::run_schema_command(&what, &settings),
        Command::Get(what) if what.trace => trace::run_trace(&what, &settings),
        Command::Get(what) => get::run_get(&what, &settings),
        Command::History(what) => history::run(&what, &settings),
        Command::Warm(what) => warm::run_warm(&what, &settings),
        Command::Ledger(LedgerCommand::Settle(what)) => ledger::run_settle(&what, &settings),
        Command::Ledger(LedgerCommand::Backfill(what)) => backfill::run_backfill(&what, &settings),
        Command::Ledger(LedgerCommand::Simulate(what)) => simulate::run_simulate(&what, &settings),
        Command::Ledger(what) => ledger_file::run_ledger_command(&what, &settings),
        Command::Verify(what) => verify::run_verify(&what, &settings),
        Command::Shadow(what) => shadow::run_shadow(&what, &settings),
        Command::Doctor(what) => doctor::run_doctor(&what, &settings, config.as_deref()),
        // Done above, before the settings are looked at.
        Command::Auth(_) | Command::Completions { .. } => Ok(ExitCode::SUCCESS),
    })
}

fn print_completions(shell: clap_complete::Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "balance-cache", &mut text);
    print_line(String::from_utf8(text)?.trim_end())
}

fn exit_success(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// 0 where all is well, else 1.
fn exit_code(is_well: bool) -> ExitCode {
    ExitCode::from(u8::from(!is_well))
}

fn finish_command(result: Result<()>) -> ExitCode {
    finish_with(exit_success(result))
}

fn finish_with(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        print_error(&format!("balance-cache: {error:#}"));
        if error.downcast_ref::<Unable>().is_some() {
            ExitCode::from(2)
        } else {
            ExitCode::FAILURE
        }
    })
}

fn start_runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")
}
