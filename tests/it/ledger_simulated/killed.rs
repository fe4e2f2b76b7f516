use super::*;
use crate::{
    ledger_service::setup,
    support::ground::{Ground, on_each_ground},
};

on_each_ground! {
    whose_seqs_are_assigned_elsewhere,
    whose_seqs_the_service_assigns,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_ledger_beside_redis() {
    let redis = Redis::start();
    let trades = number("BALANCE_CACHE_TEST_TRADES", 150);
    survives(short(&redis.url()), 2, trades, Kind::Embedded).await;
}

async fn whose_seqs_the_service_assigns(ground: Ground) {
    let redis = Redis::start();
    let trades = number("BALANCE_CACHE_TEST_TRADES", 90);
    survives(setup(&ground, &redis.url()), 4, trades, Kind::Journal).await;
}

async fn whose_seqs_are_assigned_elsewhere(ground: Ground) {
    let redis = Redis::start();
    let setup = setup(&ground, &redis.url()).with("ledger.writer", "external");
    let trades = number("BALANCE_CACHE_TEST_TRADES", 90);
    survives(setup, 3, trades, Kind::External).await;
}
