//! The ledger's file as redb reads and writes it, with a hash of each block in memory.
//!
//! **Invariants.** A block that is read is the one that was found at the start or written since: another one is an error, and
//! never reaches redb, which may panic on bytes that it did not write. One process has the file: it is locked while it is open.
//!
//! **Limits.** 4 bytes of memory for each 4 KiB of file. The first block is not compared: redb's header has its own checksums.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, RwLock};

use super::failure::{DiskFailure, OpenError};

/// Bytes of a block: redb's page.
pub(super) const BLOCK: usize = 4096;
/// Bytes of a block, as an offset.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// Bytes that are read at once when the whole file is.
const CHUNK: usize = 1024 * 1024;

/// Bytes that have to find room before a full disk counts as usable again.
const PROBE_BYTES: usize = 1024 * 1024;

/// Bytes that redb makes a large file longer by; a smaller file doubles.
const GROWTH_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// The access to the file, and the lock that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads and writes, with an exclusive lock.
    Write,
    /// Reads only; other readers may have it, too.
    Read,
}

/// An open, locked file.
#[derive(Debug)]
pub(super) struct LedgerFile {
    file: File,
    path: PathBuf,
    /// The hash of each block, 0 where it is not known: the next read tells it.
    hashes: RwLock<Vec<u32>>,
    /// The last operation that failed, until it is taken.
    failure: Mutex<Option<DiskFailure>>,
    /// Errors that every write meets: a full disk for tests.
    #[cfg(test)]
    pub(super) write_error: Mutex<Option<i32>>,
}

impl LedgerFile {
    pub(super) fn open_file(path: &Path, access: Access) -> Result<Self, OpenError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => OpenError::of_missing(path),
            _ => OpenError::of_inaccessible(path, path, &error),
        };
        // Before it is opened: a pipe would wait for its other end.
        let found = std::fs::metadata(path).map_err(failed)?;
        let kind = found.file_type();
        if kind.is_dir() {
            return Err(OpenError::no_file(path, "a folder"));
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            return Err(OpenError::no_file(path, "a device, pipe or socket"));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(path)
            .map_err(failed)?;
        let opened = Self::lock_file(file, path, access)?;
        if opened
            .len()
            .map_err(|error| OpenError::of_inaccessible(path, path, &error))?
            == 0
        {
            return Err(OpenError::of_foreign(
                path,
                "it is empty, as a file that was cut off is, and a new ledger never",
            ));
        }
        Ok(opened)
    }

    /// Opens a new, empty file for a ledger that is made.
    pub(super) fn create_file(path: &Path) -> Result<Self, OpenError> {
        let failed = |error: &io::Error| OpenError::of_inaccessible(path, path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| failed(&error))?;
        let created = Self::lock_file(file, path, Access::Write)?;
        created.set_len(0).map_err(|error| failed(&error))?;
        Ok(created)
    }

    fn lock_file(file: File, path: &Path, access: Access) -> Result<Self, OpenError> {
        let locked = match access {
            Access::Write => file.try_lock(),
            Access::Read => file.try_lock_shared(),
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::in_use(path)),
            // A file system without locks: the operator has to ensure that one process has the file.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(OpenError::of_inaccessible(path, path, &error));
            }
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            hashes: RwLock::default(),
            failure: Mutex::default(),
            #[cfg(test)]
            write_error: Mutex::default(),
        })
    }

    /// Reads the whole file and keeps the hash of each block.
    pub(super) fn learn_hashes(&self) -> io::Result<()> {
        let len = self.len()?;
        let mut chunk = vec![0; CHUNK];
        let mut offset = 0_u64;
        while offset < len {
            let left = usize::try_from(len.saturating_sub(offset)).unwrap_or(CHUNK);
            let part = chunk.get_mut(..left.min(CHUNK)).unwrap_or_default();
            self.read_at(offset, part)?;
            offset = offset.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Gives the file its place: it is renamed to `path`.
    pub(super) fn rename_to(mut self, path: &Path) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::of_inaccessible(path, path, &error);
        std::fs::rename(&self.path, path).map_err(failed)?;
        if let Some(folder) = folder_of(path) {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(failed)?;
        }
        path.clone_into(&mut self.path);
        Ok(self)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|found| found.len())
    }

    /// Fills `out` from there; a block that is not what it was is an error.
    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file
            .read_exact_at(out, offset)
            .map_err(|error| self.note_failure(DiskFailure::of_io_error(&error), error))?;
        let Some(damaged) = self.compare_hashes(offset, out) else {
            return Ok(());
        };
        let failure = DiskFailure::Damaged { offset: damaged };
        let error = io::Error::new(io::ErrorKind::InvalidData, failure.to_string());
        Err(self.note_failure(failure, error))
    }

    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.forget_hashes(offset, data.len());
        self.inject_failure()
            .and_then(|()| self.file.write_all_at(data, offset))
            .map_err(|error| self.note_failure(DiskFailure::of_io_error(&error), error))?;
        // Their hashes are not known any more, so this keeps the new ones.
        self.compare_hashes(offset, data);
        Ok(())
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        // Held over both steps, so that no look between them finds the file cut off.
        let mut hashes = self.hashes.write();
        self.inject_failure()
            .and_then(|()| self.file.set_len(len))
            .map_err(|error| self.note_failure(DiskFailure::of_io_error(&error), error))?;
        let blocks = usize::try_from(len.div_euclid(BLOCK_BYTES)).unwrap_or(usize::MAX);
        hashes.truncate(blocks);
        Ok(())
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.file
            .sync_data()
            .map_err(|error| self.note_failure(DiskFailure::of_io_error(&error), error))
    }

    /// Takes the last failure since the call before.
    pub(super) fn take_failure(&self) -> Option<DiskFailure> {
        self.failure.lock().take()
    }

    /// Whether another program has cut the file off: it is shorter than the whole blocks that are known of it.
    pub(super) fn is_cut_off(&self) -> bool {
        let hashes = self.hashes.read();
        let blocks = u64::try_from(hashes.len()).unwrap_or(0);
        self.len()
            .is_ok_and(|len| len < blocks.saturating_mul(BLOCK_BYTES))
    }

    /// Whether the open file is the one at its path.
    pub(super) fn is_in_place(&self) -> bool {
        let place = |found: std::fs::Metadata| (found.dev(), found.ino());
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(open), Ok(there)) => place(open) == place(there),
            (Ok(_), Err(error)) => error.kind() != io::ErrorKind::NotFound,
            (Err(_), _) => true,
        }
    }

    /// Whether the disk takes writes: some bytes beside the ledger, which are removed again.
    pub(super) fn probe_disk(&self) -> io::Result<()> {
        self.inject_failure()?;
        let path = path_beside(&self.path, ".probe");
        let bytes = vec![0xa5; PROBE_BYTES];
        let len = self.len()?;
        let written = File::create(&path).and_then(|file| {
            // As long as the ledger would become when it grows: a limit of the size of files shows.
            file.set_len(len.saturating_add(len.min(GROWTH_MAX)))?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()
        });
        // A leftover is overwritten by the next one.
        drop(std::fs::remove_file(&path));
        match written {
            // The folder is not ours; the file may be.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            written => written,
        }
    }

    fn note_failure(&self, failure: DiskFailure, error: io::Error) -> io::Error {
        *self.failure.lock() = Some(failure);
        error
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests inject errors here"
    )]
    const fn inject_failure(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn inject_failure(&self) -> io::Result<()> {
        (*self.write_error.lock())
            .map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
    }

    /// Compares whole blocks with their hashes, and keeps the hashes that are not known. Where the first one that differs begins.
    fn compare_hashes(&self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let mut fresh = Vec::new();
        let mut damaged = None;
        {
            let hashes = self.hashes.read();
            for (index, block) in whole_blocks(offset, bytes) {
                let found = hash_block(block);
                match hashes.get(index).copied().unwrap_or(0) {
                    0 => fresh.push((index, found)),
                    known if known == found => {}
                    _ => {
                        damaged = Some(index);
                        break;
                    }
                }
            }
        }
        if let Some((last, _)) = fresh.last() {
            let mut hashes = self.hashes.write();
            if hashes.len() <= *last {
                hashes.resize(last.saturating_add(1), 0);
            }
            for (index, found) in &fresh {
                if let Some(place) = hashes.get_mut(*index) {
                    *place = *found;
                }
            }
        }
        damaged.map(|index| {
            u64::try_from(index)
                .unwrap_or(u64::MAX)
                .saturating_mul(BLOCK_BYTES)
        })
    }

    /// Whatever the write makes of them: these blocks are not what they were.
    fn forget_hashes(&self, offset: u64, len: usize) {
        let index = |offset: u64| usize::try_from(offset / BLOCK_BYTES).unwrap_or(usize::MAX);
        let end = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        let (first, last) = (index(offset), index(end.saturating_sub(1)));
        let mut hashes = self.hashes.write();
        for place in hashes.iter_mut().take(last.saturating_add(1)).skip(first) {
            *place = 0;
        }
    }
}

/// The path with something behind it.
pub(super) fn path_beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// The folder of a file; `.` where its path names none.
pub(super) fn folder_of(path: &Path) -> Option<&Path> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })
}

/// Blocks that are covered whole, with their places; not the first one of the file.
fn whole_blocks(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = usize::try_from(offset / BLOCK_BYTES).unwrap_or(usize::MAX);
    let aligned = offset.is_multiple_of(BLOCK_BYTES);
    let blocks = if aligned { bytes } else { &[] };
    blocks
        .chunks_exact(BLOCK)
        .enumerate()
        .map(move |(at, block)| (first.saturating_add(at), block))
        .filter(|(index, _)| *index > 0)
}

/// Never 0. Each step is a bijection of the sum and of the word; the upper half of the sum is kept.
fn hash_block(block: &[u8]) -> u32 {
    let (words, _) = block.as_chunks::<8>();
    let sum = words.iter().fold(1_u64, |sum, word| {
        (sum.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    u32::try_from(sum >> 32).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests;
