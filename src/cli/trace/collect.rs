//! Asks every part what it holds of a user.

use std::collections::BTreeMap;

use balance_cache::{
    cache::redis::inspect::{Held, Look as Redis},
    clock,
    config::{ReadFrom, Settings, SourceKind},
    domain::{AssetId, Catalogue, Snapshot, UserId},
    ledger::{
        self,
        embedded::{OpenError, OpenErrorKind},
        postgres::inspect::PgLook,
        scylla::{
            inspect::{HISTORY_MAX, Look as Database},
            schema::Standing,
        },
    },
};

use super::{Holding, Line, Seen};
use crate::cli::{client::Client, ledger_file, service_view};

/// Asks Redis, then the source, then the service.
pub(super) async fn gather(
    settings: &Settings,
    user: UserId,
    only: Option<AssetId>,
    catalogue: Catalogue,
    client: Option<&Client>,
) -> Seen {
    let unasked = |why: &str| Holding::Unasked(why.to_owned());
    let mut seen = Seen {
        user,
        now: 0,
        read_from: settings.source.read_from,
        floor_ttl: i64::try_from(settings.settlement.floor_ttl_ms.as_millis()).unwrap_or(i64::MAX),
        identity: None,
        ledger: unasked("not asked"),
        view: unasked("not asked"),
        table: unasked("not asked"),
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
        redis(&mut seen, settings).await;
    }
    match settings.source.kind {
        SourceKind::Scylla => database(&mut seen, settings).await,
        SourceKind::Postgres => look_into_postgres(&mut seen, settings).await,
        SourceKind::Embedded => file(&mut seen, settings).await,
    }
    if let Some(client) = client {
        service(&mut seen, client).await;
    }
    seen.now = clock::wall().0;
    seen
}

fn lines(snapshot: &Snapshot, catalogue: &Catalogue) -> Holding {
    let balances = snapshot.balances().iter();
    Holding::Lines(
        balances
            .map(|balance| (balance.asset, Line::of(balance, catalogue)))
            .collect(),
    )
}

async fn redis(seen: &mut Seen, settings: &Settings) {
    let asked = async {
        let look = Redis::open(&settings.redis).await?;
        futures::try_join!(look.user(seen.user), look.owner())
    };
    match asked.await {
        Err(trouble) => seen.redis = Holding::Failed(trouble.to_string()),
        Ok((key, owner)) => {
            let snapshot = match &key.held {
                Held::Entry(shown) => Snapshot::new(shown.balances.clone()),
                Held::Nothing | Held::Foreign(_) => Snapshot::default(),
            };
            seen.redis = lines(&snapshot, &seen.catalogue);
            seen.entry = Some((key, owner));
        }
    }
}

async fn database(seen: &mut Seen, settings: &Settings) {
    let look = match Database::open(&settings.scylla, &settings.source).await {
        Ok(look) => look,
        Err(trouble) => {
            let failed = Holding::Failed(trouble.to_string());
            (seen.ledger, seen.view, seen.table) = (failed.clone(), failed.clone(), failed);
            return;
        }
    };
    seen.identity.clone_from(&look.found.identity);
    let holding = |answer: Result<Snapshot, ledger::Error>| match answer {
        Ok(snapshot) => lines(&snapshot, &seen.catalogue),
        Err(error) => Holding::Failed(error.to_string()),
    };
    let (view, table) = tokio::join!(look.view(seen.user), look.table(seen.user));
    let view = if look.found.view == Standing::Missing {
        Holding::Unasked("there is no view".to_owned())
    } else {
        holding(view)
    };
    let table = holding(table);
    (seen.view, seen.table) = (view, table);
    // A ledger cannot be listed by user: whatever is known is asked for.
    let mut assets: Vec<AssetId> = seen.catalogue.ids().chain(seen.assets()).collect();
    assets.extend(seen.only);
    assets.sort();
    assets.dedup();
    seen.ledger = match look.ledger(seen.user, &assets).await {
        Ok(snapshot) => lines(&snapshot, &seen.catalogue),
        Err(error) => Holding::Failed(error.to_string()),
    };
    for asset in odd(seen) {
        if let Ok(past) = look.history(seen.user, asset).await {
            let rows = past
                .iter()
                .map(|row| (row.seq.get(), row.created_at.map(|at| at.0)));
            seen.history.insert(asset, rows.collect());
        }
    }
}

async fn look_into_postgres(seen: &mut Seen, settings: &Settings) {
    let none = "PostgreSQL needs none: loads read the newest rows of the ledger by its key";
    seen.view = Holding::Unasked(none.to_owned());
    if seen.read_from == ReadFrom::View {
        seen.read_from = ReadFrom::Ledger;
    }
    let look = match PgLook::open(&settings.postgres, &settings.source).await {
        Ok(look) => look,
        Err(trouble) => {
            let failed = Holding::Failed(trouble.to_string());
            (seen.ledger, seen.table) = (failed.clone(), failed);
            return;
        }
    };
    seen.identity.clone_from(&look.found.identity);
    let holding = |answer: Result<Snapshot, ledger::Error>| match answer {
        Ok(snapshot) => lines(&snapshot, &seen.catalogue),
        Err(error) => Holding::Failed(error.to_string()),
    };
    let (ledger, table) = tokio::join!(look.read_ledger(seen.user), look.read_table(seen.user));
    let (ledger, table) = (holding(ledger), holding(table));
    (seen.ledger, seen.table) = (ledger, table);
    for asset in odd(seen) {
        if let Ok(past) = look.read_history(seen.user, asset, HISTORY_MAX).await {
            seen.history.insert(asset, past);
        }
    }
}

/// The assets of which somebody holds another seq than the ledger, or where only the ledger has any.
fn odd(seen: &Seen) -> Vec<AssetId> {
    let seqs = |asset: AssetId| {
        let holdings = seen.holdings();
        let held = holdings.iter().filter_map(|(_, holding)| holding.lines());
        let seqs: Vec<_> = held
            .map(|lines| lines.get(&asset).map(|line| line.seq))
            .collect();
        seqs
    };
    let mut assets = seen.assets();
    assets.retain(|asset| {
        let seqs = seqs(*asset);
        seqs.iter().any(|seq| Some(seq) != seqs.first())
    });
    assets
}

async fn file(seen: &mut Seen, settings: &Settings) {
    let none = "the embedded ledger has none: what is read is its current state, user_balances";
    (seen.view, seen.read_from) = (Holding::Unasked(none.to_owned()), ReadFrom::Table);
    let (path, user) = (settings.embedded.path.clone(), seen.user);
    let read = move || -> Result<_, OpenError> {
        let look = ledger_file::look(&path)?;
        let mut history = BTreeMap::new();
        let ledger = look.ledger(user);
        for balance in ledger.iter().flat_map(Snapshot::balances) {
            let past = look.history(user, balance.asset, HISTORY_MAX);
            history.insert(balance.asset, past.unwrap_or_default());
        }
        Ok((look.identity(), ledger, look.table(user), history))
    };
    let holding = |answer: Result<Snapshot, ledger::Error>| match answer {
        Ok(snapshot) => lines(&snapshot, &seen.catalogue),
        Err(error) => Holding::Failed(error.to_string()),
    };
    let (ledger, table) = match tokio::task::spawn_blocking(read).await {
        Ok(Ok((identity, ledger, table, history))) => {
            seen.identity = identity.ok();
            seen.history = history;
            (holding(ledger), holding(table))
        }
        Ok(Err(error)) if error.kind == OpenErrorKind::Missing => {
            let why = Holding::Unasked(error.to_string());
            (why.clone(), why)
        }
        Ok(Err(error)) => {
            let why = Holding::Failed(error.to_string());
            (why.clone(), why)
        }
        Err(error) => (
            Holding::Failed(error.to_string()),
            Holding::Failed(error.to_string()),
        ),
    };
    (seen.ledger, seen.table) = (ledger, table);
}

async fn service(seen: &mut Seen, client: &Client) {
    let told = match service_view::balances(client, seen.user, None).await {
        Ok(told) => told,
        Err(unanswered) => {
            seen.service = Holding::Failed(unanswered.to_string());
            return;
        }
    };
    seen.service = match &told.balances {
        Err(reason) => Holding::Failed(reason.clone()),
        Ok(balances) => {
            let line = |balance: &service_view::Balance| Line {
                seq: balance.seq,
                avail: balance.avail.clone(),
                frozen: balance.frozen.clone(),
                updated_at: balance.updated_at,
            };
            let mut known = BTreeMap::new();
            for balance in balances {
                match seen.catalogue.resolve(&balance.asset) {
                    Some(asset) => drop(known.insert(asset, line(balance))),
                    None => seen.unnamed.push(balance.asset.clone()),
                }
            }
            Holding::Lines(known)
        }
    };
    seen.told = Some(told);
}
