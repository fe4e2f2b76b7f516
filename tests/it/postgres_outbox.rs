//! Notifications from PostgreSQL: triggers, the outbox, and the instance that takes it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::{
    existing_ledger::{Shop, of_customer},
    support::{
        eventually::eventually_async,
        postgres::shared,
        redis::Redis,
        service::{Service, Setup},
        stage::{SOON, counted, in_order, readiness, shown, way},
    },
};

/// Two statements and a notification for each of ten thousand users.
const BULK_MAX: Duration = Duration::from_mins(5);

impl Shop {
    /// With its triggers.
    async fn with_outbox() -> Self {
        let shop = Self::new().await;
        let (code, said, wrong) = shop.setup().run(&["schema", "apply", "--outbox"]);
        assert_eq!(code, 0, "{said}{wrong}");
        shop
    }

    /// Balances are held for longer than a slow machine takes for all rows: a change that is lost is seen.
    fn followed(&self, redis: &Redis) -> Setup {
        self.setup()
            .with("postgres.outbox.enabled", true)
            .with("redis.url", redis.url())
            .with("memory.ttl_ms", 1_200_000)
            .with("redis.snapshot_ttl_ms", 1_200_000)
            .with("settlement.floor_ttl_ms", 3_600_000)
    }

    async fn waiting(&self) -> String {
        self.ask("SELECT count(*) FROM balance_outbox").await
    }

    async fn is_empty(&self) {
        eventually_async(BULK_MAX, "the outbox is empty", async || {
            (self.waiting().await == "0").then_some(())
        })
        .await;
    }
}

/// What the user has in BTC comes to be this; held, not loaded.
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

/// Seed 3's invalidation on create, update, delete and in bulk.
#[tokio::test(flavor = "multi_thread")]
async fn seed_invalidation_every_kind_of_change_is_seen_on_every_instance() {
    let (shop, redis) = (Shop::with_outbox().await, Redis::start());
    let services = [
        Service::start_ready(shop.followed(&redis)).await,
        Service::start_ready(shop.followed(&redis)).await,
    ];
    for service in &services {
        in_order(service).await;
        for user in [1, 2, 3] {
            assert_eq!(shown(&service.balances(user).await).len(), 3);
        }
    }
    let all = async |user: u64, avail: &str| {
        for service in &services {
            btc_becomes(service, user, avail).await;
        }
    };
    // Update: what is held moves forward, and the next read is a hit.
    shop.run(&of_customer("UPDATE wallets SET available = 5", 1))
        .await;
    all(1, "5").await;
    eventually_async(SOON, "memory has it", async || {
        let answer = services[0].balances(1).await;
        way(&answer).starts_with("memory; hit").then_some(())
    })
    .await;
    // Delete: the balance is gone, and nothing waits for its seq.
    shop.run(&(of_customer("DELETE FROM wallets", 2) + " AND currency = 'BTC'"))
        .await;
    for service in &services {
        eventually_async(SOON, "the deleted balance is gone", async || {
            let answer = service.balances(2).await;
            let gone = answer.status == 200 && shown(&answer).len() == 2;
            (gone && !answer.cache_status().contains("detail=")).then_some(())
        })
        .await;
    }
    // Create: again, with a seq that is higher than the deleted one.
    shop.run("INSERT INTO wallets (customer, currency, available) SELECT id, 'BTC', 8 FROM customers WHERE customer_no = 2").await;
    all(2, "8").await;
    // Bulk: one statement over all customers.
    shop.run("UPDATE wallets SET available = 9 WHERE currency = 'BTC'")
        .await;
    shop.is_empty().await;
    for user in [1, 2, 3] {
        all(user, "9").await;
    }
    let applied = [r#"via="outbox""#, r#"result="applied""#];
    let mut taken = 0;
    for service in &services {
        taken += counted(service, "notifications_total", &applied).await;
    }
    assert!(taken >= 10_000, "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_while_redis_is_away_and_take_effect_when_it_is_back() {
    let (shop, mut redis) = (Shop::with_outbox().await, Redis::start());
    let service = Service::start_ready(shop.followed(&redis)).await;
    in_order(&service).await;
    btc_becomes(&service, 7, "8.75").await;
    redis.kill9();
    readiness(&service, "degraded", "redis").await;
    shop.run(&of_customer("UPDATE wallets SET available = 6", 7))
        .await;
    eventually_async(SOON, "the row is counted", async || {
        (counted(&service, "outbox_lag_entries", &[]).await == 1).then_some(())
    })
    .await;
    assert_eq!(shop.waiting().await, "1");
    redis.launch();
    shop.is_empty().await;
    btc_becomes(&service, 7, "6").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_read_are_put_aside_and_the_others_go_on() {
    let (shop, redis) = (Shop::with_outbox().await, Redis::start());
    shop.run(
        "ALTER TABLE wallets ALTER COLUMN available TYPE numeric; \
         INSERT INTO balance_outbox (user_key) VALUES ('no uuid'), (gen_random_uuid()::text); \
         INSERT INTO balance_outbox (event) VALUES ('{'), ('{\"user_id\":7,\"asset_id\":1,\"seq\":900000000,\"avail\":700000000,\"frozen\":0}')",
    )
    .await;
    shop.run(&of_customer(
        "UPDATE wallets SET available = 0.000000001",
        8,
    ))
    .await;
    shop.run(&of_customer("UPDATE wallets SET available = 6", 9))
        .await;
    // Other names in Kafka and the stream are none in the outbox.
    let setup = shop.followed(&redis);
    let setup = setup.with("settlement.fields.user_id", "/after/customer_no");
    let service = Service::start_ready(setup).await;
    shop.is_empty().await;
    btc_becomes(&service, 9, "6").await;
    btc_becomes(&service, 7, "7").await;
    assert_eq!(
        shop.ask("SELECT count(*) FROM balance_outbox_dead").await,
        "4"
    );
    let reasons = shop
        .ask("SELECT string_agg(reason, '; ' ORDER BY id) FROM balance_outbox_dead")
        .await;
    for part in ["22P02", "finds no user", "does not fit exactly"] {
        assert!(reasons.contains(part), "{part}: {reasons}");
    }
    let invalid = [r#"via="outbox""#, r#"result="invalid""#];
    eventually_async(SOON, "each of them is counted", async || {
        let count = counted(&service, "notifications_total", &invalid).await;
        (count >= 4).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_instance_loses_nothing_and_another_gets_the_turn() {
    let (shop, redis) = (Shop::with_outbox().await, Redis::start());
    let mut first = Service::start_ready(shop.followed(&redis)).await;
    in_order(&first).await;
    btc_becomes(&first, 1, "1.25").await;
    let second = Service::start_ready(shop.followed(&redis)).await;
    in_order(&second).await;
    btc_becomes(&second, 1, "1.25").await;
    let turn = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually_async(SOON, "one instance has the turn", async || {
        (shop.ask(turn).await == "1").then_some(())
    })
    .await;
    shop.run("UPDATE wallets SET available = 9 WHERE currency = 'BTC'")
        .await;
    first.kill9();
    shop.is_empty().await;
    for user in [1, 5_000, 10_000] {
        btc_becomes(&second, user, "9").await;
    }
    // Connections that the server ends are made again.
    shop.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'balance-cache' AND datname = current_database()").await;
    shop.run(&of_customer("UPDATE wallets SET available = 10", 1))
        .await;
    btc_becomes(&second, 1, "10").await;
    shop.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_is_not_there_is_named_and_followed_when_it_is() {
    let (shop, redis) = (Shop::new().await, Redis::start());
    let service = Service::start_ready(shop.followed(&redis)).await;
    readiness(&service, "degraded", "schema apply --outbox").await;
    let (code, said, wrong) = shop.setup().run(&["schema", "apply", "--outbox"]);
    assert_eq!(code, 0, "{said}{wrong}");
    in_order(&service).await;
    shop.run(&of_customer("UPDATE wallets SET available = 3", 1))
        .await;
    btc_becomes(&service, 1, "3").await;
    // A writer without rights on the outbox writes on; one that rolls back leaves nothing.
    let client = shared().client(&shop.place.database).await;
    client
        .batch_execute("BEGIN; UPDATE wallets SET available = 1; ROLLBACK")
        .await
        .unwrap();
    shop.run("CREATE ROLE writer_of_wallets; GRANT SELECT, UPDATE ON wallets, customers TO writer_of_wallets; GRANT USAGE ON SEQUENCE wallets_version TO writer_of_wallets").await;
    client
        .batch_execute("SET ROLE writer_of_wallets")
        .await
        .unwrap();
    client
        .batch_execute(&of_customer("UPDATE wallets SET available = 4", 1))
        .await
        .unwrap();
    btc_becomes(&service, 1, "4").await;
    shop.is_empty().await;
    let (code, said, wrong) = shop.setup().run(&["schema", "rollback", "--outbox"]);
    assert!(
        code == 2 && wrong.contains("--yes"),
        "{code}: {said}{wrong}"
    );
    let (code, said, wrong) = shop
        .setup()
        .run(&["schema", "rollback", "--outbox", "--yes"]);
    assert_eq!(code, 0, "{said}{wrong}");
    shop.run(&of_customer("UPDATE wallets SET available = 5", 1))
        .await;
    let left = shop
        .ask("SELECT count(*) FROM pg_class WHERE relname LIKE 'balance_outbox%'")
        .await;
    assert_eq!(left, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_own_tables_have_an_outbox_for_an_external_writer_too() {
    let (place, redis) = (
        crate::support::pg_place::PgPlace::create(shared()).await,
        Redis::start(),
    );
    let setup = Setup::default()
        .with("source.kind", "postgres")
        .with("source.read_from", "table")
        .with("postgres.url", &place.settings.url)
        .with("postgres.outbox.enabled", true)
        .with("redis.url", redis.url());
    let (code, said, wrong) = setup.run(&["schema", "apply", "--outbox"]);
    assert_eq!(code, 0, "{said}{wrong}");
    let write = "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, frozen) VALUES (7, 1, {seq}, {seq}00000000, 0); \
                 INSERT INTO trading.user_balances (user_id, asset_id, version, avail, frozen) VALUES (7, 1, {seq}, {seq}00000000, 0) \
                 ON CONFLICT (user_id, asset_id) DO UPDATE SET version = excluded.version, avail = excluded.avail";
    shared()
        .execute(&place.database, &write.replace("{seq}", "1"))
        .await;
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    btc_becomes(&service, 7, "1").await;
    shared()
        .execute(&place.database, &write.replace("{seq}", "2"))
        .await;
    btc_becomes(&service, 7, "2").await;
    let told = json!({"user_id": 7});
    eventually_async(SOON, "it takes notifications by HTTP, too", async || {
        let answer = service.post("/api/v1/settlements", &told).await;
        (answer.status == 200).then_some(())
    })
    .await;
    btc_becomes(&service, 7, "2").await;
}

/// Longer than the time after which the server ends a session that is silent (30 s).
const TURN_PASSES: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_instance_loses_the_turn() {
    let (shop, redis) = (Shop::with_outbox().await, Redis::start());
    let mut first = Service::start_ready(shop.followed(&redis)).await;
    in_order(&first).await;
    let second = Service::start_ready(shop.followed(&redis)).await;
    in_order(&second).await;
    btc_becomes(&second, 1, "1.25").await;
    first.process().signal("STOP");
    shop.run(&of_customer("UPDATE wallets SET available = 9", 1))
        .await;
    eventually_async(TURN_PASSES, "another instance has the turn", async || {
        (shop.waiting().await == "0").then_some(())
    })
    .await;
    btc_becomes(&second, 1, "9").await;
    first.process().signal("CONT");
    btc_becomes(&first, 1, "9").await;
}

/// Users that are written and read while everything is killed.
const WRITTEN: u64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_instances_redis_and_connections_are_killed() {
    let (shop, mut redis) = (Shop::with_outbox().await, Redis::start());
    let mut services = [
        Service::start_ready(shop.followed(&redis)).await,
        Service::start_ready(shop.followed(&redis)).await,
    ];
    for round in 1..=12_i64 {
        for user in 1..=WRITTEN {
            let set = format!("UPDATE wallets SET available = {round} + {user} * 0.001");
            let number = i64::try_from(user).unwrap();
            shop.run(&of_customer(&set, number)).await;
            // Held in memory for longer than the test lasts: a change that is lost would be seen at the end.
            for service in &services {
                let path = format!("/api/user/balance?user_id={user}");
                let _ = service.try_send(service.request(Method::GET, &path)).await;
            }
        }
        match round % 4 {
            0 => services[0].restart().await,
            1 => {
                redis.kill9();
                redis.launch();
            }
            2 => shop.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'balance-cache' AND datname = current_database()").await,
            _ => services[1].restart().await,
        }
    }
    shop.is_empty().await;
    for service in &services {
        in_order(service).await;
        for user in 1..=WRITTEN {
            btc_becomes(service, user, format!("12.{user:03}").trim_end_matches('0')).await;
        }
    }
    assert_eq!(
        shop.ask("SELECT count(*) FROM balance_outbox_dead").await,
        "0"
    );
}
