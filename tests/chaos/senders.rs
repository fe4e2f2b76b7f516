//! Senders of transactions and trades to both instances: each is sent again until there is an answer.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    clients::{LOOK, PATIENCE, Workload},
    history::Key,
    pace::pace,
    world::{INSTANCES, World},
};

pub const TRANSACTIONS: &str = "/api/v1/ledger/transactions";
pub const TRADES: &str = "/api/v1/ledger/trades";
/// Takes the fees.
const HOUSE: u64 = 1;
/// Of each asset, to begin with.
const FIRST_UNITS: i64 = 1_000_000;

/// One transaction or trade, and what it does to each balance: to `avail` and `frozen`.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: i64,
    pub is_trade: bool,
    pub deltas: BTreeMap<Key, (i64, i64)>,
    body: Value,
}

/// Seqs and amounts that an answer told: of `avail`.
pub type Told = BTreeMap<Key, (i64, i64)>;

/// A request with its answer.
#[derive(Debug)]
pub struct Sent {
    pub request: Request,
    /// None: it was refused.
    pub told: Option<Told>,
    /// An attempt before the one that was answered had no answer.
    pub was_unanswered: bool,
}

/// Everything that was answered.
#[derive(Debug, Default)]
pub struct Book {
    pub sent: Mutex<Vec<Sent>>,
}

impl Request {
    fn transaction(id: i64, deltas: &[(Key, (i64, i64))]) -> Self {
        let entry = |((user, asset), (avail, frozen)): &(Key, (i64, i64))| json!({"user_id": user, "asset_id": asset, "delta_avail": avail, "delta_frozen": frozen});
        let entries: Vec<Value> = deltas.iter().map(entry).collect();
        Self {
            id,
            is_trade: false,
            deltas: deltas.iter().copied().collect(),
            body: json!({"transaction_id": id, "entries": entries}),
        }
    }

    fn trade(id: i64, buyer: u64, seller: u64, rng: &mut StdRng) -> Self {
        let price = rng.random_range(1..10_i64);
        let (quantity, fee) = (rng.random_range(1..20_000), rng.random_range(1..10));
        let cost = price * quantity;
        let body = json!({"trade_id": id, "symbol": "A1_A2", "buyer_user_id": buyer, "seller_user_id": seller,
            "price": price, "quantity": quantity, "settled_at": 1_765_352_441_000_i64 + id,
            "fees": [{"user_id": buyer, "asset_id": 2, "amount": fee, "to_user_id": HOUSE}]});
        let deltas = [
            ((buyer, 1), (quantity, 0)),
            ((buyer, 2), (-cost - fee, 0)),
            ((seller, 1), (-quantity, 0)),
            ((seller, 2), (cost, 0)),
            ((HOUSE, 2), (fee, 0)),
        ];
        Self {
            id,
            is_trade: true,
            deltas: deltas.into_iter().collect(),
            body,
        }
    }

    /// One of several kinds; some are more than their user has.
    fn any_transaction(id: i64, one: u64, other: u64, rng: &mut StdRng) -> Self {
        let (x, y) = (rng.random_range(1..50_000), rng.random_range(1..50_000));
        match rng.random_range(0..10) {
            0..4 => Self::transaction(
                id,
                &[
                    ((one, 1), (-x, 0)),
                    ((one, 2), (y, 0)),
                    ((other, 1), (x, 0)),
                    ((other, 2), (-y, 0)),
                ],
            ),
            4..6 => Self::transaction(id, &[((one, 1), (x, 0)), ((one, 2), (y, 0))]),
            6 => Self::transaction(id, &[((one, 1), (-x, x)), ((one, 2), (-y, y))]),
            7..9 => Self::transaction(id, &[((one, 1), (-10 * x, 0)), ((one, 2), (-10 * y, 0))]),
            _ => Self::transaction(
                id,
                &[
                    ((one, 1), (-FIRST_UNITS * 1_000_000, 0)),
                    ((one, 2), (y, 0)),
                ],
            ),
        }
    }
}

/// Gives every user the first row of both assets.
pub async fn first_deposits(world: &World, load: Workload, book: &Book) {
    let mut rng = StdRng::seed_from_u64(0);
    for user in 1..=load.users {
        let id = i64::try_from(user).unwrap();
        let first = (FIRST_UNITS, 0);
        let deposit = Request::transaction(id, &[((user, 1), first), ((user, 2), first)]);
        send_until_answered(world, vec![deposit], &mut rng, book).await;
    }
}

/// Sends until the run is over. Ids are those above `me` millions.
pub async fn send(world: Arc<World>, load: Workload, book: Arc<Book>, me: u64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut id = i64::try_from(me).unwrap() * 1_000_000;
    while !world.over() {
        let are_trades = rng.random_bool(0.4);
        let count = rng.random_range(1..4);
        let mut requests = Vec::new();
        for _ in 0..count {
            id += 1;
            let one = rng.random_range(HOUSE + 1..=load.users);
            let other = HOUSE + 1 + (one - HOUSE) % (load.users - HOUSE);
            requests.push(if are_trades {
                Request::trade(id, one, other, &mut rng)
            } else {
                Request::any_transaction(id, one, other, &mut rng)
            });
        }
        send_until_answered(&world, requests, &mut rng, &book).await;
        pace(load.think).await;
    }
}

/// An array, to whichever instance answers. What was written is sometimes sent once more.
async fn send_until_answered(world: &World, requests: Vec<Request>, rng: &mut StdRng, book: &Book) {
    let end = world.now() + PATIENCE;
    let mut was_unanswered = false;
    let told = loop {
        if let Some(told) = attempt(world, &requests, rng).await {
            break told;
        }
        was_unanswered = true;
        assert!(world.now() < end, "no answer to {requests:?}");
        pace(LOOK).await;
    };
    let stand: Vec<Request> = requests
        .iter()
        .zip(&told)
        .filter(|(_, told)| told.is_some())
        .map(|(request, _)| request.clone())
        .collect();
    if !stand.is_empty()
        && rng.random_bool(0.2)
        && let Some(again) = attempt(world, &stand, rng).await
    {
        let first: Vec<Option<Told>> = told.iter().filter(|told| told.is_some()).cloned().collect();
        assert_eq!(again, first, "the answer to {stand:?} has changed");
    }
    let sent = requests.into_iter().zip(told);
    book.sent.lock().extend(sent.map(|(request, told)| Sent {
        request,
        told,
        was_unanswered,
    }));
}

/// One POST. Of each request: seqs and amounts, or none where it was refused. None at all where it is not known what stands.
async fn attempt(
    world: &World,
    requests: &[Request],
    rng: &mut StdRng,
) -> Option<Vec<Option<Told>>> {
    let is_trade = requests[0].is_trade;
    let path = if is_trade { TRADES } else { TRANSACTIONS };
    let instance = rng.random_range(0..INSTANCES);
    let url = format!("http://{}{path}", world.instances[instance]);
    let body: Vec<&Value> = requests.iter().map(|request| &request.body).collect();
    let life = world.life(instance);
    let answer = world.http.post(url).json(&body).send().await;
    let (code, answer) = match answer {
        Ok(answer) => (answer.status().as_u16(), answer.json::<Value>().await.ok()),
        Err(_) => (0, None),
    };
    let Some(answer) = answer.filter(|_| code == 200) else {
        assert!(
            matches!(code, 0 | 200 | 429 | 503 | 504),
            "{code} for {body:?}"
        );
        world.failed(format!("POST {path} {code}"));
        return None;
    };
    let by = life
        .filter(|_| world.life(instance) == life)
        .map(|life| (instance, life));
    let results = answer["data"].as_array().unwrap();
    assert_eq!(results.len(), requests.len());
    let mut all = Vec::new();
    for (request, result) in requests.iter().zip(results) {
        let outcome = known(result["result"].as_str().unwrap());
        *world.notifications.lock().entry(outcome).or_default() += 1;
        if outcome == "refused" {
            all.push(None);
            continue;
        }
        let told = told_by(result);
        assert!(
            told.keys().eq(request.deltas.keys()),
            "{request:?}: {result}"
        );
        for (key, (seq, _)) in &told {
            world.written(*key, *seq, std::time::Duration::ZERO);
            world.acknowledged(*key, *seq, by, "transaction");
        }
        all.push(Some(told));
    }
    Some(all)
}

fn known(word: &str) -> &'static str {
    ["written", "repeated", "refused"]
        .into_iter()
        .find(|known| *known == word)
        .unwrap_or_else(|| panic!("{word}"))
}

fn told_by(result: &Value) -> Told {
    let number = |balance: &Value, field: &str| balance[field].as_i64().unwrap();
    let balance = |balance: &Value| {
        let user = number(balance, "user_id").unsigned_abs();
        let asset = u32::try_from(number(balance, "asset_id")).unwrap();
        let standing = (number(balance, "seq"), number(balance, "avail"));
        ((user, asset), standing)
    };
    result["balances"]
        .as_array()
        .unwrap()
        .iter()
        .map(balance)
        .collect()
}
