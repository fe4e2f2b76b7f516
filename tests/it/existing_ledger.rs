//! Somebody else's tables in PostgreSQL as the source: names, uuids, decimals, what is refused, and the seed's patterns.

use balance_cache::config::Settings;
use serde_json::{Value, json};

use crate::{
    cli_support::Apart,
    support::{
        eventually::eventually_async,
        pg_place::PgPlace,
        postgres::shared,
        redis::Redis,
        service::{Service, Setup},
        stage::{SOON, are, balances, in_order, is_failure, readiness, shown, way},
    },
};

/// Wallets of customers with uuids, amounts as decimals, and a version by trigger: the sample of the guide.
pub struct Shop {
    pub place: PgPlace,
}

const SETTINGS: &str = include_str!("../../examples/existing-ledger/balance-cache.toml");

impl Shop {
    /// The sample as it comes: without a version.
    pub async fn without_version() -> Self {
        let place = PgPlace::create(shared()).await;
        let shop = Self { place };
        shop.run(include_str!("../../examples/existing-ledger/1-sample.sql"))
            .await;
        shop
    }

    pub async fn new() -> Self {
        let shop = Self::without_version().await;
        shop.run(include_str!("../../examples/existing-ledger/2-version.sql"))
            .await;
        shop
    }

    pub async fn run(&self, text: &str) {
        shared().execute(&self.place.database, text).await;
    }

    /// One value as text.
    pub async fn ask(&self, text: &str) -> String {
        let client = shared().client(&self.place.database).await;
        let rows = client
            .query(&format!("SELECT ({text})::text"), &[])
            .await
            .unwrap();
        rows[0].get(0)
    }

    /// The settings of the guide, without Redis and outbox.
    pub fn setup(&self) -> Setup {
        Setup {
            file: SETTINGS.to_owned(),
            ..Setup::default()
        }
        .with("postgres.url", &self.place.settings.url)
        .with("postgres.outbox.enabled", false)
        .with("redis.url", "")
    }
}

/// A statement for the wallets of one customer.
pub fn of_customer(statement: &str, number: i64) -> String {
    format!("{statement} WHERE customer = (SELECT id FROM customers WHERE customer_no = {number})")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_another_shape_is_read_exactly() {
    let shop = Shop::new().await;
    let set = "UPDATE wallets SET available = CASE currency WHEN 'BTC' THEN 0.00012345 WHEN 'ETH' THEN -1.5 ELSE 92233720368.54775807 END, on_hold = 2";
    shop.run(&of_customer(set, 1001)).await;
    let service = Service::start_ready(shop.setup()).await;
    let answer = service.balances(1001).await;
    assert_eq!(way(&answer), "source; hit, memory; fwd=miss");
    let seen = balances(&answer.data());
    let amounts: Vec<_> = seen
        .iter()
        .map(|(asset, avail, _)| (&**asset, &**avail))
        .collect();
    assert_eq!(
        amounts,
        [
            ("BTC", "0.00012345"),
            ("USDT", "92233720368.54775807"),
            ("ETH", "-1.5")
        ]
    );
    let btc = &answer.data()[0];
    assert_eq!(btc["frozen"], "2");
    let millis = "SELECT floor(extract(epoch FROM changed_at) * 1000) FROM wallets";
    let at = shop
        .ask(&(of_customer(millis, 1001) + " AND currency = 'BTC'"))
        .await;
    assert_eq!(btc["updated_at"].to_string(), at);
    // A number that nobody has is an empty answer, not an error.
    assert_eq!(shown(&service.balances(999_999).await), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn min_seq_and_no_cache_ask_the_ledger_for_one_asset() {
    let shop = Shop::new().await;
    let service = Service::start_ready(shop.setup()).await;
    assert_eq!(shown(&service.balances(7).await).len(), 3);
    shop.run(&(of_customer("UPDATE wallets SET available = 3", 7) + " AND currency = 'BTC'"))
        .await;
    let seq = shop
        .ask(&(of_customer("SELECT version FROM wallets", 7) + " AND currency = 'BTC'"))
        .await;
    let path = format!("/api/user/balance?user_id=7&asset=BTC&min_seq=BTC:{seq}");
    let seen = shown(&service.get(&path).await);
    assert_eq!(seen, are(&[("BTC", "3", seq.parse().unwrap())]));
    shop.run(&of_customer("UPDATE wallets SET available = 4", 7))
        .await;
    let request = service.request(reqwest::Method::GET, "/api/user/balance?user_id=7");
    let fresh = service
        .send(request.header("cache-control", "no-cache"))
        .await;
    assert!(
        shown(&fresh).iter().all(|(_, avail, _)| avail == "4"),
        "{}",
        fresh.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_and_nothing_but_balances_is_read() {
    let shop = Shop::new().await;
    let service = Service::start_ready(shop.setup()).await;
    let entry = json!({"user_id": 7, "asset_id": 1, "seq": 99_999_999, "avail": 1, "frozen": 0});
    let deposit =
        json!({"transaction_id": 1, "entries": [{"user_id": 7, "asset_id": 1, "delta_avail": 1}]});
    for (path, body) in [("entries", &entry), ("transactions", &deposit)] {
        let said = service.post(&format!("/api/v1/ledger/{path}"), body).await;
        is_failure(&said, 409, 4093);
    }
    for (path, status) in [
        ("/api/v1/user/ledger?user_id=7&asset=BTC", 4041),
        ("/api/v1/totals", 4041),
        ("/api/v1/ledger/transactions/1", 4042),
        ("/api/v1/ledger/trades/1", 4042),
    ] {
        is_failure(&service.get(path).await, 404, status);
    }
    let told = service.post("/api/v1/settlements", &entry).await;
    assert_eq!(told.status, 200, "{}", told.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_without_a_seq_is_refused_with_the_way_to_one() {
    let shop = Shop::without_version().await;
    let without = "SELECT currency AS asset_id, available AS avail, on_hold AS frozen FROM wallets WHERE customer = $1";
    let (code, _, wrong) = shop
        .setup()
        .with("postgres.balances_sql", without)
        .run(&["config", "check"]);
    assert!(
        code == 2 && wrong.contains("EXISTING_LEDGER"),
        "{code}: {wrong}"
    );
    // The column is named and is not there.
    let service = Service::start(shop.setup()).await;
    readiness(&service, "not_ready", "version").await;
    is_failure(&service.balances(7).await, 503, 5031);
    let numbers = "SELECT currency AS asset_id, available AS avail, on_hold AS frozen, xmin AS seq FROM wallets WHERE customer = $1";
    let service = Service::start(
        shop.setup()
            .with("postgres.balances_sql", numbers)
            .with("postgres.balance_sql", ""),
    )
    .await;
    readiness(&service, "not_ready", "restored database").await;
    shop.run(include_str!("../../examples/existing-ledger/2-version.sql"))
        .await;
    let service = Service::start_ready(shop.setup()).await;
    assert_eq!(shown(&service.balances(7).await).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_exactly_a_balance_fails_its_user_and_nobody_else() {
    let shop = Shop::new().await;
    shop.run("ALTER TABLE wallets ALTER COLUMN available TYPE numeric")
        .await;
    shop.run(&of_customer(
        "UPDATE wallets SET available = 0.123456789",
        1,
    ))
    .await;
    shop.run(&(of_customer("UPDATE wallets SET currency = 'DOGE'", 2) + " AND currency = 'ETH'"))
        .await;
    let service = Service::start_ready(shop.setup()).await;
    for user in [1, 2] {
        is_failure(&service.balances(user).await, 503, 5031);
    }
    assert_eq!(shown(&service.balances(3).await).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_are_raw_units_and_users_may_be_texts() {
    let place = PgPlace::create(shared()).await;
    let shop = Shop { place };
    shop.run(
        "CREATE TABLE accounts (owner text, asset int, avail bigint, frozen bigint, rev int, PRIMARY KEY (owner, asset)); \
         INSERT INTO accounts VALUES ('42', 1, 910000000000, NULL, 17), ('42', 77, 5, 0, 1)",
    )
    .await;
    let sql =
        "SELECT asset AS asset_id, avail, frozen, rev AS seq FROM accounts WHERE owner = $1::text;";
    let setup = Setup::default()
        .with("source.kind", "postgres")
        .with("postgres.schema", "public")
        .with("postgres.url", &shop.place.settings.url)
        .with("postgres.balances_sql", sql);
    let service = Service::start_ready(setup).await;
    let answer = service.balances(42).await;
    assert_eq!(shown(&answer), are(&[("BTC", "9100", 17), ("77", "5", 1)]));
    assert_eq!(answer.data()[1]["unit"], "raw");
    assert_eq!(answer.data()[0]["updated_at"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_index_doctor_names_the_index_that_is_missing() {
    let shop = Shop::new().await;
    let doctor = |shop: &Shop| Apart::new(shop.setup()).run(&["doctor", "--before-start"]);
    doctor(&shop).has(
        0,
        &[
            "source.plan",
            "an index serves each statement",
            "is read exactly; avail: decimal, whole units; frozen: decimal, whole units",
        ],
    );
    shop.run("ALTER TABLE wallets DROP CONSTRAINT wallets_pkey")
        .await;
    doctor(&shop).has(
        1,
        &[
            "postgres.balances_sql reads the whole of public.wallets",
            "CREATE INDEX CONCURRENTLY ON public.wallets (customer)",
            "CREATE INDEX CONCURRENTLY ON public.wallets (customer, currency)",
        ],
    );
    shop.run("CREATE INDEX ON public.wallets (customer)").await;
    doctor(&shop).has(0, &["an index serves each statement"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_no_moment_is_left_out_and_a_statement_that_writes_is_refused() {
    let shop = Shop::new().await;
    shop.run("ALTER TABLE wallets DISABLE TRIGGER wallets_number")
        .await;
    shop.run(&of_customer(
        "UPDATE wallets SET changed_at = 'infinity'",
        7,
    ))
    .await;
    let service = Service::start_ready(shop.setup()).await;
    let answer = service.balances(7).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.data()[0]["updated_at"], Value::Null);
    let sql = "DELETE FROM wallets WHERE customer = $1 \
               RETURNING currency AS asset_id, available AS avail, on_hold AS frozen, version AS seq";
    let writing = shop
        .setup()
        .with("postgres.balances_sql", sql)
        .with("postgres.balance_sql", "");
    let service = Service::start(writing).await;
    readiness(&service, "not_ready", "is refused by the database").await;
    assert_eq!(shop.ask("SELECT count(*) FROM wallets").await, "30000");
}

/// Seed 3 selects five columns in place of all; a table that gets another one is read as before.
#[tokio::test(flavor = "multi_thread")]
async fn seed_columns_a_table_that_is_altered_is_read_on() {
    let shop = Shop::new().await;
    let service = Service::start_ready(shop.setup()).await;
    assert_eq!(shown(&service.balances(7).await).len(), 3);
    shop.run("ALTER TABLE wallets ADD COLUMN note text DEFAULT 'x'; ALTER TABLE wallets ALTER COLUMN available TYPE numeric(30, 10)").await;
    shop.run(&of_customer("UPDATE wallets SET available = 4", 7))
        .await;
    eventually_async(SOON, "the altered table is read", async || {
        let request = service.request(reqwest::Method::GET, "/api/user/balance?user_id=7");
        let answer = service
            .send(request.header("cache-control", "no-cache"))
            .await;
        (answer.status == 200 && shown(&answer).iter().all(|(_, avail, _)| avail == "4"))
            .then_some(())
    })
    .await;
}

/// Seed 3 keeps five keys of each user in Redis, without a TTL (seed fault 18), and forgets some of them (19). Here it is one.
#[tokio::test(flavor = "multi_thread")]
async fn seed_keys_a_user_has_one_key_and_it_has_a_ttl() {
    let (shop, redis) = (Shop::new().await, Redis::start());
    let service = Service::start_ready(shop.setup().with("redis.url", redis.url())).await;
    in_order(&service).await;
    // On a busy machine Redis may not take the first that is loaded.
    eventually_async(SOON, "Redis holds the user", async || {
        assert_eq!(shown(&service.balances(7).await).len(), 3);
        redis
            .ask::<bool>(&["HEXISTS", "balance:user:7", "b:1"])
            .then_some(())
    })
    .await;
    let keys: Vec<String> = redis.ask(&["KEYS", "balance:user:*"]);
    assert_eq!(keys, ["balance:user:7"]);
    let ttl: i64 = redis.ask(&["PTTL", "balance:user:7"]);
    let settings: Settings = balance_cache::config::default_settings().unwrap();
    let most = settings
        .redis
        .snapshot_ttl_ms
        .as_millis()
        .max(settings.settlement.floor_ttl_ms.as_millis());
    assert!(ttl > 0 && u64::try_from(ttl).unwrap() <= most, "{ttl}");
}
