//! `shadow`: another gateway's answers against ours. The other gateway is an instance too, and a proxy cuts the way to it.

use serde_json::{Value, json};

use crate::{
    cli_support::run_behind,
    support::service::{Service, Setup},
};

const USERS: &str = "1001\n1002\n1003\n42\n";

#[tokio::test(flavor = "multi_thread")]
async fn equal_gateways_are_the_same_and_a_difference_is_named_by_asset() {
    let mut old = Service::start_ready(Setup::default()).await;
    let new = Service::start_ready(Setup::default()).await;
    let template = format!("http://{}/api/user/balance?user_id={{user}}", old.http());
    let url = format!("http://{}", new.http());
    let compare = |more: &[&str]| {
        let words = [
            "shadow",
            "--users",
            "-",
            "--old",
            &template,
            "--url",
            &url,
            "--grace-ms",
            "0",
            "--rate",
            "0",
        ];
        let words: Vec<&str> = words.iter().chain(more).copied().collect();
        run_behind(&new.setup(), "exec", USERS, &words)
    };
    compare(&[]).has(
        0,
        &["the same: 4 users, 0 different, 0 settled (lag), 0 unanswered"],
    );

    let entry =
        json!({"user_id": 1002, "asset_id": 1, "seq": 900, "avail": 150_000_000, "frozen": 0});
    let written = new.post("/api/v1/ledger/entries", &entry).await;
    assert_eq!(written.status, 200, "{}", written.body);
    let said = compare(&[]);
    said.has(
        1,
        &[
            "user 1002: BTC: old avail ",
            "; new avail 1.5, frozen 0",
            "DIFFERENT: 4 users, 1 different",
        ],
    );
    let page: Value = serde_json::from_str(&compare(&["--json"]).out).unwrap();
    assert_eq!(
        (&page["same"], &page["different"], &page["shown"][0]["user"]),
        (&json!(false), &json!(1), &json!(1002))
    );

    // A field that is not there is no amount of zero.
    let said = compare(&["--old-avail", "free"]);
    said.has(
        1,
        &["user 1001: old: an element has no free", "3 unanswered"],
    );
    assert_eq!(old.terminate(), 0);
    let said = compare(&[]);
    said.has(1, &["4 unanswered"]);
    assert!(said.err.contains("user 42: old: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_asked_is_a_wrong_command_line() {
    for (old, why) in [
        ("http://127.0.0.1:1/balance", "has no {user}"),
        ("https://old/{user}", "must begin with http://"),
    ] {
        let words = ["shadow", "--users", "-", "--old", old];
        // It ends before it reads: what was written to it might find nobody there.
        let said = run_behind(&Setup::default(), "exec", "", &words);
        assert!(said.code == 2 && said.err.contains(why), "{said}");
    }
}
