//! `get --trace`: what every part holds, and a sentence for each thing that is odd, with real parts.

use balance_cache::clock;
use scylla::client::session::Session;
use serde_json::{Value, json};

use crate::{
    cli_support::{Apart, Said, fill_redis},
    support::{
        cassandra::shared,
        cql::{Place, until},
        databases::on_each_database,
        eventually::{eventually, eventually_async},
        redis::Redis,
        service::Service,
        stage::{Database, SOON, Stage, in_order},
        tables::make_tables,
    },
};

/// A time that is the same in words for hours.
const THREE_DAYS_MS: i64 = 3 * 86_400_000;

/// A stage whose view is a plain table, so that it lags exactly as far as a test says.
struct Rows {
    place: Place,
    session: Session,
}

impl Rows {
    async fn new() -> (Self, Stage) {
        let stage = Stage::new(shared()).await;
        let place = Place::new(shared())
            .with(|settings| settings.keyspace = settings.keyspace.to_lowercase());
        let session = shared().session().await;
        make_tables(&session, &place.settings.keyspace, 1).await;
        (Self { place, session }, stage)
    }

    async fn ledger(&self, asset: i32, seq: i64, avail: i64, created_at: i64) {
        self.write("balance_ledger", asset, seq, avail, created_at)
            .await;
    }

    async fn view(&self, asset: i32, seq: i64, avail: i64) {
        self.write("user_balances_by_user", asset, seq, avail, 1)
            .await;
    }

    async fn write(&self, table: &str, asset: i32, seq: i64, avail: i64, created_at: i64) {
        let text = format!(
            "INSERT INTO {{ks}}.{table} (user_id, asset_id, seq, avail, frozen, created_at) \
             VALUES (7, {asset}, {seq}, {avail}, 0, {created_at})"
        );
        self.place.cql(&self.session, &text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_view_and_ledger_differ_each_asset_gets_its_sentence() {
    let (rows, stage) = Rows::new().await;
    let now = clock::wall_now().0;
    for seq in 15..=18 {
        rows.ledger(1, seq, 100_000_000 * seq, now - THREE_DAYS_MS)
            .await;
    }
    rows.view(1, 17, 1_700_000_000).await;
    rows.ledger(2, 4, 5, 1).await;
    rows.view(2, 4, 6).await;
    rows.view(3, 9, 1).await;
    rows.ledger(77, 1, 1, 1).await;
    rows.view(77, 1, 1).await;
    let apart = Apart::new(
        stage
            .setup()
            .with("scylla.keyspace", &rows.place.settings.keyspace)
            .with("scylla.view_check", "off"),
    );
    let said = apart.run(&["get", "7", "--trace", "--no-service"]);
    said.has(
        0,
        &[
            "! the view is behind the ledger by 1 row of BTC: seq 17 vs 18, created 3 d ago",
            "! the view and the ledger differ in the amounts of USDT at seq 4",
            "! the view has ETH at seq 9, and the ledger has no row of it",
            "user_balances has nothing of this user; it is not what is read",
            "redis    redis.url is empty",
            "loads    read the view",
        ],
    );
    said.line(&["BTC", "ledger", "18", "18", "0"]);
    assert!(
        said.line(&["view", "17", "17"]).ends_with("≠ behind"),
        "{said}"
    );
    assert!(
        said.out.contains("≠ other amounts") && said.out.contains("≠ ahead"),
        "{said}"
    );
    assert!(
        !said.out.contains("of 77"),
        "what agrees needs no sentence\n{said}"
    );
    let one = apart.run(&["get", "7", "--trace", "--no-service", "--asset", "77"]);
    one.has(0, &["all that were asked agree"]);

    let table = Apart::new(apart.setup.clone().with("source.read_from", "table"));
    let said = table.run(&["get", "7", "--trace", "--no-service"]);
    said.has(
        0,
        &[
            "! user_balances is behind the ledger by 4 rows of BTC: seq none vs 18",
            "· the view is behind",
        ],
    );
}

fn traced(service: &Service, more: &[&str]) -> Said {
    let mut arguments = vec!["get", "7", "--trace"];
    arguments.extend(more);
    Said::of(service.run(&arguments))
}

async fn what_was_not_notified_is_seen_in_redis_and_in_the_service(database: Database) {
    let redis = Redis::start();
    let stage = Stage::on(database).await;
    stage.has(7, &[(1, 300_000_000), (2, 600_000_000)]).await;
    // All is held, and proven fresh, until the last look.
    let setup = stage.setup().and(&redis);
    let setup = setup
        .with("memory.ttl_ms", 60_000)
        .with("redis.snapshot_ttl_ms", 300_000)
        .with("settlement.max_staleness_ms", 30_000);
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    fill_redis(&service, &redis, "", 7).await;
    let good = traced(&service, &[]);
    good.has(
        0,
        &[
            "all that were asked agree",
            "a whole snapshot, good for",
            "memory answered",
        ],
    );
    good.line(&["BTC", "ledger", "3", "3"]);

    stage.row(7, 1, 4, 400_000_000).await;
    if database == Database::Cassandra {
        until("the view has the row", async || {
            let said = traced(&service, &["--no-service"]);
            said.find(&["view", "4"]).is_some()
        })
        .await;
    }
    let said = traced(&service, &[]);
    said.has(
        0,
        &[
            "! Redis is behind the ledger by 1 row of BTC: seq 3 vs 4",
            "and no floor says so: nobody notified seq 4. It is served until the snapshot ends in",
            "! the service (memory) is behind the ledger by 1 row of BTC: seq 3 vs 4",
        ],
    );
    let json = traced(&service, &["--json"]);
    let page: Value = serde_json::from_str(&json.out).unwrap();
    let seq = |tier: &str| page["tiers"][tier]["BTC"]["seq"].clone();
    assert_eq!(
        [seq("ledger"), seq("redis"), seq("service")],
        [json!(4), json!(3), json!(3)]
    );
    assert_eq!(page["redis"]["whole"], json!(true));
    assert!(
        page["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|finding| finding["grave"] == json!(true)),
        "{page}"
    );
}

async fn an_entry_below_its_floor_is_told_and_asking_for_it_writes_nothing(database: Database) {
    let redis = Redis::start();
    let stage = Stage::on(database).await;
    stage.has(7, &[(1, 300_000_000)]).await;
    let service = Service::start_ready(stage.setup().and(&redis)).await;
    in_order(&service).await;
    fill_redis(&service, &redis, "", 7).await;
    let notification = json!({"user_id": 7, "asset_id": 1, "seq": 9});
    eventually_async(SOON, "the floor is announced", async || {
        let answer = service.post("/api/v1/settlements", &notification).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let setup = service.setup();
    drop(service);
    eventually(SOON, "all that the service asked is answered", || {
        let clients: String = redis.ask(&["CLIENT", "LIST"]);
        (clients.lines().count() == 1).then_some(())
    });
    redis.ask::<String>(&["CONFIG", "RESETSTAT"]);
    let said = Said::of(setup.run(&["get", "7", "--trace", "--no-service"]));
    said.has(
        0,
        &[
            "! Redis holds seq 3 of BTC, below its floor 9: it won't be served",
            "! the floor of BTC is 9 and the ledger is at 3: reads say detail=behind",
            "no whole snapshot",
            "Redis began anew",
        ],
    );
    assert!(
        said.line(&["redis", "3"])
            .contains("floor 9 > seq (9 min left)"),
        "{said}"
    );
    let stats: String = redis.ask(&["INFO", "commandstats"]);
    let asked: Vec<&str> = stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next())
        .collect();
    let reads = [
        "ping",
        "time",
        "type",
        "pttl",
        "hgetall",
        "get",
        "hmget",
        "info",
        "client|setinfo",
        "hello",
        "config|resetstat",
    ];
    assert!(
        asked.contains(&"hgetall") && asked.iter().all(|name| reads.contains(name)),
        "{asked:?}"
    );
}

async fn a_redis_of_another_source_foreign_values_and_a_dead_database_are_told(database: Database) {
    let redis = Redis::start();
    let stage = Stage::on(database).await;
    stage.has(7, &[(1, 300_000_000)]).await;
    let apart = Apart::new(stage.setup().and(&redis));
    let trace = ["get", "7", "--trace", "--no-service"];
    apart.run(&trace).has(
        0,
        &[
            "Redis holds nothing of this user",
            "no instance has used it yet",
        ],
    );
    redis.ask::<String>(&["SET", "balance:source", "elsewhere@other/1"]);
    redis.ask::<i64>(&["HSET", "balance:user:7", "v", "9"]);
    apart.run(&trace).has(
        0,
        &[
            "! this Redis and namespace hold the balances of another source (elsewhere@other/1, here it is",
            "! what Redis holds under balance:user:7 cannot be read (it has layout 9, not 2)",
            "balance:user:7 has no end",
        ],
    );
    let dead = Apart::new(
        stage
            .setup_at("127.0.0.1:1".parse().unwrap())
            .with("redis.url", "redis://127.0.0.1:1"),
    );
    dead.run(&trace).has(
        1,
        &[
            "! the ledger could not be asked",
            "! Redis could not be asked: 127.0.0.1:1 cannot be reached: the connection is refused",
        ],
    );
}

/// A snapshot as the service writes it. NOW, LATER and BEFORE are moments, in ms.
const GOOD: [(&str, &str); 3] = [
    ("v", "2 e LATER 1"),
    ("b:1", "3 300000000 3 - NOW"),
    ("b:2", "3 600000000 3 - NOW"),
];

/// One field that is otherwise, and what is said of it.
const ODD: [(&str, &str, &str); 11] = [
    (
        "b:1",
        "5 1 3 - NOW",
        "! Redis is ahead of the ledger in BTC: seq 5 vs 3: a notification came before its row",
    ),
    (
        "b:1",
        "3 1 3 - NOW",
        "! Redis and the ledger differ in the amounts of BTC at seq 3",
    ),
    (
        "b:1",
        "2 1 3 - NOW",
        "! Redis is behind the ledger by 1 row of BTC: seq 2 vs 3",
    ),
    (
        "b:1",
        "",
        "! the snapshot in Redis lacks BTC, of which the ledger has seq 3: it is served without it",
    ),
    (
        "b:1",
        "nonsense",
        "cannot be read (a field of it cannot be read)",
    ),
    (
        "v",
        "2 e BEFORE 1",
        "· the snapshot in Redis ended 10 min ago: it won't be served",
    ),
    (
        "v",
        "2 f LATER 1",
        "· what Redis holds was written in another life of it: it won't be served",
    ),
    (
        "v",
        "2 e LATER 0",
        "· what Redis holds is not a whole snapshot",
    ),
    (
        "d:1",
        "LATER",
        "· a notification without a seq came: BTC is read from the ledger by the next load",
    ),
    (
        "d:*",
        "LATER",
        "a notification without a seq came: every asset of this user is read",
    ),
    ("lease", "token LATER", "somebody loads (lease for"),
];

async fn each_way_in_which_an_entry_can_be_odd_has_its_sentence(database: Database) {
    let redis = Redis::start();
    let stage = Stage::on(database).await;
    stage.has(7, &[(1, 300_000_000), (2, 600_000_000)]).await;
    let apart = Apart::new(stage.setup().and(&redis));
    redis.ask::<i64>(&["HSET", "balance:epoch", "id", "e", "birth", "1"]);
    let entry = |odd: Option<(&str, &str)>| {
        let now = clock::wall_now().0;
        redis.ask::<i64>(&["DEL", "balance:user:7"]);
        for (field, value) in GOOD.into_iter().chain(odd) {
            let value = value
                .replace("NOW", &now.to_string())
                .replace("LATER", &(now + 600_000).to_string())
                .replace("BEFORE", &(now - 600_000).to_string());
            redis.ask::<i64>(&["HDEL", "balance:user:7", field]);
            if !value.is_empty() {
                redis.ask::<i64>(&["HSET", "balance:user:7", field, &value]);
            }
        }
        redis.ask::<i64>(&["PEXPIRE", "balance:user:7", "600000"]);
        apart.run(&["get", "7", "--trace", "--no-service"])
    };
    let agreed = ["all that were asked agree", "a whole snapshot, good for"];
    entry(None).has(0, &agreed);
    for (field, value, part) in ODD {
        entry(Some((field, value))).has(0, &[part]);
    }
}

on_each_database! {
    what_was_not_notified_is_seen_in_redis_and_in_the_service,
    an_entry_below_its_floor_is_told_and_asking_for_it_writes_nothing,
    a_redis_of_another_source_foreign_values_and_a_dead_database_are_told,
    each_way_in_which_an_entry_can_be_odd_has_its_sentence,
}
