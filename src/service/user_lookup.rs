//! The user look-up of the operators' page: what each tier holds of one user, and why a balance looks as it does.
//!
//! **Invariants.** Nothing is written and nothing is loaded into a tier: the ledger, Redis and memory are asked apart from the
//! read path. Only where `ops.user_lookup` allows it; amounts go to that page and nowhere else.
//!
//! **Limits.** One look-up at a time; each tier has [`PATIENCE`]. The tiers are asked one after the other, so a user who is
//! settled at this moment may differ by that.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::assembled::Assembled;
use crate::{
    cache::redis::inspect::{KeyState, RedisInspector},
    clock, config,
    domain::{AssetId, Balance, Catalogue, Seq, Snapshot, UserId},
};

/// How long one tier may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The holdings of one tier.
#[derive(Debug, Default)]
struct TierHolding {
    tier: &'static str,
    /// In words.
    state: String,
    /// None where it holds no snapshot, or cannot say.
    snapshot: Option<Snapshot>,
    /// It may not be served as it is.
    withheld: bool,
}

/// One balance, with its amounts as people write them.
#[derive(Serialize)]
struct HeldLine {
    asset: String,
    seq: i64,
    avail: String,
    frozen: String,
    updated_at: Option<i64>,
}

/// A sentence about what was seen.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct LookupFinding {
    /// It can be why a reader sees a wrong balance.
    bad: bool,
    text: String,
}

type KnownFloors = BTreeMap<AssetId, Seq>;

impl Assembled {
    /// The view of the user for the page; none where it is not allowed.
    pub(super) async fn look_up_user(&self, user: UserId) -> Option<Value> {
        let lookup = self.lookup.as_ref()?;
        let _turn = lookup.turn.lock().await;
        let mut floors: KnownFloors = self.change_log.floors_of(user).iter().collect();
        let memory = self.in_memory(user);
        let redis = in_redis(&lookup.redis, user, &mut floors).await;
        let view = timeout(PATIENCE, self.source.load_snapshot(user)).await;
        let view = holding_of("source", "as reads load it (source.read_from)", view);
        let held = [&memory, &redis, &view].into_iter();
        let assets = held.filter_map(|holding| holding.snapshot.as_ref());
        let mut assets: Vec<_> = assets.flat_map(Snapshot::asset_ids).collect();
        assets.extend(self.catalogue.asset_ids().chain(floors.keys().copied()));
        assets.sort();
        assets.dedup();
        let ledger = timeout(PATIENCE, self.source.load_latest(user, &assets)).await;
        let ledger = holding_of("ledger", "its newest rows", ledger);
        let findings = compare_tiers(&ledger, &[&memory, &redis, &view], &floors, &self.catalogue);
        let tiers = [&ledger, &view, &redis, &memory];
        Some(json!({
            // Beyond 2^53 a number would be another user's in a browser.
            "user": user.get().to_string(),
            "at": clock::wall_now().0,
            "tiers": tiers.map(|holding| holding.to_json(&self.catalogue)),
            "floors": floors.iter().map(|(asset, seq)| {
                json!({"asset": name_of(&self.catalogue, *asset), "seq": seq.get()})
            }).collect::<Vec<_>>(),
            "findings": findings,
        }))
    }

    fn in_memory(&self, user: UserId) -> TierHolding {
        let now = Instant::now();
        let Some(kept) = self.memory.get_entry(user, self.change_log.generation()) else {
            return TierHolding {
                tier: "memory",
                state: "nothing".to_owned(),
                ..TierHolding::default()
            };
        };
        let left = kept.until.saturating_duration_since(now);
        let proven = self.freshness.is_proven(now);
        let (withheld, state) = if kept.invalidated {
            (true, "not served: a newer seq was notified".to_owned())
        } else if left.is_zero() {
            (true, "not served: its time is over".to_owned())
        } else if !proven {
            (true, "not served now: freshness is not proven".to_owned())
        } else {
            (false, format!("served for {} s more", left.as_secs()))
        };
        TierHolding {
            tier: "memory",
            state,
            snapshot: Some(kept.held.read_snapshot()),
            withheld,
        }
    }
}

async fn in_redis(
    settings: &config::RedisSettings,
    user: UserId,
    floors: &mut KnownFloors,
) -> TierHolding {
    let tier = "redis";
    let state = |state: String| TierHolding {
        tier,
        state,
        ..TierHolding::default()
    };
    if settings.url.is_empty() {
        return state("there is no Redis".to_owned());
    }
    let asked = async {
        RedisInspector::open_connection(settings)
            .await?
            .read_user(user)
            .await
    };
    let key = match timeout(PATIENCE, asked).await {
        Ok(Ok(key)) => key,
        Ok(Err(trouble)) => return state(format!("could not be asked: {trouble}")),
        Err(_) => return state(format!("no answer in {} ms", PATIENCE.as_millis())),
    };
    let shown = match key.held {
        KeyState::Nothing => return state("nothing".to_owned()),
        KeyState::Foreign(why) => return state(format!("not ours, and replaced: {why}")),
        KeyState::Entry(shown) => shown,
    };
    for floor in &shown.floors {
        let known = floors.entry(floor.asset).or_insert(floor.seq);
        *known = (*known).max(floor.seq);
    }
    let left = shown.until.map_or(0, |until| until.saturating_sub(key.now));
    let withheld = !shown.whole || left <= 0;
    let said = match (shown.whole, left) {
        (false, _) => "floors and single balances, no whole snapshot".to_owned(),
        (true, ..=0) => "not served: the snapshot's time is over".to_owned(),
        (true, left) => format!("served for {} s more", left.div_euclid(1_000)),
    };
    TierHolding {
        tier,
        state: said,
        snapshot: Some(Snapshot::new(shown.balances)),
        withheld,
    }
}

fn holding_of<E: std::fmt::Display, T>(
    tier: &'static str,
    what: &str,
    answer: Result<Result<Snapshot, E>, T>,
) -> TierHolding {
    let (state, snapshot) = match answer {
        Ok(Ok(snapshot)) => (what.to_owned(), Some(snapshot)),
        Ok(Err(error)) => (format!("could not be asked: {error}"), None),
        Err(_) => (format!("no answer in {} ms", PATIENCE.as_millis()), None),
    };
    TierHolding {
        tier,
        state,
        snapshot,
        withheld: false,
    }
}

impl TierHolding {
    fn to_json(&self, catalogue: &Catalogue) -> Value {
        let balances = self.snapshot.iter().flat_map(Snapshot::balances);
        let lines: Vec<_> = balances
            .map(|balance| HeldLine::from_balance(balance, catalogue))
            .collect();
        json!({"tier": self.tier, "state": self.state, "balances": lines})
    }
}

impl HeldLine {
    fn from_balance(balance: &Balance, catalogue: &Catalogue) -> Self {
        let known = catalogue.get_asset(balance.asset);
        let decimals = known.map_or(0, |(_, decimals)| decimals);
        Self {
            asset: name_of(catalogue, balance.asset),
            seq: balance.seq.get(),
            avail: balance.avail.to_decimal(decimals).to_string(),
            frozen: balance.frozen.to_decimal(decimals).to_string(),
            updated_at: balance.updated_at.map(|at| at.0),
        }
    }
}

fn name_of(catalogue: &Catalogue, asset: AssetId) -> String {
    let known = catalogue.get_asset(asset);
    known.map_or_else(|| asset.to_string(), |(name, _)| name)
}

/// Differences between the ledger and the tiers, in sentences.
fn compare_tiers(
    ledger: &TierHolding,
    tiers: &[&TierHolding],
    floors: &KnownFloors,
    catalogue: &Catalogue,
) -> Vec<LookupFinding> {
    let Some(rows) = &ledger.snapshot else {
        let text = format!("The ledger {}; nothing can be compared.", ledger.state);
        return vec![LookupFinding { bad: true, text }];
    };
    let held = tiers.iter().filter_map(|tier| tier.snapshot.as_ref());
    let mut assets: Vec<_> = held.chain([rows]).flat_map(Snapshot::asset_ids).collect();
    assets.extend(floors.keys());
    assets.sort();
    assets.dedup();
    let mut found = Vec::new();
    for asset in &assets {
        let (name, row) = (name_of(catalogue, *asset), rows.get(*asset));
        let newest = row.map_or(0, |row| row.seq.get());
        let floor = floors.get(asset).map_or(0, |seq| seq.get());
        if floor > newest {
            found.push(LookupFinding { bad: true, text: format!(
                "{name}: a notification announced seq {floor}, and the ledger is at seq {newest}. Wait for the row; if the seq was a mistake, POST /api/v1/cache/invalidate with \"floors\":true."
            )});
        }
        for tier in tiers {
            found.extend(compare_balance(tier, &name, *asset, row, floor));
        }
    }
    if found.is_empty() {
        let text = if assets.is_empty() {
            "The ledger has no row of this user in any asset of the catalogue, and no tier holds one."
        } else {
            "Every tier that holds this user agrees with the ledger."
        };
        found.push(LookupFinding {
            bad: false,
            text: text.to_owned(),
        });
    }
    found
}

/// One tier's balance of one asset beside the ledger's row.
fn compare_balance(
    tier: &TierHolding,
    name: &str,
    asset: AssetId,
    row: Option<&Balance>,
    floor: i64,
) -> Option<LookupFinding> {
    let snapshot = tier.snapshot.as_ref()?;
    let held = snapshot.get(asset);
    let (seq, newest) = (
        held.map_or(0, |held| held.seq.get()),
        row.map_or(0, |row| row.seq.get()),
    );
    let (of, finding) = (tier.tier, |bad, text| Some(LookupFinding { bad, text }));
    if seq > newest {
        return finding(
            floor < seq,
            format!(
                "{name}: {of} holds seq {seq}, and the ledger is at seq {newest}: a notification ran ahead of its row, or the ledger lost rows."
            ),
        );
    }
    if seq == newest {
        let differ = held
            .zip(row)
            .is_some_and(|(held, row)| (held.avail, held.frozen) != (row.avail, row.frozen));
        return if differ {
            finding(
                true,
                format!(
                    "{name}: {of} has other amounts than the ledger under seq {seq}: something wrote past the ledger. POST /api/v1/cache/invalidate heals the tier."
                ),
            )
        } else {
            None
        };
    }
    if tier.withheld || floor >= newest || (held.is_none() && snapshot.balances().is_empty()) {
        return finding(
            false,
            format!(
                "{name}: {of} holds seq {seq} and the ledger seq {newest}; it is known to be behind and not served, the next read loads it."
            ),
        );
    }
    finding(
        true,
        format!(
            "{name}: {of} holds seq {seq} and the ledger seq {newest}, and no notification named seq {newest}. Was that settlement notified? POST /api/v1/cache/invalidate heals the user now."
        ),
    )
}

#[cfg(test)]
mod tests;
