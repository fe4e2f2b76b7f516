//! `/openapi.json` of the real service: it is valid, and what the service answers is what it says.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    described::Described,
    eventually::eventually_async,
    port::Port,
    redis::Redis,
    service::{Answer, Service, Setup},
    stage::{SOON, in_order, readiness},
};

/// Has every scope but `settle`.
const TOKEN: &str = "reader-and-admin";

async fn described(service: &Service) -> Described {
    Described(service.get("/openapi.json").await.json()).closed()
}

#[track_caller]
fn check(described: &Described, method: &str, path: &str, answer: &Answer) {
    described.check(method, path, answer.status, &answer.headers, &answer.body);
}

fn valid(document: &Value) {
    let text = include_str!("../fixtures/openapi-3.1.json");
    let official: Value = serde_json::from_str(text).unwrap();
    let validator = jsonschema::validator_for(&official).unwrap();
    let faults: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let meta = jsonschema::meta::validate(schema);
        assert!(meta.is_ok(), "{name}: {:?}", meta.err());
    }
}

#[tokio::test]
async fn it_is_valid_openapi_on_both_listeners_and_each_says_where_the_other_is() {
    let service = Service::start_ready(Setup::default()).await;
    let (api, operators) = (
        service.get("/openapi.json").await,
        service.get_ops("/openapi.json").await,
    );
    for answer in [&api, &operators] {
        assert_eq!(
            (answer.status, answer.header("content-type").as_str()),
            (200, "application/json")
        );
        valid(&answer.json());
        let (count, faults) = Described(answer.json()).closed().bad_examples();
        assert!(
            count > 80 && faults.is_empty(),
            "{count}\n{}",
            faults.join("\n")
        );
    }
    let (api, operators) = (api.json(), operators.json());
    let port = |server: &Value| server["variables"]["port"]["default"].clone();
    assert_eq!(api["servers"][0]["url"], "/");
    assert_eq!(
        port(&api["paths"]["/readyz"]["servers"][0]),
        service.ops().port().to_string()
    );
    assert_eq!(operators["paths"]["/readyz"]["servers"][0]["url"], "/");
    assert_eq!(
        port(&operators["servers"][0]),
        service.http().port().to_string()
    );
    assert_eq!(api["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        api["components"]["parameters"]["asset"]["schema"]["oneOf"][0]["enum"],
        json!(["BTC", "USDT", "ETH"])
    );
}

#[tokio::test]
async fn what_the_service_answers_is_as_described() {
    let service = Service::start_ready(Setup::default().with("limits.body_bytes", 20_000)).await;
    let described = described(&service).await;
    for path in ["/api/user/balance", "/api/v1/user/balance"] {
        for (query, status) in [
            ("?user_id=1001", 200),
            ("?user_id=1001&asset=BTC&min_seq=BTC:17", 200),
            ("?user_id=999999", 200),
            ("?user_id=x", 400),
            ("?user_id=1001&min_seq=BTC:99999", 503),
        ] {
            let answer = service.get(&format!("{path}{query}")).await;
            assert_eq!(answer.status, status, "{}", answer.body);
            check(&described, "get", path, &answer);
        }
        let first = service.get(&format!("{path}?user_id=1001")).await;
        let again = service.request(Method::GET, &format!("{path}?user_id=1001"));
        let again = service
            .send(again.header("if-none-match", first.header("etag")))
            .await;
        assert_eq!(again.status, 304);
        check(&described, "get", path, &again);
    }
    let examples: Vec<_> = described.operations();
    for (path, method, operation) in &examples {
        if method != "post" {
            continue;
        }
        // What the description shows as an example is taken as it stands.
        for example in operation["requestBody"]["content"]["application/json"]["examples"]
            .as_object()
            .unwrap()
            .values()
        {
            let answer = service.post(path, &example["value"]).await;
            assert_eq!(
                answer.status, 200,
                "{path} {}: {}",
                example["value"], answer.body
            );
            check(&described, method, path, &answer);
        }
        for (body, kind, status) in [
            ("{}".to_owned(), "application/json", 400),
            ("{}".to_owned(), "text/plain", 415),
            (" ".repeat(20_001), "application/json", 413),
        ] {
            let request = service
                .request(Method::POST, path)
                .header("content-type", kind);
            let answer = service.send(request.body(body)).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
            check(&described, method, path, &answer);
        }
    }
    let taken = json!({"user_id": 1001, "asset_id": 1, "seq": 17, "avail": 1, "frozen": 0});
    let answer = service.post("/api/v1/ledger/entries", &taken).await;
    assert_eq!(answer.status, 409);
    check(&described, "post", "/api/v1/ledger/entries", &answer);
    for (path, method, _) in &examples {
        let operators = described.0["paths"][path].get("servers").is_some();
        if method == "get" && !path.starts_with("/api") {
            let answer = if operators {
                service.get_ops(path).await
            } else {
                service.get(path).await
            };
            assert_eq!(answer.status, 200, "{path}");
            check(&described, "get", path, &answer);
        }
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_as_described() {
    let service = Service::start_ready(Setup::default()).await;
    let described = described(&service).await;
    for (method, path, status, name) in [
        (Method::GET, "/nowhere", 404, "NoRoute"),
        (Method::DELETE, "/api/user/balance", 405, "Method"),
        (Method::PUT, "/api/v1/settlements", 405, "Method"),
    ] {
        let answer = service.send(service.request(method, path)).await;
        assert_eq!(answer.status, status);
        described.check_named(name, &answer.headers, &answer.body);
    }
}

#[tokio::test]
async fn with_tokens_the_description_says_so_and_is_read_without_one() {
    let setup = Setup::default().with_token(TOKEN, r#""read", "admin""#);
    let service = Service::start_ready(setup).await;
    eventually_async(SOON, "the first total is made", async || {
        let request = service.request(Method::GET, "/api/v1/totals");
        let answer = service.send(request.bearer_auth(TOKEN)).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let described = described(&service).await;
    let security =
        |path: &str, method: &str| described.0["paths"][path][method]["security"].clone();
    assert_eq!(
        security("/api/user/balance", "get"),
        json!([{"token": ["read"]}])
    );
    assert_eq!(
        security("/api/v1/settlements", "post"),
        json!([{"token": ["settle"]}])
    );
    assert_eq!(security("/openapi.json", "get"), json!([]));
    for (path, method, operation) in described.operations() {
        let scope = &operation["security"][0]["token"][0];
        if scope.is_null() {
            continue;
        }
        let request = || service.request(method.to_uppercase().parse().unwrap(), &path);
        let answer = service.send(request()).await;
        assert_eq!(answer.status, 401);
        check(&described, &method, &path, &answer);
        let answer = service.send(request().bearer_auth(TOKEN)).await;
        let allowed = scope != "settle";
        assert_eq!(
            answer.status,
            match (allowed, path.as_str()) {
                // Needs no parameter.
                (true, "/api/v1/totals") => 200,
                (true, _) => 400,
                (false, _) => 403,
            },
            "{path}: {}",
            answer.body
        );
        check(&described, &method, &path, &answer);
    }
}

#[tokio::test]
async fn what_it_answers_while_something_is_down_is_as_described() {
    let nowhere = Port::reserve();
    let setup = Setup::default()
        .with("source.kind", "scylla")
        .with("scylla.nodes", nowhere.address());
    let service = Service::start(setup).await;
    let here = described(&service).await;
    let answer = service.balances(1001).await;
    assert_eq!(answer.status, 503);
    check(&here, "get", "/api/user/balance", &answer);
    let users = json!({"user_ids": [1001]});
    for (path, status) in [("/api/v1/user/balances", 503), ("/api/v1/cache/warm", 200)] {
        let answer = service.post(path, &users).await;
        assert_eq!(answer.status, status);
        check(&here, "post", path, &answer);
    }
    let answer = readiness(&service, "not_ready", "source: ").await;
    check(&here, "get", "/readyz", &answer);

    let mut redis = Redis::start();
    let service = Service::start(Setup::default().and(&redis)).await;
    in_order(&service).await;
    let here = described(&service).await;
    redis.stop();
    let answer = readiness(&service, "degraded", "redis: ").await;
    check(&here, "get", "/readyz", &answer);
    let entry = json!({"user_id": 1001, "asset_id": 1, "seq": 30, "avail": 5, "frozen": 0});
    for (path, body) in [
        ("/api/v1/settlements", &entry),
        ("/api/v1/ledger/entries", &entry),
        ("/api/v1/cache/invalidate", &users),
    ] {
        let answer = service.post(path, body).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
        check(&here, "post", path, &answer);
    }
}
