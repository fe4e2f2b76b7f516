//! The page that shows the description, in a real browser: what it sends, what it shows, and how it looks.
//!
//!     BALANCE_CACHE_SCREENSHOTS=docs/screenshots cargo test --test it openapi_page
//!
//! renews the pictures; a run without that variable writes nothing.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    browser::Browser,
    pictures::picture,
    service::{Service, Setup},
};

fn opened(service: &Service, browser: &Browser, hash: &str) {
    browser.open(&format!("http://{}/docs{hash}", service.http()));
    browser.until(
        "the description is read",
        "document.body.dataset.state === 'ready'",
    );
}

fn text(browser: &Browser, selector: &str) -> String {
    let found = browser.run(&format!(
        "return document.querySelector('{selector}').textContent"
    ));
    found.as_str().unwrap().to_owned()
}

/// Unfolds an operation and waits for what is in it.
fn open(browser: &Browser, id: &str, inside: &str) {
    browser.run(&format!("document.getElementById('{id}').open = true"));
    browser.until("it is open", &format!("document.querySelector('{inside}')"));
}

/// Fills in a field as a person does.
fn fill(browser: &Browser, id: &str, value: &str) {
    browser.run(&format!(
        "const field = document.getElementById({}); field.value = {}; field.dispatchEvent(new Event('input', {{bubbles: true}}))",
        json!(id),
        json!(value)
    ));
}

/// Sends what is filled in, and waits for the answer: its verdict, header table and body.
#[track_caller]
fn send(browser: &Browser, id: &str, status: u16) -> String {
    browser.run(&format!("document.querySelector('#{id} .answer').replaceChildren(); document.querySelector('#{id} .go').click()"));
    browser.until(
        "there is an answer",
        &format!("document.querySelector('#{id} .answer .badge')"),
    );
    let verdict = text(browser, &format!("#{id} .badge"));
    let body = text(browser, &format!("#{id} .answer pre.body"));
    assert!(
        verdict.starts_with(&status.to_string()),
        "{verdict}\n{body}"
    );
    body
}

fn header(browser: &Browser, id: &str, name: &str) -> Value {
    browser.run(&format!(
        "const row = [...document.querySelectorAll('#{id} table.headers tr')].find((at) => at.cells[0].textContent === '{name}'); return row ? row.cells[1].textContent : null"
    ))
}

#[track_caller]
fn no_complaint(browser: &Browser) {
    let lines = browser.console();
    assert!(lines.is_empty(), "{lines:?}");
}

/// Balances are held for longer than a slow browser takes.
async fn started() -> (Service, Browser) {
    let service = Service::start_ready(Setup::default().with("memory.ttl_ms", 300_000)).await;
    let browser = Browser::start();
    browser.size(1440, 1000, false);
    browser.prefers("light");
    opened(&service, &browser, "");
    (service, browser)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_every_operation_and_a_request_sent_from_it_is_answered() {
    let (service, browser) = started().await;
    let shown = browser.run(
        "return [...document.querySelectorAll('details.operation .path')].map((at) => at.textContent)",
    );
    for path in [
        "/api/user/balance",
        "/api/v1/settlements",
        "/readyz",
        "/openapi.json",
    ] {
        assert!(
            shown.as_array().unwrap().contains(&json!(path)),
            "{path} in {shown}"
        );
    }
    assert_eq!(
        browser.run("return document.getElementById('token-field').hidden"),
        true
    );

    let body = send(&browser, "balance", 200);
    assert!(body.contains("\"avail\": \"9100\""), "{body}");
    let said = header(&browser, "balance", "cache-status");
    assert_eq!(
        said, "source; hit, memory; fwd=miss",
        "the browser asks for no ledger"
    );
    send(&browser, "balance", 200);
    let said = header(&browser, "balance", "cache-status");
    assert!(said.as_str().unwrap().starts_with("memory; hit"), "{said}");
    no_complaint(&browser);
    picture(&browser, "api-light");

    let line = text(&browser, "#balance .curl");
    let expected = format!(
        "curl -i 'http://{}/api/user/balance?user_id=1001'",
        service.http()
    );
    assert_eq!(line, expected);
    let run = format!("{line} -s --noproxy '*'");
    let told = Command::new("sh").args(["-c", &run]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.starts_with("HTTP/1.1 200") && told.contains(r#""avail":"9100""#),
        "{told}"
    );

    open(&browser, "readyz", "#readyz .inside a");
    let leads = browser.run("return document.querySelector('#readyz .inside a').href");
    assert_eq!(
        leads,
        format!("http://{}/readyz", service.ops()),
        "another port's routes are links"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_readable_in_the_dark_and_on_a_phone() {
    let (_service, browser) = started().await;
    send(&browser, "balance", 200);
    browser.prefers("dark");
    browser.until(
        "it is dark",
        "document.documentElement.dataset.theme === 'dark'",
    );
    picture(&browser, "api-dark");
    browser.run("document.querySelector('button[data-theme=light]').click()");
    browser.until(
        "the switch counts more",
        "document.documentElement.dataset.theme === 'light'",
    );
    browser.size(375, 812, true);
    browser.until(
        "nothing is wider than a phone",
        "innerWidth === 375 && document.documentElement.scrollWidth <= 375",
    );
    picture(&browser, "api-phone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_go_out_as_filled_in_and_numbers_keep_their_last_digit() {
    let (_service, browser) = started().await;
    let way = || header(&browser, "balance", "cache-status");
    send(&browser, "balance", 200);
    fill(&browser, "balance-asset", "BTC");
    fill(&browser, "balance-min_seq", "BTC:17,ETH:1");
    fill(&browser, "balance-If-None-Match", "*");
    assert_eq!(send(&browser, "balance", 304), "no body");
    assert!(
        way().as_str().unwrap().starts_with("memory; hit"),
        "{}",
        way()
    );
    assert!(text(&browser, "#balance .curl").contains("-H 'If-None-Match: *'"));
    fill(&browser, "balance-If-None-Match", "");
    fill(&browser, "balance-Cache-Control", "no-cache");
    send(&browser, "balance", 200);
    assert_eq!(way(), "source; hit, memory; fwd=request");

    // Above 2^53 a script's numbers are rounded; neither what is sent nor what is shown may be.
    open(&browser, "write_entries", "#write_entries-body");
    let entry = r#"{"user_id":1001,"asset_id":1,"seq":9007199254740993,"avail":9223372036854775807,"frozen":0}"#;
    fill(&browser, "write_entries-body", entry);
    assert!(send(&browser, "write_entries", 200).contains("\"written\": 1"));
    fill(&browser, "balance-Cache-Control", "");
    fill(&browser, "balance-min_seq", "BTC:9007199254740993");
    let body = send(&browser, "balance", 200);
    assert!(body.contains("\"seq\": 9007199254740993"), "{body}");
    assert!(
        body.contains("\"avail\": \"92233720368.54775807\""),
        "{body}"
    );
    no_complaint(&browser);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_sent_and_never_shown() {
    let setup = Setup::default().with_token("of-the-page", r#""read""#);
    let service = Service::start_ready(setup).await;
    let browser = Browser::start();
    opened(&service, &browser, "#balances");
    assert_eq!(
        browser.run("return document.getElementById('token-field').hidden"),
        false
    );
    assert!(send(&browser, "balances", 401).contains("\"status\": 2001"));
    fill(&browser, "token", "of-the-page");
    let body = send(&browser, "balances", 200);
    assert!(body.contains("\"user_id\": 1001"), "{body}");
    let whole = browser.run("return document.documentElement.outerHTML + JSON.stringify({...localStorage, ...sessionStorage})");
    assert!(!whole.as_str().unwrap().contains("of-the-page"));
    assert!(text(&browser, "#balances .curl").contains("Bearer …"));
    open(&browser, "settle", "#settle-body");
    assert!(send(&browser, "settle", 403).contains("\"status\": 2003"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_gone_is_said() {
    let mut service = Service::start_ready(Setup::default()).await;
    let browser = Browser::start();
    opened(&service, &browser, "#balance");
    service.kill9();
    browser.run("document.querySelector('#balance .go').click()");
    browser.until("it says that nobody answers", "document.querySelector('#balance .badge') && document.querySelector('#balance .badge').textContent === 'no answer'");
    assert_eq!(
        browser.run("return document.querySelector('#balance .go').disabled"),
        false
    );
}
