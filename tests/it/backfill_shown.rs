//! The progress of `ledger backfill` on the dashboard, in the metrics and in Redis.

use std::time::Duration;

use serde_json::Value;

use crate::{
    backfill::{Ground, TRADES},
    redis_compat::make_user,
    support::{
        browser::Browser,
        eventually::eventually_async,
        pictures::picture,
        port::Port,
        proxy::{Mode, Proxy, Way},
        redis::Redis,
        service::{Service, Setup},
        stage::in_order,
    },
};

/// Longer than the progress of a tool that was killed is shown.
const PATIENCE: Duration = Duration::from_mins(2);

const KEY: &str = "balance:backfill:user_trades";
const OTHER_KEY: &str = "balance:backfill:user_balances";
const NAME: &str = "Backfill: user_trades";
const BOX: &str = "document.querySelector('[data-part=\"Backfill: user_trades\"]')";

/// The boxes of the page whose names begin with `Backfill`.
async fn boxes(service: &Service) -> Vec<Value> {
    let data = service.get_ops("/dashboard/data").await.json();
    let parts = data["parts"].as_array().unwrap().iter();
    let ours = parts.filter(|part| part["name"].as_str().unwrap().starts_with("Backfill"));
    ours.cloned().collect()
}

/// Waits until there is this box only, with a word that ends so.
async fn shows_box(service: &Service, name: &str, word: &str) -> Value {
    let what = format!("{name}: {word}");
    eventually_async(PATIENCE, &what, async || {
        let boxes = boxes(service).await;
        let fits = boxes.len() == 1
            && boxes[0]["name"] == name
            && boxes[0]["word"].as_str().unwrap().ends_with(word);
        fits.then(|| boxes[0].clone())
    })
    .await
}

/// The metrics of trades: under way, rows, and the shares that are copied and compared.
async fn gauges(service: &Service) -> [String; 4] {
    let page = service.get_ops("/metrics").await.body;
    let of = |series: &str| {
        let begin = format!("balance_cache_backfill_{series} ");
        let found = page.lines().find_map(|line| line.strip_prefix(&begin));
        found
            .unwrap_or_else(|| panic!("no {begin} in {page}"))
            .to_owned()
    };
    [
        of(r#"under_way{table="user_trades"}"#),
        of(r#"rows{table="user_trades"}"#),
        of(r#"progress_ratio{table="user_trades",step="copying"}"#),
        of(r#"progress_ratio{table="user_trades",step="comparing"}"#),
    ]
}

/// Instances and tool, each with the documented rights.
async fn ground_with_rights(redis: &Redis) -> (Ground, Setup) {
    for user in ["balance-cache", "balance-cache-tools"] {
        make_user(redis, user);
    }
    let with = |setup: Setup, user: &str, password: &str| {
        setup
            .and(redis)
            .with("redis.username", user)
            .with("redis.password", password)
    };
    let ground = Ground::with(|setup| with(setup, "balance-cache-tools", "tools-password")).await;
    let service = with(ground.stage.setup(), "balance-cache", "service-password");
    (ground, service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_backfill_is_shown_until_it_is_killed_and_its_end_after_it_went_on() {
    let redis = Redis::start();
    let (ground, setup) = ground_with_rights(&redis).await;
    ground.fill_trades(1..=TRADES).await;
    let service = Service::start(setup).await;
    in_order(&service).await;
    shows_box(&service, "Backfill", "not running").await;
    // Of no tool of ours.
    let () = redis.ask(&["SET", OTHER_KEY, "soon"]);
    let browser = Browser::start();
    browser.size(1440, 1000, false);
    browser.prefers("light");
    browser.open(&format!("http://{}/dashboard", service.ops()));

    // It goes on for longer than all that is looked at before it is killed.
    let slow = ["--parts", "64", "--rate", "12", "--at-once", "1"];
    let mut tool = ground.begin(&slow);
    shows_box(&service, NAME, "% copied").await;
    let shown = eventually_async(PATIENCE, "some parts are copied", async || {
        let shown = shows_box(&service, NAME, "% copied").await;
        let detail = shown["detail"].as_str().unwrap();
        (detail.contains(" of 64 parts, ") && detail.contains(" s left")).then_some(shown)
    })
    .await;
    assert_eq!(shown["state"], "good", "{shown}");
    eventually_async(PATIENCE, "the metrics move", async || {
        let [under_way, rows, copied, compared] = gauges(&service).await;
        let is_between = copied.parse::<f64>().unwrap() > 0.0 && copied != "1";
        (under_way == "1" && rows != "0" && is_between && compared == "0").then_some(())
    })
    .await;
    browser.until(
        "the box is there",
        &format!("{BOX}?.dataset.is === 'good' && {BOX}.textContent.includes('% copied')"),
    );
    picture(&browser, "backfill");

    assert_eq!(tool.exited(), None, "{}", tool.logs());
    tool.kill9();
    shows_box(&service, "Backfill", "not running").await;
    assert_eq!(gauges(&service).await, ["0", "0", "0", "0"]);
    browser.until(
        "the box is gone",
        &format!(
            "{BOX} === null && document.querySelector('#unused').textContent.includes('Backfill')"
        ),
    );

    let said = ground.run(
        "user_trades",
        "settled_trades",
        &["--parts", "64", "--rate", "0"],
    );
    said.has(0, &["the same: 3000 rows expected, 3000 stand"]);
    assert!(!said.err.contains("progress"), "{said}");
    let done = shows_box(&service, NAME, "done").await;
    let detail = done["detail"].as_str().unwrap();
    assert!(detail.starts_with("1500 rows, "), "{done}");
    assert_eq!(gauges(&service).await, ["0", "1500", "1", "1"]);
    browser.until(
        "the end is shown",
        &format!("{BOX}?.textContent.includes('done')"),
    );
    let text: String = redis.ask(&["GET", KEY]);
    let written: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (
            &written["phase"],
            &written["copied_parts"],
            &written["compared_parts"]
        ),
        (&"done".into(), &64.into(), &128.into())
    );
    let ttl: i64 = redis.ask(&["PTTL", KEY]);
    assert!((1..=3_600_000).contains(&ttl), "{ttl}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn differences_are_shown_and_a_dry_run_is_not() {
    let redis = Redis::start();
    let (ground, setup) = ground_with_rights(&redis).await;
    ground.fill_trades(1..=20).await;
    let service = Service::start(setup).await;
    in_order(&service).await;
    ground
        .run("user_trades", "settled_trades", &["--dry-run"])
        .has(0, &["to be written"]);
    let exists: i64 = redis.ask(&["EXISTS", KEY]);
    assert_eq!(exists, 0);
    ground
        .cql("INSERT INTO {ks}.settled_trades (trade_id, symbol_id, price) VALUES (500, 1, 1)")
        .await;
    ground
        .run("user_trades", "settled_trades", &[])
        .has(1, &["1 left out"]);
    let shown = shows_box(&service, NAME, "with differences").await;
    assert_eq!(shown["state"], "warn", "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_or_silent_keeps_a_backfill_from_nothing() {
    let nowhere = Port::reserve();
    let away = format!("redis://{}", nowhere.address());
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    proxy.set(Mode::Swallow(Way::Both));
    let silent = format!("redis://{}", proxy.address());
    // A silent Redis is waited for: its backfill goes on for longer than that.
    for (url, rate, told) in [
        (
            String::new(),
            "0",
            "redis.url is empty: progress is shown here only",
        ),
        (away, "0", "running instances do not show the progress: "),
        (silent, "15", "running instances do not show the progress: "),
    ] {
        let ground = Ground::with(|setup| setup.with("redis.url", &url)).await;
        ground.fill_trades(1..=20).await;
        let said = ground.run("user_trades", "settled_trades", &["--rate", rate]);
        said.has(0, &["the same: 40 rows expected, 40 stand"]);
        assert_eq!(said.err.matches(told).count(), 1, "{url}: {said}");
    }
}
