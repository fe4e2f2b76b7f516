//! What the process writes: JSON where JSON is asked for, and no flood.

use redis::Commands as _;
use serde_json::Value;

use crate::support::{
    eventually::eventually_async,
    port::Port,
    redis::Redis,
    service::{Service, Setup},
    stage::{SOON, counted, in_order, shown},
};

/// The lines of a text, each of which must be a JSON object.
#[track_caller]
fn objects(text: &str) -> Vec<Value> {
    let object = |line: &str| -> Value {
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(value.is_object(), "{line}");
        value
    };
    text.lines().map(object).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_every_line_is_json_the_banner_and_the_errors_too() {
    let setup = || Setup::default().with("telemetry.format", "json");
    let mut service =
        Service::start_ready(setup().raw("BALANCE_CACHE_IMAGE", "x".to_owned())).await;
    let mut occupied = setup()
        .with("http.listen", service.http())
        .with("ops.listen", Port::reserve().address())
        .run(&["serve"]);
    assert_eq!(occupied.0, 1);
    let ended = objects(&occupied.2).pop().unwrap();
    assert_eq!(ended["message"], "balance-cache ends", "{ended}");
    assert!(objects(&occupied.1).is_empty(), "nothing was started");
    occupied = setup().with("memory.ttl_ms", "soon").run(&["serve"]);
    assert_eq!(occupied.0, 2);
    let refused = objects(&occupied.2);
    assert_eq!(
        refused[0]["message"], "the settings are wrong",
        "{refused:?}"
    );
    assert!(
        refused[0]["config.mistake"]
            .as_str()
            .unwrap()
            .contains("memory.ttl_ms")
    );
    service.process().signal("HUP");
    eventually_async(SOON, "the reload is told", async || {
        (counted(&service, "config_reloads_total", &[]).await == 1).then_some(())
    })
    .await;
    assert_eq!(service.terminate(), 0);
    let banner = objects(&service.process().stdout());
    assert_eq!(
        banner[0]["message"], "balance-cache is starting",
        "{banner:?}"
    );
    let api = format!("http://{}", service.http());
    assert_eq!(banner[0]["api"], Value::String(api));
    let lines = objects(&service.process().stderr());
    assert!(
        lines
            .iter()
            .any(|line| line["variable"] == "BALANCE_CACHE_IMAGE"),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line["message"] == "stopped"),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_full_of_unreadable_entries_writes_few_lines_and_says_how_many_it_left_out() {
    let redis = Redis::start();
    let mut service = Service::start_ready(Setup::default().and(&redis)).await;
    in_order(&service).await;
    let mut connection = redis.connection();
    let mut unreadable = redis::pipe();
    for _ in 0..4_000 {
        unreadable
            .xadd("settlement:events", "*", &[("user_id", "nobody")])
            .ignore();
    }
    unreadable.exec(&mut connection).unwrap();
    let invalid = ["via=\"stream\"", "result=\"invalid\""];
    eventually_async(SOON, "all are put aside", async || {
        let count = counted(&service, "notifications_total", &invalid).await;
        (count == 4_000).then_some(())
    })
    .await;
    assert_eq!(
        connection.xlen::<_, u64>("settlement:events:dead").unwrap(),
        4_000
    );
    let said = service.process().stderr();
    let lines = said.matches("a settlement event cannot be read").count();
    assert!((10..1_000).contains(&lines), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_read_is_one_line_and_the_driver_writes_none() {
    let nobody = Port::reserve();
    let setup = Setup::default()
        .with("source.kind", "scylla")
        .with("scylla.nodes", nobody.address());
    let mut service = Service::start(setup).await;
    eventually_async(SOON, "the source was looked for", async || {
        let said = service.get_ops("/readyz").await.body;
        (!said.contains("not connected yet")).then_some(())
    })
    .await;
    for user in 1..=3 {
        assert_eq!(service.balances(user).await.status, 503);
    }
    let said = service.process().stderr();
    assert_eq!(said.matches("source failed a request").count(), 3, "{said}");
    assert!(!said.contains("slow read"), "{said}");
    for line in said.lines() {
        assert!(line.contains("balance_cache"), "not ours: {line}");
    }
}

/// But for reads that are slow, as on a machine that is busy.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_says_nothing_that_worries() {
    let setup = Setup::default()
        .with("limits.connections", 100)
        .with("telemetry.slow_read_ms", 0);
    let mut service = Service::start_ready(setup).await;
    assert_eq!(shown(&service.balances(1001).await).len(), 3);
    let said = service.process().stderr();
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let banner = service.process().stdout();
    assert!(
        banner.contains("/docs") && banner.contains("/dashboard"),
        "{banner}"
    );
}
