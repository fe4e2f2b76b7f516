//! The collected facts, as a page for people and as JSON.

use balance_cache::{cache::redis::inspect::KeyState, config::ReadFrom, domain::AssetId};
use serde_json::{Map, Value, json};

use super::{PartHolding, TraceFacts, TraceLine, findings::TraceFinding};
use crate::cli::{
    client::ServiceClient,
    output::{BAD, Cell, FAINT, GOOD, ODD, Table, moment_text, paint_text, span_text},
    service_view,
};

/// For people.
pub(super) fn text_page(
    seen: &TraceFacts,
    findings: &[TraceFinding],
    client: Option<&ServiceClient>,
) -> String {
    let mut lines = vec![format!("user {} at {}", seen.user, moment_text(seen.now))];
    lines.extend(
        seen.identity
            .as_ref()
            .map(|identity| format!("source   {identity}")),
    );
    if let Some(client) = client {
        lines.push(format!("service  {}", client.base_url()));
    }
    lines.push(balance_table(seen).to_string());
    lines.extend(part_sentences(seen));
    for finding in findings {
        let mark = if finding.grave {
            paint_text(BAD, "!")
        } else {
            paint_text(FAINT, "·")
        };
        lines.push(format!("{mark} {}", finding.said));
    }
    if !findings.iter().any(|finding| finding.grave) {
        lines.push(paint_text(GOOD, "all that were asked agree"));
    }
    lines.join("\n")
}

fn balance_table(seen: &TraceFacts) -> Table {
    let mut table = Table::new(&[
        "ASSET", "TIER", ">SEQ", ">AVAIL", ">FROZEN", "UPDATED", ">AGE", "NOTE",
    ]);
    for asset in seen.seen_assets() {
        let mut name = seen.asset_name(asset);
        for (tier, holding) in seen.named_holdings() {
            if holding.asset_lines().is_none() {
                continue;
            }
            let line = holding.get(asset);
            let (note, style) = balance_note(seen, tier, asset, line);
            let text = |text: Option<String>| {
                Cell::with_style(text.unwrap_or_else(|| "-".to_owned()), style)
            };
            let at = line.and_then(|line| line.updated_at);
            table.add_row(vec![
                Cell::new(std::mem::take(&mut name)),
                Cell::new(tier),
                text(line.map(|line| line.seq.to_string())),
                text(line.map(|line| line.avail.clone())),
                text(line.map(|line| line.frozen.clone())),
                Cell::new(at.map_or_else(|| "-".to_owned(), moment_text)),
                Cell::new(at.map_or_else(
                    || "-".to_owned(),
                    |at| span_text(seen.now.saturating_sub(at)),
                )),
                Cell::with_style(note, style),
            ]);
        }
    }
    table
}

/// The mark of one balance: how it differs, and its floor.
fn balance_note(
    seen: &TraceFacts,
    tier: &str,
    asset: AssetId,
    line: Option<&TraceLine>,
) -> (String, anstyle::Style) {
    let mut said = Vec::new();
    let truth = seen.ledger.get(asset);
    let mut style = anstyle::Style::new();
    if tier != "ledger" && seen.ledger.asset_lines().is_some() {
        let (held, newest) = (
            line.map_or(0, |line| line.seq),
            truth.map_or(0, |line| line.seq),
        );
        let word = match (held, newest) {
            (0, 1..) => "absent",
            (held, newest) if held < newest => "behind",
            (held, newest) if held > newest => "ahead",
            _ if line.map(TraceLine::both_amounts) != truth.map(TraceLine::both_amounts) => {
                "other amounts"
            }
            _ => "",
        };
        if !word.is_empty() {
            said.push(format!("≠ {word}"));
            style = ODD;
        }
    }
    if tier == "redis"
        && let Some((_, floor, left)) = seen.redis_floors().find(|floor| floor.0 == asset)
    {
        let below = line.map_or(0, |line| line.seq) < floor;
        let not = if below { " > seq" } else { "" };
        said.push(format!("floor {floor}{not} ({} left)", span_text(left)));
        if below {
            style = BAD;
        }
    }
    (said.join(", "), style)
}

/// The sentences on the parts beside their balances.
fn part_sentences(seen: &TraceFacts) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((key, owner)) = &seen.entry {
        let held = match &key.held {
            KeyState::Nothing => "nothing".to_owned(),
            KeyState::Foreign(why) => format!("not readable: {why}"),
            KeyState::Entry(shown) => {
                let what = if shown.whole {
                    "a whole snapshot"
                } else {
                    "no whole snapshot"
                };
                let ends = shown.until.map(|until| until.saturating_sub(key.now));
                let ends = match ends {
                    Some(left) if left > 0 => format!(", good for {}", span_text(left)),
                    Some(left) => format!(", ended {} ago", span_text(left.saturating_neg())),
                    None => String::new(),
                };
                let lease = shown.lease_until.map_or_else(String::new, |until| {
                    format!(
                        "; somebody loads (lease for {} more)",
                        span_text(until.saturating_sub(key.now))
                    )
                });
                format!("{what}{ends}{lease}")
            }
        };
        let ttl = key.ttl.and_then(|ttl| i64::try_from(ttl.as_millis()).ok());
        let rest = ttl.map_or_else(String::new, |ttl| {
            format!("; the key lives {} more", span_text(ttl))
        });
        let epoch = owner.epoch.as_ref().map_or_else(
            || "no instance has used it yet".to_owned(),
            |epoch| {
                format!(
                    "unbroken for {}",
                    span_text(key.now.saturating_sub(epoch.birth))
                )
            },
        );
        lines.push(format!("redis    {}: {held}{rest}; {epoch}", key.key));
    }
    if let Some(told) = &seen.told {
        let way = paint_text(FAINT, &format!("({})", told.way));
        let age = told
            .age
            .map_or_else(String::new, |age| format!(", as of {age} s ago"));
        lines.push(format!(
            "service  {}{age} {way}",
            service_view::in_words(&told.way)
        ));
    }
    for (name, holding) in seen.named_holdings() {
        if let PartHolding::Unasked(why) = holding {
            lines.push(format!("{name:8} {why}"));
        }
    }
    let from = match seen.read_from {
        ReadFrom::Ledger if seen.is_mapped => "somebody else's ledger, by postgres.balances_sql",
        ReadFrom::View => "the view, user_balances_by_user",
        ReadFrom::Table => "the table, user_balances",
        ReadFrom::Ledger => "the ledger, balance_ledger",
    };
    lines.push(format!("loads    read {from}"));
    lines
}

/// For programs.
pub(super) fn json_page(seen: &TraceFacts, findings: &[TraceFinding]) -> Value {
    let holding = |holding: &PartHolding| match holding {
        PartHolding::Unasked(why) => json!({ "unasked": why }),
        PartHolding::Failed(why) => json!({ "failed": why }),
        PartHolding::Lines(lines) => lines
            .iter()
            .map(|(asset, line)| (seen.asset_name(*asset), json!(line)))
            .collect::<Map<_, _>>()
            .into(),
    };
    let tiers = seen
        .named_holdings()
        .map(|(name, held)| (name.to_owned(), holding(held)));
    json!({
        "user": seen.user.get(),
        "at": seen.now,
        "identity": seen.identity,
        "tiers": tiers.into_iter().collect::<Map<_, _>>(),
        "redis": redis_json(seen),
        "cache_status": seen.told.as_ref().map(|told| told.way.as_str()),
        "findings": findings,
    })
}

fn redis_json(seen: &TraceFacts) -> Option<Value> {
    let (key, owner) = seen.entry.as_ref()?;
    let epoch = owner.epoch.as_ref().map(|epoch| epoch.id.as_str());
    let shown = match &key.held {
        KeyState::Entry(shown) => Some(shown),
        KeyState::Nothing | KeyState::Foreign(_) => None,
    };
    let floors = seen.redis_floors().map(|(asset, seq, left)| {
        let floor = json!({ "seq": seq, "left_ms": left });
        (seen.asset_name(asset), floor)
    });
    Some(json!({
        "key": key.key,
        "ttl_ms": key.ttl.and_then(|ttl| i64::try_from(ttl.as_millis()).ok()),
        "source": owner.source,
        "epoch": epoch,
        "whole": shown.map(|shown| shown.whole),
        "good_for_ms": shown.and_then(|shown| shown.until).map(|until| until.saturating_sub(key.now)),
        "of_this_epoch": shown.map(|shown| epoch == Some(shown.epoch.as_str())),
        "floors": floors.collect::<Map<_, _>>(),
    }))
}
