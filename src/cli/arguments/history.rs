//! `history` on the command line.

use balance_cache::domain::UserId;
use clap::{Args, Subcommand};

use super::ServiceReach;

pub(crate) const HISTORY_EXAMPLES: &str = "\
Examples:
  balance-cache history trades 1001 --symbol BTC_USDT
  balance-cache history statement 1001 --asset BTC --limit 20
  balance-cache history statement 1001 --asset BTC --at 1765352441955 --limit 1
  balance-cache history statement 1001 --asset BTC --limit 100000 --json > btc.json

The rows come from the service page by page, as GET /api/v1/order/trades and GET /api/v1/user/ledger have them. Times are milliseconds \
since 1970.

Exit codes: 0 shown, 1 the service did not answer, 2 the command line or the settings are wrong.";

#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// Shows the trades of a user in a symbol.
    Trades(Trades),
    /// Shows the rows of the ledger of a user in an asset.
    Statement(StatementArguments),
}

#[derive(Debug, Args)]
pub(crate) struct Trades {
    /// The user.
    pub(crate) user: UserId,
    /// The symbol, as in the catalogue.
    #[arg(long)]
    pub(crate) symbol: String,
    /// Only trades that were settled then or later.
    #[arg(long, value_name = "MS")]
    pub(crate) from: Option<i64>,
    /// Only trades that were settled before.
    #[arg(long, value_name = "MS")]
    pub(crate) to: Option<i64>,
    #[command(flatten)]
    pub(crate) pages: PageArguments,
}

#[derive(Debug, Args)]
pub(crate) struct StatementArguments {
    /// The user.
    pub(crate) user: UserId,
    /// The asset: its name in the catalogue, or the number of one that is not in it.
    #[arg(long)]
    pub(crate) asset: String,
    /// Begins with the row that stood at that time.
    #[arg(long, value_name = "MS")]
    pub(crate) at: Option<i64>,
    #[command(flatten)]
    pub(crate) pages: PageArguments,
}

/// How much is shown, and in which order.
#[derive(Debug, Args)]
pub(crate) struct PageArguments {
    /// Rows that are shown at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
    /// The oldest row first.
    #[arg(long)]
    pub(crate) oldest_first: bool,
    /// Goes on where an earlier run ended.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
    /// For programs.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: ServiceReach,
}
