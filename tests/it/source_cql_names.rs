//! A ledger whose tables and columns have other names (`scylla.names`), on a real Cassandra.

use balance_cache::{
    config::ReadFrom,
    domain::{Asset, Catalogue, Reference, SettleOutcome, SettleState, Symbol, Trade, TradeId},
    ledger::{Source, scylla::schema},
};
use serde_json::json;

use crate::support::{
    cassandra::shared,
    cql::{Place, asset, entry, told, user},
    service::{Service, Setup},
};

/// Our table, our column (or `table`), and the database's name.
const NAMES: [(&str, &str, &str); 16] = [
    ("balance_ledger", "table", "Wallet_Events"),
    ("balance_ledger", "user_id", "account"),
    ("balance_ledger", "asset_id", "currency"),
    ("balance_ledger", "seq", "version"),
    ("balance_ledger", "avail", "Free"),
    ("balance_ledger", "frozen", "held"),
    ("balance_ledger", "created_at", "at"),
    ("user_balances", "table", "wallets"),
    ("user_balances", "user_id", "owner"),
    ("user_balances", "version", "seq"),
    ("user_balances", "updated_at", "changed"),
    ("user_balances_by_user", "table", "wallet_events_by_account"),
    ("settled_trades", "table", "deals"),
    ("settled_trades", "trade_id", "deal"),
    ("user_trades", "table", "deals_by_account"),
    ("user_trades", "settled_at", "at"),
];

/// Tables as an existing ledger may have them, with a column more than is needed.
const LEDGER: &str = "CREATE TABLE {ks}.\"Wallet_Events\" (account bigint, currency int, version bigint, \
    delta_avail bigint, delta_frozen bigint, \"Free\" bigint, held bigint, event_type text, ref_id bigint, at bigint, \
    note text, PRIMARY KEY ((account, currency), version)) WITH CLUSTERING ORDER BY (version DESC)";

fn renamed() -> Place {
    Place::new(shared()).with(|settings| {
        for (table, ours, theirs) in NAMES {
            let names = settings.names.get_mut(table).unwrap();
            let before = names.insert(ours.to_owned(), theirs.to_owned());
            assert!(before.is_some(), "{table} has no {ours}");
        }
    })
}

fn catalogue() -> std::sync::Arc<Catalogue> {
    let assets = [(1, "BTC"), (2, "USDT")].map(|(id, name)| Asset::new(id, name, 8));
    let symbol = Symbol::new(1, "BTC_USDT", "BTC", "USDT");
    Catalogue::new(&assets, &[symbol]).unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_other_names_is_completed_read_in_all_ways_and_written() {
    let place = renamed();
    let session = shared().session().await;
    place
        .cql(
            &session,
            "CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        )
        .await;
    place.cql(&session, LEDGER).await;
    let row = "INSERT INTO {ks}.\"Wallet_Events\" (account, currency, version, \"Free\", held, note) VALUES (1, 1, 3, 30, 0, 'x')";
    place.cql(&session, row).await;
    let source = place.source(ReadFrom::View);
    let applied = schema::apply_schema(&place.settings, &source)
        .await
        .unwrap();
    let present = schema::SchemaStep::Present;
    assert_eq!(applied.steps[1].1, present, "{applied}");
    let view = place.open(ReadFrom::View, &catalogue()).await;
    view.shows(1, &[(1, 3, 30)]).await;
    view.writes(&[entry(1, 1, 4, 40), entry(1, 2, 1, 10)]).await;
    view.shows(1, &[(1, 4, 40), (2, 1, 10)]).await;
    for from in [ReadFrom::Table, ReadFrom::Ledger] {
        let source = place.open(from, &catalogue()).await;
        source.shows(1, &[(1, 4, 40), (2, 1, 10)]).await;
        let newest = source
            .scylla
            .load_latest(user(1), &[asset(1)])
            .await
            .unwrap();
        assert_eq!(told(&newest), [(1, 4, 40)]);
    }
    let above = view.scylla.row_above(user(1), asset(1), None).await;
    assert_eq!(above.unwrap().unwrap().seq.get(), 3);

    let balances: Vec<_> = [(1, 1), (1, 2), (2, 1), (2, 2)]
        .map(|(user, asset)| json!({"user_id": user, "asset_id": asset, "seq": 7, "avail": 70, "frozen": 0}))
        .to_vec();
    let trade = json!({"trade_id": 7, "symbol": "BTC_USDT", "buyer_user_id": 1, "seller_user_id": 2, "price": 200_000_000,
        "quantity": 10, "settled_at": 77, "balances": balances});
    let trade = Trade::parse_trade(&trade.to_string(), &catalogue()).unwrap();
    let outcomes = view.scylla.settle_transactions(&[trade]).await.unwrap();
    assert!(matches!(outcomes[..], [SettleOutcome::Written(_)]));
    let reference = Reference::Trade(TradeId::new(7).unwrap());
    let stands = view
        .scylla
        .find_transaction(reference)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stands.state, SettleState::Done);
    view.shows(2, &[(1, 7, 70), (2, 7, 70)]).await;
}

/// The settings of a service and its tools, by the environment.
fn setup(place: &Place) -> Setup {
    let mut setup = Setup::default()
        .with("source.kind", "scylla")
        .with("scylla.nodes", place.settings.nodes.join(","))
        .with("scylla.keyspace", place.settings.keyspace.to_lowercase());
    for (table, ours, theirs) in NAMES {
        setup = setup.with(&format!("scylla.names.{table}.{ours}"), theirs);
    }
    setup
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_find_other_names_and_say_which_one_is_missing() {
    let place = renamed();
    let setup = setup(&place);
    let (code, out, err) = setup.run(&["schema", "apply"]);
    assert_eq!(code, 0, "{out}{err}");
    let service = Service::start_ready(setup.clone()).await;
    let ledger_entry = json!({"user_id": 5, "asset_id": 1, "seq": 2, "avail": 9, "frozen": 0});
    let written = service.post("/api/v1/ledger/entries", &ledger_entry).await;
    assert_eq!(written.status, 200, "{}", written.body);
    let (code, out, err) = service.run(&["verify"]);
    assert_eq!(code, 0, "{out}{err}");
    let (_, out, _) = service.run(&["doctor"]);
    assert!(out.contains("source.schema"), "{out}");
    assert!(out.contains("all that is needed is there"), "{out}");
    let (code, out, err) = service.run(&["get", "5", "--trace"]);
    assert!(code == 0 && !out.contains("missing"), "{out}{err}");

    let other = setup.with("scylla.names.balance_ledger.held", "x");
    let (code, _, err) = other.run(&["schema", "status"]);
    assert!(
        code == 2 && err.contains("scylla.names.balance_ledger"),
        "{err}"
    );
    let wrong = self::setup(&place).with("scylla.names.balance_ledger.frozen", "locked");
    let (code, out, _) = wrong.run(&["schema", "status"]);
    assert_eq!(code, 1, "{out}");
    let said = "Wallet_Events (balance_ledger) is not as it should be: it has no column locked";
    assert!(out.contains(said), "{out}");
    let twice = self::setup(&place).with("scylla.names.balance_ledger.frozen", "Free");
    let (code, out, err) = twice.run(&["config", "check"]);
    assert!(
        code == 2 && format!("{out}{err}").contains("is taken by another"),
        "{out}{err}"
    );
}
