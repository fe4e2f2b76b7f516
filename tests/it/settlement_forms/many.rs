//! As many notifications as one request takes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_notifications_in_one_request_take_effect_together() {
    let redis = Redis::start();
    // A busy machine takes its time; the client has more of it.
    let setup = short(&redis.url()).with("limits.deadline_ms", 20_000);
    let service = Service::start_ready(setup).await;
    whole(&service).await;
    let all: Vec<_> = (0..10_000_u64)
        .map(|n| values(1 + n % 2_500, 1, 1_000_000 + i64::try_from(n).unwrap(), 1))
        .collect();
    let begun = Instant::now();
    settles(&service, &json!(all), (10_000, 0)).await;
    let took = begun.elapsed();
    eprintln!("10,000 notifications: {took:?}");
    for user in [1, 1_001, 2_500] {
        assert!(btc(&service, user).await >= 1_000_000);
    }
}
