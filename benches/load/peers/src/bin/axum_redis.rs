//! What most would write first: stock axum, and one GET of the rendered body per request over one shared connection.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use balance_cache_load::Arguments;
use redis::{AsyncCommands, Client, aio::MultiplexedConnection};
use serde::Deserialize;
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct Asked {
    user_id: u64,
}

async fn balance(
    State(redis): State<MultiplexedConnection>,
    Query(asked): Query<Asked>,
) -> Response {
    let mut redis = redis;
    let key = format!("body:{}", asked.user_id);
    match redis.get::<_, Option<Vec<u8>>>(key).await {
        Ok(Some(body)) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::read();
    let client = Client::open(arguments.need::<String>("redis")).expect("an address of Redis");
    let redis = client
        .get_multiplexed_async_connection()
        .await
        .expect("Redis answers");
    let app = Router::new()
        .route("/api/user/balance", get(balance))
        .with_state(redis);
    let listener = TcpListener::bind(arguments.need::<SocketAddr>("listen"))
        .await
        .expect("the address is free");
    axum::serve(listener, app).await.expect("it serves");
}
