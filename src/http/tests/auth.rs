//! Tokens and scopes.

use super::*;
use crate::config::{Scope, TokenSettings};

fn sha256_hex(token: &str) -> String {
    use std::fmt::Write;

    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn api_with_tokens() -> TestApi {
    let token = |name: &str, scopes: &[Scope]| TokenSettings {
        name: name.to_owned(),
        sha256: sha256_hex(name),
        scopes: scopes.to_vec(),
    };
    let tokens = vec![
        token("reader", &[Scope::Read]),
        token("settler", &[Scope::Settle]),
        token("admin", &[Scope::Admin]),
        token("all", &[Scope::Read, Scope::Settle, Scope::Admin]),
        token("nothing", &[]),
    ];
    TestApi::with_auth(&auth_settings(AuthMode::Token, tokens), 8_388_608)
}

const ROUTES: [(&str, &str, &str, &str); 7] = [
    ("GET", "/api/user/balance?user_id=1001", "", "reader"),
    ("GET", "/api/v1/user/balance?user_id=1001", "", "reader"),
    (
        "POST",
        "/api/v1/user/balances",
        r#"{"user_ids":[]}"#,
        "reader",
    ),
    ("POST", "/api/v1/settlements", "[]", "settler"),
    ("POST", "/api/v1/ledger/entries", "[]", "settler"),
    (
        "POST",
        "/api/v1/cache/invalidate",
        r#"{"user_ids":[]}"#,
        "admin",
    ),
    ("POST", "/api/v1/cache/warm", r#"{"user_ids":[]}"#, "admin"),
];

#[tokio::test]
async fn each_route_wants_its_scope() {
    let asked = api_with_tokens();
    for (method, path, body, owner) in ROUTES {
        for token in ["reader", "settler", "admin", "all", "nothing"] {
            for asked in [&asked, &asked.without_fast_path()] {
                let authorization = format!("Bearer {token}");
                let told = asked
                    .send(method, path, &[("authorization", &authorization)], body)
                    .await;
                if token == owner || token == "all" {
                    assert_eq!(told.status, 200, "{path} {token}");
                } else {
                    told.assert_failure(403, 2003, (path, token));
                    assert!(!told.headers.contains_key("www-authenticate"));
                }
            }
        }
    }
}

#[tokio::test]
async fn no_token_or_a_bad_one_is_401_before_anything_is_read() {
    let asked = api_with_tokens();
    for (method, path, body, _) in ROUTES {
        let bad_body = body.replace(']', "");
        for value in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer unknown"),
            Some("Bearer Reader"),
            Some("Basic reader"),
            Some("reader"),
        ] {
            let headers: Vec<_> = value
                .iter()
                .map(|value| ("authorization", *value))
                .collect();
            let told = asked.send(method, path, &headers, &bad_body).await;
            told.assert_failure(401, 2001, (path, value));
            assert_eq!(told.header_value("www-authenticate"), "Bearer");
        }
    }
    let two = [
        ("authorization", "Bearer reader"),
        ("authorization", "Bearer reader"),
    ];
    let told = asked.send("GET", ROUTES[0].1, &two, "").await;
    assert_eq!(told.status, 401);
}

#[tokio::test]
async fn the_scheme_is_read_in_any_case() {
    let asked = api_with_tokens();
    for value in ["bearer reader", "BEARER reader", "Bearer  reader"] {
        let told = asked
            .send("GET", ROUTES[0].1, &[("authorization", value)], "")
            .await;
        assert_eq!(told.status, 200, "{value}");
    }
}

#[tokio::test]
async fn none_and_network_ask_for_no_token() {
    for mode in [AuthMode::None, AuthMode::Network] {
        let asked = TestApi::with_auth(&auth_settings(mode, vec![]), 8_388_608);
        for (method, path, body, _) in ROUTES {
            let told = asked.send(method, path, &[], body).await;
            assert_eq!(told.status, 200, "{path}");
        }
    }
}

#[test]
fn a_digest_that_is_none_is_named() {
    let token = TokenSettings {
        name: "x".to_owned(),
        sha256: "xyz".to_owned(),
        scopes: vec![],
    };
    let auth = auth_settings(AuthMode::Token, vec![token]);
    assert_eq!(Authorization::new(&auth).unwrap_err(), 0);
}
