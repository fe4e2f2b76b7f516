//! A page of another site, in a real browser, that tries to change balances here.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use reqwest::Method;
use serde_json::json;

use crate::support::{
    browser::Browser,
    service::{Service, Setup},
};

/// A site with one empty page; it ends with the test's process. Gives its port.
fn foreign_site() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            // A browser may open connections on which it asks nothing.
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4_096]);
                let page = "<!doctype html><title>elsewhere</title>";
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{page}",
                    page.len()
                );
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_site_changes_nothing_and_the_own_page_may() {
    let service = Service::start_ready(Setup::default()).await;
    let browser = Browser::start();
    let api = service.http();
    let entry = |user: u64| {
        json!({"user_id": user, "asset_id": 1, "seq": 900, "avail": 1, "frozen": 0}).to_string()
    };
    let attack = format!(
        "window.sent = null; const api = 'http://{api}', entry = {entry}, users = '{{\"user_ids\":[1001],\"floors\":true}}'; \
         const post = (path, body) => fetch(api + path, {{method: 'POST', mode: 'no-cors', body: new Blob([body])}}).catch(() => null); \
         Promise.all([post('/api/v1/ledger/entries', entry), post('/api/v1/settlements', entry), post('/api/v1/cache/invalidate', users), \
         navigator.sendBeacon(api + '/api/v1/ledger/entries', entry)]).then(() => {{ window.sent = true; }});",
        entry = json!(entry(1001)),
    );
    let before = service.balances(1001).await.body;
    let port = foreign_site();
    // Another site, and another port of the same one.
    for site in [
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.1:{port}/"),
    ] {
        browser.open(&site);
        browser.run(&attack);
        browser.until("all of it was sent", "window.sent");
    }
    assert_eq!(service.balances(1001).await.body, before);
    let metrics = service.get_ops("/metrics").await.body;
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("balance_cache_notifications_total{"))
    {
        assert!(line.ends_with(" 0"), "{line}");
    }
    // A page of this service may: its own origin is no other.
    browser.open(&format!("http://{api}/docs"));
    let own = format!(
        "window.status_ = 0; fetch('/api/v1/ledger/entries', {{method: 'POST', body: new Blob([{}])}}).then((answer) => {{ window.status_ = answer.status; }})",
        json!(entry(1002)),
    );
    browser.run(&own);
    browser.until("it is answered", "window.status_ > 0");
    assert_eq!(browser.run("return window.status_"), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_points_here_reads_nothing_without_tokens() {
    let service = Service::start_ready(Setup::default()).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (url, status) in [
        (
            format!("http://{}/api/user/balance?user_id=1001", service.http()),
            200,
        ),
        (format!("http://{}/metrics", service.ops()), 200),
    ] {
        for (host, status) in [
            ("evil.test", 403),
            ("localhost:1", status),
            ("127.0.0.1", status),
        ] {
            let request = client.request(Method::GET, &url).header("host", host);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), status, "{url} as {host}");
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        }
    }
}
