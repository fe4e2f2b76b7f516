//! The real binary, and a client of it.
//!
//! **Invariants.** Both listeners, the ledger's file and the working folder are this instance's own; they stay the same
//! over `restart`. Deadlines and `max_staleness` are longer than the defaults, so that no test depends on the machine's speed. All else is the
//! default, unless `Setup` says otherwise.

use std::{
    fmt::Display,
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;

use super::{eventually::eventually_async, port::Port, process::Process};

/// How long it may take to start or end.
const TURN: Duration = Duration::from_mins(1);

/// How long a command may take: it may compare a long ledger.
const COMMAND_MAX: Duration = Duration::from_mins(10);

/// How long an answer may take: longer than any deadline of the service.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a connection may be idle and be used again: shorter than the service keeps it.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// In an instance's folder.
const CONFIG_FILE: &str = "balance-cache.toml";

/// What an instance is given.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The configuration file; empty: none.
    pub file: String,
    /// Environment on top, as [`Setup::with`] adds it.
    pub environment: Vec<(String, String)>,
    /// What a shell does first, as `ulimit -n 64;`; empty: no shell.
    pub shell: String,
}

impl Setup {
    /// With one more setting, by the environment: `.with("redis.url", redis.url())`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Display) -> Self {
        let name = format!("BALANCE_CACHE__{}", key.replace('.', "__").to_uppercase());
        self.environment.push((name, value.to_string()));
        self
    }

    /// With a variable that is no setting.
    #[must_use]
    pub fn raw(mut self, name: &str, value: String) -> Self {
        self.environment.push((name.to_owned(), value));
        self
    }

    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_balance-cache");
        let mut command = if self.shell.is_empty() {
            Command::new(program)
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{} exec \"$@\"", self.shell), "sh", program]);
            command
        };
        command.current_dir(folder).args(arguments);
        if !self.file.is_empty() {
            let file = folder.join(CONFIG_FILE);
            fs::write(&file, &self.file).unwrap();
            command.arg("--config").arg(file);
        }
        for (key, value) in &self.environment {
            command.env(key, value);
        }
        command
    }

    fn sets(&self, name: &str) -> bool {
        self.environment.iter().any(|(set, _)| set == name)
    }

    /// Longer times for servers on a busy machine. A statement of a database may take as long as a request, and a request longer than
    /// by default, unless the test says how long.
    fn patience(&self) -> Vec<(&'static str, &'static str)> {
        let deadline = "LIMITS__DEADLINE_MS";
        let is_database = |(key, value): &(String, String)| {
            key == "BALANCE_CACHE__SOURCE__KIND" && value != "embedded"
        };
        let mut times = vec![("REDIS__TIMEOUT_MS", "1000")];
        if self.environment.iter().any(is_database)
            && !self.sets(&format!("BALANCE_CACHE__{deadline}"))
        {
            times.extend([(deadline, "10000"), ("SOURCE__TIMEOUT_MS", "10000")]);
        } else {
            times.push(("SOURCE__TIMEOUT_MS", "2000"));
        }
        times
    }

    /// Runs a subcommand to its end: exit code, standard output, standard error. One that asks servers has more time than by
    /// default.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let folder = TempDir::with_prefix("command-").unwrap();
        let mut command = self.command(folder.path(), arguments);
        if !arguments.contains(&"config") {
            for (key, value) in self.patience() {
                let name = format!("BALANCE_CACHE__{key}");
                if !self.sets(&name) {
                    command.env(name, value);
                }
            }
        }
        let mut process = Process::start(&command, folder.path());
        (
            process.exit(COMMAND_MAX),
            process.stdout(),
            process.stderr(),
        )
    }
}

/// A running instance, killed when it is dropped.
#[derive(Debug)]
pub struct Service {
    process: Process,
    setup: Setup,
    http: Port,
    ops: Port,
    client: Client,
    folder: TempDir,
}

impl Service {
    /// Starts it and waits until it lives; it may not be ready yet.
    pub async fn start(setup: Setup) -> Self {
        let (http, ops) = (Port::reserve(), Port::reserve());
        let folder = TempDir::with_prefix("service-").unwrap();
        let ledger = folder.path().join("ledger.redb");
        let own = Setup::default()
            .with("http.listen", http.address())
            .with("ops.listen", ops.address())
            .with("embedded.path", ledger.display())
            .with("limits.deadline_ms", 10_000)
            .with("source.timeout_ms", 5_000)
            .with("redis.timeout_ms", 1_000)
            .with("settlement.max_staleness_ms", 3_000);
        let mut environment = own.environment;
        environment.extend(setup.environment);
        let setup = Setup {
            environment,
            ..setup
        };
        let client = Client::builder()
            .no_proxy()
            .timeout(ANSWER)
            .pool_idle_timeout(IDLE_MAX)
            .build()
            .unwrap();
        let mut service = Self {
            process: Process::start(&setup.command(folder.path(), &[]), folder.path()),
            setup,
            http,
            ops,
            client,
            folder,
        };
        service.lives().await;
        service
    }

    /// The same, and waits until it is ready.
    pub async fn start_ready(setup: Setup) -> Self {
        let service = Self::start(setup).await;
        service.ready().await;
        service
    }

    async fn lives(&mut self) {
        let url = self.ops_url("/livez");
        for_service(&mut self.process, &self.client, &url, "the service lives").await;
    }

    /// Waits until `/readyz` says 200: ready or degraded.
    pub async fn ready(&self) {
        eventually_async(TURN, "the service is ready", async || {
            let answer = self
                .try_send(self.client.get(self.ops_url("/readyz")))
                .await;
            answer.filter(|answer| answer.status == 200).map(|_| ())
        })
        .await;
    }

    /// Where clients ask.
    pub fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// Where operators ask.
    pub fn ops(&self) -> SocketAddr {
        self.ops.address()
    }

    /// Puts another text into its configuration file, which it had at its start.
    pub fn rewrite(&self, file: &str) {
        fs::write(self.folder.path().join(CONFIG_FILE), file).unwrap();
    }

    /// Its settings, for commands that look at it.
    pub fn setup(&self) -> Setup {
        self.setup.clone()
    }

    /// Runs a subcommand with its settings: exit code, standard output, standard error.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.setup.run(arguments)
    }

    fn ops_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.ops())
    }

    /// A request of clients, to be completed and given to [`Service::send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.http()))
    }

    /// `GET`, as a client.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST` of JSON, as a client.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `POST` of JSON, as [`in_time`] sends it. Beside the answer: whether it was sent again, so that it may have taken effect before.
    pub async fn post_in_time(&self, path: &str, body: &Value) -> (Answer, bool) {
        in_time(self.request(Method::POST, path).json(body)).await
    }

    /// The same, for what may have taken effect before.
    pub async fn post_until_taken(&self, path: &str, body: &Value) -> Answer {
        self.post_in_time(path, body).await.0
    }

    /// The balances of a user.
    pub async fn balances(&self, user: u64) -> Answer {
        self.get(&format!("/api/user/balance?user_id={user}")).await
    }

    /// `GET`, as an operator.
    pub async fn get_ops(&self, path: &str) -> Answer {
        self.send(self.client.get(self.ops_url(path))).await
    }

    /// Sends it. No answer at all fails the test.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        answer(request).await.unwrap()
    }

    /// Sends it; nothing where there was no answer.
    pub async fn try_send(&self, request: RequestBuilder) -> Option<Answer> {
        answer(request).await.ok()
    }

    /// The process, for signals, logs and its exit code.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it in good order (SIGTERM) and returns its exit code.
    pub fn terminate(&mut self) -> i32 {
        self.process.signal("TERM");
        self.process.exit(TURN)
    }

    /// Kills it, as a crash would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again with the same setup, listeners and ledger; kills it first if it runs. Waits until it lives.
    pub async fn restart(&mut self) {
        self.process.kill9();
        let command = self.setup.command(self.folder.path(), &[]);
        self.process = Process::start(&command, self.folder.path());
        self.lives().await;
    }
}

async fn for_service(process: &mut Process, client: &Client, url: &str, what: &str) {
    eventually_async(TURN, what, || {
        let ended = process.exited();
        assert_eq!(ended, None, "the service ended\n{}", process.logs());
        let request = client.get(url);
        async {
            answer(request)
                .await
                .ok()
                .filter(|answer| answer.status == 200)
        }
    })
    .await;
}

/// What the service said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// A header as text; empty where it is absent. Several of one name are joined as RFC 9110 does.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name);
        let texts: Vec<&str> = values.iter().map(|value| value.to_str().unwrap()).collect();
        texts.join(", ")
    }

    /// Who answered.
    pub fn cache_status(&self) -> String {
        self.header("cache-status")
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The envelope's `data`.
    #[track_caller]
    pub fn data(&self) -> Value {
        self.json()["data"].clone()
    }
}

/// Sends it.
pub async fn answer(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.text().await?,
    })
}

/// Sends it again as long as a busy machine may be why it fails: there was no answer, or the ledger or Redis did its part too late. A
/// `min_seq` that was not reached is no such thing. Beside the answer: whether it was sent again.
pub async fn in_time(request: RequestBuilder) -> (Answer, bool) {
    let sent = AtomicUsize::new(0);
    let said = eventually_async(TURN, "it is taken or refused", || {
        sent.fetch_add(1, Ordering::Relaxed);
        let same = answer(request.try_clone().unwrap());
        async {
            let said = same.await.ok()?;
            let is_late = matches!(said.status, 429 | 503 | 504) && said.json()["status"] != 5032;
            (!is_late).then_some(said)
        }
    })
    .await;
    (said, sent.into_inner() > 1)
}
