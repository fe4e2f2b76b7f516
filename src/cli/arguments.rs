//! The command line as it is parsed, with the help that is printed.

mod history;
mod migration;
mod simulation;
mod verification;

use std::path::PathBuf;

use balance_cache::{
    config::{Scope, TOKEN_NAME_RULE, is_token_name},
    domain::UserId,
};
use clap::{ArgGroup, Args, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use history::{HistoryCommand, PageArguments};
pub(crate) use migration::{BackfillArguments, BackfillSource, BackfillTable, Shadow};
pub(crate) use simulation::Simulate;
pub(crate) use verification::Verify;

const EXAMPLES: &str = "\
Without a configuration it serves a sample ledger on this machine:
  balance-cache
  curl 'http://127.0.0.1:3001/api/user/balance?user_id=1001'

Why is this balance wrong, and is anything else?
  balance-cache get 1001 --trace --config balance-cache.toml
  balance-cache doctor --config balance-cache.toml

Exit codes: 0 done, 1 it could not be done (or differences, or faults, were found), 2 the command line or the settings are wrong.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  balance-cache config check --config balance-cache.toml
  BALANCE_CACHE__REDIS__URL=redis://cache:6379 balance-cache config show

A running service takes tokens, assets, log level and certificates from the same file on SIGHUP (kill -HUP PID).

Exit codes: 0 right, 2 the command line or the settings are wrong.";

const SCHEMA_EXAMPLES: &str = "\
Examples:
  balance-cache schema apply --config balance-cache.toml
  balance-cache schema status --config balance-cache.toml && echo built
  balance-cache schema drop-view --yes --config balance-cache.toml
  balance-cache schema rollback --to 4 --yes --config balance-cache.toml

Exit codes: 0 done (status: all is there and built), 1 not, 2 the command line or the settings are wrong.";

const AUTH_EXAMPLES: &str = "\
Examples:
  balance-cache auth token --name wallet
  balance-cache auth token --name engine --scopes read,settle";

const GET_EXAMPLES: &str = "\
Examples:
  balance-cache get 1001
  balance-cache get 1001 --asset BTC --json | jq '.balances[0].seq'
  balance-cache get 1001 --url http://10.0.0.7:3001
  balance-cache get 1001 --trace --config balance-cache.toml

With --trace nothing is written to Redis or the ledger by this program. The service is asked last, by an ordinary read, \
and an ordinary read may fill Redis and memory: --no-service leaves everything as it is found.

Exit codes: 0 shown, 1 somebody who was asked did not answer, 2 the command line or the settings are wrong.";

const WARM_EXAMPLES: &str = "\
Examples:
  balance-cache warm --users active.txt --url http://10.0.0.7:3001
  psql -Atc 'select id from users where active' | balance-cache warm --users -
  balance-cache warm --top 10000 --config balance-cache.toml

A ledger has no list of users and nobody counts reads by user, so --top takes the users whose entries in Redis were asked \
for last (OBJECT IDLETIME; by OBJECT FREQ where the policy is LFU): right after a deployment, those are the users that \
the instances before it served. It needs a Redis, and one that is no cluster.

Exit codes: 0 all loaded, 1 some were not, 2 the command line or the settings are wrong.";

const LEDGER_EXAMPLES: &str = "\
Examples:
  balance-cache ledger settle --file trades.ndjson
  zcat trades.ndjson.gz | balance-cache ledger settle --file - --url http://10.0.0.7:3001
  balance-cache ledger simulate --users 1000 --trades 10000 --zipf 0.99 --rate 500
  balance-cache ledger backup ledger-monday.backup --config balance-cache.toml
  balance-cache ledger backup - --config balance-cache.toml | ssh backup 'cat > ledger-monday.backup'
  balance-cache ledger restore ledger-monday.backup --to restored.redb
  balance-cache ledger check restored.redb
  balance-cache ledger backfill user_trades --from settled_trades --rate 5000 --config balance-cache.toml
  balance-cache ledger backfill user_balances --from ledger --dry-run --config balance-cache.toml

settle: each line is one trade as POST /api/v1/ledger/trades takes it. A trade that stands already is a repetition: after a break, \
send the same file again. What is refused, in conflict or malformed is told by its line. The first request that the service does not \
answer (five times, where it may later) is the last: no trade is settled before one that stands above it.

simulate: everything that its users spend is deposited first, so nothing is refused, and seqs and amounts at the end are known before. \
They are compared with the API, the ledger, user_balances and the view. The users of a seed are nobody else's; use it on a ledger where \
made-up users do no harm.

backup, restore and check are for the embedded ledger. A backup holds all rows of one moment. A running service is asked for it \
through a socket beside its file, which only the user of the service and root can use.

backfill is for ScyllaDB and Cassandra. It may be stopped at any moment: the same command goes on where it was. It deletes nothing, \
and never takes the place of a newer row. At the end it compares both tables, all rows both ways.

Exit codes: 0 all stand, or done; 1 some do not stand, balances differ, it could not be done, or the file is damaged; 2 the command line, the settings \
or the file of trades are wrong.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  balance-cache doctor --config balance-cache.toml
  balance-cache doctor --before-start --config balance-cache.toml
  balance-cache doctor --json | jq -r '.checks[] | select(.state == \"fail\") | .remedy'

Exit codes: 0 no fault (there may be warnings), 1 at least one FAIL, 2 the command line or the settings are wrong.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  balance-cache completions bash > /etc/bash_completion.d/balance-cache
  balance-cache completions zsh > \"${fpath[1]}/_balance-cache\"";

/// A read-through caching proxy for user balances: fast like a constant, and never wrong about money.
#[derive(Debug, Parser)]
#[command(name = "balance-cache", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A TOML file with the settings that differ from the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves (the default).
    #[command(after_help = "Example:\n  balance-cache serve --config balance-cache.toml")]
    Serve,
    /// Looks at the settings.
    #[command(subcommand, after_help = CONFIG_EXAMPLES)]
    Config(ConfigCommand),
    /// Makes and looks at the tables in ScyllaDB, Cassandra or PostgreSQL.
    #[command(subcommand, after_help = SCHEMA_EXAMPLES)]
    Schema(SchemaCommand),
    /// Makes tokens for auth.mode = "token".
    #[command(subcommand, after_help = AUTH_EXAMPLES)]
    Auth(AuthCommand),
    /// Shows the balances of a user, and with --trace what each tier holds: why is this balance wrong?
    #[command(after_help = GET_EXAMPLES)]
    Get(Get),
    /// Shows a user's trades, or the statement of one balance.
    #[command(subcommand, after_help = history::HISTORY_EXAMPLES)]
    History(HistoryCommand),
    /// Loads users into a running service before they ask.
    #[command(after_help = WARM_EXAMPLES)]
    Warm(WarmArguments),
    /// Settles trades through a running service; checks, backs up and restores the embedded ledger.
    #[command(subcommand, after_help = LEDGER_EXAMPLES)]
    Ledger(LedgerCommand),
    /// Compares view and current state with the ledger.
    #[command(after_help = verification::VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Compares the answers of another gateway with those of a running service.
    #[command(after_help = migration::SHADOW_EXAMPLES)]
    Shadow(Shadow),
    /// Connects to everything that the settings name, measures it, and says what to fix.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Doctor),
    /// Prints completions for a shell.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Which.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Says what is wrong with the settings, all of it; exit code 2 if anything is.
    Check,
    /// Prints the settings in force, secrets hidden.
    Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Makes keyspace, tables and view where they are not there yet.
    Apply {
        /// Makes the outbox too, with its triggers on postgres.outbox.table (PostgreSQL). With `balances_sql` it alone is made.
        #[arg(long)]
        outbox: bool,
    },
    /// Says what is there and how far the view is built; exit code 0 when all of it is.
    Status,
    /// Takes the newest migration back, with all rows of its table (PostgreSQL).
    Rollback {
        /// The migration that stays the newest; 0: none.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
        to: Option<i32>,
        /// Takes back the outbox and its triggers, and nothing else.
        #[arg(long, conflicts_with = "to")]
        outbox: bool,
        /// Does it; without, it only says what it would do.
        #[arg(long)]
        yes: bool,
    },
    /// Drops the view (not the ledger), so that it can be built anew. Names the live instances, which are not ready meanwhile.
    DropView {
        /// Does it; without, it only says what it would do.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Settles the trades of a file, one in a line, in its order.
    Settle(Settle),
    /// Trades between made-up users through a running service, and compares the balances that it should lead to with those that stand.
    Simulate(Simulate),
    /// Reads a ledger that no service has open, and compares all of it with its checksums.
    Check {
        /// The ledger; else embedded.path of the settings.
        file: Option<PathBuf>,
    },
    /// Writes a backup of embedded.path, also while the service runs.
    Backup {
        /// The file to make; - is standard output.
        to: PathBuf,
    },
    /// Makes a ledger of a backup.
    Restore(Restore),
    /// Fills a table from another one, goes on after a break, and compares them at the end (ScyllaDB, Cassandra).
    Backfill(BackfillArguments),
    /// For the program itself.
    #[command(hide = true)]
    CheckHere {
        /// The ledger.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// The trades, one JSON object in a line; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Trades in one request.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) batch: u32,
    /// For programs: one object, when it is done.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: ServiceReach,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup.
    pub(crate) from: PathBuf,
    /// The ledger to make; else embedded.path of the settings. It must not be there.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Keeps the id of the ledger, so that Redis' contents count as its own: only where nothing was written after the backup.
    #[arg(long)]
    pub(crate) same_id: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Makes a token and prints it with its block for the configuration file. It is shown once.
    Token {
        /// The user of it: 1 to 64 ASCII letters, digits, '-', '_' and '.'.
        #[arg(long, default_value = "client", value_parser = parse_token_name)]
        name: String,
        /// The scopes: read, settle, admin; comma separated.
        #[arg(long, value_delimiter = ',', default_value = "read", value_parser = parse_scope)]
        scopes: Vec<Scope>,
    },
}

/// Where a running service is, and who asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServiceReach {
    /// Where the service is asked, http://host:port; else where http.listen of the settings says.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The bearer token. Better in the environment: a command line can be seen by others.
    #[arg(
        long,
        env = "BALANCE_CACHE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The user.
    pub(crate) user: UserId,
    /// One asset only: its name in the catalogue, or the number of one that is not in it.
    #[arg(long)]
    pub(crate) asset: Option<String>,
    /// Asks the parts themselves (Redis, view, table, ledger), and shows what each holds and what is odd about it.
    #[arg(long)]
    pub(crate) trace: bool,
    /// With --trace: leaves the running service alone.
    #[arg(long, requires = "trace")]
    pub(crate) no_service: bool,
    /// For programs.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: ServiceReach,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whom").required(true).multiple(false)))]
pub(crate) struct WarmArguments {
    /// Users from a file, one in a line; - is standard input.
    #[arg(long, value_name = "FILE", group = "whom")]
    pub(crate) users: Option<PathBuf>,
    /// The N users whose entries in Redis were asked for last.
    #[arg(long, value_name = "N", group = "whom", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) top: Option<u32>,
    /// Users in one request. All of them have to be loaded within the deadline of a request.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
    /// Requests at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) at_once: u32,
    /// For programs.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: ServiceReach,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Does not expect the service to run.
    #[arg(long)]
    pub(crate) before_start: bool,
    /// For programs.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: ServiceReach,
}

fn parse_token_name(text: &str) -> Result<String, &'static str> {
    is_token_name(text)
        .then(|| text.to_owned())
        .ok_or(TOKEN_NAME_RULE)
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    match text {
        "read" => Ok(Scope::Read),
        "settle" => Ok(Scope::Settle),
        "admin" => Ok(Scope::Admin),
        other => Err(format!("{other} is none of read, settle, admin")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_name_that_the_service_takes() {
        let parse = |name: &str| {
            let words = ["balance-cache", "auth", "token", "--name", name];
            Arguments::try_parse_from(words)
        };
        let long = "x".repeat(64);
        assert!(parse("web-shop_2.eu").is_ok() && parse(&long).is_ok());
        for bad in ["web shop", "", "käse", &format!("{long}x")] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(TOKEN_NAME_RULE), "{error}");
        }
    }
}
