//! Kafka or Redis away while records wait.

use crate::{
    settlement_support::{btc, values, whole},
    support::{
        eventually::eventually_async,
        kafka::{SOON, alone},
        redis::Redis,
        service::Service,
        stage::{counted, readiness},
    },
};

const USER: u64 = 1005;

#[tokio::test(flavor = "multi_thread")]
async fn records_wait_for_redis_and_for_the_broker_and_reads_go_on() {
    const TOPIC: &str = "outages";
    let mut kafka = alone().await;
    let mut redis = Redis::start();
    kafka.make_topic(TOPIC, 2, &[]).await;
    let service = Service::start_ready(kafka.setup(&redis.url(), TOPIC)).await;
    whole(&service).await;
    let mut seq = btc(&service, USER).await + 100;
    let lag = async |expected: u64| {
        let what = format!("{expected} records are behind");
        eventually_async(SOON, &what, async || {
            (counted(&service, "kafka_lag_entries", &[]).await == expected).then_some(())
        })
        .await;
    };
    let shows = async |seq: i64| {
        eventually_async(SOON, &format!("seq {seq}"), async || {
            (btc(&service, USER).await == seq).then_some(())
        })
        .await;
    };

    redis.kill9();
    readiness(&service, "degraded", "redis").await;
    for partition in [0, 1, 0, 1, 0] {
        seq += 1;
        let value = values(USER, 1, seq, seq).to_string();
        kafka.send(TOPIC, partition, None, Some(&value)).await;
    }
    lag(5).await;
    redis.launch();
    shows(seq).await;
    lag(0).await;
    whole(&service).await;

    kafka.kill9();
    readiness(&service, "degraded", "kafka: no broker of").await;
    assert_eq!(service.balances(USER).await.status, 200);
    // On a busy machine it may give up before it knows more than that nobody answers.
    eventually_async(SOON, "doctor says that no broker is there", async || {
        let (code, said, _) = service.run(&["doctor"]);
        (code != 0 && said.contains("no broker of")).then_some(())
    })
    .await;
    kafka.start_again();
    seq += 1;
    let value = values(USER, 1, seq, seq).to_string();
    kafka.send(TOPIC, 1, None, Some(&value)).await;
    shows(seq).await;
    kafka.all_committed(TOPIC).await;
    whole(&service).await;
}
