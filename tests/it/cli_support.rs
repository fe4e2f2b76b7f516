//! What the tests of the command line stand on: commands with input, a shell before them, addresses where nobody listens.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use reqwest::Method;
use tempfile::TempDir;

use crate::support::{
    desk::{Fields, header},
    eventually::eventually_async,
    port::Port,
    redis::Redis,
    service::{Service, Setup},
    stage::SOON,
};

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of((code, out, err): (i32, String, String)) -> Self {
        Self { code, out, err }
    }

    /// It has this exit code, and each of these in its standard output.
    #[track_caller]
    pub fn has(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self}");
        for part in parts {
            assert!(self.out.contains(part), "{part:?} is not in\n{self}");
        }
        self
    }

    /// A line of standard output that begins with these words, if there is one.
    pub fn find(&self, words: &[&str]) -> Option<&str> {
        self.out.lines().find(|line| {
            let mut said = line.split_whitespace();
            words.iter().all(|word| said.next() == Some(word))
        })
    }

    /// The same, where there must be one.
    #[track_caller]
    pub fn line(&self, words: &[&str]) -> &str {
        let found = self.find(words);
        found.unwrap_or_else(|| panic!("no line {words:?} in\n{self}"))
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n{}\n{}", self.code, self.out, self.err)
    }
}

/// Settings of a service that does not run: its addresses are kept free by the ports, its ledger is in the folder.
#[derive(Debug)]
pub struct Apart {
    pub setup: Setup,
    pub folder: TempDir,
    _ports: [Port; 2],
}

impl Apart {
    pub fn new(setup: Setup) -> Self {
        let ports = [Port::reserve(), Port::reserve()];
        let folder = TempDir::with_prefix("apart-").unwrap();
        let ledger = folder.path().join("ledger.redb");
        let mut environment = Setup::default()
            .with("http.listen", ports[0].address())
            .with("ops.listen", ports[1].address())
            .with("limits.connections", 100)
            .with("embedded.path", ledger.display())
            .environment;
        environment.extend(setup.environment);
        Self {
            setup: Setup {
                environment,
                ..setup
            },
            folder,
            _ports: ports,
        }
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.setup.run(arguments))
    }
}

/// Reads the user past all that is cached until Redis holds the whole: one fill may come too late. `prefix` stands before the keys.
pub async fn fill_redis(service: &Service, redis: &Redis, prefix: &str, user: u64) {
    let key = format!("{prefix}balance:user:{user}");
    let path = format!("/api/user/balance?user_id={user}");
    eventually_async(SOON, "redis holds the user", async || {
        let request = service.request(Method::GET, &path);
        let request = request.header("cache-control", "no-cache");
        service.try_send(request).await?;
        let fields: Fields = redis.ask(&["HGETALL", &key]);
        let is_whole = header(&fields).is_some_and(|(_, _, whole)| whole);
        is_whole.then_some(())
    })
    .await;
}

/// Runs it with this on its standard input, behind `before` (words of a shell; the last one is `exec`).
pub fn run_behind(setup: &Setup, before: &str, input: &str, arguments: &[&str]) -> Said {
    let folder = TempDir::with_prefix("behind-").unwrap();
    let mut command = Command::new("sh");
    command
        .current_dir(folder.path())
        .arg("-c")
        .arg(format!("{before} \"$@\""))
        .args(["sh", env!("CARGO_BIN_EXE_balance-cache")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (key, value) in &setup.environment {
        command.env(key, value);
    }
    let mut child = command.spawn().unwrap();
    let given = child.stdin.take().unwrap().write_all(input.as_bytes());
    // A command may end before it reads.
    if let Err(error) = given {
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}
