//! The commands that put the service before an existing ledger: `ledger backfill` and `shadow`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ServiceReach;

pub(super) const SHADOW_EXAMPLES: &str = "\
Examples:
  balance-cache shadow --users active.txt --old 'http://old-gateway:8080/api/user/balance?user_id={user}'
  balance-cache shadow --users active.txt --old 'http://old:8080/v2/users/{user}/wallet' --old-list /wallet/items --old-asset coin --old-avail free --old-frozen locked

Amounts are compared as numbers. An asset that one side leaves out equals an asset without anything. A difference is looked at again after \
--grace-ms: one that is gone then was lag.

Exit codes: 0 the same, 1 differences, or one of the two did not answer, 2 the command line or the settings are wrong.";

/// A table that can be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum BackfillTable {
    /// Both sides of each trade, from `settled_trades`.
    UserTrades,
    /// The current state, from the ledger.
    UserBalances,
}

/// A table that another one is filled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum BackfillSource {
    /// For `user_trades`.
    SettledTrades,
    /// `balance_ledger`, for `user_balances`.
    Ledger,
}

#[derive(Debug, Args)]
pub(crate) struct BackfillArguments {
    /// The table to fill.
    pub(crate) table: BackfillTable,
    /// The table to fill it from.
    #[arg(long, value_name = "TABLE")]
    pub(crate) from: BackfillSource,
    /// Rows of the source in a second, at most, while they are copied and while both tables are compared; 0: as fast as it goes, to the
    /// cost of everything else that uses the database.
    #[arg(long, value_name = "ROWS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub(crate) rate: u32,
    /// The parts that are done, so that a second run goes on; else backfill-TABLE-KEYSPACE.checkpoint in this folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Parts that the token ring is cut into: what is remembered as done.
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) parts: u32,
    /// Parts at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) at_once: u32,
    /// Writes nothing; says how many rows are missing, differ or cannot be used; only the last make the exit code 1.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How long a difference may take to settle before it counts.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) grace_ms: u64,
    /// For programs: one object, when it is done.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Shadow {
    /// Users from a file, one in a line; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) users: PathBuf,
    /// Where the other gateway shows a user's balances, http://host:port/path, with {user} in the place of the id.
    #[arg(long, value_name = "URL")]
    pub(crate) old: String,
    /// The other gateway's bearer token.
    #[arg(
        long,
        env = "BALANCE_CACHE_OLD_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) old_token: Option<String>,
    /// Where its answer has the list of balances: a JSON pointer. An answer that is a list is taken as it is.
    #[arg(long, value_name = "POINTER", default_value = "/data")]
    pub(crate) old_list: String,
    /// The field of an element that names the asset.
    #[arg(long, value_name = "FIELD", default_value = "asset")]
    pub(crate) old_asset: String,
    /// The field with what is available.
    #[arg(long, value_name = "FIELD", default_value = "avail")]
    pub(crate) old_avail: String,
    /// The field with what is frozen.
    #[arg(long, value_name = "FIELD", default_value = "frozen")]
    pub(crate) old_frozen: String,
    /// Users in a second, at most; 0: as fast as it goes.
    #[arg(long, value_name = "USERS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) rate: u32,
    /// Users at the same time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) at_once: u32,
    /// How long a difference may take to settle before it counts.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) grace_ms: u64,
    /// For programs: one object, when it is done.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: ServiceReach,
}
