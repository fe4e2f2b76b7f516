//! The arguments of `verify`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::ServiceReach;

pub(super) const VERIFY_EXAMPLES: &str = "\
Examples:
  balance-cache verify --sample 10000 --config balance-cache.toml
  balance-cache verify --users suspects.txt --config balance-cache.toml
  balance-cache verify --all --config balance-cache.toml --json > verified.json
  balance-cache verify --conservation --config balance-cache.toml
  balance-cache verify --users active.txt --url http://10.0.0.7:3001 --config existing-ledger.toml

The ledger is right; view and table are compared with it. A difference is looked at again after --grace-ms: one that is gone \
then was lag, which is counted and no difference. The embedded ledger is compared with its own current state, also \
while the service runs.

--conservation reads every row of the ledger: each is the row before it and its deltas, the rows of each trade and transaction are those of \
its record, and what is held of an asset is what its histories began with and all deltas: of trades, of transactions, of everything \
else. It cannot see what no row says: an entry of a wrong amount, or a history that is missing altogether.

In front of somebody else's ledger (postgres.balances_sql) what Redis holds and what a running service answers is compared with what the \
statement says, and postgres.balance_sql with postgres.balances_sql. The statement cannot list users: --sample takes those that Redis was asked \
for last, --all every user that Redis holds. A user whom neither Redis nor an instance holds has nothing to be wrong; to look at a user anyway, \
use --users. What memory holds is seen by the service's answer, and an ordinary read may fill Redis and memory: --no-service compares with Redis \
alone. Whether the statement itself is right cannot be checked, nor histories (--conservation).

Exit codes: 0 the same, 1 differences or it could not be compared, 2 the command line or the settings are wrong.";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").multiple(false)))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct Verify {
    /// Users from a file, one in a line; - is standard input.
    #[arg(long, value_name = "FILE", group = "which")]
    pub(crate) users: Option<PathBuf>,
    /// N users from random places (the default, with 1000). The embedded ledger is compared whole instead; of somebody else's, those
    /// that Redis was asked for last.
    #[arg(long, value_name = "N", group = "which", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) sample: Option<u32>,
    /// Everything.
    #[arg(long, group = "which")]
    pub(crate) all: bool,
    /// Everything, and every row of the ledger with the row before it and with the record of its transaction or trade.
    #[arg(long, conflicts_with_all = ["users", "sample"])]
    pub(crate) conservation: bool,
    /// How long a difference may take to settle before it counts.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) grace_ms: u64,
    /// Comparisons at the same time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub(crate) at_once: u32,
    /// In front of somebody else's ledger: leaves the running service alone, and compares with Redis only.
    #[arg(long, conflicts_with = "url")]
    pub(crate) no_service: bool,
    /// For programs: one object, when it is done.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: ServiceReach,
}
