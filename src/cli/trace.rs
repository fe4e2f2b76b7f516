//! `get --trace`: what every part holds of a user, and why the balance looks as it does.
//!
//! **Invariants.** Nothing is written to Redis, the ledger or its file. The parts are asked before the service: a read of the
//! service may fill what was to be looked at.
//!
//! **Cancellation.** Nothing is kept.
//!
//! **Limits.** The parts are asked one after the other, not at one moment: on a user who is settled right now they may differ
//! by that.
//!
//! **Deliberately absent**: what memory holds of a user without reading it. The service says by its `Cache-Status` whether memory
//! answered, and an ordinary read is what asks it.

mod collect;
mod findings;
mod page;

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Result;
use balance_cache::{
    cache::redis::inspect::{Owner, UserKey},
    config::{ReadFrom, Settings},
    domain::{AssetId, Balance, Catalogue, UserId},
};
use serde::Serialize;

use super::{
    arguments::Get,
    client::ServiceClient,
    exit_code,
    output::{Unable, print_line, say_json},
    service_view::ServiceAnswer,
    start_runtime,
};

/// One balance as some part holds it, with amounts as people write them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TraceLine {
    seq: i64,
    avail: String,
    frozen: String,
    updated_at: Option<i64>,
}

impl TraceLine {
    fn from_balance(balance: &Balance, catalogue: &Catalogue) -> Self {
        let decimals = catalogue
            .get_asset(balance.asset)
            .map_or(0, |(_, decimals)| decimals);
        Self {
            seq: balance.seq.get(),
            avail: balance.avail.to_decimal(decimals).to_string(),
            frozen: balance.frozen.to_decimal(decimals).to_string(),
            updated_at: balance.updated_at.map(|at| at.0),
        }
    }

    fn both_amounts(&self) -> (&str, &str) {
        (&self.avail, &self.frozen)
    }
}

/// The holdings of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum PartHolding {
    /// It was not asked, and why.
    Unasked(String),
    /// It did not answer, and why.
    Failed(String),
    Lines(BTreeMap<AssetId, TraceLine>),
}

impl PartHolding {
    fn get(&self, asset: AssetId) -> Option<&TraceLine> {
        self.asset_lines()?.get(&asset)
    }

    fn asset_lines(&self) -> Option<&BTreeMap<AssetId, TraceLine>> {
        match self {
            Self::Lines(lines) => Some(lines),
            Self::Unasked(_) | Self::Failed(_) => None,
        }
    }
}

/// Everything that was seen.
#[derive(Debug)]
struct TraceFacts {
    user: UserId,
    /// By the clock of this machine, in ms.
    now: i64,
    read_from: ReadFrom,
    floor_ttl: i64,
    /// The identity of the source; none where it does not say.
    identity: Option<String>,
    ledger: PartHolding,
    view: PartHolding,
    table: PartHolding,
    redis: PartHolding,
    /// The ledger is somebody else's.
    is_mapped: bool,
    /// Balances of the ledger for which `postgres.balance_sql` answers something else.
    unlike: Vec<(AssetId, Option<TraceLine>)>,
    /// The key in Redis, and whose Redis it is.
    entry: Option<(UserKey, Owner)>,
    service: PartHolding,
    told: Option<ServiceAnswer>,
    /// Assets that the service shows by names that the catalogue here does not have.
    unnamed: Vec<String>,
    /// The newest rows of the assets in which something differs: seq and when it was made, the newest first.
    history: BTreeMap<AssetId, Vec<(i64, Option<i64>)>>,
    catalogue: Catalogue,
    /// The one asset that was asked for.
    only: Option<AssetId>,
}

impl TraceFacts {
    /// The parts by their names, the ledger first.
    fn named_holdings(&self) -> [(&'static str, &PartHolding); 5] {
        [
            ("ledger", &self.ledger),
            ("view", &self.view),
            ("table", &self.table),
            ("redis", &self.redis),
            ("service", &self.service),
        ]
    }

    fn asset_name(&self, asset: AssetId) -> String {
        let known = self.catalogue.get_asset(asset);
        known.map_or_else(|| asset.to_string(), |(name, _)| name)
    }

    /// Returns every asset that some part holds or that has a floor.
    fn seen_assets(&self) -> Vec<AssetId> {
        let mut assets: Vec<AssetId> = Vec::new();
        for (_, holding) in self.named_holdings() {
            assets.extend(holding.asset_lines().into_iter().flat_map(BTreeMap::keys));
        }
        assets.extend(self.redis_floors().map(|(asset, _, _)| asset));
        assets.sort();
        assets.dedup();
        assets.retain(|asset| self.only.is_none_or(|only| only == *asset));
        assets
    }

    /// Asset, seq and what is left of its life in ms.
    fn redis_floors(&self) -> impl Iterator<Item = (AssetId, i64, i64)> + '_ {
        let entry = self.entry.iter().filter_map(|(key, _)| match &key.held {
            balance_cache::cache::redis::inspect::KeyState::Entry(shown) => Some((shown, key.now)),
            _ => None,
        });
        entry.flat_map(|(shown, now)| {
            let floors = shown.floors.iter();
            floors.map(move |floor| {
                (
                    floor.asset,
                    floor.seq.get(),
                    floor.until.saturating_sub(now),
                )
            })
        })
    }
}

/// Shows what every part holds.
pub(crate) fn run_trace(what: &Get, settings: &Settings) -> Result<ExitCode> {
    let reach = &what.reach;
    let client = ServiceClient::of_service(reach, settings)?;
    let catalogue = Catalogue::new(&settings.assets, &settings.symbols)
        .map_err(|_| anyhow::anyhow!("the catalogue cannot be read"))?;
    let only = match &what.asset {
        None => None,
        Some(name) => Some(catalogue.resolve_asset(name).ok_or_else(|| {
            Unable(format!(
                "--asset {name}: neither in the catalogue nor the number of an asset outside it"
            ))
        })?),
    };
    let client = (!what.no_service).then_some(client);
    let seen = start_runtime()?.block_on(collect::collect_holdings(
        settings,
        what.user,
        only,
        catalogue,
        client.as_ref(),
    ));
    let findings = findings::find_oddities(&seen);
    if what.json {
        say_json(&page::json_page(&seen, &findings))?;
    } else {
        print_line(&page::text_page(&seen, &findings, client.as_ref()))?;
    }
    let failed = seen
        .named_holdings()
        .iter()
        .any(|(_, holding)| matches!(holding, PartHolding::Failed(_)));
    Ok(exit_code(!failed))
}
