//! Why the ledger's file cannot be opened, read or written: each with its cause and what to do.

use std::{
    fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::diagnosis::{Code, Finding, FindingPart};

/// Why the disk did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskFailure {
    /// The file system, or a quota, has no space left.
    Full,
    /// The process may not write files of that size.
    SizeLimit,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The process lacks a permission.
    Permission,
    /// A block has other bytes than were written there.
    Damaged {
        /// Where the block begins, in bytes.
        offset: u64,
    },
    /// The file is shorter than what it holds.
    Truncated,
    /// Another file, or none, is where the open one was.
    Replaced,
    /// The words of the system or of redb.
    Other(String),
}

impl DiskFailure {
    /// Of an error of the operating system.
    pub fn of_io_error(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            ErrorKind::FileTooLarge => Self::SizeLimit,
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            ErrorKind::PermissionDenied => Self::Permission,
            ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Other(error.to_string()),
        }
    }

    pub const fn label_word(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::SizeLimit => "size_limit",
            Self::ReadOnly => "read_only",
            Self::Permission => "permission",
            Self::Damaged { .. } | Self::Truncated => "damaged",
            Self::Replaced => "replaced",
            Self::Other(_) => "other",
        }
    }

    /// The finding of a ledger at this path that cannot be written.
    pub fn finding(&self, path: &Path) -> Finding {
        let at = path.display().to_string();
        Finding::new(FindingPart::Source, self.finding_code(), at).with_detail(self.to_string())
    }

    /// The cure while the service runs.
    pub fn remedy(&self) -> String {
        self.finding(Path::new("")).remedy_text()
    }

    const fn finding_code(&self) -> Code {
        match self {
            Self::Full => Code::LedgerFull,
            Self::SizeLimit => Code::LedgerSizeLimit,
            Self::ReadOnly => Code::LedgerReadOnly,
            Self::Permission => Code::LedgerPermission,
            Self::Damaged { .. } | Self::Truncated => Code::LedgerDamaged,
            Self::Replaced => Code::LedgerReplaced,
            Self::Other(_) => Code::LedgerFailing,
        }
    }
}

impl fmt::Display for DiskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no space is left on its disk"),
            Self::SizeLimit => f.write_str("the process may not make the file larger"),
            Self::ReadOnly => f.write_str("its file system is mounted read-only"),
            Self::Permission => f.write_str("permission is denied"),
            Self::Damaged { offset } => {
                write!(
                    f,
                    "the file is damaged: the block at byte {offset} is not what was written there"
                )
            }
            Self::Truncated => f.write_str("the file is damaged: its end is missing"),
            Self::Replaced => {
                f.write_str("the file was removed or replaced while the service runs")
            }
            Self::Other(said) => f.write_str(said),
        }
    }
}

/// The kinds of [`OpenError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenErrorKind {
    /// There is no file.
    Missing,
    /// A process has it open.
    InUse,
    /// It, or its folder, cannot be read or written.
    Inaccessible,
    /// It is no ledger.
    Foreign,
    /// It is a ledger, and some of it cannot be read.
    Damaged,
    /// Another version of the program wrote it.
    Layout,
}

/// Why a file cannot be the ledger. Each says what to do; for the operator, never for a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{}: {said}; {remedy}", path.display())]
pub struct OpenError {
    pub kind: OpenErrorKind,
    /// `embedded.path`, or the file that was named.
    pub path: PathBuf,
    /// The finding.
    pub said: String,
    /// The cure.
    pub remedy: String,
}

impl OpenError {
    fn new(kind: OpenErrorKind, path: &Path, said: impl Into<String>, remedy: &str) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            said: said.into(),
            remedy: remedy.to_owned(),
        }
    }

    pub(super) fn of_missing(path: &Path) -> Self {
        let said = "there is no such file yet: the first start makes it";
        Self::new(OpenErrorKind::Missing, path, said, "start the service once")
    }

    pub(super) fn in_use(path: &Path) -> Self {
        Self::new(
            OpenErrorKind::InUse,
            path,
            "it is in use: an embedded ledger belongs to one instance",
            "stop the other process (fuser shows who has it open), give this instance its own embedded.path, or share a database \
             with source.kind = \"scylla\"",
        )
    }

    /// An error of the operating system, met at the file or at its folder.
    pub(super) fn of_inaccessible(path: &Path, place: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            ErrorKind::PermissionDenied => {
                "give the user of the service read and write access to the file and its folder (chown, chmod)"
            }
            ErrorKind::ReadOnlyFilesystem => {
                "mount it writable, or name a file on a writable file system in embedded.path"
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space there (df -h)",
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                "name a file in a folder in embedded.path: a part of this path is a file"
            }
            _ => "see embedded.path, and look for faults of the disk (dmesg, smartctl)",
        };
        let said = if place == path {
            format!("it cannot be opened: {error}")
        } else {
            format!("{} cannot be used: {error}", place.display())
        };
        Self::new(OpenErrorKind::Inaccessible, path, said, remedy)
    }

    pub(super) fn no_file(path: &Path, what: &str) -> Self {
        let remedy = "name a file, not its folder, in embedded.path (data/ledger.redb)";
        Self::new(
            OpenErrorKind::Inaccessible,
            path,
            format!("it is {what} and no file"),
            remedy,
        )
    }

    pub(super) fn of_foreign(path: &Path, said: impl fmt::Display) -> Self {
        let remedy = "name another file in embedded.path, or restore a backup (balance-cache ledger restore; if this file is one, it \
                      is what that takes); move the file away only to begin with a new ledger";
        Self::new(
            OpenErrorKind::Foreign,
            path,
            format!("it is no ledger: {said}"),
            remedy,
        )
    }

    /// Some of it cannot be read.
    pub fn of_damaged(path: &Path, said: impl fmt::Display) -> Self {
        let remedy = "look for faults of the disk (dmesg, smartctl), keep the file aside and put the newest backup in its place \
                      (balance-cache ledger restore)";
        Self::new(
            OpenErrorKind::Damaged,
            path,
            format!("it is damaged: {said}"),
            remedy,
        )
    }

    pub(super) fn of_layout(path: &Path, found: &str, read: &str) -> Self {
        Self::new(
            OpenErrorKind::Layout,
            path,
            format!("it has layout {found}, this version reads {read}"),
            "use the version of balance-cache that wrote it (CHANGELOG.md says which changed the layout)",
        )
    }

    /// Judges redb's complaint about a file that could be read; `failure` is what the disk did.
    pub(super) fn of_redb_error(
        path: &Path,
        error: &redb::Error,
        failure: Option<DiskFailure>,
    ) -> Self {
        use redb::Error as E;
        match (failure, error) {
            (Some(DiskFailure::Damaged { .. } | DiskFailure::Truncated), _) => {
                Self::of_damaged(path, "some of it is not what was written, or missing")
            }
            (Some(failure), _) => Self::new(
                OpenErrorKind::Inaccessible,
                path,
                failure.to_string(),
                &failure.remedy(),
            ),
            (None, E::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                Self::of_foreign(path, "it does not begin as one")
            }
            (None, E::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                Self::of_damaged(path, DiskFailure::Truncated)
            }
            (None, E::Io(error)) => Self::of_inaccessible(path, path, error),
            (None, E::UpgradeRequired(version)) => Self::of_layout(
                path,
                &format!("of redb's file format {version}"),
                "format 3",
            ),
            (None, E::TableTypeMismatch { .. } | E::TypeDefinitionChanged { .. }) => {
                Self::of_layout(path, &format!("unknown ({error})"), super::tables::LAYOUT)
            }
            (None, error) => Self::of_damaged(path, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_the_system_has_its_cause_and_its_remedy() {
        let table = [
            (28, DiskFailure::Full, "free space"),
            (122, DiskFailure::Full, "free space"),
            (27, DiskFailure::SizeLimit, "LimitFSIZE"),
            (30, DiskFailure::ReadOnly, "remount"),
            (13, DiskFailure::Permission, "chown"),
        ];
        for (number, failure, remedy) in table {
            let found = DiskFailure::of_io_error(&io::Error::from_raw_os_error(number));
            assert_eq!(found, failure);
            assert!(found.remedy().contains(remedy), "{found}");
        }
        let other = DiskFailure::of_io_error(&io::Error::from_raw_os_error(5));
        assert_eq!(other.label_word(), "other");
        assert!(other.remedy().contains("dmesg"), "{other}");
    }
}
