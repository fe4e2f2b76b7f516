//! `ledger`: checks, backs up and restores the embedded ledger.
//!
//! **Invariants.** A file is read in a process of its own before this one reads it: redb may panic on damaged bytes, and a
//! panic there is a finding. A backup is verified before it is called one, and overwrites nothing.
//!
//! **Cancellation.** A backup or restore that was interrupted leaves a file that ends with `.part` or `.new`, and may be removed.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};
use balance_cache::{
    config::{Settings, SourceKind},
    ledger::embedded::{
        OpenError, OpenErrorKind, backup,
        inspect::{CheckedFile, EmbeddedInspector, check_file},
    },
};

use super::{
    arguments::{LedgerCommand, Restore},
    output::{GOOD, Unable, paint_text, print_error, print_line},
};

/// The subcommand that checks a file in this process.
const CHECK_HERE: [&str; 2] = ["ledger", "check-here"];

/// The exit code of a check that ended in a panic.
const PANICKED: i32 = 101;

pub(crate) fn run_ledger_command(what: &LedgerCommand, settings: &Settings) -> Result<ExitCode> {
    let of_settings = || settings.embedded.path.clone();
    match what {
        LedgerCommand::Check { file } => {
            let path = file.clone().unwrap_or_else(of_settings);
            match check_apart(&path) {
                Ok(checked) => {
                    let word = paint_text(GOOD, "whole");
                    print_line(&format!(
                        "{word}: {}, {} balances",
                        path.display(),
                        checked.balances
                    ))?;
                    Ok(ExitCode::SUCCESS)
                }
                Err(error) => Err(error.into()),
            }
        }
        LedgerCommand::Backup { to } => back_up(&settings.embedded.path, to),
        LedgerCommand::Restore(what) => restore_ledger(what, &settings.embedded.path),
        // Done elsewhere: one before the settings are read, the others by `ledger`, `backfill` and `simulate`.
        LedgerCommand::CheckHere { .. }
        | LedgerCommand::Settle(_)
        | LedgerCommand::Backfill(_)
        | LedgerCommand::Simulate(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Refuses a damaged ledger before the service opens it.
pub(crate) fn check_before_start(settings: &Settings) -> Result<()> {
    if settings.source.kind != SourceKind::Embedded || !settings.embedded.check_at_start {
        return Ok(());
    }
    match check_apart(&settings.embedded.path) {
        Err(error) if error.kind == OpenErrorKind::Damaged => Err(error.into()),
        // Everything else is said by the service, which opens it for writing.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Opens a ledger for a look, after its file was checked in a process of its own.
pub(crate) fn open_checked(path: &Path) -> Result<EmbeddedInspector, OpenError> {
    match check_apart(path) {
        Ok(_) => EmbeddedInspector::open_ledger(path),
        Err(error) if error.kind == OpenErrorKind::InUse => EmbeddedInspector::open_ledger(path),
        Err(error) => Err(error),
    }
}

/// Checks a file in a process of its own.
pub(crate) fn check_apart(path: &Path) -> Result<CheckedFile, OpenError> {
    let unable = |reason: &dyn std::fmt::Display| {
        OpenError {
        kind: OpenErrorKind::Inaccessible,
        path: path.to_owned(),
        said: format!("it cannot be checked: {reason}"),
        remedy: "see whether this program can be run again by itself (its file, memory, number of processes)".to_owned(),
    }
    };
    // A file that is not there needs no process.
    if let Err(error) = fs::metadata(path)
        && error.kind() == io::ErrorKind::NotFound
    {
        return check_file(path);
    }
    let output = std::env::current_exe()
        .and_then(|program| {
            Command::new(program)
                .args(CHECK_HERE)
                .arg(path)
                .stdin(Stdio::null())
                .output()
        })
        .map_err(|error| unable(&error))?;
    if let Ok(result) = serde_json::from_slice::<Result<CheckedFile, OpenError>>(&output.stdout) {
        return result;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    match output.status.code() {
        Some(PANICKED) => Err(OpenError::of_damaged(
            path,
            format!("reading it ended with: {said}"),
        )),
        Some(_) => Err(unable(&format!("{} {said}", output.status))),
        // A signal: the stack or the memory of that process did not suffice.
        None => Err(OpenError::of_damaged(
            path,
            format!("reading it ended the process ({})", output.status),
        )),
    }
}

/// Checks a file in this process, for [`check_apart`].
pub(crate) fn check_here(path: &Path) -> Result<ExitCode> {
    // Before the abort that a panic is: no core is dumped, and the parent gets a sentence.
    std::panic::set_hook(Box::new(|panic| {
        print_error(&panic.to_string().replace('\n', " "));
        std::process::exit(PANICKED);
    }));
    print_line(&serde_json::to_string(&check_file(path))?)?;
    Ok(ExitCode::SUCCESS)
}

fn back_up(ledger: &Path, to: &Path) -> Result<ExitCode> {
    let look = open_checked(ledger)?;
    let failed = |error: balance_cache::ledger::LedgerError| {
        anyhow::anyhow!("{}: {error}", ledger.display())
    };
    if to.as_os_str() == "-" {
        let mut out = BufWriter::new(io::stdout().lock());
        look.write_backup(&mut out).map_err(failed)?;
        out.flush().context("standard output cannot be written")?;
        return Ok(ExitCode::SUCCESS);
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(Unable(format!(
            "{}: there is a file already, and a backup overwrites none",
            to.display()
        ))
        .into());
    }
    let part = path_with_ending(to, ".part");
    let unwritten = || format!("{} cannot be written", part.display());
    let file = File::create(&part).with_context(unwritten)?;
    let mut out = BufWriter::new(file);
    look.write_backup(&mut out).map_err(failed)?;
    let file = out.into_inner().with_context(unwritten)?;
    file.sync_all().with_context(unwritten)?;
    let mut written = BufReader::new(File::open(&part)?);
    let rows = backup::copy_backup(&mut written, &mut io::sink())
        .with_context(|| format!("{} was read back, and is no good backup", part.display()))?;
    fs::rename(&part, to).with_context(unwritten)?;
    let from = if look.is_running() {
        "the running service"
    } else {
        "the file"
    };
    print_line(&format!(
        "{}: {rows} rows of {}, from {from}, read back and verified",
        to.display(),
        ledger.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn restore_ledger(what: &Restore, ledger: &Path) -> Result<ExitCode> {
    let to = what.to.as_deref().unwrap_or(ledger);
    let fresh_id = (!what.same_id).then(rand::random);
    let rows = backup::restore_backup(&what.from, to, fresh_id)?;
    let checked = check_apart(to)?;
    let caches = if what.same_id {
        ""
    } else {
        "\nIt has a new id: a Redis that holds balances of the ledger before is refused until its keys are removed, or \
         redis.namespace is another."
    };
    print_line(&format!(
        "{}: {rows} rows, {} balances, checked{caches}",
        to.display(),
        checked.balances
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn path_with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}
