//! Asks every part what it holds of a user.

use std::{collections::BTreeMap, sync::Arc};

use balance_cache::{
    cache::redis::inspect::{KeyState, RedisInspector as Redis},
    clock,
    config::{ReadFrom, Settings, SourceKind},
    domain::{AssetId, Catalogue, Snapshot, UserId},
    ledger::{
        LedgerError,
        embedded::{OpenError, OpenErrorKind},
        postgres::{inspect::PgLook, mapped::MappedLook},
        scylla::{
            inspect::{CqlInspector as Database, HISTORY_MAX},
            schema::RelationState,
        },
    },
};

use super::{PartHolding, TraceFacts, TraceLine};
use crate::cli::{client::ServiceClient, ledger_file, service_view};

/// Asks Redis, then the source, then the service.
pub(super) async fn collect_holdings(
    settings: &Settings,
    user: UserId,
    only: Option<AssetId>,
    catalogue: Catalogue,
    client: Option<&ServiceClient>,
) -> TraceFacts {
    let unasked = |why: &str| PartHolding::Unasked(why.to_owned());
    let mut seen = TraceFacts {
        user,
        now: 0,
        read_from: settings.source.read_from,
        floor_ttl: i64::try_from(settings.settlement.floor_ttl_ms.as_millis()).unwrap_or(i64::MAX),
        identity: None,
        ledger: unasked("not asked"),
        view: unasked("not asked"),
        table: unasked("not asked"),
        is_mapped: settings.shows_balances_only(),
        unlike: Vec::new(),
        redis: unasked("redis.url is empty: there is no Redis tier"),
        entry: None,
        service: unasked("not asked (--no-service)"),
        told: None,
        unnamed: Vec::new(),
        history: BTreeMap::new(),
        catalogue,
        only,
    };
    if !settings.redis.url.is_empty() {
        collect_redis(&mut seen, settings).await;
    }
    match settings.source.kind {
        SourceKind::Scylla => collect_database(&mut seen, settings).await,
        SourceKind::Postgres if seen.is_mapped => look_into_mapped(&mut seen, settings).await,
        SourceKind::Postgres => look_into_postgres(&mut seen, settings).await,
        SourceKind::Embedded => collect_file(&mut seen, settings).await,
    }
    if let Some(client) = client {
        collect_service(&mut seen, client).await;
    }
    seen.now = clock::wall_now().0;
    seen
}

fn snapshot_lines(snapshot: &Snapshot, catalogue: &Catalogue) -> PartHolding {
    let balances = snapshot.balances().iter();
    PartHolding::Lines(
        balances
            .map(|balance| (balance.asset, TraceLine::from_balance(balance, catalogue)))
            .collect(),
    )
}

fn holding_of(answer: Result<Snapshot, LedgerError>, catalogue: &Catalogue) -> PartHolding {
    match answer {
        Ok(snapshot) => snapshot_lines(&snapshot, catalogue),
        Err(error) => PartHolding::Failed(error.to_string()),
    }
}

async fn collect_redis(seen: &mut TraceFacts, settings: &Settings) {
    let asked = async {
        let look = Redis::open_connection(&settings.redis).await?;
        futures::try_join!(look.read_user(seen.user), look.read_owner())
    };
    match asked.await {
        Err(trouble) => seen.redis = PartHolding::Failed(trouble.to_string()),
        Ok((key, owner)) => {
            let snapshot = match &key.held {
                KeyState::Entry(shown) => Snapshot::new(shown.balances.clone()),
                KeyState::Nothing | KeyState::Foreign(_) => Snapshot::default(),
            };
            seen.redis = snapshot_lines(&snapshot, &seen.catalogue);
            seen.entry = Some((key, owner));
        }
    }
}

async fn collect_database(seen: &mut TraceFacts, settings: &Settings) {
    let look = match Database::open_session(&settings.scylla, &settings.source).await {
        Ok(look) => look,
        Err(trouble) => {
            let failed = PartHolding::Failed(trouble.to_string());
            (seen.ledger, seen.view, seen.table) = (failed.clone(), failed.clone(), failed);
            return;
        }
    };
    seen.identity.clone_from(&look.found.identity);
    let holding = |answer| holding_of(answer, &seen.catalogue);
    let (view, table) = tokio::join!(look.read_view(seen.user), look.read_table(seen.user));
    let view = if look.found.view == RelationState::Missing {
        PartHolding::Unasked("there is no view".to_owned())
    } else {
        holding(view)
    };
    let table = holding(table);
    (seen.view, seen.table) = (view, table);
    // A ledger cannot be listed by user: whatever is known is asked for.
    let mut assets: Vec<AssetId> = seen
        .catalogue
        .asset_ids()
        .chain(seen.seen_assets())
        .collect();
    assets.extend(seen.only);
    assets.sort();
    assets.dedup();
    let ledger = look.read_ledger(seen.user, &assets).await;
    seen.ledger = holding_of(ledger, &seen.catalogue);
    for asset in differing_assets(seen) {
        if let Ok(past) = look.read_history(seen.user, asset).await {
            let rows = past
                .iter()
                .map(|row| (row.seq.get(), row.created_at.map(|at| at.0)));
            seen.history.insert(asset, rows.collect());
        }
    }
}

async fn look_into_postgres(seen: &mut TraceFacts, settings: &Settings) {
    let none = "PostgreSQL needs none: loads read the newest rows of the ledger by its key";
    seen.view = PartHolding::Unasked(none.to_owned());
    if seen.read_from == ReadFrom::View {
        seen.read_from = ReadFrom::Ledger;
    }
    let look = match PgLook::open_schema(&settings.postgres, &settings.source).await {
        Ok(look) => look,
        Err(trouble) => {
            let failed = PartHolding::Failed(trouble.to_string());
            (seen.ledger, seen.table) = (failed.clone(), failed);
            return;
        }
    };
    seen.identity.clone_from(&look.found.identity);
    let holding = |answer| holding_of(answer, &seen.catalogue);
    let (ledger, table) = tokio::join!(look.read_ledger(seen.user), look.read_table(seen.user));
    let (ledger, table) = (holding(ledger), holding(table));
    (seen.ledger, seen.table) = (ledger, table);
    for asset in differing_assets(seen) {
        if let Ok(past) = look.read_history(seen.user, asset, HISTORY_MAX).await {
            seen.history.insert(asset, past);
        }
    }
}

/// Asks the statements for tables of another shape.
async fn look_into_mapped(seen: &mut TraceFacts, settings: &Settings) {
    seen.read_from = ReadFrom::Ledger;
    let none = "postgres.balances_sql reads the ledger itself: there is nothing between";
    seen.view = PartHolding::Unasked(none.to_owned());
    seen.table = seen.view.clone();
    let asked = async {
        let catalogue = Catalogue::new(&settings.assets, &settings.symbols);
        let catalogue = Arc::new(catalogue.map_err(|_| "the catalogue cannot be read".to_owned())?);
        let opened = MappedLook::open(&settings.postgres, &settings.source, &catalogue).await;
        let look = opened.map_err(|trouble| trouble.to_string())?;
        let identity = look.identity.clone();
        let answer = look.read_balances(seen.user).await;
        let balances = answer.map_err(|error| error.to_string())?;
        let unlike = look.find_unlike(seen.user, &balances).await;
        let unlike = unlike.map_err(|error| error.to_string())?;
        Ok::<_, String>((identity, balances, unlike))
    };
    match asked.await {
        Err(reason) => seen.ledger = PartHolding::Failed(reason),
        Ok((identity, balances, unlike)) => {
            seen.identity = Some(identity);
            seen.ledger = snapshot_lines(&balances, &seen.catalogue);
            let line = |balance| TraceLine::from_balance(balance, &seen.catalogue);
            let unlike = unlike.iter();
            seen.unlike = unlike
                .map(|(balance, one)| (balance.asset, one.as_ref().map(line)))
                .collect();
        }
    }
}

/// Returns the assets whose seqs are not the same in all parts.
fn differing_assets(seen: &TraceFacts) -> Vec<AssetId> {
    let seqs = |asset: AssetId| {
        let holdings = seen.named_holdings();
        let held = holdings
            .iter()
            .filter_map(|(_, holding)| holding.asset_lines());
        let seqs: Vec<_> = held
            .map(|lines| lines.get(&asset).map(|line| line.seq))
            .collect();
        seqs
    };
    let mut assets = seen.seen_assets();
    assets.retain(|asset| {
        let seqs = seqs(*asset);
        seqs.iter().any(|seq| Some(seq) != seqs.first())
    });
    assets
}

async fn collect_file(seen: &mut TraceFacts, settings: &Settings) {
    let none = "the embedded ledger has none: what is read is its current state, user_balances";
    (seen.view, seen.read_from) = (PartHolding::Unasked(none.to_owned()), ReadFrom::Table);
    let (path, user) = (settings.embedded.path.clone(), seen.user);
    let read = move || -> Result<_, OpenError> {
        let look = ledger_file::open_checked(&path)?;
        let mut history = BTreeMap::new();
        let ledger = look.read_ledger(user);
        for balance in ledger.iter().flat_map(Snapshot::balances) {
            let past = look.read_history(user, balance.asset, HISTORY_MAX);
            history.insert(balance.asset, past.unwrap_or_default());
        }
        Ok((look.read_identity(), ledger, look.read_table(user), history))
    };
    let holding = |answer| holding_of(answer, &seen.catalogue);
    let (ledger, table) = match tokio::task::spawn_blocking(read).await {
        Ok(Ok((identity, ledger, table, history))) => {
            seen.identity = identity.ok();
            seen.history = history;
            (holding(ledger), holding(table))
        }
        Ok(Err(error)) if error.kind == OpenErrorKind::Missing => {
            let why = PartHolding::Unasked(error.to_string());
            (why.clone(), why)
        }
        Ok(Err(error)) => {
            let why = PartHolding::Failed(error.to_string());
            (why.clone(), why)
        }
        Err(error) => (
            PartHolding::Failed(error.to_string()),
            PartHolding::Failed(error.to_string()),
        ),
    };
    (seen.ledger, seen.table) = (ledger, table);
}

async fn collect_service(seen: &mut TraceFacts, client: &ServiceClient) {
    let told = match service_view::ask_balances(client, seen.user, None).await {
        Ok(told) => told,
        Err(unanswered) => {
            seen.service = PartHolding::Failed(unanswered.to_string());
            return;
        }
    };
    seen.service = match &told.balances {
        Err(reason) => PartHolding::Failed(reason.clone()),
        Ok(balances) => {
            let line = |balance: &service_view::ShownBalance| TraceLine {
                seq: balance.seq,
                avail: balance.avail.clone(),
                frozen: balance.frozen.clone(),
                updated_at: balance.updated_at,
            };
            let mut known = BTreeMap::new();
            for balance in balances {
                match seen.catalogue.resolve_asset(&balance.asset) {
                    Some(asset) => drop(known.insert(asset, line(balance))),
                    None => seen.unnamed.push(balance.asset.clone()),
                }
            }
            PartHolding::Lines(known)
        }
    };
    seen.told = Some(told);
}
