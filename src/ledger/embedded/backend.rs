//! The storage below redb: the file itself, or the file with changes that stay in memory.
//!
//! **Invariants.** A backend that was retired touches the file no more, whatever its database still does: the next one has it
//! alone. Over an [`Overlay`] nothing is written to the file.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::{Mutex, RwLock};
use redb::StorageBackend;

use super::file::{BLOCK, BLOCK_BYTES, LedgerFile};

/// Whether a backend may still use the file.
#[derive(Debug, Default)]
pub(super) struct BackendGate {
    retired: RwLock<bool>,
}

impl BackendGate {
    /// Waits for what is under way, and lets nothing through any more.
    pub(super) fn retire_gate(&self) {
        *self.retired.write() = true;
    }

    pub(super) fn is_retired(&self) -> bool {
        *self.retired.read()
    }

    fn pass_gate<T>(&self, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let retired = self.retired.read();
        if *retired {
            return Err(io::Error::other("the ledger is being opened again"));
        }
        operation()
    }
}

/// The file itself. Its lock is that of [`LedgerFile`].
#[derive(Debug)]
pub(super) struct FileBackend {
    pub(super) file: Arc<LedgerFile>,
    pub(super) gate: Arc<BackendGate>,
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.gate.pass_gate(|| self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.gate.pass_gate(|| self.file.read_at(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.gate.pass_gate(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass_gate(|| self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.gate.pass_gate(|| self.file.write_at(offset, data))
    }
}

/// The file as it is, and changes to it in memory: a ledger that was not closed in good order can be read without a write.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Arc<LedgerFile>,
    gate: Arc<BackendGate>,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    /// Bytes that are read from the file; behind them are zeros.
    base: u64,
    len: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn new(file: Arc<LedgerFile>, gate: Arc<BackendGate>) -> io::Result<Self> {
        let len = file.len()?;
        let changes = Changes {
            base: len,
            len,
            blocks: BTreeMap::new(),
        };
        Ok(Self {
            file,
            gate,
            changes: Mutex::new(changes),
        })
    }

    /// A block of the file, with zeros behind its end.
    fn read_original(&self, base: u64, index: u64) -> io::Result<Vec<u8>> {
        let offset = index.saturating_mul(BLOCK_BYTES);
        let there = usize::try_from(base.saturating_sub(offset)).unwrap_or(BLOCK);
        let mut block = vec![0; BLOCK];
        if let Some(part) = block.get_mut(..there.min(BLOCK))
            && !part.is_empty()
        {
            self.file.read_at(offset, part)?;
        }
        Ok(block)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        self.gate.pass_gate(|| Ok(self.changes.lock().len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.gate.pass_gate(|| {
            let changes = self.changes.lock();
            let end = end_of(offset, out.len());
            if end > changes.len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let blocks = offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
            if end <= changes.base && changes.blocks.range(blocks).next().is_none() {
                drop(changes);
                return self.file.read_at(offset, out);
            }
            let mut rest = out;
            for span in block_spans(offset, rest.len()) {
                let (part, behind) = rest.split_at_mut(span.len.min(rest.len()));
                let original;
                let block = if let Some(block) = changes.blocks.get(&span.block) {
                    block
                } else {
                    original = self.read_original(changes.base, span.block)?;
                    &original
                };
                if let Some(bytes) = block.get(span.from..span.from.saturating_add(part.len())) {
                    part.copy_from_slice(bytes);
                }
                rest = behind;
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.gate.pass_gate(|| {
            let mut changes = self.changes.lock();
            changes.base = changes.base.min(len);
            changes.len = len;
            drop(changes.blocks.split_off(&len.div_ceil(BLOCK_BYTES)));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.gate.pass_gate(|| {
            let mut changes = self.changes.lock();
            let base = changes.base;
            changes.len = changes.len.max(end_of(offset, data.len()));
            let mut rest = data;
            for span in block_spans(offset, data.len()) {
                let (part, behind) = rest.split_at(span.len.min(rest.len()));
                let block = match changes.blocks.entry(span.block) {
                    std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
                    std::collections::btree_map::Entry::Vacant(place) => {
                        place.insert(self.read_original(base, span.block)?)
                    }
                };
                if let Some(bytes) = block.get_mut(span.from..span.from.saturating_add(part.len()))
                {
                    bytes.copy_from_slice(part);
                }
                rest = behind;
            }
            Ok(())
        })
    }
}

fn end_of(offset: u64, len: usize) -> u64 {
    offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX))
}

/// A part of one block.
struct Span {
    block: u64,
    from: usize,
    len: usize,
}

/// The blocks that these bytes lie in.
fn block_spans(offset: u64, len: usize) -> impl Iterator<Item = Span> {
    let end = end_of(offset, len);
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let from = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(BLOCK);
        let len = BLOCK.saturating_sub(from).min(left);
        let block = at / BLOCK_BYTES;
        at = end_of(at, len);
        Some(Span { block, from, len })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_shows_its_changes_and_leaves_the_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = LedgerFile::create_file(&folder.path().join("file")).unwrap();
        file.set_len(3 * BLOCK_BYTES).unwrap();
        file.write_at(0, &vec![1; 3 * BLOCK]).unwrap();
        let file = Arc::new(file);
        let gate = Arc::new(BackendGate::default());
        let overlay = Overlay::new(Arc::clone(&file), Arc::clone(&gate)).unwrap();
        overlay.write(BLOCK_BYTES - 2, &[7; 4]).unwrap();
        overlay.set_len(5 * BLOCK_BYTES).unwrap();
        let mut out = vec![9; 5 * BLOCK];
        overlay.read(0, &mut out).unwrap();
        let mut expected = vec![1; 3 * BLOCK];
        expected.resize(5 * BLOCK, 0);
        expected[BLOCK - 2..BLOCK + 2].fill(7);
        assert!(out == expected);
        // A part that was cut off comes back as zeros.
        overlay.set_len(2 * BLOCK_BYTES).unwrap();
        overlay.set_len(3 * BLOCK_BYTES).unwrap();
        let mut last = [9; 8];
        overlay.read(3 * BLOCK_BYTES - 8, &mut last).unwrap();
        assert_eq!(last, [0; 8]);
        overlay.read(3 * BLOCK_BYTES - 4, &mut last).unwrap_err();
        let mut here = vec![0; 3 * BLOCK];
        file.read_at(0, &mut here).unwrap();
        assert!(here == vec![1; 3 * BLOCK]);
        gate.retire_gate();
        overlay.read(0, &mut last).unwrap_err();
    }
}
