//! The operators' page in a real browser: its states, its numbers under load, and how it looks.
//!
//!     BALANCE_CACHE_SCREENSHOTS=docs/screenshots cargo test --test it dashboard_page
//!
//! renews the pictures; a run without that variable writes nothing.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    browser::Browser,
    databases::on_each_database,
    eventually::{eventually, eventually_async},
    pictures::{folder as pictures, picture},
    proxy::{Mode, Proxy},
    redis::Redis,
    service::{Service, Setup},
    stage::{Database, Stage, in_order, readiness},
};

/// How long the page may take to show something: pictures show a minute.
const PATIENCE: Duration = Duration::from_mins(2);

const STATE: &str = "document.body.dataset.state";

fn page(service: &Service) -> String {
    format!("http://{}/dashboard", service.ops())
}

/// That a service which is down cannot be reached is no mistake of the page, nor that its kill breaks off an answer.
const NO_SERVICE: [&str; 5] = [
    "net::ERR_CONNECTION_",
    "net::ERR_EMPTY_RESPONSE",
    "net::ERR_SOCKET_NOT_CONNECTED",
    "net::ERR_CONTENT_LENGTH_MISMATCH",
    "net::ERR_INCOMPLETE_CHUNKED_ENCODING",
];

/// Nothing else may stand in the console.
#[track_caller]
fn no_complaint(browser: &Browser) {
    let lines = browser.console();
    let complaints: Vec<_> = lines
        .iter()
        .filter(|(_, text)| !NO_SERVICE.iter().any(|known| text.contains(known)))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// Reads of many users by some clients, until dropped by `select!`.
async fn load(service: &Service) {
    let client = async |seed: u64| {
        let mut n = seed;
        loop {
            n += 1;
            let user = if n.is_multiple_of(4) {
                2_000 + n % 5_000
            } else {
                1_001 + n % 10
            };
            service.balances(user).await;
            if n.is_multiple_of(50) {
                let seq = 1_000 + n;
                let now = balance_cache::clock::wall_now().0 - i64::try_from(n % 7).unwrap();
                let event = json!({"user_id": 1_001 + n % 10, "asset_id": 1, "seq": seq, "avail": 910_000_000_000_u64, "frozen": 0, "created_at": now});
                service.post("/api/v1/ledger/entries", &event).await;
            }
        }
    };
    tokio::join!(client(0), client(10_007), client(20_011));
}

/// Elements that show less than they hold, or stand beside the screen; charts and what is meant for screen readers only
/// excepted.
const CUT: &str = "[...document.querySelectorAll('body *')].filter((at) => at.offsetParent && !at.closest('.uplot, thead') \
    && (at.getBoundingClientRect().right > innerWidth + 1 \
        || (at.scrollWidth > at.clientWidth + 1 && at.clientWidth > 0 && getComputedStyle(at).overflowX !== 'visible')))";

/// Looks up a user on the page.
fn look_up(browser: &Browser) {
    browser.run("document.querySelector('#lookup-user').value = '1001'; document.querySelector('#lookup-form button').click()");
    browser.until(
        "the tiers of the user are shown",
        "[...document.querySelectorAll('#lookup-tiers tbody td:first-child')].map((at) => at.firstChild && at.firstChild.textContent).filter(Boolean).join() === 'ledger,source,Redis,memory,floors'",
    );
    browser.until(
        "it says why the balance is what it is",
        "document.querySelector('#lookup-findings li').textContent.length > 20",
    );
}

/// Waits for the page while the service has load.
async fn under_load(service: &Service, until: impl AsyncFn()) {
    tokio::select! {
        () = load(service) => {}
        () = until() => {}
    }
}

/// Asks the page without keeping the load from going on.
async fn until(browser: &Browser, what: &str, condition: &str) {
    let script = format!("return Boolean({condition})");
    eventually_async(PATIENCE, what, async || {
        let so = tokio::task::block_in_place(|| browser.run(&script) == true);
        so.then_some(())
    })
    .await;
}

/// Once nobody reads any more, the page's next look shows what the data say, outcome by outcome.
async fn page_and_data_agree(browser: &Browser, service: &Service) {
    let script = "return Object.fromEntries([...document.querySelectorAll('[data-total]')].filter((at) => at.dataset.total !== 'all').map((at) => [at.dataset.total, Number(at.dataset.value)]))";
    eventually_async(PATIENCE, "page and data agree", async || {
        let told = service.get_ops("/dashboard/data").await.json();
        (browser.run(script) == told["totals"]["reads"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_that_there_are_no_reads_and_moves_when_there_are() {
    let redis = Redis::start();
    let service = Service::start(Setup::default().and(&redis)).await;
    in_order(&service).await;
    let browser = Browser::start();
    browser.size(1440, 1000, false);
    browser.prefers("light");
    browser.open(&page(&service));
    browser.until("it is ready", &format!("{STATE} === 'ready'"));
    browser.until("it tells how to begin", "document.querySelector('#chart-reads').dataset.empty === 'true' && getComputedStyle(document.querySelector('#try')).display !== 'none'");
    let line = browser.run("return document.querySelector('#try-curl').textContent");
    assert_eq!(
        line,
        format!(
            "curl -i 'http://{}/api/user/balance?user_id=1001'",
            service.http()
        )
    );
    assert_eq!(
        browser.run("return document.querySelectorAll('#nines td[data-checked]').length"),
        12
    );
    picture(&browser, "empty");

    let total = "Number(document.querySelector('[data-total=all]').dataset.value)";
    under_load(&service, async || {
        until(&browser, "numbers move", &format!("{total} > 200")).await;
        let before = browser.run(&format!("return {total}"));
        until(&browser, "and go on moving", &format!("{total} > {before}")).await;
        until(&browser, "the charts have lines", "document.querySelector('#chart-latency').dataset.empty === 'false' && charts.reads.columns[0].length > 3").await;
        until(&browser, "the tiles have numbers", "[...document.querySelectorAll('.figure')].every((at) => /\\d/.test(at.textContent))").await;
        if pictures().is_some() {
            until(&browser, "there is something to see", "seconds.filter((at) => !at.gap && at.reads.memory > 0).length > 45").await;
        }
        browser.run("document.querySelector('[data-span=\"60\"]').click()");
    })
    .await;
    until(
        &browser,
        "reads by outcome are shown",
        "document.querySelector('#slowest tbody tr td:nth-child(4)')",
    )
    .await;
    picture(&browser, "healthy");
    browser.prefers("dark");
    browser.until("it is dark", "document.documentElement.dataset.theme === 'dark' && getComputedStyle(document.body).backgroundColor === 'rgb(14, 20, 27)'");
    picture(&browser, "live-dark");
    browser.run("document.querySelector('button[data-theme=light]').click()");
    browser.until(
        "the switch counts more than the system",
        "document.documentElement.dataset.theme === 'light'",
    );
    look_up(&browser);
    browser.size(360, 780, true);
    browser.until("it has a phone's width", "innerWidth === 360");
    browser.until(
        "nothing is wider than a phone",
        "document.documentElement.scrollWidth <= 360 && charts.reads.plot.width < 360",
    );
    browser.until("nothing is cut", &format!("{CUT}.length === 0"));
    picture(&browser, "phone");
    page_and_data_agree(&browser, &service).await;
    no_complaint(&browser);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_tells_what_is_degraded_and_what_it_lost_and_comes_back_by_itself() {
    let mut redis = Redis::start();
    let mut service = Service::start(Setup::default().and(&redis)).await;
    in_order(&service).await;
    let browser = Browser::start();
    browser.size(1440, 1000, false);
    browser.prefers("dark");
    browser.open(&page(&service));
    browser.until("it is ready", &format!("{STATE} === 'ready'"));
    let height = browser.run("return document.querySelector('main').getBoundingClientRect().top");

    browser.run("document.querySelector('[data-span=\"60\"]').click()");
    if pictures().is_some() {
        under_load(&service, async || {
            until(
                &browser,
                "there was load before",
                "seconds.filter((at) => !at.gap && at.reads.memory > 0).length > 25",
            )
            .await;
        })
        .await;
    }
    redis.stop();
    readiness(&service, "degraded", "redis: ").await;
    under_load(&service, async || {
        until(&browser, "it is degraded", &format!("{STATE} === 'degraded'")).await;
        until(&browser, "it says why", "document.querySelector('#reasons').textContent.includes('redis: ')").await;
        until(&browser, "and which parts", "['Redis', \"Redis' breaker\"].every((at) => document.querySelector(`[data-part=\"${at}\"]`).dataset.is === 'bad')").await;
        until(&browser, "reads go on", "Number(document.querySelector('[data-total=source]').dataset.value) > 100 && seconds.filter((at) => !at.gap && at.reads.source > 0 && at.reads.redis === 0).length > 5").await;
    })
    .await;
    assert_eq!(
        browser.run("return document.querySelector('main').getBoundingClientRect().top"),
        height,
        "nothing jumps"
    );
    picture(&browser, "degraded");
    no_complaint(&browser);

    service.kill9();
    browser.until("it is disconnected", &format!("{STATE} === 'lost'"));
    browser.until("it says since when", "/^Disconnected since \\d\\d:\\d\\d:\\d\\d$/.test(document.querySelector('#headline').textContent)");
    browser.until(
        "the last numbers stay",
        "Number(document.querySelector('[data-total=source]').dataset.value) > 100",
    );
    browser.until(
        "and are grey",
        "Number(getComputedStyle(document.querySelector('main')).opacity) < 0.6",
    );
    picture(&browser, "disconnected");

    redis.launch();
    service.restart().await;
    browser.until("it is back", &format!("{STATE} === 'ready'"));
    browser.until(
        "with the numbers of the new process",
        "Number(document.querySelector('[data-total=all]').dataset.value) === 0",
    );
    no_complaint(&browser);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_answer_it_says_so_and_a_service_that_cannot_answer_is_not_ready() {
    let nowhere = crate::support::port::Port::reserve();
    let setup = Setup::default()
        .with("source.kind", "scylla")
        .with("scylla.nodes", nowhere.address());
    let mut service = Service::start(setup).await;
    let browser = Browser::start();
    browser.size(1440, 1000, false);
    // The page itself gives an answer up after three seconds.
    browser.slow(2_500);
    let script = format!("return [{STATE}, document.querySelector('#headline').textContent]");
    eventually(PATIENCE, "it says that it is loading", || {
        // A busy machine may ask the page after its first answer: it is opened again.
        browser.open(&page(&service));
        (browser.run(&script) == json!(["loading", "Connecting"])).then_some(())
    });
    picture(&browser, "loading");
    browser.slow(0);
    browser.until("it is not ready", &format!("{STATE} === 'not_ready'"));
    browser.until(
        "it says why",
        "document.querySelector('#reasons').textContent.includes('source: ')",
    );
    picture(&browser, "not-ready");
    service.process().signal("STOP");
    browser.until(
        "silence is a lost connection",
        &format!("{STATE} === 'lost'"),
    );
    service.process().signal("CONT");
    browser.until("it comes back", &format!("{STATE} === 'not_ready'"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_redis_nothing_of_redis_is_shown() {
    let service = Service::start_ready(Setup::default()).await;
    let browser = Browser::start();
    browser.size(1440, 1000, false);
    browser.open(&page(&service));
    browser.until("it is ready", &format!("{STATE} === 'ready'"));
    browser.until(
        "the unused parts are one line",
        "/^Not in use:.*Redis/.test(document.querySelector('#unused').textContent) && document.querySelectorAll('.part').length >= 2 && ![...document.querySelectorAll('.part')].some((part) => part.textContent.includes('Redis'))",
    );
    browser.until(
        "no chart and no table has it",
        "[...document.querySelectorAll('.legend li')].every((at) => !at.offsetParent || !at.textContent.includes('Redis')) && ![...document.querySelectorAll('#outcomes th, #nines th, #slowest th')].some((at) => at.offsetParent && at.textContent === 'Redis')",
    );
    let links = browser
        .run("return [...document.querySelectorAll('header .links a')].map((at) => at.href)");
    let runbook = format!("http://{}/docs/OPERATIONS.md", service.ops());
    assert_eq!(
        links,
        json!([runbook, format!("http://{}/docs", service.http())])
    );
    browser.open(&runbook);
    browser.until(
        "the runbook has the section of an alert",
        "document.querySelector('h3#balancecacheredisdown')",
    );
    no_complaint(&browser);
}

on_each_database! {
    a_source_that_is_down_is_told_by_strip_box_and_tile,
}

async fn a_source_that_is_down_is_told_by_strip_box_and_tile(database: Database) {
    let stage = Stage::on(database).await;
    stage.has(1001, &[(1, 300_000_000)]).await;
    let proxy = Proxy::start(stage.address());
    let redis = Redis::start();
    let service = Service::start(stage.setup_at(proxy.address()).and(&redis)).await;
    in_order(&service).await;
    let browser = Browser::start();
    browser.size(1440, 1000, false);
    browser.prefers("light");
    browser.open(&page(&service));
    browser.until("it is ready", &format!("{STATE} === 'ready'"));
    proxy.set(Mode::Cut);
    readiness(&service, "degraded", "source: ").await;
    under_load(&service, async || {
        until(
            &browser,
            "it is degraded, and says what that means",
            &format!("{STATE} === 'degraded' && document.querySelector('#impact').textContent.startsWith('The source')"),
        )
        .await;
        until(&browser, "the reason leads to the runbook", "document.querySelector('#reasons a')?.href.endsWith('/docs/OPERATIONS.md#balancecachesourcefailing')").await;
        until(&browser, "the box is bad and stands first", "document.querySelector('.part').dataset.part === 'Source' && document.querySelector('.part').dataset.is === 'bad'").await;
        until(&browser, "failed reads are bad, in words too", "document.querySelector('#tile-failed').dataset.is === 'bad' && getComputedStyle(document.querySelector('#tile-failed h2'), '::after').content.includes('bad')").await;
    })
    .await;
    picture(&browser, "source-down");
    no_complaint(&browser);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_is_told_by_its_box_and_by_failed_notifications() {
    let redis = Redis::start();
    let service = Service::start(Setup::default().and(&redis)).await;
    in_order(&service).await;
    let browser = Browser::start();
    browser.size(1440, 1000, false);
    browser.prefers("light");
    browser.open(&page(&service));
    browser.until("it is ready", &format!("{STATE} === 'ready'"));
    let () = redis.ask(&["CONFIG", "SET", "maxmemory", "4mb"]);
    let _: i64 = redis.ask(&["SETRANGE", "another:program", "4000000", "x"]);
    under_load(&service, async || {
        until(&browser, "the box says full", "document.querySelector('[data-part=Redis]').dataset.is === 'bad'").await;
        until(&browser, "the strip says cause, meaning and remedy", &format!("{STATE} === 'degraded' && document.querySelector('#impact').textContent.startsWith('Settlements are refused') && document.querySelector('#reasons').textContent.includes('maxmemory') && document.querySelector('#reasons b')")).await;
        until(&browser, "notifications fail", "document.querySelector('#tile-heard').dataset.is === 'bad'").await;
    })
    .await;
    picture(&browser, "redis-full");
    no_complaint(&browser);
}
