//! A server process that does not outlive the test that started it.
//!
//! A shell stands between: it starts the server and a watcher that reads a pipe from us. When this process ends, be it
//! by `kill -9`, the pipe closes and the watcher kills the server. The shell's own end is the server's, with its exit
//! code (128 + signal where one ended it).
//!
//! **Invariants.** After `drop`, `kill9` or `exit`, the server is gone and reaped. What it wrote is in `stdout` and
//! `stderr` of its folder, appended over restarts; a panicking test prints the ends of both.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use super::eventually::eventually;

const WATCHDOG: &str = r#"
folder=$1; shift
exec 3<&0
"$@" </dev/null >>"$folder/stdout" 2>>"$folder/stderr" 3<&- &
server=$!
(trap '' INT TERM HUP; read -r _ <&3; kill -9 $server) >/dev/null 2>&1 &
watcher=$!
echo $server
exec </dev/null >/dev/null 2>&1 3<&-
wait $server
code=$?
kill -9 $watcher
exit $code
"#;

/// How much of each log a panicking test prints.
const TAIL: usize = 8_000;

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_mins(1);

/// A running server.
#[derive(Debug)]
pub struct Process {
    name: String,
    folder: PathBuf,
    shell: Child,
    pipe: Option<ChildStdin>,
    pid: u32,
    code: Option<i32>,
}

impl Process {
    /// Starts what `command` says: program, arguments, environment and working folder are taken from it. Logs go to
    /// `folder`, which must exist and outlive the process.
    pub fn start(command: &Command, folder: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(folder)
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(working) = command.get_current_dir() {
            shell.current_dir(working);
        }
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut pid)
            .unwrap();
        Self {
            name: command.get_program().to_string_lossy().into_owned(),
            folder: folder.to_path_buf(),
            pipe: shell.stdin.take(),
            pid: pid.trim().parse().unwrap(),
            shell,
            code: None,
        }
    }

    /// The server's own process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by name (`STOP`, `CONT`, `TERM`, …). A process that has ended gets none: its id may be another's.
    pub fn signal(&mut self, name: &str) {
        assert_eq!(self.exited(), None, "{} has ended", self.name);
        // The shell's own kill: the program is not everywhere.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid)])
            .status()
            .unwrap();
        assert!(sent.success(), "kill -{name} {} of {}", self.pid, self.name);
    }

    /// Kills it and waits until it is gone.
    pub fn kill9(&mut self) {
        if self.exited().is_none() {
            drop(self.pipe.take());
            self.exit(GONE);
        }
    }

    /// The exit code, if it has ended.
    pub fn exited(&mut self) -> Option<i32> {
        if self.code.is_none() {
            self.code = self
                .shell
                .try_wait()
                .unwrap()
                .map(|status| status.code().unwrap_or(-1));
        }
        self.code
    }

    /// The exit code, waited for.
    pub fn exit(&mut self, within: Duration) -> i32 {
        let what = format!("{} ends", self.name);
        eventually(within, &what, || self.exited())
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.folder.join("stdout"))
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.folder.join("stderr"))
    }

    /// The ends of both logs, for a message.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for (name, log) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            let from = log.len().saturating_sub(TAIL);
            let from = (from..=log.len())
                .find(|at| log.is_char_boundary(*at))
                .unwrap_or(0);
            writeln!(text, "--- {name} of {}\n{}", self.name, &log[from..]).unwrap();
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.logs());
        }
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
