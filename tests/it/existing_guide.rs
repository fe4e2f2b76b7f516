//! The commands of `docs/EXISTING_LEDGER.md`, one after the other, as a stranger would type them.

use std::{fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use crate::support::{
    eventually::eventually,
    port::Port,
    postgres::{PgOptions, PgServer, SUPERUSER},
    process::Process,
    redis::Redis,
};

/// How long one block of commands may take.
const BLOCK: Duration = Duration::from_mins(2);

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The blocks of shell commands, each behind the word that tells it from the others.
fn blocks(guide: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = guide.split("```").collect();
    let inside = parts.iter().skip(1).step_by(2);
    let of_shell = inside.filter_map(|block| block.strip_prefix("sh"));
    of_shell
        .map(|block| {
            let (kind, commands) = block.split_once('\n').unwrap();
            (kind.trim().to_owned(), commands.to_owned())
        })
        .collect()
}

/// On a busy machine memory may not keep what one read brought, and Redis may be too slow for `doctor`: these are typed again.
fn typed_again(commands: &str) -> String {
    let again = |line: &str| {
        let is_doctor = line.starts_with("balance-cache doctor ");
        if is_doctor || line.ends_with("grep 'cache-status: memory; hit'") {
            format!("until {line}; do sleep 0.1; done")
        } else {
            line.to_owned()
        }
    };
    let lines: Vec<String> = commands.lines().map(again).collect();
    lines.join("\n")
}

/// The guide with servers of the test's own.
struct Stranger {
    postgres: PgServer,
    redis: Redis,
    http: Port,
    ops: Port,
    folder: TempDir,
}

impl Stranger {
    fn new() -> Self {
        let stranger = Self {
            postgres: PgServer::start(&PgOptions::default()),
            redis: Redis::start(),
            http: Port::reserve(),
            ops: Port::reserve(),
            folder: TempDir::with_prefix("guide-").unwrap(),
        };
        let to = stranger.folder.path().join("examples/existing-ledger");
        fs::create_dir_all(&to).unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/existing-ledger");
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let content = fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap();
            fs::write(to.join(name), stranger.at_home(&content)).unwrap();
        }
        stranger
    }

    fn at_home(&self, text: &str) -> String {
        text.replace("127.0.0.1:5432", &self.postgres.address().to_string())
            .replace("127.0.0.1:6379", &self.redis.address().to_string())
            .replace("127.0.0.1:3001", &self.http.address().to_string())
            .replace("127.0.0.1:3002", &self.ops.address().to_string())
            .replace("$(whoami)", SUPERUSER)
    }

    fn start(&self, commands: &str) -> Process {
        let program = Path::new(env!("CARGO_BIN_EXE_balance-cache"));
        let path = r#"PATH=$0:$PATH; eval "$1""#;
        let mut command = Command::new("sh");
        command
            .args(["-euc", path])
            .arg(program.parent().unwrap())
            .arg(self.at_home(commands))
            .current_dir(self.folder.path())
            .env("PGHOST", self.postgres.address().ip().to_string())
            .env("PGPORT", self.postgres.address().port().to_string())
            .env("PGUSER", SUPERUSER)
            .env(
                "BALANCE_CACHE__HTTP__LISTEN",
                self.http.address().to_string(),
            )
            .env("BALANCE_CACHE__OPS__LISTEN", self.ops.address().to_string());
        // Patience for a busy machine.
        for (key, ms) in [
            ("SETTLEMENT__MAX_STALENESS_MS", "5000"),
            ("LIMITS__DEADLINE_MS", "10000"),
            ("SOURCE__TIMEOUT_MS", "5000"),
            ("REDIS__TIMEOUT_MS", "1000"),
        ] {
            command.env(format!("BALANCE_CACHE__{key}"), ms);
        }
        Process::start(&command, self.folder.path())
    }

    #[track_caller]
    fn run(&self, commands: &str) {
        let mut process = self.start(commands);
        let code = process.exit(BLOCK);
        assert_eq!(code, 0, "{commands}\n{}", process.logs());
    }
}

#[test]
fn the_guide_leads_from_a_table_to_reads_through_the_cache_and_back() {
    let stranger = Stranger::new();
    let mut service = None;
    let mut seen = Vec::new();
    for (kind, commands) in blocks(&text("docs/EXISTING_LEDGER.md")) {
        match kind.as_str() {
            "serve" => {
                let process = stranger.start(&format!("exec {commands}"));
                service = Some(process);
                // Without reservation: it has its Redis by then.
                stranger.run(
                    r#"until curl -s http://127.0.0.1:3002/readyz | grep '"status":"ready"'; do sleep 0.1; done"#,
                );
            }
            "back" => {
                let mut process: Process = service.take().expect("it was started");
                process.signal("TERM");
                eventually(BLOCK, "the service ends", || process.exited());
                stranger.run(&commands);
            }
            "" => stranger.run(&typed_again(&commands)),
            other => panic!("{other}"),
        }
        seen.push(kind);
    }
    assert!(service.is_none() && seen.len() >= 9, "{seen:?}");
}

#[test]
fn the_guide_names_files_that_there_are() {
    let guide = text("docs/EXISTING_LEDGER.md");
    let words = guide.split(|c: char| c.is_whitespace() || "()[]`".contains(c));
    let named: Vec<&str> = words
        .filter(|word| word.contains("examples/existing-ledger/"))
        .collect();
    assert!(named.len() > 5, "{named:?}");
    for word in named {
        text(word.trim_start_matches("../"));
    }
}
