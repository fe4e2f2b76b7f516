//! Writers (one assigner per user) and readers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    history::{Key, Kind, Read, amount},
    pace::pace,
    stream::by_stream,
    world::{INSTANCES, World, lag},
};

/// The longest that anything may be repeated until it is acknowledged.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at whether an event was acknowledged.
pub const LOOK: Duration = Duration::from_millis(20);

/// Who reads and writes what.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    pub users: u64,
    pub writers: u64,
    pub readers: u64,
    pub think: Duration,
    /// The latest that the view gets a row.
    pub lag_max: Duration,
    /// Everything that the service knows; else single reads, rows by CQL, notifications by HTTP.
    pub all_ways: bool,
    /// Events come by the stream, too.
    pub stream: bool,
    /// Some rows are told by the outbox of PostgreSQL alone.
    pub outbox: bool,
}

pub const ASSETS: [u32; 2] = [1, 2];
/// Comes as a first deposit.
pub const LATE_ASSET: u32 = 3;

fn pause(rng: &mut StdRng, mean: Duration) -> Duration {
    mean.mul_f64(rng.random_range(0.1..2.0))
}

/// Gives every user the first row of every asset, with seqs on both sides of 2^53.
pub async fn first_rows(world: &World, load: Workload) -> BTreeMap<Key, i64> {
    let mut seqs = BTreeMap::new();
    for user in 1..=load.users {
        for asset in ASSETS {
            let seq = if user % 4 == 0 { (1 << 53) - 3 } else { 1 };
            write_until_taken(world, (user, asset), seq).await;
            world.written((user, asset), seq, Duration::ZERO);
            seqs.insert((user, asset), seq);
        }
    }
    seqs
}

/// Writes the row to the ledger, again until that is acknowledged.
async fn write_until_taken(world: &World, key: Key, seq: i64) {
    let end = world.now() + PATIENCE;
    while !world.write(key, seq).await {
        assert!(world.now() < end, "the ledger takes no row");
        pace(LOOK).await;
    }
}

/// One assigner of seqs: its users are those that leave `me` when divided by the number of writers.
pub async fn write(
    world: Arc<World>,
    load: Workload,
    me: u64,
    mut seqs: BTreeMap<Key, i64>,
    seed: u64,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    seqs.retain(|(user, _), _| user % load.writers == me);
    let users: Vec<u64> = seqs.keys().map(|(user, _)| *user).collect();
    let mut past: Vec<Value> = Vec::new();
    while !world.over() {
        let user = *users.choose(&mut rng).unwrap();
        let asset = *[1, 1, 2, 2, LATE_ASSET].choose(&mut rng).unwrap();
        let key = (user, asset);
        let seq = seqs.get(&key).copied().unwrap_or(0) + rng.random_range(1..4);
        seqs.insert(key, seq);
        if load.all_ways && rng.random_bool(0.25) {
            enter(&world, load, key, seq, &mut rng).await;
        } else if load.outbox && rng.random_bool(0.3) {
            tell_by_outbox(&world, key, seq).await;
        } else {
            write_until_taken(&world, key, seq).await;
            world.written(key, seq, lag(&mut rng, load.lag_max));
            // The late and the reordered: sometimes the next row is there before this one is told.
            if rng.random_bool(0.1) {
                pace(pause(&mut rng, load.think)).await;
            }
            notify(&world, load, key, seq, &seqs, &mut rng, &mut past).await;
        }
        if !past.is_empty() && rng.random_bool(0.15) {
            let again = past.choose(&mut rng).unwrap().clone();
            let _ = world
                .post(
                    rng.random_range(0..INSTANCES),
                    "/api/v1/settlements",
                    &again,
                )
                .await;
        }
        pace(pause(&mut rng, load.think)).await;
    }
}

/// Through the service's own ledger route.
async fn enter(world: &World, load: Workload, key: Key, seq: i64, rng: &mut StdRng) {
    let body = json!({"user_id": key.0, "asset_id": key.1, "seq": seq, "avail": amount(key, seq), "frozen": 0,
        "created_at": world.row(key, seq).created_at});
    let end = world.now() + PATIENCE;
    loop {
        let instance = rng.random_range(0..INSTANCES);
        let life = world.life(instance);
        let code = world.post(instance, "/api/v1/ledger/entries", &body).await;
        if code == 200 {
            world.written(key, seq, lag(rng, load.lag_max));
            world.acknowledged(key, seq, life.map(|life| (instance, life)), "entry");
            *world.notifications.lock().entry("entry").or_default() += 1;
            return;
        }
        assert!(code != 409 && code != 400, "{code} for {body}");
        world.failed(format!("POST entries {code}"));
        assert!(world.now() < end, "no entry is taken: {code}");
        pace(LOOK).await;
    }
}

/// Writes the row in a transaction that tells the outbox, and waits until the service has taken that.
async fn tell_by_outbox(world: &World, key: Key, seq: i64) {
    let writer = world.ledger.postgres().expect("an outbox");
    let (row, end) = (world.row(key, seq), world.now() + PATIENCE);
    let last = loop {
        if let Some(last) = writer.write_told_row(row).await {
            break last;
        }
        assert!(world.now() < end, "the ledger takes no row");
        pace(LOOK).await;
    };
    world.written(key, seq, Duration::ZERO);
    while writer.has_taken(key.0, last).await != Some(true) {
        assert!(world.now() < end, "the outbox is not taken");
        pace(LOOK).await;
    }
    world.acknowledged(key, seq, None, "outbox");
    *world.notifications.lock().entry("outbox").or_default() += 1;
}

async fn notify(
    world: &Arc<World>,
    load: Workload,
    key: Key,
    seq: i64,
    seqs: &BTreeMap<Key, i64>,
    rng: &mut StdRng,
    past: &mut Vec<Value>,
) {
    let (user, asset) = key;
    let (form, body) = match rng.random_range(0..10) {
        0..5 => (
            "values",
            json!({"user_id": user, "asset_id": asset, "seq": seq, "avail": amount(key, seq), "frozen": 0, "delta": 1}),
        ),
        5..8 => (
            "seq",
            json!({"user_id": user, "asset_id": asset, "seq": seq, "avail": null}),
        ),
        8 => ("asset", json!({"user_id": user, "asset_id": asset})),
        _ => ("user", json!({"user_id": user})),
    };
    past.push(body.clone());
    if past.len() > 50 {
        past.remove(0);
    }
    let by = if load.stream && rng.random_bool(0.25) {
        by_stream(world, &body, rng.random_bool(0.5)).await;
        None
    } else {
        by_http(world, &body, rng).await
    };
    *world.notifications.lock().entry(form).or_default() += 1;
    if form == "user" {
        for asset in 1..=LATE_ASSET {
            if let Some(seq) = seqs.get(&(user, asset)) {
                world.acknowledged((user, asset), *seq, by, form);
            }
        }
    } else {
        world.acknowledged(key, seq, by, form);
    }
}

/// Until some instance answers 200; the instance and its life.
async fn by_http(world: &World, body: &Value, rng: &mut StdRng) -> Option<(usize, u32)> {
    let end = world.now() + PATIENCE;
    loop {
        let instance = rng.random_range(0..INSTANCES);
        let life = world.life(instance);
        let code = world.post(instance, "/api/v1/settlements", body).await;
        if code == 200 {
            // It lives on, or another life begins that owes P2 only.
            return life
                .filter(|_| world.life(instance) == life)
                .map(|life| (instance, life));
        }
        assert_ne!(code, 400, "{body}");
        world.failed(format!("POST settlements {code}"));
        assert!(world.now() < end, "no notification is taken: {code}");
        pace(LOOK).await;
    }
}

/// Reads until the run is over.
pub async fn read(world: Arc<World>, load: Workload, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !world.over() {
        let instance = rng.random_range(0..INSTANCES);
        // A few users are read all the time.
        let bound = if rng.random_bool(0.5) {
            load.users.min(8)
        } else {
            load.users
        };
        let user = rng.random_range(1..=bound);
        let kind = match rng.random_range(0..20) {
            0..3 if load.all_ways => Kind::Batch,
            3..5 if load.all_ways => {
                let asset = rng.random_range(1..=LATE_ASSET);
                match newest(&world, (user, asset)) {
                    Some(seq) => Kind::MinSeq(asset, seq),
                    None => Kind::Single,
                }
            }
            5..8 if load.all_ways => Kind::NoCache,
            _ => Kind::Single,
        };
        let users = if kind == Kind::Batch {
            (0..5).map(|_| rng.random_range(1..=load.users)).collect()
        } else {
            vec![user]
        };
        for read in ask(&world, instance, kind, &users).await {
            world.read(read);
        }
        pace(pause(&mut rng, load.think)).await;
    }
}

fn newest(world: &World, key: Key) -> Option<i64> {
    let history = world.history.lock();
    history
        .rows
        .iter()
        .rev()
        .take(2_000)
        .find(|row| row.key == key)
        .map(|row| row.seq)
}

/// Reads once; what was shown, and nothing where there was no answer.
pub async fn ask(world: &World, instance: usize, kind: Kind, users: &[u64]) -> Vec<Read> {
    let host = world.instances[instance];
    let single = format!("http://{host}/api/user/balance?user_id={}", users[0]);
    let request = match kind {
        Kind::Single => world.http.get(single),
        Kind::MinSeq(asset, seq) => world.http.get(format!("{single}&min_seq=A{asset}:{seq}")),
        Kind::NoCache => world.http.get(single).header("cache-control", "no-cache"),
        Kind::Batch => world
            .http
            .post(format!("http://{host}/api/v1/user/balances"))
            .json(&json!({"user_ids": users})),
    };
    let (life, begun) = (world.life(instance), world.now());
    let Ok(answer) = request.send().await else {
        world.failed("read: no answer");
        return Vec::new();
    };
    let code = answer.status().as_u16();
    let status = answer
        .headers()
        .get("cache-status")
        .map_or("", |value| value.to_str().unwrap())
        .to_owned();
    let Ok(body) = answer.json::<Value>().await else {
        world.failed("read: no body");
        return Vec::new();
    };
    let ended = world.now();
    let life = life.filter(|_| world.life(instance) == life);
    if code != 200 {
        assert!(matches!(code, 429 | 503 | 504), "{code}: {body}");
        world.failed(format!("read {}", body["status"]));
        return Vec::new();
    }
    let read = |user: u64, balances: &Value, detail: Option<String>| Read {
        user,
        instance,
        life,
        kind,
        begun,
        ended,
        shown: shown(balances),
        detail,
        status: status.clone(),
    };
    if kind == Kind::Batch {
        let answers = body["data"].as_array().unwrap();
        assert_eq!(answers.len(), users.len());
        return answers
            .iter()
            .zip(users)
            .map(|(one, user)| {
                assert_eq!(one["user_id"], *user, "the order asked");
                read(
                    *user,
                    &one["balances"],
                    one["detail"].as_str().map(str::to_owned),
                )
            })
            .collect();
    }
    let detail = ["behind", "stale"]
        .into_iter()
        .find(|word| status.contains(&format!("detail={word}")));
    vec![read(users[0], &body["data"], detail.map(str::to_owned))]
}

fn shown(balances: &Value) -> BTreeMap<u32, (i64, String)> {
    let one = |balance: &Value| {
        let asset = balance["asset"]
            .as_str()
            .unwrap()
            .trim_start_matches('A')
            .parse()
            .unwrap();
        let avail = balance["avail"].as_str().unwrap().to_owned();
        (asset, (balance["seq"].as_i64().unwrap(), avail))
    };
    balances.as_array().unwrap().iter().map(one).collect()
}
