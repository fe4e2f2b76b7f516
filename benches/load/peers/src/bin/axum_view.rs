//! No cache: stock axum, and one query of the view per request. `--query seed` takes one row of the user's partition, which
//! is one asset; `--query grouped` takes the newest row of each asset, which is right.
//!
//! Settlements come in as they do at the service, and become one row of the ledger.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::{get, post},
};
use balance_cache_load::Arguments;
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    statement::prepared::PreparedStatement,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

const SELECT: &str = "SELECT asset_id, avail, frozen, seq, created_at FROM trading.user_balances_by_user WHERE user_id = ?";
const INSERT: &str = "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, frozen, created_at) \
                      VALUES (?, ?, ?, ?, ?, ?)";

struct Database {
    session: Session,
    select: PreparedStatement,
    insert: PreparedStatement,
}

#[derive(Deserialize)]
struct Asked {
    user_id: i64,
}

#[derive(Serialize)]
struct Envelope<T> {
    status: u32,
    msg: &'static str,
    data: T,
}

#[derive(Serialize)]
struct Balance {
    asset: &'static str,
    avail: String,
    frozen: String,
    seq: i64,
    updated_at: Option<i64>,
}

#[derive(Deserialize)]
struct Entry {
    user_id: i64,
    asset_id: i32,
    seq: i64,
    avail: i64,
    frozen: i64,
    created_at: Option<i64>,
}

fn ok<T>(data: T) -> Json<Envelope<T>> {
    Json(Envelope {
        status: 0,
        msg: "ok",
        data,
    })
}

/// All assets of the catalogue have 8 decimals.
fn decimal(raw: i64) -> String {
    const UNIT: u64 = 100_000_000;
    let sign = if raw < 0 { "-" } else { "" };
    let (whole, rest) = (raw.unsigned_abs() / UNIT, raw.unsigned_abs() % UNIT);
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{rest:08}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

fn name(asset: i32) -> &'static str {
    match asset {
        1 => "BTC",
        2 => "USDT",
        3 => "ETH",
        _ => "?",
    }
}

async fn balance(
    State(database): State<Arc<Database>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Envelope<Vec<Balance>>>, StatusCode> {
    let answer = database
        .session
        .execute_unpaged(&database.select, (asked.user_id,))
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let rows = answer
        .into_rows_result()
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let rows = rows
        .rows::<(i32, Option<i64>, Option<i64>, i64, Option<i64>)>()
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let mut balances = Vec::new();
    for row in rows {
        let (asset, avail, frozen, seq, updated_at) =
            row.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        balances.push(Balance {
            asset: name(asset),
            avail: decimal(avail.unwrap_or(0)),
            frozen: decimal(frozen.unwrap_or(0)),
            seq,
            updated_at,
        });
    }
    Ok(ok(balances))
}

async fn settle(
    State(database): State<Arc<Database>>,
    Json(entry): Json<Entry>,
) -> Result<Json<Envelope<()>>, StatusCode> {
    let Entry {
        user_id,
        asset_id,
        seq,
        avail,
        frozen,
        created_at,
    } = entry;
    let row = (user_id, asset_id, seq, avail, frozen, created_at);
    let written = database
        .session
        .execute_unpaged(&database.insert, row)
        .await;
    written.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(ok(()))
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::read();
    let session = SessionBuilder::new()
        .known_node(arguments.need::<String>("node"))
        .build()
        .await
        .expect("the database answers");
    let of_each_asset = match arguments.need::<String>("query").as_str() {
        "seed" => " PER PARTITION LIMIT 1",
        "grouped" => " GROUP BY asset_id",
        other => panic!("--query {other}: seed or grouped"),
    };
    let select = session
        .prepare(format!("{SELECT}{of_each_asset}"))
        .await
        .expect("the view is there");
    let insert = session.prepare(INSERT).await.expect("the ledger is there");
    let app = Router::new()
        .route("/api/user/balance", get(balance))
        .route("/api/v1/ledger/entries", post(settle))
        .with_state(Arc::new(Database {
            session,
            select,
            insert,
        }));
    let listener = TcpListener::bind(arguments.need::<SocketAddr>("listen"))
        .await
        .expect("the address is free");
    axum::serve(listener, app).await.expect("it serves");
}
