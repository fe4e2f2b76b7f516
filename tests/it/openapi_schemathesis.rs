//! The running service against its own description, by schemathesis: thousands of right and wrong requests, made from
//! `/openapi.json`, and every answer compared with what it promises.
//!
//! `./test` installs it; which checks are bent, and why, stands in `openapi_schemathesis.toml` and `openapi_hooks.py`.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    process::Process,
    service::{Service, Setup},
};

/// Everything that `./test` installs for it, so that a seed means the same requests everywhere.
const INSTALLED: &str = include_str!("openapi_schemathesis.txt");
const TOKEN: &str = "of-a-test";
/// The same requests in every run.
const SEED: &str = "1";
/// Longer than a run takes on a slow machine.
const RUN_MAX: Duration = Duration::from_mins(15);
/// For each request; longer than the service's deadline.
const REQUEST_MAX_SECONDS: &str = "60";

#[expect(
    clippy::disallowed_methods,
    reason = "where it is installed is told by the environment"
)]
fn program() -> PathBuf {
    let folder = env::var_os("BALANCE_CACHE_TEST_SCHEMATHESIS").map_or_else(
        || {
            let home = PathBuf::from(env::var_os("HOME").expect("HOME is set"));
            home.join(".cache/balance-cache-test/schemathesis")
        },
        PathBuf::from,
    );
    let program = folder.join("bin/schemathesis");
    assert!(
        program.exists(),
        "this test needs schemathesis: it is not in {}; ./test installs it, or name its virtual environment in \
         BALANCE_CACHE_TEST_SCHEMATHESIS",
        folder.display()
    );
    let installed = fs::read_to_string(folder.join("installed")).unwrap_or_default();
    assert_eq!(
        installed,
        INSTALLED,
        "another schemathesis is in {}; ./test installs the right one",
        folder.display()
    );
    program
}

/// Runs it to its end: exit code and what it said.
fn run(arguments: &[&str]) -> (i32, String) {
    let folder = TempDir::with_prefix("schemathesis-").unwrap();
    for (name, text) in [
        ("openapi_hooks.py", include_str!("openapi_hooks.py")),
        (
            "schemathesis.toml",
            include_str!("openapi_schemathesis.toml"),
        ),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = Command::new(program());
    command
        .current_dir(folder.path())
        .args(["--config-file", "schemathesis.toml", "run"])
        .args(arguments)
        .args([
            "--no-color",
            "--generation-database",
            "none",
            "--seed",
            SEED,
            "--request-timeout",
            REQUEST_MAX_SECONDS,
        ])
        .env("SCHEMATHESIS_HOOKS", "openapi_hooks")
        .env("PYTHONPATH", folder.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "*");
    let mut process = Process::start(&command, folder.path());
    let code = process.exit(RUN_MAX);
    (code, process.stdout() + &process.stderr())
}

/// With a token for everything, a short wait for a `min_seq` that does not come, and a long one for a busy machine.
async fn service() -> Service {
    let setup = Setup::default()
        .with_token(TOKEN, r#""read", "settle", "admin""#)
        .with("limits.deadline_ms", 20_000)
        .with("settlement.lag_budget_ms", 20);
    Service::start_ready(setup).await
}

fn bearer() -> String {
    format!("Authorization: Bearer {TOKEN}")
}

/// The last lines of a run: how much was asked.
#[track_caller]
fn passed((code, said): (i32, String), operations: usize, cases: usize) {
    assert_eq!(code, 0, "{said}");
    let number = |before: &str, after: &str| -> usize {
        let rest = said
            .split(before)
            .nth(1)
            .unwrap_or_else(|| panic!("no {before:?} in\n{said}"));
        rest.split(after).next().unwrap().trim().parse().unwrap()
    };
    assert_eq!(number("Tested: ", "\n"), operations, "{said}");
    assert!(number("Test cases:\n", " generated") >= cases, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_answers_thousands_of_right_and_wrong_requests_as_it_is_described() {
    let service = service().await;
    let (url, token) = (format!("http://{}/openapi.json", service.http()), bearer());
    let arguments = [
        url.as_str(),
        "--include-path-regex",
        "^/api",
        "-H",
        &token,
        "--max-examples",
        "40",
    ];
    passed(tokio::task::block_in_place(|| run(&arguments)), 16, 1_500);
    let arguments = [
        url.as_str(),
        "--include-path-regex",
        "^/(docs|openapi)",
        "--max-examples",
        "10",
    ];
    passed(tokio::task::block_in_place(|| run(&arguments)), 4, 50);
    let after = service.get("/openapi.json").await;
    assert_eq!(after.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_port_answers_as_it_is_described() {
    let service = service().await;
    let at = format!("http://{}", service.ops());
    let url = format!("{at}/openapi.json");
    let mine = "^/(livez|readyz|metrics|dashboard|openapi.json)$";
    let arguments = [
        url.as_str(),
        "--url",
        &at,
        "--include-path-regex",
        mine,
        "--max-examples",
        "10",
    ];
    passed(tokio::task::block_in_place(|| run(&arguments)), 5, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_description_that_says_something_else_is_found_out() {
    let service = service().await;
    let (at, token) = (format!("http://{}", service.http()), bearer());
    let folder = TempDir::with_prefix("description-").unwrap();
    let file = folder.path().join("openapi.json");
    let name = file.display().to_string();
    let good = service.get("/openapi.json").await.json();
    for (pointer, wrong, complaint) in [
        (
            "/components/schemas/Balance/properties/seq/maximum",
            json!(3),
            "Response violates schema",
        ),
        (
            "/components/headers/age/schema/minimum",
            json!(99_999_999_999_i64),
            "header",
        ),
        (
            "/components/schemas/UserId/minimum",
            json!(0),
            "Schema-valid request rejected",
        ),
    ] {
        let mut description: Value = good.clone();
        *description.pointer_mut(pointer).unwrap() = wrong;
        fs::write(&file, description.to_string()).unwrap();
        let arguments = [
            name.as_str(),
            "--url",
            &at,
            "--include-path",
            "/api/user/balance",
            "-H",
            &token,
            "--phases",
            "examples,coverage",
        ];
        let (code, said) = tokio::task::block_in_place(|| run(&arguments));
        assert_eq!(code, 1, "{pointer}\n{said}");
        assert!(said.contains(complaint), "{pointer}\n{said}");
    }
}
