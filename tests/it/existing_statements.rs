//! Statements for somebody else's tables that are wrong, or whose answers are: each is an error with its cause, and never a balance.

use crate::{
    cli_support::Apart,
    existing_ledger::{Shop, of_customer},
    support::{
        service::{Service, Setup},
        stage::{in_order, is_failure, readiness, shown},
    },
};

const COLUMNS: &str = "currency AS asset_id, available AS avail, on_hold AS frozen, version AS seq";

/// The settings of the shop with another statement.
fn reading(shop: &Shop, sql: &str) -> Setup {
    shop.setup()
        .with("postgres.balances_sql", sql)
        .with("postgres.balance_sql", "")
}

/// Not ready, with these words, which `doctor` has too; and no balance.
async fn refused(setup: Setup, part: &str) {
    Apart::new(setup.clone())
        .run(&["doctor", "--before-start"])
        .has(1, &[part]);
    let service = Service::start(setup).await;
    readiness(&service, "not_ready", part).await;
    is_failure(&service.balances(7).await, 503, 5031);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_writes_or_locks_is_refused() {
    let shop = Shop::new().await;
    let function = "CREATE TABLE reads (customer uuid); \
        CREATE FUNCTION noted(who uuid) RETURNS SETOF wallets LANGUAGE plpgsql AS $$ BEGIN \
        INSERT INTO reads VALUES (who); RETURN QUERY SELECT * FROM wallets WHERE customer = who; END $$";
    shop.run(function).await;
    let by_function = format!("SELECT {COLUMNS} FROM noted($1)");
    let locking = format!("SELECT {COLUMNS} FROM wallets WHERE customer = $1 FOR UPDATE");
    for sql in [&by_function, &locking] {
        refused(reading(&shop, sql), "must read and change nothing").await;
    }
    let with = format!(
        "WITH gone AS (DELETE FROM wallets WHERE customer = $1 RETURNING *) SELECT {COLUMNS} FROM gone"
    );
    refused(reading(&shop, &with), "is refused by the database").await;
    assert_eq!(shop.ask("SELECT count(*) FROM reads").await, "0");
    assert_eq!(shop.ask("SELECT count(*) FROM wallets").await, "30000");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_the_wrong_form_are_refused_with_their_cause() {
    let shop = Shop::new().await;
    let of = |columns: &str| format!("SELECT {columns} FROM wallets WHERE customer = $1");
    for (sql, part) in [
        (
            of(
                "currency AS asset_id, available::float8 AS avail, on_hold AS frozen, version AS seq",
            ),
            "avail of type float8",
        ),
        (
            of(
                "currency AS asset_id, available AS avail, on_hold AS frozen, version::numeric AS seq",
            ),
            "seq of type numeric",
        ),
        (
            of("customer AS asset_id, available AS avail, on_hold AS frozen, version AS seq"),
            "asset_id of type uuid",
        ),
        (
            of(
                "currency AS asset_id, available AS avail, on_hold AS frozen, version AS seq, changed_at::date AS updated_at",
            ),
            "updated_at of type date",
        ),
        (
            of("currency, available AS avail, on_hold AS frozen, version AS seq"),
            "has no column asset_id",
        ),
        (
            format!("SELECT {COLUMNS} FROM wallets WHERE customer = $1; SELECT 1"),
            "is refused by the database",
        ),
    ] {
        refused(reading(&shop, &sql), part).await;
    }
    // The number of a user is no uuid, however it is cast.
    let cast = format!("SELECT {COLUMNS} FROM wallets WHERE customer = $1::text::uuid");
    let setup = reading(&shop, &cast).with("postgres.user_id_sql", "");
    refused(setup, "invalid input syntax for type uuid").await;
    let plain = format!("SELECT {COLUMNS} FROM wallets WHERE customer = $1");
    let setup = reading(&shop, &plain).with("postgres.user_id_sql", "");
    refused(setup, "operator does not exist: uuid = bigint").await;
    let numbered = "SELECT 1 AS asset_id, available AS avail, on_hold AS frozen, version AS seq FROM wallets \
                    WHERE customer = $1 AND currency = $2";
    let setup = shop.setup().with("postgres.balance_sql", numbered);
    refused(
        setup,
        "postgres.balance_sql has another asset_id than postgres.balances_sql",
    )
    .await;
    // A comment at the end is no mistake.
    let commented = shop.setup().with(
        "postgres.user_id_sql",
        "SELECT id FROM customers WHERE customer_no = $1 -- by its index",
    );
    let service = Service::start_ready(commented).await;
    assert_eq!(shown(&service.balances(7).await).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_said_at_start_and_when_it_is_taken_away() {
    let shop = Shop::new().await;
    let role = format!("reader_of_{}", shop.place.database);
    let grant = format!("GRANT SELECT ON customers, wallets TO {role}");
    shop.run(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA public TO {role}"
    ))
    .await;
    let url = format!(
        "postgresql://{role}@{}/{}",
        shop.place.address(),
        shop.place.database
    );
    let setup = shop.setup().with("postgres.url", url);
    let denied = "permission denied for table";
    refused(setup.clone(), denied).await;
    shop.run(&grant).await;
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    shop.run(&format!("REVOKE SELECT ON wallets FROM {role}"))
        .await;
    readiness(&service, "degraded", denied).await;
    shop.run(&grant).await;
    in_order(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_no_balances_fail_their_user_and_never_show_an_amount() {
    let shop = Shop::new().await;
    shop.run(
        "ALTER TABLE wallets DISABLE TRIGGER USER; ALTER TABLE wallets ALTER COLUMN available TYPE text, \
         ALTER COLUMN available DROP DEFAULT, ALTER COLUMN version DROP NOT NULL, DROP CONSTRAINT wallets_pkey; \
         CREATE INDEX ON wallets (customer)",
    )
    .await;
    let texts = [
        "1.000.000",
        "1,5",
        "1e3",
        "+1",
        "NaN",
        "Infinity",
        "-Infinity",
        "0.123456789",
        "92233720368.54775808",
        "-92233720368.54775809",
        "",
        " ",
        "0x10",
        "--1",
    ];
    for (user, text) in (1..).zip(texts) {
        shop.run(&of_customer(
            &format!("UPDATE wallets SET available = '{text}'"),
            user,
        ))
        .await;
    }
    let rows = [
        (101, "UPDATE wallets SET version = NULL"),
        (102, "UPDATE wallets SET version = 0"),
        (103, "UPDATE wallets SET version = -5"),
        (104, "UPDATE wallets SET currency = '01'"),
        (105, "UPDATE wallets SET currency = ''"),
        (106, "UPDATE wallets SET currency = 'btc'"),
    ];
    for (user, statement) in rows {
        shop.run(&of_customer(statement, user)).await;
    }
    let doubled = "INSERT INTO wallets SELECT * FROM wallets";
    shop.run(&of_customer(doubled, 107)).await;
    let many = "INSERT INTO wallets (customer, currency, available, version) \
                SELECT id, number::text, '1', 1 FROM customers, generate_series(1000, 101000) number WHERE customer_no = 108";
    shop.run(many).await;
    let service = Service::start_ready(shop.setup()).await;
    let bad = (1..=texts.len() as u64).chain(101..=108);
    for user in bad {
        let answer = service.balances(user).await;
        is_failure(&answer, 503, 5031);
    }
    assert_eq!(shown(&service.balances(99).await).len(), 3);
}
