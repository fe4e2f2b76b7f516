//! Explains a user's balances: one sentence for each difference between the parts.
//!
//! **Invariants.** The ledger is what others are compared with. Nothing here does I/O.

use std::collections::BTreeMap;

use balance_cache::{
    cache::redis::inspect::{KeyState, Owner, ShownEntry, UserKey},
    config::ReadFrom,
    domain::AssetId,
    ledger::scylla::inspect::HISTORY_MAX,
};
use serde::Serialize;

use super::{PartHolding, TraceFacts, TraceLine};
use crate::cli::output::span_text;

/// One sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct TraceFinding {
    /// The finding can explain a wrong balance; others are for information.
    pub(super) grave: bool,
    pub(super) said: String,
}

#[derive(Debug, Default)]
struct TraceFindings(Vec<TraceFinding>);

impl TraceFindings {
    fn add_grave(&mut self, said: impl Into<String>) {
        self.add_finding(true, said);
    }

    fn add_note(&mut self, said: impl Into<String>) {
        self.add_finding(false, said);
    }

    fn add_finding(&mut self, grave: bool, said: impl Into<String>) {
        self.0.push(TraceFinding {
            grave,
            said: said.into(),
        });
    }
}

/// Everything that is odd, what is grave first.
pub(super) fn find_oddities(seen: &TraceFacts) -> Vec<TraceFinding> {
    let mut found = TraceFindings::default();
    for (name, holding) in seen.named_holdings() {
        if let PartHolding::Failed(reason) = holding {
            found.add_grave(format!("{} could not be asked: {reason}", part_name(name)));
        }
    }
    check_derived(seen, &seen.view, "the view", ReadFrom::View, &mut found);
    check_derived(
        seen,
        &seen.table,
        "user_balances",
        ReadFrom::Table,
        &mut found,
    );
    if let Some((key, owner)) = &seen.entry {
        check_owner(seen, owner, key, &mut found);
        check_redis_entry(seen, key, owner, &mut found);
    }
    check_service(seen, &mut found);
    check_statements(seen, &mut found);
    if seen.ledger.asset_lines().is_some_and(BTreeMap::is_empty) {
        found.add_note(if seen.is_mapped {
            "postgres.balances_sql has no row of this user"
        } else {
            "the ledger has nothing of this user in the assets of the catalogue and in what is held"
        });
    }
    let TraceFindings(mut all) = found;
    all.sort_by_key(|finding| !finding.grave);
    all
}

fn part_name(part: &str) -> &'static str {
    match part {
        "ledger" => "the ledger",
        "view" => "the view",
        "table" => "user_balances",
        "redis" => "Redis",
        _ => "the service",
    }
}

/// "by 1 row of BTC: seq 17 vs 18, created 3 s ago"
fn describe_gap(seen: &TraceFacts, asset: AssetId, low: i64, high: &TraceLine) -> String {
    let past = seen.history.get(&asset);
    let missing = past.map_or(0, |rows| rows.iter().filter(|(seq, _)| *seq > low).count());
    let rows = match missing {
        0 => "rows".to_owned(),
        1 => "1 row".to_owned(),
        HISTORY_MAX => format!("{HISTORY_MAX} rows or more"),
        many => format!("{many} rows"),
    };
    let created = match high.updated_at {
        Some(at) => format!(", created {} ago", span_text(seen.now.saturating_sub(at))),
        None => String::new(),
    };
    let low = if low == 0 {
        "none".to_owned()
    } else {
        low.to_string()
    };
    format!(
        "by {rows} of {}: seq {low} vs {}{created}",
        seen.asset_name(asset),
        high.seq
    )
}

/// Compares what is derived from the ledger with it.
fn check_derived(
    seen: &TraceFacts,
    place: &PartHolding,
    name: &str,
    read_as: ReadFrom,
    found: &mut TraceFindings,
) {
    let (Some(held), Some(ledger)) = (place.asset_lines(), seen.ledger.asset_lines()) else {
        return;
    };
    let is_read = seen.read_from == read_as;
    if held.is_empty() && !ledger.is_empty() && !is_read {
        found.add_note(format!(
            "{name} has nothing of this user; it is not what is read (source.read_from)"
        ));
        return;
    }
    for asset in seen.seen_assets() {
        let said = match (held.get(&asset), ledger.get(&asset)) {
            (None, Some(line)) => {
                format!(
                    "{name} is behind the ledger {}",
                    describe_gap(seen, asset, 0, line)
                )
            }
            (Some(line), None) => format!(
                "{name} has {} at seq {}, and the ledger has no row of it: it was deleted there, or never written",
                seen.asset_name(asset),
                line.seq
            ),
            (Some(line), Some(truth)) if line.seq < truth.seq => {
                format!(
                    "{name} is behind the ledger {}",
                    describe_gap(seen, asset, line.seq, truth)
                )
            }
            (Some(line), Some(truth)) if line.seq > truth.seq => format!(
                "{name} is ahead of the ledger in {}: seq {} vs {}: it was written past the ledger, or the ledger lost rows",
                seen.asset_name(asset),
                line.seq,
                truth.seq
            ),
            (Some(line), Some(truth)) if line.both_amounts() != truth.both_amounts() => format!(
                "{name} and the ledger differ in the amounts of {} at seq {}: one of them was changed by hand, and the ledger \
                 is right by definition",
                seen.asset_name(asset),
                line.seq
            ),
            (Some(_), Some(_)) | (None, None) => continue,
        };
        found.add_finding(is_read, said);
    }
}

/// Compares the statement for one asset with that for all of them.
fn check_statements(seen: &TraceFacts, found: &mut TraceFindings) {
    for (asset, one) in &seen.unlike {
        let held = |line: Option<&TraceLine>| {
            line.map_or_else(
                || "nothing".to_owned(),
                |line| format!("seq {} ({}, {})", line.seq, line.avail, line.frozen),
            )
        };
        found.add_grave(format!(
            "postgres.balance_sql has {} of {}, postgres.balances_sql has {}: they have to answer the same",
            held(one.as_ref()),
            seen.asset_name(*asset),
            held(seen.ledger.get(*asset))
        ));
    }
}

/// Whether Redis is this deployment's, and how much it can remember.
fn check_owner(seen: &TraceFacts, owner: &Owner, key: &UserKey, found: &mut TraceFindings) {
    if let (Some(theirs), Some(ours)) = (&owner.source, &seen.identity)
        && theirs != ours
    {
        found.add_grave(format!(
            "this Redis and namespace hold the balances of another source ({theirs}, here it is {ours}): no instance of \
             this deployment uses them; give it a redis.namespace of its own"
        ));
    }
    if let Some(epoch) = &owner.epoch {
        let age = key.now.saturating_sub(epoch.birth);
        if age < seen.floor_ttl {
            found.add_note(format!(
                "Redis began anew {} ago: until it is {} old it may have forgotten floors, and loads ask the ledger too",
                span_text(age),
                span_text(seen.floor_ttl)
            ));
        }
    }
}

fn check_redis_entry(seen: &TraceFacts, key: &UserKey, owner: &Owner, found: &mut TraceFindings) {
    if key.ttl.is_none() && key.held != KeyState::Nothing {
        found.add_note(format!(
            "{} has no end: somebody took its TTL away",
            key.key
        ));
    }
    let shown = match &key.held {
        KeyState::Nothing => {
            found.add_note("Redis holds nothing of this user: a read that memory does not answer goes to the source");
            return;
        }
        KeyState::Foreign(why) => {
            found.add_grave(format!("what Redis holds under {} cannot be read ({why}): it is a miss, and the next fill replaces it", key.key));
            return;
        }
        KeyState::Entry(shown) => shown,
    };
    let served = is_servable(key, shown, owner, found);
    below_floors(seen, shown, found);
    for (asset, until) in &shown.rereads {
        let what = asset.map_or_else(
            || "every asset of this user".to_owned(),
            |asset| seen.asset_name(asset),
        );
        found.add_note(format!(
            "a notification without a seq came: {what} is read from the ledger by the next load (remembered for {} more)",
            span_text(until.saturating_sub(key.now))
        ));
    }
    against_ledger(seen, key, shown, served, found);
}

/// Whether the entry as such may be shown; floors apart.
fn is_servable(
    key: &UserKey,
    shown: &ShownEntry,
    owner: &Owner,
    found: &mut TraceFindings,
) -> bool {
    let epoch = owner.epoch.as_ref().map(|epoch| epoch.id.as_str());
    if epoch.is_some_and(|epoch| epoch != shown.epoch) {
        found.add_note("what Redis holds was written in another life of it: it won't be served");
        return false;
    }
    if !shown.whole {
        found.add_note("what Redis holds is not a whole snapshot (floors, or balances that notifications brought): it won't be served");
        return false;
    }
    let left = shown.until.unwrap_or(0).saturating_sub(key.now);
    if left <= 0 {
        let ago = span_text(left.saturating_neg());
        found.add_note(format!(
            "the snapshot in Redis ended {ago} ago: it won't be served"
        ));
        return false;
    }
    true
}

fn below_floors(seen: &TraceFacts, shown: &ShownEntry, found: &mut TraceFindings) {
    for (asset, floor, left) in seen.redis_floors() {
        let name = seen.asset_name(asset);
        if seen.only.is_some_and(|only| only != asset) {
            continue;
        }
        let held = shown.balances.iter().find(|balance| balance.asset == asset);
        let held = held.map_or(0, |balance| balance.seq.get());
        let ledger = seen.ledger.get(asset).map_or(0, |line| line.seq);
        if held < floor {
            let what = if held == 0 {
                "no".to_owned()
            } else {
                format!("seq {held} of")
            };
            found.add_grave(format!(
                "Redis holds {what} {name}, below its floor {floor}: it won't be served (the floor lasts {} more)",
                span_text(left)
            ));
        }
        if seen.ledger.asset_lines().is_some() && ledger < floor && held < floor {
            found.add_grave(format!(
                "the floor of {name} is {floor} and the ledger is at {ledger}: reads say detail=behind until the row comes. A floor \
                 that was a mistake is healed by POST /api/v1/cache/invalidate with \"floors\":true"
            ));
        }
    }
}

fn against_ledger(
    seen: &TraceFacts,
    key: &UserKey,
    shown: &ShownEntry,
    served: bool,
    found: &mut TraceFindings,
) {
    let Some(ledger) = seen.ledger.asset_lines() else {
        return;
    };
    let left = span_text(shown.until.unwrap_or(0).saturating_sub(key.now));
    for asset in seen.seen_assets() {
        let name = seen.asset_name(asset);
        let floor = seen
            .redis_floors()
            .find(|floor| floor.0 == asset)
            .map_or(0, |floor| floor.1);
        match (seen.redis.get(asset), ledger.get(&asset)) {
            (Some(held), Some(truth)) if held.seq < truth.seq && held.seq >= floor => found.add_finding(
                served,
                format!(
                    "Redis is behind the ledger {}, and no floor says so: nobody notified seq {}{}",
                    describe_gap(seen, asset, held.seq, truth),
                    truth.seq,
                    if served { format!(". It is served until the snapshot ends in {left}") } else { String::new() }
                ),
            ),
            (Some(held), truth) if held.seq > truth.map_or(0, |truth| truth.seq) => found.add_grave(format!(
                "Redis is ahead of the ledger in {name}: seq {} vs {}: a notification came before its row, or one came that no \
                 row will follow",
                held.seq,
                truth.map_or(0, |truth| truth.seq)
            )),
            (Some(held), Some(truth)) if held.seq == truth.seq && held.both_amounts() != truth.both_amounts() => {
                found.add_grave(format!(
                    "Redis and the ledger differ in the amounts of {name} at seq {}: a notification brought other amounts than the \
                     ledger has, or somebody wrote into Redis; heal it with POST /api/v1/cache/invalidate",
                    held.seq
                ));
            }
            (None, Some(truth)) if served => found.add_grave(format!(
                "the snapshot in Redis lacks {name}, of which the ledger has seq {}: it is served without it for {left}",
                truth.seq
            )),
            _ => {}
        }
    }
}

fn check_service(seen: &TraceFacts, found: &mut TraceFindings) {
    let Some(told) = &seen.told else { return };
    let way = &told.way;
    if way.contains("detail=behind") {
        found.add_grave("the service says detail=behind: it knows of a newer seq that neither it nor the ledger has");
    }
    if way.contains("detail=stale") {
        found.add_grave("the service says detail=stale: its source is down, and it shows what it knew last (stale.enabled)");
    }
    for name in &seen.unnamed {
        found.add_grave(format!(
            "the service shows {name}, which [[assets]] here does not name: ask with the settings that it runs with"
        ));
    }
    let (Some(shown), Some(ledger)) = (seen.service.asset_lines(), seen.ledger.asset_lines())
    else {
        return;
    };
    let who = way.split([';', ',']).next().unwrap_or_default();
    for asset in seen.seen_assets() {
        let name = seen.asset_name(asset);
        match (shown.get(&asset), ledger.get(&asset)) {
            (None, Some(truth)) => found.add_grave(format!(
                "the service ({who}) does not show {name} at all; the ledger has seq {}",
                truth.seq
            )),
            (Some(line), Some(truth)) if line.seq < truth.seq => found.add_grave(format!(
                "the service ({who}) is behind the ledger {}: was that settlement notified? (POST /api/v1/settlements, or the \
                 settlement stream)",
                describe_gap(seen, asset, line.seq, truth)
            )),
            (Some(line), truth) if line.seq > truth.map_or(0, |truth| truth.seq) => found.add_grave(format!(
                "the service ({who}) is ahead of the ledger in {name}: seq {} vs {}",
                line.seq,
                truth.map_or(0, |truth| truth.seq)
            )),
            (Some(line), Some(truth)) if line.both_amounts() != truth.both_amounts() => found.add_grave(format!(
                "the service ({who}) and the ledger differ in the amounts of {name} at seq {}; compare [[assets]] here and there \
                 too: other decimals look like this",
                line.seq
            )),
            _ => {}
        }
    }
}
