//! Failures: each status and code, and what a body must never say.

use std::sync::Arc;

use super::{
    FakeTrouble::{Apply, Read, Write},
    *,
};
use crate::{
    apply::{ApplyError, EntriesError},
    ledger::LedgerError,
    read::ReadError,
};

const PATH: &str = "/api/user/balance?user_id=1001";
const BATCH: &str = "/api/v1/user/balances";
const SETTLE: &str = "/api/v1/settlements";
const ENTRIES: &str = "/api/v1/ledger/entries";
const USER: &str = r#"{"user_id":1001}"#;
const USERS: &str = r#"{"user_ids":[1001]}"#;
const ENTRY: &str = r#"{"user_id":1,"asset_id":2,"seq":3,"avail":4,"frozen":5}"#;
const SECRET: &str = "NoHostAvailable 10.0.0.7:9042 SELECT password";

#[tokio::test]
async fn seed_fault_08_a_source_that_is_down_is_503_and_never_an_empty_balance() {
    let asked = TestApi::with_trouble(Read(source_down("down")));
    for told in [
        asked.get(PATH).await,
        asked.without_fast_path().get(PATH).await,
        asked.get("/api/user/balance?user_id=999999").await,
        asked.post_json(BATCH, USERS).await,
    ] {
        told.assert_failure(503, 5031, ());
        assert_eq!(told.header_value("retry-after"), "1");
        assert!(!told.body.contains("[]"));
    }
}

#[tokio::test]
async fn seed_fault_09_no_body_carries_another_layers_error_text() {
    let secret: Arc<str> = SECRET.into();
    let source = LedgerError::Unavailable(Arc::clone(&secret));
    let corrupt = LedgerError::Corrupt(Arc::clone(&secret));
    let apply = ApplyError::Unavailable(secret);
    let table = [
        (Read(ReadError::Source(source.clone())), PATH, ""),
        (Read(ReadError::Source(corrupt)), PATH, ""),
        (Read(ReadError::Source(source.clone())), BATCH, USERS),
        (Apply(apply.clone()), SETTLE, USER),
        (Apply(apply.clone()), "/api/v1/cache/invalidate", USERS),
        (Write(EntriesError::Source(source)), ENTRIES, ENTRY),
        (Write(EntriesError::Apply(apply)), ENTRIES, ENTRY),
    ];
    for (trouble, path, body) in table {
        let asked = TestApi::with_trouble(trouble);
        let told = if body.is_empty() {
            asked.get(path).await
        } else {
            asked.post_json(path, body).await
        };
        assert_eq!(told.status, 503);
        for word in SECRET.split(' ') {
            assert!(!told.body.contains(word));
            assert!(!format!("{:?}", told.headers).contains(word));
        }
    }
}

#[tokio::test]
async fn each_failure_of_the_work_has_its_status_and_code() {
    let gone = || ApplyError::Unavailable("redis".into());
    let down = || LedgerError::Timeout;
    let table = [
        (Read(source_down("x")), BATCH, USERS, 503, 5031),
        (Read(ReadError::NotReached), BATCH, USERS, 503, 5032),
        (Read(ReadError::Shed), BATCH, USERS, 429, 4291),
        (Read(ReadError::Deadline), BATCH, USERS, 504, 5041),
        (FakeTrouble::FewerAnswers, BATCH, USERS, 500, 5000),
        (Apply(gone()), SETTLE, USER, 503, 5033),
        (Apply(ApplyError::Deadline), SETTLE, USER, 504, 5041),
        (
            Write(EntriesError::Conflict { index: 3 }),
            ENTRIES,
            ENTRY,
            409,
            4091,
        ),
        (
            Write(EntriesError::Source(down())),
            ENTRIES,
            ENTRY,
            503,
            5031,
        ),
        (
            Write(EntriesError::Apply(gone())),
            ENTRIES,
            ENTRY,
            503,
            5033,
        ),
    ];
    for (trouble, path, body, status, code) in table {
        let told = TestApi::with_trouble(trouble.clone())
            .post_json(path, body)
            .await;
        told.assert_failure(status, code, trouble);
        let retry = matches!(status, 429 | 503);
        assert_eq!(told.headers.contains_key("retry-after"), retry);
        assert_eq!(told.header_value("content-type"), "application/json");
    }
}

#[tokio::test]
async fn a_conflict_names_the_element() {
    let trouble = Write(EntriesError::Conflict { index: 3 });
    let told = TestApi::with_trouble(trouble)
        .post_json(ENTRIES, ENTRY)
        .await;
    assert!(told.body.contains("element 3"), "{}", told.body);
}

#[tokio::test]
async fn a_bug_tells_the_request_id_and_nothing_else() {
    let asked = TestApi::with_trouble(FakeTrouble::FewerAnswers);
    let told = asked
        .send("POST", BATCH, &[("x-request-id", "my-id")], USERS)
        .await;
    assert_eq!(
        told.body,
        r#"{"status":5000,"msg":"internal error, request id my-id","data":null}"#
    );
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_504_soon_after_the_deadline() {
    for (path, body) in [(PATH, ""), (BATCH, USERS), (SETTLE, USER), (ENTRIES, ENTRY)] {
        let asked = TestApi::with_trouble(FakeTrouble::Silence);
        let before = Instant::now();
        let told = if body.is_empty() {
            asked.get(path).await
        } else {
            asked.post_json(path, body).await
        };
        told.assert_failure(504, 5041, path);
        let took = before.elapsed();
        let soon = AMPLE_TIME + Duration::from_millis(100);
        assert!((AMPLE_TIME..soon).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn routes_and_methods_that_are_not_there_say_so() {
    let asked = TestApi::new();
    for path in [
        "/",
        "/api",
        "/api/user/balance/",
        "/api/v2/user/balance",
        "/livez",
        "/api/user/balances",
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            let told = asked.send(method, path, &[], "").await;
            told.assert_failure(404, 4041, (method, path));
        }
    }
    let (read, write) = ("GET, HEAD", "POST");
    for (path, allow) in [
        (PATH, read),
        ("/api/v1/user/balance", read),
        (BATCH, write),
        (SETTLE, write),
        (ENTRIES, write),
        ("/api/v1/cache/invalidate", write),
        ("/api/v1/cache/warm", write),
    ] {
        for method in ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
            let told = asked.send(method, path, &[], "").await;
            told.assert_failure(405, 4051, (method, path));
            assert_eq!(told.header_value("allow"), allow);
        }
        let wrong = if allow == read { "POST" } else { "GET" };
        let told = asked.send(wrong, path, &[], "").await;
        assert_eq!((told.status, told.header_value("allow")), (405, allow));
    }
}

#[tokio::test]
async fn a_message_that_quotes_the_client_is_json_and_short() {
    let asked = TestApi::new();
    let told = asked
        .get(&format!(
            "/api/user/balance?%22%5C%0a{}=1",
            "é".repeat(900).replace('é', "%C3%A9")
        ))
        .await;
    told.assert_failure(400, 1001, ());
    assert!(told.body.len() < 1_000);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_body_does_not_say_is_in_the_log_with_the_request_id() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let asked = TestApi::with_trouble(Read(source_down(SECRET)));
    let id = [("x-request-id", "find-me")];
    for _ in 0..50 {
        asked.send("GET", PATH, &id, "").await;
    }
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert!(text.contains(SECRET) && text.contains("find-me"), "{text}");
    assert!(text.lines().count() < 50, "a flood: {text}");
}

#[test]
fn requests_of_every_route_are_counted_by_its_name() {
    use crate::telemetry::Route;
    for (path, _) in crate::http::routes::route_table::<Arc<fake::FakeBackend>>() {
        assert_ne!(Route::of_path(path), Route::Other, "{path}");
    }
}
