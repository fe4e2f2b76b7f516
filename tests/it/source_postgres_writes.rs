//! Rights and tables that only writes need: `/readyz` and the dashboard say when they are missing, and when they are back.

use serde_json::json;

use crate::support::{
    pg_place::PgPlace,
    postgres::shared,
    service::{Service, Setup},
    stage::{counted, in_order, is_failure, readiness, shown},
};

const TRANSACTIONS: &str = "/api/v1/ledger/transactions";
const GRANTS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA trading TO";

/// A ledger, and a role of its own that may do everything there.
async fn ledger_with_role() -> (PgPlace, String) {
    let place = PgPlace::create(shared()).await.applied().await;
    let role = format!("writer_of_{}", place.database);
    let text = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA trading TO {role}; {GRANTS} {role}"
    );
    place.execute(&text).await;
    (place, role)
}

/// Settings that connect as this role.
fn connecting_as(place: &PgPlace, role: &str, writer: &str) -> Setup {
    let url = format!("postgresql://{role}@{}/{}", place.address(), place.database);
    Setup::default()
        .with("source.kind", "postgres")
        .with("postgres.url", url)
        .with("ledger.writer", writer)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_writes_lack_is_said_until_it_is_there_again() {
    let (place, role) = ledger_with_role().await;
    let service = Service::start_ready(connecting_as(&place, &role, "service")).await;
    in_order(&service).await;
    let deposit = |id: i64| json!({"transaction_id": id, "entries": [{"user_id": 7, "asset_id": 1, "delta_avail": 1}]});
    let written = service.post(TRANSACTIONS, &deposit(1)).await;
    assert_eq!(written.status, 200, "{}", written.body);

    let revoke = format!(
        "REVOKE INSERT ON trading.balance_ledger FROM {role}; REVOKE UPDATE ON trading.redis_outbox FROM {role}"
    );
    place.execute(&revoke).await;
    is_failure(&service.post(TRANSACTIONS, &deposit(2)).await, 503, 5031);
    let said = readiness(&service, "degraded", "INSERT on balance_ledger").await;
    assert!(
        said.body.contains("UPDATE on redis_outbox") && said.body.contains("GRANT"),
        "{}",
        said.body
    );
    let label = [r#"reason="ledger_writes""#];
    assert_eq!(counted(&service, "degraded", &label).await, 1);
    assert_eq!(shown(&service.balances(7).await).len(), 1);
    place.execute(&format!("{GRANTS} {role}")).await;
    in_order(&service).await;
    let written = service.post(TRANSACTIONS, &deposit(2)).await;
    assert_eq!(written.status, 200, "{}", written.body);

    place.execute("DROP TABLE trading.user_trades").await;
    readiness(&service, "degraded", "user_trades is missing").await;
    let place = place.applied().await;
    place.execute(&format!("{GRANTS} {role}")).await;
    in_order(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_never_could_write_is_in_order_beside_another_writer() {
    let (place, role) = ledger_with_role().await;
    let revoke = format!("REVOKE INSERT ON trading.balance_ledger FROM {role}");
    place.execute(&revoke).await;
    let external = Service::start_ready(connecting_as(&place, &role, "external")).await;
    in_order(&external).await;
    let writing = Service::start_ready(connecting_as(&place, &role, "service")).await;
    readiness(&writing, "degraded", "INSERT on balance_ledger").await;
}
