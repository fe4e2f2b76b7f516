//! The questions of the tools to a ledger, all from one read transaction. Everything here blocks.
//!
//! **Limits.** One call reads one user, or one step of [`Queries::pairs`].

use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTableMetadata as _};

use super::rows::{BALANCES, LEDGER, META, Row};

/// A place in either table: user and asset.
pub type Key = (i64, i32);

/// A user's asset in both tables: the newest row of the ledger, and the row of `user_balances`.
pub(super) type PairRows = (Key, Option<Row>, Option<Row>);

/// One state of a ledger.
pub(super) struct Queries {
    pub(super) transaction: ReadTransaction,
}

impl Queries {
    pub(super) fn begin(database: &Database) -> Result<Self, redb::Error> {
        Ok(Self {
            transaction: database.begin_read()?,
        })
    }

    /// The ledger's own id.
    pub(super) fn id(&self) -> Result<Option<String>, redb::Error> {
        self.meta("id")
    }

    /// Whether it was made with sample data.
    pub(super) fn is_sample(&self) -> Result<bool, redb::Error> {
        Ok(self.meta("sample")?.is_some())
    }

    fn meta(&self, key: &str) -> Result<Option<String>, redb::Error> {
        let meta = self.transaction.open_table(META)?;
        Ok(meta.get(key)?.map(|found| found.value().to_owned()))
    }

    /// All balances of a user by `user_balances`.
    pub(super) fn table(&self, user: i64) -> Result<Vec<Row>, redb::Error> {
        let table = self.transaction.open_table(BALANCES)?;
        let mut rows = Vec::new();
        for row in table.range((user, i32::MIN)..=(user, i32::MAX))? {
            let (key, row) = row?;
            let ((_, asset), (avail, frozen, seq, at)) = (key.value(), row.value());
            rows.push((asset, seq, avail, frozen, at));
        }
        Ok(rows)
    }

    /// All balances of a user by the ledger, where every asset can be found.
    pub(super) fn ledger(&self, user: i64) -> Result<Vec<Row>, redb::Error> {
        let mut found = Vec::new();
        let mut from = Some((user, i32::MIN));
        while let Some(start) = from {
            let Some((key, row)) = self.newest_from(start)? else {
                break;
            };
            if key.0 != user {
                break;
            }
            found.push(row);
            from = after(key);
        }
        Ok(found)
    }

    /// The seqs of one history, the newest first, at most `most`, each with when it was made.
    pub(super) fn history(
        &self,
        user: i64,
        asset: i32,
        most: usize,
    ) -> Result<Vec<(i64, Option<i64>)>, redb::Error> {
        let table = self.transaction.open_table(LEDGER)?;
        let key = |seq| (user, asset, seq);
        let mut rows = Vec::new();
        for row in table.range(key(i64::MIN)..=key(i64::MAX))?.rev().take(most) {
            let (key, row) = row?;
            rows.push((key.value().2, row.value().6));
        }
        Ok(rows)
    }

    /// The next `most` pairs of user and asset that either table has, from a place on, and where to go on.
    pub(super) fn pairs(
        &self,
        from: Option<Key>,
        most: usize,
    ) -> Result<(Vec<PairRows>, Option<Key>), redb::Error> {
        let mut from = Some(from.unwrap_or((i64::MIN, i32::MIN)));
        let mut pairs = Vec::new();
        while let (Some(start), true) = (from, pairs.len() < most) {
            let ledger = self.newest_from(start)?;
            let table = self.current_from(start)?;
            let keys = [ledger.map(|found| found.0), table.map(|found| found.0)];
            let Some(key) = keys.into_iter().flatten().min() else {
                return Ok((pairs, None));
            };
            let here = |found: Option<(Key, Row)>| {
                found.filter(|found| found.0 == key).map(|found| found.1)
            };
            pairs.push((key, here(ledger), here(table)));
            from = after(key);
        }
        Ok((pairs, from))
    }

    /// How many rows of current state there are.
    pub(super) fn count(&self) -> Result<u64, redb::Error> {
        Ok(self.transaction.open_table(BALANCES)?.len()?)
    }

    /// The first pair of the ledger from a place on, with its newest row.
    fn newest_from(&self, (user, asset): Key) -> Result<Option<(Key, Row)>, redb::Error> {
        let table = self.transaction.open_table(LEDGER)?;
        let first = table.range((user, asset, i64::MIN)..)?.next().transpose()?;
        let Some((key, _)) = first else {
            return Ok(None);
        };
        let (user, asset, _) = key.value();
        let last = table
            .range((user, asset, i64::MIN)..=(user, asset, i64::MAX))?
            .next_back();
        Ok(last.transpose()?.map(|(key, row)| {
            let (seq, row) = (key.value().2, row.value());
            ((user, asset), (asset, seq, row.0, row.1, row.6))
        }))
    }

    fn current_from(&self, from: Key) -> Result<Option<(Key, Row)>, redb::Error> {
        let table = self.transaction.open_table(BALANCES)?;
        let first = table.range(from..)?.next().transpose()?;
        Ok(first.map(|(key, row)| {
            let (key, row) = (key.value(), row.value());
            (key, (key.1, row.2, row.0, row.1, row.3))
        }))
    }
}

/// The place right behind a pair.
fn after((user, asset): Key) -> Option<Key> {
    asset
        .checked_add(1)
        .map(|next| (user, next))
        .or_else(|| user.checked_add(1).map(|next| (next, i32::MIN)))
}
