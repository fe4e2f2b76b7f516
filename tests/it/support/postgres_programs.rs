//! The programs of PostgreSQL, run as the user that they ask for, and their processes.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::SUPERUSER;

/// State and parent of a process.
pub(super) fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?.chars().next()?;
    Some((state, words.next()?.parse().ok()?))
}

pub(super) fn children(of: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == of))
        .collect()
}

pub(super) fn send_signal(name: &str, pids: &[u32]) {
    let all: Vec<_> = pids.iter().map(u32::to_string).collect();
    // The shell's own kill: the program is not everywhere. A child that ended meanwhile is none.
    let text = format!("kill -{name} {} 2>/dev/null; true", all.join(" "));
    Command::new("sh").args(["-c", &text]).status().unwrap();
}

/// Where the programs of the newest version are.
pub(super) fn binary(name: &str) -> PathBuf {
    let versions =
        fs::read_dir("/usr/lib/postgresql").expect("the package postgresql is installed");
    let versions = versions.flatten().map(|entry| entry.path());
    let newest = versions
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
    let newest = newest.expect("the package postgresql is installed");
    newest.join("bin").join(name)
}

pub(super) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A program of the server, which refuses to run as root.
pub(super) fn program(name: &str) -> Command {
    if !is_root() {
        return Command::new(binary(name));
    }
    let mut command = Command::new("setpriv");
    let user = format!("--reuid={SUPERUSER}");
    command.args([&user, "--regid=postgres", "--clear-groups"]);
    command.arg(binary(name));
    command
}

pub(super) fn run(mut command: Command) {
    let output = command.current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}");
}

/// A folder that the server's user owns.
pub(super) fn new_folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("postgres-").tempdir();
    let folder = folder.unwrap().keep();
    give_to_server(&folder);
    folder
}

pub(super) fn give_to_server(path: &Path) {
    let mut mode = Command::new("chmod");
    mode.arg(if path.is_dir() { "700" } else { "600" })
        .arg(path);
    run(mode);
    if is_root() {
        let mut owner = Command::new("chown");
        owner.arg(format!("{SUPERUSER}:")).arg(path);
        run(owner);
    }
}
