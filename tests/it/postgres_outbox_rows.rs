//! Single rows of the outbox in PostgreSQL: late ones, those of no balance, those whose user or balance cannot be had, and what
//! `doctor` says of them.

use serde_json::json;
use tokio_postgres::Client;

use crate::{
    cli_support::Apart,
    existing_ledger::{Shop, of_customer},
    support::{
        eventually::eventually_async,
        pg_place::PgPlace,
        postgres::shared,
        redis::Redis,
        service::{Service, Setup},
        stage::{SOON, in_order, shown},
    },
};

/// The sample with its triggers, and a service that follows them and keeps what it read for long.
async fn follow(redis: &Redis, prepare: &str) -> (Shop, Setup) {
    let shop = Shop::new().await;
    let (code, said, wrong) = shop.setup().run(&["schema", "apply", "--outbox"]);
    assert_eq!(code, 0, "{said}{wrong}");
    shop.run(prepare).await;
    let setup = shop
        .setup()
        .with("postgres.outbox.enabled", true)
        .with("redis.url", redis.url())
        .with("memory.ttl_ms", 600_000)
        .with("redis.snapshot_ttl_ms", 300_000)
        .with("settlement.floor_ttl_ms", 3_600_000);
    (shop, setup)
}

async fn is_empty(shop: &Shop) {
    eventually_async(SOON, "the outbox is empty", async || {
        let waiting = shop.ask("SELECT count(*) FROM balance_outbox").await;
        (waiting == "0").then_some(())
    })
    .await;
}

async fn btc_becomes(service: &Service, user: u64, avail: &str) {
    let what = format!("user {user} has {avail} BTC");
    eventually_async(SOON, &what, async || {
        let answer = service.balances(user).await;
        let seen = (answer.status == 200).then(|| shown(&answer))?;
        let btc = seen.iter().find(|(asset, ..)| asset == "BTC");
        btc.is_some_and(|(_, has, _)| has == avail).then_some(())
    })
    .await;
}

/// Reads fail, and show nothing old.
async fn read_fails(service: &Service, user: u64) {
    let what = format!("reads of user {user} are 503");
    eventually_async(SOON, &what, async || {
        let answer = service.balances(user).await;
        (answer.status == 503).then_some(())
    })
    .await;
}

async fn second_client(shop: &Shop) -> Client {
    shared().client(&shop.place.database).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_lower_id_that_commits_later_is_taken() {
    let redis = Redis::start();
    let (shop, setup) = follow(&redis, "").await;
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    for user in [1, 2] {
        assert_eq!(service.balances(user).await.status, 200);
    }
    let slow = second_client(&shop).await;
    let change = of_customer("UPDATE wallets SET available = 4", 1);
    slow.batch_execute(&format!("BEGIN; {change}"))
        .await
        .unwrap();
    shop.run(&of_customer("UPDATE wallets SET available = 5", 2))
        .await;
    btc_becomes(&service, 2, "5").await;
    is_empty(&shop).await;
    slow.batch_execute("COMMIT").await.unwrap();
    btc_becomes(&service, 1, "4").await;
    is_empty(&shop).await;
}

/// Not shown from a cache either: its old value would be wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_balance_that_cannot_be_read_is_not_shown_until_it_can() {
    let redis = Redis::start();
    let (shop, setup) = follow(
        &redis,
        "ALTER TABLE wallets ALTER COLUMN available TYPE numeric",
    )
    .await;
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    btc_becomes(&service, 8, "10").await;
    shop.run(&of_customer(
        "UPDATE wallets SET available = 0.000000001",
        8,
    ))
    .await;
    read_fails(&service, 8).await;
    is_empty(&shop).await;
    let reason = shop.ask("SELECT reason FROM balance_outbox_dead").await;
    assert!(reason.contains("does not fit exactly"), "{reason}");
    shop.run(&of_customer("UPDATE wallets SET available = 3", 8))
        .await;
    btc_becomes(&service, 8, "3").await;
}

/// The statement of one customer waits for a lock that somebody keeps, that of another one raises an error.
const TROUBLED: &str = "CREATE TABLE troubled (customer uuid PRIMARY KEY, slow boolean NOT NULL); \
     GRANT SELECT ON troubled TO PUBLIC; \
     CREATE FUNCTION sound(of_customer uuid) RETURNS boolean LANGUAGE plpgsql AS $$ \
     DECLARE is_slow boolean; BEGIN \
     SELECT slow INTO is_slow FROM troubled WHERE customer = of_customer; \
     IF is_slow THEN PERFORM pg_advisory_xact_lock(1); END IF; \
     IF NOT is_slow THEN RAISE EXCEPTION 'not this one'; END IF; \
     RETURN true; END $$";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_statement_fails_or_is_slow_holds_up_nobody() {
    let redis = Redis::start();
    let (shop, setup) = follow(&redis, TROUBLED).await;
    let holder = shared().client(&shop.place.database).await;
    let lock = "SELECT pg_advisory_lock(1)";
    holder.batch_execute(lock).await.unwrap();
    let sql = "SELECT currency AS asset_id, available AS avail, on_hold AS frozen, version AS seq FROM wallets \
               WHERE customer = $1 AND sound(customer)";
    let setup = setup
        .with("postgres.balances_sql", sql)
        .with("postgres.balance_sql", "");
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    for (user, avail) in [(1, "1.25"), (2, "2.5"), (3, "3.75")] {
        btc_becomes(&service, user, avail).await;
    }
    shop.run(
        "INSERT INTO troubled SELECT id, customer_no = 1 FROM customers WHERE customer_no IN (1, 2); \
         UPDATE wallets SET available = 9 WHERE customer IN (SELECT id FROM customers WHERE customer_no IN (1, 2, 3))",
    )
    .await;
    btc_becomes(&service, 3, "9").await;
    is_empty(&shop).await;
    read_fails(&service, 1).await;
    read_fails(&service, 2).await;
    let dead = shop
        .ask("SELECT string_agg(reason, ';') FROM balance_outbox_dead")
        .await;
    assert!(
        dead.contains("user 2") && dead.contains("P0001") && !dead.contains("user 1"),
        "{dead}"
    );
    shop.run("DELETE FROM troubled").await;
    for user in [1, 2] {
        btc_becomes(&service, user, "9").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_is_deleted_is_gone_at_once() {
    let redis = Redis::start();
    let trigger = include_str!("../../examples/existing-ledger/4-deleted-customers.sql");
    let (shop, setup) = follow(&redis, trigger).await;
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    btc_becomes(&service, 4, "5").await;
    // A change that is not taken yet, when its customer is gone.
    let delete = format!(
        "BEGIN; {}; {}; DELETE FROM customers WHERE customer_no = 4; COMMIT",
        of_customer("UPDATE wallets SET available = 77", 4),
        of_customer("DELETE FROM wallets", 4)
    );
    shop.run(&delete).await;
    eventually_async(SOON, "nothing is shown of the customer", async || {
        let answer = service.balances(4).await;
        let gone = answer.status == 200 && shown(&answer).is_empty();
        (gone && !answer.cache_status().contains("detail=")).then_some(())
    })
    .await;
    is_empty(&shop).await;
    assert_eq!(
        shop.ask("SELECT count(*) FROM balance_outbox_dead").await,
        "0"
    );
    // The number comes back with another customer.
    shop.run(
        "WITH made AS (INSERT INTO customers (customer_no, email) VALUES (4, 'new') RETURNING id) \
         INSERT INTO wallets (customer, currency, available) SELECT id, 'BTC', 6 FROM made",
    )
    .await;
    btc_becomes(&service, 4, "6").await;
}

/// The service locks a balance that does not exist yet by a row of version 0.
#[tokio::test(flavor = "multi_thread")]
async fn the_services_own_writes_leave_one_row_for_each_balance() {
    let place = PgPlace::create(shared()).await;
    let setup = Setup::default()
        .with("source.kind", "postgres")
        .with("ledger.writer", "service")
        .with("postgres.url", &place.settings.url);
    let (code, said, wrong) = setup.run(&["schema", "apply", "--outbox"]);
    assert_eq!(code, 0, "{said}{wrong}");
    let service = Service::start_ready(setup).await;
    let rows = async || {
        let client = shared().client(&place.database).await;
        let text = "SELECT COALESCE(string_agg(user_key || ' ' || kind, ', ' ORDER BY id), '') FROM trading.balance_outbox";
        let rows = client.query(text, &[]).await.unwrap();
        rows[0].get::<_, String>(0)
    };
    let entry =
        |user: i64, delta: i64| json!({"user_id": user, "asset_id": 1, "delta_avail": delta});
    let both = json!([
        {"transaction_id": 1, "entries": [entry(1, 5)]},
        {"transaction_id": 2, "entries": [entry(2, -5)]},
    ]);
    let answer = service.post("/api/v1/ledger/transactions", &both).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let results: Vec<_> = answer
        .data()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["result"].clone())
        .collect();
    assert_eq!(results, ["written", "refused"]);
    assert_eq!(rows().await, "1 changed");
    let again = json!({"transaction_id": 3, "entries": [entry(1, 5)]});
    assert_eq!(
        service
            .post("/api/v1/ledger/transactions", &again)
            .await
            .status,
        200
    );
    assert_eq!(rows().await, "1 changed, 1 changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_the_outbox() {
    let shop = Shop::new().await;
    let setup = shop
        .setup()
        .with("postgres.outbox.enabled", true)
        .with("limits.deadline_ms", 20_000)
        .with("source.timeout_ms", 10_000);
    let doctor = |setup: &Setup| Apart::new(setup.clone()).run(&["doctor", "--before-start"]);
    doctor(&setup).has(
        1,
        &[
            "source.outbox",
            "no table public.balance_outbox",
            "schema apply --outbox",
        ],
    );
    let (code, said, wrong) = setup.run(&["schema", "apply", "--outbox"]);
    assert_eq!(code, 0, "{said}{wrong}");
    doctor(&setup).has(0, &["its triggers run, and no row waits"]);
    shop.run("ALTER TABLE wallets DISABLE TRIGGER balance_outbox_update; DROP TRIGGER balance_outbox_delete ON wallets")
        .await;
    doctor(&setup).has(
        1,
        &["public.wallets does not run balance_outbox_delete, balance_outbox_update"],
    );
    let (code, said, wrong) = setup.run(&["schema", "apply", "--outbox"]);
    assert_eq!(code, 0, "{said}{wrong}");
    shop.run(
        "INSERT INTO balance_outbox (user_key, created_at) VALUES ('x', now() - interval '2 hours'), ('y', now()); \
         INSERT INTO balance_outbox_dead (id, kind, created_at, reason) VALUES (1, 'changed', now(), 'no')",
    )
    .await;
    doctor(&setup).has(
        0,
        &["2 rows wait, the oldest for 72", "1 rows could not be read"],
    );
    shop.run(
        "CREATE ROLE outbox_reader LOGIN; GRANT SELECT ON customers, wallets, balance_outbox TO outbox_reader; \
         GRANT INSERT, SELECT ON balance_outbox_dead TO outbox_reader",
    )
    .await;
    let reader = setup.with(
        "postgres.url",
        shop.place
            .settings
            .url
            .replace("//postgres@", "//outbox_reader@"),
    );
    doctor(&reader).has(1, &["this user lacks DELETE ON balance_outbox"]);
}
