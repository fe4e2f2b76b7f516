//! The questions of the tools to a ledger, all from one read transaction. Everything here blocks.
//!
//! **Limits.** One call reads one user, or one step of [`Queries::read_pairs`].

use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTableMetadata as _};

use super::rows::{BALANCES, CurrentColumns, LEDGER, META};

/// A place in either table: user and asset.
pub type PlaceKey = (i64, i32);

/// A user's asset in both tables: the newest row of the ledger, and the row of `user_balances`.
pub(super) type PairRows = (PlaceKey, Option<CurrentColumns>, Option<CurrentColumns>);

/// One state of a ledger.
pub(super) struct Queries {
    pub(super) transaction: ReadTransaction,
}

impl Queries {
    pub(super) fn begin_read(database: &Database) -> Result<Self, redb::Error> {
        Ok(Self {
            transaction: database.begin_read()?,
        })
    }

    /// The ledger's own id.
    pub(super) fn read_id(&self) -> Result<Option<String>, redb::Error> {
        self.read_meta("id")
    }

    /// Whether it was made with sample data.
    pub(super) fn is_sample(&self) -> Result<bool, redb::Error> {
        Ok(self.read_meta("sample")?.is_some())
    }

    fn read_meta(&self, key: &str) -> Result<Option<String>, redb::Error> {
        let meta = self.transaction.open_table(META)?;
        Ok(meta.get(key)?.map(|found| found.value().to_owned()))
    }

    /// All balances of a user by `user_balances`.
    pub(super) fn read_table(&self, user: i64) -> Result<Vec<CurrentColumns>, redb::Error> {
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
    pub(super) fn read_ledger(&self, user: i64) -> Result<Vec<CurrentColumns>, redb::Error> {
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
            from = key_after(key);
        }
        Ok(found)
    }

    /// The seqs of one history, the newest first, at most `most`, each with when it was made.
    pub(super) fn read_history(
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
    pub(super) fn read_pairs(
        &self,
        from: Option<PlaceKey>,
        most: usize,
    ) -> Result<(Vec<PairRows>, Option<PlaceKey>), redb::Error> {
        let mut from = Some(from.unwrap_or((i64::MIN, i32::MIN)));
        let mut pairs = Vec::new();
        while let (Some(start), true) = (from, pairs.len() < most) {
            let ledger = self.newest_from(start)?;
            let table = self.current_from(start)?;
            let keys = [ledger.map(|found| found.0), table.map(|found| found.0)];
            let Some(key) = keys.into_iter().flatten().min() else {
                return Ok((pairs, None));
            };
            let here = |found: Option<(PlaceKey, CurrentColumns)>| {
                found.filter(|found| found.0 == key).map(|found| found.1)
            };
            pairs.push((key, here(ledger), here(table)));
            from = key_after(key);
        }
        Ok((pairs, from))
    }

    /// How many rows of current state there are.
    pub(super) fn count_pairs(&self) -> Result<u64, redb::Error> {
        Ok(self.transaction.open_table(BALANCES)?.len()?)
    }

    /// The first pair of the ledger from a place on, with its newest row.
    fn newest_from(
        &self,
        (user, asset): PlaceKey,
    ) -> Result<Option<(PlaceKey, CurrentColumns)>, redb::Error> {
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

    fn current_from(
        &self,
        from: PlaceKey,
    ) -> Result<Option<(PlaceKey, CurrentColumns)>, redb::Error> {
        let table = self.transaction.open_table(BALANCES)?;
        let first = table.range(from..)?.next().transpose()?;
        Ok(first.map(|(key, row)| {
            let (key, row) = (key.value(), row.value());
            (key, (key.1, row.2, row.0, row.1, row.3))
        }))
    }
}

/// The place right behind a pair.
fn key_after((user, asset): PlaceKey) -> Option<PlaceKey> {
    asset
        .checked_add(1)
        .map(|next| (user, next))
        .or_else(|| user.checked_add(1).map(|next| (next, i32::MIN)))
}
