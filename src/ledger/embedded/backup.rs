//! Backups of a ledger: all rows of all tables, of one moment, with a digest at the end.
//!
//! The form: [`MAGIC`], then frames of a length (4 bytes, little endian) and that many bytes. The first byte of a frame says
//! what it is: `T` a table's name, `R` a row (length of the key in 4 bytes, key, value; both in redb's form), `E` the end, with
//! the number of rows in 8 bytes. Behind the last frame stand 32 bytes: SHA-256 of everything before.
//!
//! **Invariants.** A backup that is cut off or changed is refused before anything is made of it. A restore overwrites nothing.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::Path,
};

use redb::{
    Key, ReadTransaction, ReadableTable as _, TableDefinition, TableError, Value, WriteTransaction,
};
use sha2::{Digest as _, Sha256};

use super::{
    OpenError, OpenErrorKind,
    create::create_with,
    rows::{BALANCES, LEDGER, META},
    tables::begin_write,
    transactions::{SETTLED_TRADES, TRANSACTIONS, USER_TRADES},
};

const MAGIC: &[u8] = b"balance-cache ledger backup 1\n";

/// Bytes of a frame: far more than any row has.
const FRAME_MAX: u32 = 16 * 1024 * 1024;

/// Writes all tables of one state, and returns how many rows they have.
pub(super) fn write_backup(
    transaction: &ReadTransaction,
    out: &mut dyn Write,
) -> Result<u64, redb::Error> {
    let mut out = BackupWriter {
        out,
        digest: Sha256::new(),
        rows: 0,
    };
    out.write_bytes(MAGIC)?;
    dump_table(transaction, META, &mut out)?;
    dump_table(transaction, LEDGER, &mut out)?;
    dump_table(transaction, BALANCES, &mut out)?;
    dump_table(transaction, TRANSACTIONS, &mut out)?;
    dump_table(transaction, SETTLED_TRADES, &mut out)?;
    dump_table(transaction, USER_TRADES, &mut out)?;
    let rows = out.rows;
    out.write_frame(b'E', &[&rows.to_le_bytes()])?;
    let digest = out.digest.finalize();
    out.out.write_all(&digest)?;
    out.out.flush()?;
    Ok(rows)
}

/// One table; one that is not there has no rows.
fn dump_table<K: Key + 'static, V: Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
    out: &mut BackupWriter<'_>,
) -> Result<(), redb::Error> {
    let table = match transaction.open_table(definition) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    out.write_frame(b'T', &[redb::TableHandle::name(&definition).as_bytes()])?;
    for row in table.iter()? {
        let (key, value) = row?;
        let (key, value) = (key.value(), value.value());
        let (key, value) = (K::as_bytes(&key), V::as_bytes(&value));
        out.write_row(key.as_ref(), value.as_ref())?;
    }
    Ok(())
}

struct BackupWriter<'a> {
    out: &'a mut dyn Write,
    digest: Sha256,
    rows: u64,
}

impl BackupWriter<'_> {
    fn write_row(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.rows = self.rows.saturating_add(1);
        self.write_frame(b'R', &[&frame_size(key.len())?.to_le_bytes(), key, value])
    }

    fn write_frame(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
        let len = parts
            .iter()
            .fold(1_usize, |sum, part| sum.saturating_add(part.len()));
        self.write_bytes(&frame_size(len)?.to_le_bytes())?;
        self.write_bytes(&[kind])?;
        parts.iter().try_for_each(|part| self.write_bytes(part))
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes)
    }
}

fn frame_size(len: usize) -> io::Result<u32> {
    u32::try_from(len)
        .ok()
        .filter(|len| *len <= FRAME_MAX)
        .ok_or_else(|| io::Error::other("a row is too large for a backup"))
}

enum Frame {
    Table(String),
    Row { key: Vec<u8>, value: Vec<u8> },
    End { rows: u64 },
}

/// Reads frames, and writes the bytes on to `out`.
struct BackupReader<'a> {
    from: &'a mut dyn Read,
    out: &'a mut dyn Write,
    digest: Sha256,
}

impl<'a> BackupReader<'a> {
    fn new(from: &'a mut dyn Read, out: &'a mut dyn Write) -> io::Result<Self> {
        let mut reader = Self {
            from,
            out,
            digest: Sha256::new(),
        };
        let mut magic = [0; MAGIC.len()];
        reader.read_bytes(&mut magic)?;
        if magic == MAGIC {
            Ok(reader)
        } else {
            Err(broken_backup(
                "it is no backup of a ledger that this version reads",
            ))
        }
    }

    fn next_frame(&mut self) -> io::Result<Frame> {
        let mut len = [0; 4];
        self.read_bytes(&mut len)?;
        let len = u32::from_le_bytes(len);
        if len == 0 || len > FRAME_MAX {
            return Err(broken_backup("a frame has an impossible length"));
        }
        let mut frame = vec![0; usize::try_from(len).unwrap_or(0)];
        self.read_bytes(&mut frame)?;
        let unknown = || broken_backup("a frame is of no known kind");
        match frame.split_first().ok_or_else(unknown)? {
            (b'T', name) => Ok(Frame::Table(String::from_utf8_lossy(name).into_owned())),
            (b'E', rows) => {
                let rows = rows.try_into().map_err(|_| unknown())?;
                Ok(Frame::End {
                    rows: u64::from_le_bytes(rows),
                })
            }
            (b'R', rest) => {
                let (len, rest) = rest.split_first_chunk().ok_or_else(unknown)?;
                let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
                let (key, value) = rest.split_at_checked(len).ok_or_else(unknown)?;
                Ok(Frame::Row {
                    key: key.to_owned(),
                    value: value.to_owned(),
                })
            }
            _ => Err(unknown()),
        }
    }

    /// The digest behind the last frame.
    fn check_digest(self) -> io::Result<()> {
        let mut digest = [0; 32];
        self.from.read_exact(&mut digest).map_err(cut_off)?;
        self.out.write_all(&digest)?;
        if self.digest.finalize().as_slice() == digest.as_slice() {
            self.out.flush()
        } else {
            Err(broken_backup("it was changed: its digest is another"))
        }
    }

    fn read_bytes(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(bytes).map_err(cut_off)?;
        self.digest.update(&*bytes);
        self.out.write_all(bytes)
    }
}

fn broken_backup(said: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, said)
}

fn cut_off(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        broken_backup("it is cut off: its end is missing")
    } else {
        error
    }
}

/// Copies a backup, and says how many rows it has.
/// Errors: one that cannot be read, or is not whole.
pub fn copy_backup(from: &mut dyn Read, out: &mut dyn Write) -> io::Result<u64> {
    let mut reader = BackupReader::new(from, out)?;
    let mut found = 0_u64;
    loop {
        match reader.next_frame()? {
            Frame::Table(_) => {}
            Frame::Row { .. } => found = found.saturating_add(1),
            Frame::End { rows } if rows == found => return reader.check_digest().map(|()| rows),
            Frame::End { .. } => return Err(broken_backup("rows are missing")),
        }
    }
}

/// Makes the ledger `to` of the backup `from`, and says how many rows it has. The backup is read whole before that.
///
/// `fresh_id` becomes the id of the ledger; with None it keeps its id, so that caches in Redis count as its own.
/// Errors: a file at `to`, a backup that is not whole, a disk that does not take it.
pub fn restore_backup(from: &Path, to: &Path, fresh_id: Option<u128>) -> Result<u64, OpenError> {
    if std::fs::symlink_metadata(to).is_ok() {
        return Err(OpenError {
            kind: OpenErrorKind::Inaccessible,
            path: to.to_owned(),
            said: "there is a file already, and a restore overwrites none".to_owned(),
            remedy: "move it away, and keep it until the restored ledger was verified".to_owned(),
        });
    }
    let unread = |error: io::Error| OpenError {
        kind: OpenErrorKind::Damaged,
        path: from.to_owned(),
        said: format!("the backup cannot be used: {error}"),
        remedy: "use another backup".to_owned(),
    };
    let open = || File::open(from).map(BufReader::new).map_err(unread);
    let rows = copy_backup(&mut open()?, &mut io::sink()).map_err(unread)?;
    let mut backup = open()?;
    let made = create_with(to, |session| {
        let transaction = begin_write(session.tables.database())?;
        fill_tables(&transaction, &mut backup)?;
        if let Some(id) = fresh_id {
            let mut meta = transaction.open_table(META)?;
            meta.insert("id", format!("{id:032x}").as_str())?;
        }
        transaction.commit()?;
        Ok(())
    });
    made.map(|_| rows)
}

fn fill_tables(transaction: &WriteTransaction, backup: &mut dyn Read) -> Result<(), redb::Error> {
    let mut sink = io::sink();
    let mut reader = BackupReader::new(backup, &mut sink)?;
    let mut frame = reader.next_frame()?;
    loop {
        frame = match frame {
            Frame::End { .. } => return Ok(reader.check_digest()?),
            Frame::Row { .. } => return Err(broken_backup("a row stands before its table").into()),
            Frame::Table(name) => match name.as_str() {
                "meta" => load_table(transaction, META, &mut reader)?,
                "balance_ledger" => load_table(transaction, LEDGER, &mut reader)?,
                "user_balances" => load_table(transaction, BALANCES, &mut reader)?,
                "ledger_transactions" => load_table(transaction, TRANSACTIONS, &mut reader)?,
                "settled_trades" => load_table(transaction, SETTLED_TRADES, &mut reader)?,
                "user_trades" => load_table(transaction, USER_TRADES, &mut reader)?,
                _ => {
                    let said = "it has a table that this version does not know: use the version that wrote it";
                    return Err(broken_backup(said).into());
                }
            },
        };
    }
}

/// The rows of one table, and the frame behind them.
fn load_table<K: Key + 'static, V: Value + 'static>(
    transaction: &WriteTransaction,
    definition: TableDefinition<'_, K, V>,
    reader: &mut BackupReader<'_>,
) -> Result<Frame, redb::Error> {
    let mut table = transaction.open_table(definition)?;
    loop {
        match reader.next_frame()? {
            Frame::Row { key, value } => {
                table.insert(K::from_bytes(&key), V::from_bytes(&value))?;
            }
            behind => return Ok(behind),
        }
    }
}
