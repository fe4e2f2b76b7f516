//! The command that trades without customers: `ledger simulate`.

use clap::Args;

use super::ServiceReach;

/// Users of one simulation.
const USERS_MAX: i64 = 1_000_000;
/// Seeds of simulations.
const SEEDS: i64 = 1_000_000;

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Users, without the house that takes the fees.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=USERS_MAX))]
    pub(crate) users: u32,
    /// Trades, each with its holds, and now and then a withdrawal or a deposit.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) trades: u64,
    /// How unequal users are: the exponent of Zipf's law, 0 for equal ones.
    #[arg(long, value_name = "S", default_value_t = 0.99, value_parser = parse_exponent)]
    pub(crate) zipf: f64,
    /// Trades in a second at most; 0 for as many as the service takes.
    #[arg(long, value_name = "R", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) rate: u64,
    /// The plan. Each seed has users and ids of its own; the same command again repeats what was done and goes on.
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..SEEDS))]
    pub(crate) seed: u32,
    /// The market; else the first of the settings.
    #[arg(long, value_name = "SYMBOL")]
    pub(crate) symbol: Option<String>,
    /// Trades in one request.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) batch: u32,
    /// Requests at the same time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) at_once: u32,
    /// How long a request is sent again while the service does not answer it.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(crate) patience_s: u64,
    /// How long a place may lag at the end before it counts as different.
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) grace_ms: u64,
    /// For programs: one object, when it is done.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: ServiceReach,
}

fn parse_exponent(text: &str) -> Result<f64, String> {
    let exponent: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=10.0).contains(&exponent) {
        Ok(exponent)
    } else {
        Err("must be from 0 to 10".to_owned())
    }
}
