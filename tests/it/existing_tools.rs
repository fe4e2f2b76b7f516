//! `get --trace` and `verify` in front of somebody else's tables: what the statement says, against Redis and the service.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli_support::Said,
    existing_ledger::{Shop, of_customer},
    support::{
        eventually::eventually_async,
        redis::Redis,
        service::{Service, Setup},
        stage::{SOON, in_order, shown},
    },
};

/// A shop with a Redis and an instance that nobody tells of changes, and which has read customers 7 and 8.
async fn read_shop() -> (Shop, Redis, Service) {
    let (shop, redis) = (Shop::new().await, Redis::start());
    let setup = shop.setup().with("redis.url", redis.url());
    let service = Service::start_ready(setup.with("redis.snapshot_ttl_ms", 300_000)).await;
    in_order(&service).await;
    for user in [7, 8] {
        read_into_redis(&service, &redis, user).await;
    }
    (shop, redis, service)
}

/// Reads a customer until Redis has the balances: on a busy machine it may not take the first that are loaded.
async fn read_into_redis(service: &Service, redis: &Redis, user: u64) {
    let key = format!("balance:user:{user}");
    eventually_async(SOON, "Redis holds the customer", async || {
        assert_eq!(shown(&service.balances(user).await).len(), 3);
        redis.ask::<bool>(&["HEXISTS", &key, "b:1"]).then_some(())
    })
    .await;
}

fn run(service: &Service, words: &[&str]) -> Said {
    Said::of(service.run(words))
}

/// `verify` of these users.
fn verify_users(setup: &Setup, users: &str, words: &[&str]) -> Said {
    let folder = TempDir::with_prefix("users-").unwrap();
    let list = folder.path().join("users.txt");
    fs::write(&list, users).unwrap();
    let path = list.display().to_string();
    let arguments = [&["verify", "--grace-ms", "0", "--users", &path], words].concat();
    Said::of(setup.run(&arguments))
}

fn change_btc(user: i64, set: &str) -> String {
    let statement = format!("UPDATE wallets SET available = {set}");
    of_customer(&statement, user) + " AND currency = 'BTC'"
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_mapped_ledger_shows_what_each_part_has() {
    let (shop, _redis, service) = read_shop().await;
    let trace = ["get", "7", "--trace"];
    run(&service, &trace).has(
        0,
        &[
            "all that were asked agree",
            "a whole snapshot, good for",
            "source   postgres:",
            "loads    read somebody else's ledger, by postgres.balances_sql",
            "view     postgres.balances_sql reads the ledger itself",
        ],
    );
    shop.run(&change_btc(7, "3")).await;
    let seq = shop
        .ask(&(of_customer("SELECT version FROM wallets", 7) + " AND currency = 'BTC'"))
        .await;
    let alone = ["get", "7", "--trace", "--no-service"];
    let said = run(&service, &alone);
    said.has(0, &["! Redis is behind the ledger"]);
    said.line(&["BTC", "ledger", &seq, "3", "0"]);
    let page: Value =
        serde_json::from_str(&run(&service, &[&alone[..], &["--json"]].concat()).out).unwrap();
    let avail = |tier: &str| page["tiers"][tier]["BTC"]["avail"].clone();
    assert_eq!(
        [avail("ledger"), avail("redis")],
        [json!("3"), json!("8.75")]
    );
    run(&service, &["get", "999999", "--trace"])
        .has(0, &["postgres.balances_sql has no row of this user"]);
    // A statement for one asset that forgets half of the condition.
    let other = "SELECT currency AS asset_id, 1::bigint AS avail, on_hold AS frozen, version AS seq FROM wallets \
                 WHERE customer = $1 AND currency = $2";
    let setup = service.setup().with("postgres.balance_sql", other);
    let said = Said::of(setup.run(&["get", "7", "--trace", "--no-service"]));
    said.has(
        0,
        &[
            "! postgres.balance_sql has seq",
            "of BTC, postgres.balances_sql has seq",
        ],
    );
    // Rows that are no balances.
    shop.run("ALTER TABLE wallets ALTER COLUMN available TYPE numeric")
        .await;
    shop.run(&change_btc(7, "0.123456789")).await;
    let said = run(&service, &["get", "7", "--trace", "--no-service"]);
    said.has(
        1,
        &[
            "! the ledger could not be asked",
            "avail of BTC does not fit exactly",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_compares_redis_and_the_service_with_the_statement() {
    let (shop, redis, service) = read_shop().await;
    let verify = |words: &[&str]| run(&service, &[&["verify", "--grace-ms", "0"], words].concat());
    let said = verify(&[]);
    said.has(
        0,
        &["the same: 2 users, 6 assets, 18 rows compared, 0 differences"],
    );
    assert!(said.err.contains("those that Redis holds (2)"), "{said}");
    verify(&["--all", "--no-service"]).has(0, &["the same: 2 users, 6 assets, 12 rows compared"]);
    verify(&["--sample", "1"]).has(0, &["the same: 1 users, 3 assets"]);
    let listed = |users: &str, words: &[&str]| verify_users(&service.setup(), users, words);
    // Customer 9 was read by nobody: the service answers, and that is compared.
    listed("7\n9\n", &[]).has(0, &["the same: 2 users, 6 assets"]);

    shop.run(&change_btc(7, "3")).await;
    shop.run(&of_customer("DELETE FROM wallets", 8)).await;
    let said = verify(&["--all", "--no-service"]);
    said.has(
        1,
        &[
            "Redis behind  user 7: Redis has seq",
            "of BTC, the ledger has seq",
            "Redis ahead  user 8: Redis has seq",
            "of ETH, the ledger has nothing",
            "4 differences, Redis behind: 1, Redis ahead: 3",
        ],
    );
    let page: Value =
        serde_json::from_str(&verify(&["--all", "--no-service", "--json"]).out).unwrap();
    assert_eq!(
        (&page["redis_behind"], &page["redis_ahead"]),
        (&json!(1), &json!(3)),
        "{page}"
    );
    let heal = json!({"user_ids": [7, 8], "floors": true});
    eventually_async(SOON, "the caches are healed", async || {
        let healed = service.post("/api/v1/cache/invalidate", &heal).await;
        (healed.status == 200).then_some(())
    })
    .await;
    listed("7\n8\n", &[]).has(0, &["the same: 2 users, 3 assets"]);

    // Written past this service, into Redis.
    read_into_redis(&service, &redis, 9).await;
    let entry: String = redis.ask(&["HGET", "balance:user:9", "b:1"]);
    let (seq, rest) = entry.split_once(' ').unwrap();
    let (_, rest) = rest.split_once(' ').unwrap();
    let _: i64 = redis.ask(&["HSET", "balance:user:9", "b:1", &format!("{seq} 1 {rest}")]);
    listed("9\n", &["--no-service"]).has(
        1,
        &[
            "Redis amounts differ  user 9: Redis has seq",
            "1 differences",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_rows_that_are_no_balances_and_statements_that_differ() {
    let (shop, _redis, service) = read_shop().await;
    let listed = |users: &str, words: &[&str]| verify_users(&service.setup(), users, words);
    shop.run("ALTER TABLE wallets ALTER COLUMN available TYPE numeric")
        .await;
    shop.run(&change_btc(10, "'NaN'")).await;
    listed("10\n", &[]).has(
        1,
        &["ledger cannot be read  user 10: avail of BTC does not fit exactly"],
    );
    for (avail, seq, parts) in [
        (
            "available + 1",
            "version",
            [
                "statements differ  user 11: postgres.balance_sql has seq",
                "of BTC, postgres.balances_sql has seq",
                "3 differences",
            ],
        ),
        (
            "available",
            "version - 1",
            [
                "ledger cannot be read  user 11: postgres.balance_sql:",
                "seq of BTC is below 1",
                "1 differences",
            ],
        ),
    ] {
        let other = format!(
            "SELECT currency AS asset_id, {avail} AS avail, on_hold AS frozen, {seq} AS seq FROM wallets \
             WHERE customer = $1 AND currency = $2"
        );
        let setup = service.setup().with("postgres.balance_sql", other);
        verify_users(&setup, "11\n", &[]).has(1, &parts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_verify_cannot_check_of_a_mapped_ledger_is_said() {
    let shop = Shop::new().await;
    let mut service = Service::start_ready(shop.setup().with("memory.ttl_ms", 300_000)).await;
    for (words, part) in [
        (
            &["verify"][..],
            "postgres.balances_sql cannot list users, and redis.url is empty: name them with --users",
        ),
        (
            &["verify", "--conservation"],
            "--conservation reads histories",
        ),
        (
            &["verify", "--all", "--no-service"],
            "nothing to compare the ledger with",
        ),
    ] {
        let said = run(&service, words);
        assert!(said.code == 2 && said.err.contains(part), "{part}: {said}");
    }
    verify_users(&service.setup(), "7\n", &[]).has(0, &["the same: 1 users, 3 assets"]);
    // Memory has it, and nobody said that it changed.
    shop.run(&change_btc(7, "3")).await;
    verify_users(&service.setup(), "7\n", &[]).has(
        1,
        &[
            "service behind  user 7: the service has seq",
            "1 differences",
        ],
    );
    let setup = service.setup();
    // Its ports stay its own.
    service.kill9();
    let said = verify_users(&setup, "7\n", &[]);
    assert!(
        said.code == 1 && said.err.contains("does not answer") && said.err.contains("--no-service"),
        "{said}"
    );
    // Of any other ledger the tables are compared.
    let service = Service::start_ready(Setup::default()).await;
    let said = run(&service, &["verify", "--no-service"]);
    assert!(
        said.code == 2 && said.err.contains("are for postgres.balances_sql"),
        "{said}"
    );
}
