//! The checkpoint file of a backfill: the parts that are done.
//!
//! The first line names the tables; each other line is one finished part, written when all of its rows stand.
//!
//! **Invariants.** A line reaches the disk before the part counts as done. A last line that a crash cut off counts for nothing.
//! A file of other tables, or of other parts, is refused and stays as it is. Two processes never write one file.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{super::output::Unable, OutcomeCounts};

const FORMAT: u32 = 1;

/// The subject of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) table: String,
    /// Keyspace and ids of both tables.
    pub(super) identity: String,
    pub(super) parts: u32,
}

impl Header {
    pub(super) fn new(table: &str, identity: &str, parts: u32) -> Self {
        Self {
            format: FORMAT,
            table: table.to_owned(),
            identity: identity.to_owned(),
            parts,
        }
    }
}

/// One part that is done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine {
    part: u32,
    #[serde(flatten)]
    counts: OutcomeCounts,
}

/// The file.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
    file: File,
    done: BTreeMap<u32, OutcomeCounts>,
}

impl Checkpoint {
    /// Opens the file, or makes it.
    pub(super) fn open_file(path: &Path, header: &Header) -> Result<Self, Unable> {
        let failed = |error: io::Error| Unable(format!("{}: {error}", path.display()));
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Unable(format!(
                    "{}: another backfill is writing this checkpoint",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        // A line that was cut off has no end.
        let whole = text.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let lines: Vec<&str> = text.get(..whole).unwrap_or_default().lines().collect();
        let done = read_lines(&lines, header)
            .map_err(|why| Unable(format!("{}: {why}", path.display())))?;
        let length = u64::try_from(whole).unwrap_or(u64::MAX);
        file.set_len(length).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut checkpoint = Self {
            path: path.to_owned(),
            file,
            done,
        };
        if lines.is_empty() {
            checkpoint.append_line(header).map_err(failed)?;
        }
        Ok(checkpoint)
    }

    /// Whether all rows of a part stand.
    pub(super) fn is_done(&self, part: u32) -> bool {
        self.done.contains_key(&part)
    }

    /// The parts that are done, and what was counted in them.
    pub(super) fn done_parts(&self) -> (u64, OutcomeCounts) {
        let mut all = OutcomeCounts::default();
        self.done.values().for_each(|counts| all.add_counts(counts));
        (u64::try_from(self.done.len()).unwrap_or(u64::MAX), all)
    }

    /// Notes that all rows of a part stand.
    pub(super) fn note_done_part(
        &mut self,
        part: u32,
        counts: OutcomeCounts,
    ) -> Result<(), Unable> {
        self.append_line(&CheckpointLine { part, counts })
            .map_err(|error| Unable(format!("{}: {error}", self.path.display())))?;
        self.done.insert(part, counts);
        Ok(())
    }

    fn append_line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()
    }

    /// Removes the file: a later run begins anew.
    pub(super) fn remove_file(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

fn read_lines(lines: &[&str], header: &Header) -> Result<BTreeMap<u32, OutcomeCounts>, String> {
    let Some((first, rest)) = lines.split_first() else {
        return Ok(BTreeMap::new());
    };
    let found: Header = serde_json::from_str(first)
        .map_err(|_| "it is not a checkpoint of a backfill".to_owned())?;
    if found.parts != header.parts
        && (&found.table, &found.identity) == (&header.table, &header.identity)
    {
        return Err(format!(
            "it was begun with --parts {}: say so again, or remove it to begin anew",
            found.parts
        ));
    }
    if found != *header {
        return Err(format!(
            "it is of {} in {}: name another --checkpoint, or remove it to begin anew",
            found.table, found.identity
        ));
    }
    let mut done = BTreeMap::new();
    for (line, number) in rest.iter().zip(2_u32..) {
        let line: CheckpointLine = serde_json::from_str(line)
            .map_err(|error| format!("line {number} cannot be read: {error}"))?;
        if line.part >= header.parts {
            return Err(format!("line {number} names a part that there is not"));
        }
        done.insert(line.part, line.counts);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_of(rows: u64) -> OutcomeCounts {
        OutcomeCounts {
            source_rows: rows,
            ..OutcomeCounts::default()
        }
    }

    #[test]
    fn what_was_noted_is_there_again_also_after_a_cut_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.checkpoint");
        let header = Header::new("user_trades", "ks/1/2", 8);
        let mut first = Checkpoint::open_file(&path, &header).unwrap();
        first.note_done_part(3, counts_of(5)).unwrap();
        first.note_done_part(7, counts_of(2)).unwrap();
        let twice = Checkpoint::open_file(&path, &header)
            .unwrap_err()
            .to_string();
        assert!(twice.contains("another backfill"), "{twice}");
        drop(first);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"part\":4,\"sour");
        std::fs::write(&path, text).unwrap();
        let mut second = Checkpoint::open_file(&path, &header).unwrap();
        assert_eq!(second.done_parts(), (2, counts_of(7)));
        assert!(second.is_done(3) && !second.is_done(4));
        second.note_done_part(4, counts_of(1)).unwrap();
        drop(second);
        let third = Checkpoint::open_file(&path, &header).unwrap();
        assert_eq!(third.done_parts(), (3, counts_of(8)));
        third.remove_file().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.checkpoint");
        let header = Header::new("user_trades", "ks/1/2", 8);
        drop(Checkpoint::open_file(&path, &header).unwrap());
        for (other, part) in [
            (Header::new("user_trades", "ks/1/2", 9), "--parts 8"),
            (
                Header::new("user_trades", "ks/1/3", 8),
                "it is of user_trades",
            ),
        ] {
            let told = Checkpoint::open_file(&path, &other)
                .unwrap_err()
                .to_string();
            assert!(told.contains(part), "{told}");
        }
        std::fs::write(&path, "a list of my own\n").unwrap();
        let told = Checkpoint::open_file(&path, &header)
            .unwrap_err()
            .to_string();
        assert!(told.contains("not a checkpoint"), "{told}");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "a list of my own\n"
        );
        let head = serde_json::to_string(&header).unwrap();
        std::fs::write(&path, format!("{head}\nnonsense\n")).unwrap();
        let told = Checkpoint::open_file(&path, &header)
            .unwrap_err()
            .to_string();
        assert!(told.contains("line 2"), "{told}");
    }
}
