//! Transactions and trades whose seqs the service assigns, on a real Cassandra and a real PostgreSQL.

use std::{cell::Cell, collections::BTreeMap};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    ledger_settle::{
        TRADES, TRANSACTIONS, code, entries_keep_their_seqs, held,
        trades_of_a_file_are_settled_once, what_is_refused_leaves_nothing,
        what_was_sent_is_found_again, written,
    },
    settlement_support::{SOON, ask, seq_of, short, whole},
    support::{
        eventually::eventually_async,
        ground::{Ground, on_each_ground},
        redis::Redis,
        service::{Service, Setup},
    },
};

on_each_ground! {
    what_holds_for_the_embedded_ledger_holds_here,
    of_concurrent_withdrawals_at_two_instances_exactly_those_stand_that_the_balance_allows,
    trades_that_all_pay_one_account_are_conserved_and_each_stands_once,
    reads_of_the_ledger_at_another_instance_show_a_users_transactions_whole,
    a_repetition_at_another_instance_shows_what_stood_before_it_whole,
    a_trade_that_another_program_wrote_is_shown_with_its_columns,
}

/// An instance over it that assigns seqs.
pub fn setup(ground: &Ground, redis: &str) -> Setup {
    ground
        .name_in(short(redis))
        .with("source.read_from", "table")
        .with("ledger.writer", "service")
        .with("ledger.recovery_ms", 1_000)
}

fn deposit(id: i64, user: u64, asset: u32, units: i64) -> Value {
    json!({"transaction_id": id, "entries": [{"user_id": user, "asset_id": asset, "delta_avail": units}]})
}

/// Buys 10 raw BTC for 20 raw USDT; the buyer pays a fee of 1 raw USDT to user 1.
fn trade(id: i64, buyer: u64, seller: u64) -> Value {
    json!({"trade_id": id, "symbol": "BTC_USDT", "buyer_user_id": buyer, "seller_user_id": seller,
        "price": 200_000_000, "quantity": 10, "settled_at": 1_765_352_441_000_i64 + id,
        "fees": [{"user_id": buyer, "asset_id": 2, "amount": 1, "to_user_id": 1}]})
}

/// Sends it until there is an answer that says whether it stands: its HTTP code, and the result.
async fn settled(service: &Service, path: &str, body: &Value) -> (u16, String) {
    let answer = service.post_until_taken(path, body).await;
    let result = answer.json()["data"]["result"].as_str().map(str::to_owned);
    (answer.status, result.unwrap_or_default())
}

/// Reads the whole ledger, and checks it by itself: seqs without gaps, each row from the one before it, nothing below 0,
/// each trade without a change of any asset's sum, and `user_balances` equal to the newest rows. Returns the newest rows.
async fn check_ledger(ground: &Ground) -> BTreeMap<(i64, i32), (i64, i64)> {
    let mut rows = ground.ledger_rows().await;
    rows.sort();
    let mut newest: BTreeMap<(i64, i32), (i64, i64)> = BTreeMap::new();
    let mut sums: BTreeMap<(i64, i32), i64> = BTreeMap::new();
    for (user, asset, seq, delta, avail, event, id) in rows {
        let (before, stood) = newest.get(&(user, asset)).copied().unwrap_or_default();
        assert_eq!(seq, before + 1, "user {user}, asset {asset}: a gap");
        assert_eq!(
            avail,
            stood + delta,
            "user {user}, asset {asset}, seq {seq}"
        );
        assert!(avail >= 0, "user {user}, asset {asset}, seq {seq}: {avail}");
        newest.insert((user, asset), (seq, avail));
        if event == "trade" {
            *sums.entry((id, asset)).or_default() += delta;
        }
    }
    assert!(sums.values().all(|sum| *sum == 0), "half a trade: {sums:?}");
    let current = ground.current_rows().await.into_iter();
    let current: BTreeMap<_, _> = current
        .map(|(user, asset, seq, avail)| ((user, asset), (seq, avail)))
        .collect();
    assert_eq!(current, newest);
    newest
}

/// A trigger of somebody else drops the row and reports no error.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_postgres_leaves_out_is_not_acknowledged() {
    let ground = Ground::postgres().await;
    let service = Service::start_ready(setup(&ground, "")).await;
    ground
        .run(
            "CREATE FUNCTION {ks}.leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER leave_out BEFORE INSERT ON {ks}.balance_ledger FOR EACH ROW WHEN (NEW.user_id = 5) \
             EXECUTE FUNCTION {ks}.leave_out()",
        )
        .await;
    let refused = service.post(TRANSACTIONS, &deposit(1, 5, 1, 10)).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(service.balances(5).await.data(), json!([]));
    written(&service, TRANSACTIONS, &deposit(2, 6, 1, 10)).await;
    ground
        .run("DROP TRIGGER leave_out ON {ks}.balance_ledger")
        .await;
    written(&service, TRANSACTIONS, &deposit(1, 5, 1, 10)).await;
    check_ledger(&ground).await;
}

async fn what_holds_for_the_embedded_ledger_holds_here(ground: Ground) {
    let service = Service::start_ready(setup(&ground, "")).await;
    what_is_refused_leaves_nothing(&service).await;
    for (id, user, asset, units) in [(1_001, 1001, 1, 5_000_000), (1_002, 1002, 1, 5_000_000)] {
        written(&service, TRANSACTIONS, &deposit(id, user, asset, units)).await;
    }
    let rich = deposit(1_003, 1001, 2, 200_000_000_000);
    written(&service, TRANSACTIONS, &rich).await;
    what_was_sent_is_found_again(&service).await;
    trades_of_a_file_are_settled_once(&service);
    entries_keep_their_seqs(&service).await;
    // Several groups, the largest that there are.
    let many: Vec<Value> = (0..600)
        .map(|nth| {
            let entry = |user: i64| json!({"user_id": user, "asset_id": 3, "delta_avail": 1});
            json!({"transaction_id": 5_000 + nth, "entries": [entry(50), entry(51), entry(60 + nth), entry(61 + nth)]})
        })
        .collect();
    // A slow machine writes some of the groups, and the others when they are sent again.
    let (answer, again) = service.post_in_time(TRANSACTIONS, &json!(many)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let results = answer.data();
    let results = results.as_array().unwrap().iter();
    let stands =
        results.filter(|one| one["result"] == "written" || (again && one["result"] == "repeated"));
    assert_eq!(stands.count(), 600);
    let newest = ground.newest_row(50, 3).await;
    assert_eq!(newest, (600, 600));
    // A trade with balances has its seqs from elsewhere.
    let mut given = trade(99, 1001, 1002);
    given["balances"] = json!([]);
    assert_eq!(code(&service.post(TRADES, &given).await), (400, 1001));
}

async fn of_concurrent_withdrawals_at_two_instances_exactly_those_stand_that_the_balance_allows(
    ground: Ground,
) {
    const WRITERS: i64 = 16;
    const EACH: i64 = 3;
    const ALLOWED: i64 = 20;
    let redis = Redis::start();
    let mut services = Vec::new();
    for _ in 0..2 {
        let service = Service::start_ready(setup(&ground, &redis.url())).await;
        whole(&service).await;
        services.push(service);
    }
    let funds = deposit(1, 7, 1, ALLOWED * 5 + 4);
    written(&services[0], TRANSACTIONS, &funds).await;
    let withdrawals = (0..WRITERS).map(async |writer| {
        let mut stood = 0;
        for nth in 0..EACH {
            let service = &services[usize::try_from((writer + nth) % 2).unwrap()];
            let id = 100 + writer * EACH + nth;
            let (status, _) = settled(service, TRANSACTIONS, &deposit(id, 7, 1, -5)).await;
            assert!([200, 409].contains(&status), "{status}");
            stood += i64::from(status == 200);
        }
        stood
    });
    let stood: i64 = join_all(withdrawals).await.into_iter().sum();
    assert_eq!(stood, ALLOWED);
    let newest = check_ledger(&ground).await;
    assert_eq!(newest[&(7, 1)], (ALLOWED + 1, 4));
    for service in &services {
        eventually_async(SOON, "it shows the last one", async || {
            (held(service, &[7]).await == [4]).then_some(())
        })
        .await;
    }
    // Either instance knows what the other one wrote.
    for id in 100..100 + WRITERS * EACH {
        let answers = services
            .iter()
            .map(async |service| service.get(&format!("{TRANSACTIONS}/{id}")).await.status);
        let answers = join_all(answers).await;
        assert_eq!(answers[0], answers[1], "{id}");
    }
}

async fn trades_that_all_pay_one_account_are_conserved_and_each_stands_once(ground: Ground) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 6;
    let redis = Redis::start();
    let mut services = Vec::new();
    for _ in 0..2 {
        let service = Service::start_ready(setup(&ground, &redis.url())).await;
        whole(&service).await;
        services.push(service);
    }
    let users = 10..10 + WRITERS;
    let deposits: Vec<Value> = users
        .flat_map(|user| {
            let id = i64::try_from(user).unwrap() * 10;
            [deposit(id, user, 1, 1_000), deposit(id + 1, user, 2, 1_000)]
        })
        .collect();
    let answer = services[0]
        .post_until_taken(TRANSACTIONS, &json!(deposits))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let trades = (0..WRITERS).map(async |writer| {
        for nth in 0..EACH {
            let id = i64::try_from(1_000 + writer * EACH + nth).unwrap();
            let seller = 10 + (writer + nth + 1) % WRITERS;
            let one = trade(id, 10 + writer, seller);
            // Sent to both at once: it stands once.
            let (first, second) = tokio::join!(
                settled(&services[0], TRADES, &one),
                settled(&services[1], TRADES, &one)
            );
            let written = |answer: &(u16, String)| u8::from(answer.1 == "written");
            assert_eq!((first.0, second.0), (200, 200));
            assert!(written(&first) + written(&second) <= 1, "{id}: twice");
        }
    });
    join_all(trades).await;
    let newest = check_ledger(&ground).await;
    let trades = i64::try_from(WRITERS * EACH).unwrap();
    assert_eq!(newest[&(1, 2)], (trades, trades));
    for asset in [1, 2] {
        let held = newest.iter().filter(|((_, of), _)| *of == asset);
        let sum: i64 = held.map(|(_, (_, avail))| avail).sum();
        assert_eq!(
            sum,
            1_000 * i64::try_from(WRITERS).unwrap(),
            "asset {asset}"
        );
    }
    for service in &services {
        let page = service.get_ops("/metrics").await.body;
        let series = "balance_cache_ledger_append_retries_total ";
        assert!(page.contains(series), "{page}");
    }
}

/// Raw units of all assets of a user together, read from the ledger.
async fn sum_of(service: &Service, user: u64) -> i64 {
    let path = format!("/api/user/balance?user_id={user}");
    let request = service.request(reqwest::Method::GET, &path);
    let answer = service
        .send(request.header("cache-control", "no-cache"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let data = answer.data();
    let units = |balance: &Value| {
        let text = balance["avail"].as_str().unwrap();
        let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
        format!("{whole}{rest:0<8}").parse::<i64>().unwrap()
    };
    data.as_array().unwrap().iter().map(units).sum()
}

async fn reads_of_the_ledger_at_another_instance_show_a_users_transactions_whole(ground: Ground) {
    let redis = Redis::start();
    let way = |way: &str| setup(&ground, &redis.url()).with("source.read_from", way);
    let writer = Service::start_ready(way("table")).await;
    let reader = Service::start_ready(way("ledger")).await;
    whole(&writer).await;
    whole(&reader).await;
    let deposits = json!([deposit(1, 7, 1, 500), deposit(2, 7, 2, 500)]);
    let funded = writer.post_until_taken(TRANSACTIONS, &deposits).await;
    assert_eq!(funded.status, 200, "{}", funded.body);
    let reads = Cell::new(0);
    let exchanges = async {
        let mut id = 100;
        // There and back, also until a slow read had its time beside them.
        while id < 160 || reads.get() == 0 {
            let units = if id % 2 == 0 { 3 } else { -3 };
            let one = json!({"transaction_id": id, "entries": [
                {"user_id": 7, "asset_id": 1, "delta_avail": -units}, {"user_id": 7, "asset_id": 2, "delta_avail": units}]});
            let (status, _) = settled(&writer, TRANSACTIONS, &one).await;
            assert_eq!(status, 200, "{id}");
            id += 1;
        }
    };
    let mut exchanges = std::pin::pin!(exchanges);
    loop {
        tokio::select! {
            biased;
            () = &mut exchanges => break,
            sum = sum_of(&reader, 7) => {
                assert_eq!(sum, 1_000, "read {}", reads.get());
                reads.set(reads.get() + 1);
            }
        }
    }
}

/// Of two transactions that no Redis heard of, the later is sent again first.
async fn a_repetition_at_another_instance_shows_what_stood_before_it_whole(ground: Ground) {
    let mut redis = Redis::start();
    let setup = setup(&ground, &redis.url())
        .with("ledger.recovery_ms", 600_000)
        .with("memory.ttl_ms", 60_000)
        .with("redis.snapshot_ttl_ms", 120_000);
    let mut victim = Service::start_ready(setup.clone()).await;
    let other = Service::start_ready(setup).await;
    whole(&victim).await;
    whole(&other).await;
    let exchange = |id: i64, assets: &[u32]| {
        let entry = |asset: &u32| json!({"user_id": 7, "asset_id": asset, "delta_avail": 1});
        json!({"transaction_id": id, "entries": assets.iter().map(entry).collect::<Vec<_>>()})
    };
    written(&other, TRANSACTIONS, &exchange(1, &[1, 2])).await;
    let shown = async || {
        let answer = ask(&other, 7).await;
        (seq_of(&answer, "BTC"), seq_of(&answer, "USDT"))
    };
    assert_eq!(shown().await, (1, 1));
    redis.pause();
    for transaction in [exchange(2, &[1, 2]), exchange(3, &[1])] {
        let told = victim.post(TRANSACTIONS, &transaction).await;
        assert!([503, 504].contains(&told.status), "{}", told.body);
    }
    assert_eq!(ground.newest_row(7, 1).await, (3, 3), "both stand");
    victim.kill9();
    redis.resume();
    whole(&other).await;
    let again = settled(&other, TRANSACTIONS, &exchange(3, &[1])).await;
    assert_eq!(again, (200, "repeated".to_owned()));
    assert_eq!(shown().await, (3, 2), "the first one is shown too");
}

async fn a_trade_that_another_program_wrote_is_shown_with_its_columns(ground: Ground) {
    let service = Service::start_ready(setup(&ground, "")).await;
    // The tables of trades are there once one was written.
    written(&service, TRANSACTIONS, &deposit(1, 7, 2, 20)).await;
    let row = "INSERT INTO {ks}.settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, buyer_user_id, \
               seller_user_id) VALUES (70, 1, 200000000, 10, 20, 1765352441070, 7, 8)";
    ground.run(row).await;
    let found = service.get(&format!("{TRADES}/70")).await;
    assert_eq!(found.status, 200, "{}", found.body);
    let found = found.data();
    assert_eq!(found["symbol"], "BTC_USDT");
    assert_eq!(
        (&found["price"], &found["seller_user_id"]),
        (&json!(200_000_000), &json!(8))
    );
    assert_eq!(found["balances"], json!([]));
    let same_id = service.post_until_taken(TRADES, &trade(70, 7, 8)).await;
    assert_eq!(code(&same_id), (409, 4091));
}

#[cfg(feature = "failpoints")]
mod killed;

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_another_program_locks_is_503_and_stands_once_when_it_is_sent_again() {
    let ground = Ground::postgres().await;
    let service = Service::start_ready(setup(&ground, "")).await;
    written(&service, TRANSACTIONS, &deposit(1, 7, 1, 5)).await;
    let lock = ground.hold("SELECT version FROM {ks}.user_balances WHERE user_id = 7 FOR UPDATE");
    let lock = lock.await;
    let refused = service.post(TRANSACTIONS, &deposit(2, 7, 1, 5)).await;
    assert_eq!(code(&refused), (503, 5031), "{}", refused.body);
    // Others are not held up, and reads go on.
    let other = settled(&service, TRANSACTIONS, &deposit(3, 8, 1, 5)).await;
    assert_eq!(other.0, 200);
    assert_eq!(held(&service, &[7, 8]).await, [5, 5]);
    lock.batch_execute("ROLLBACK").await.unwrap();
    let again = settled(&service, TRANSACTIONS, &deposit(2, 7, 1, 5)).await;
    assert_eq!(again.0, 200);
    check_ledger(&ground).await;
    assert_eq!(ground.newest_row(7, 1).await, (2, 10));
}
