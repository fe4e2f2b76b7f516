//! Rows of a target table, and sums over many of them that tell whether two tables hold the same.

use std::{
    collections::BTreeSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Buckets of [`BucketSums`]: few rows in each also where there are a hundred million.
const BUCKETS: usize = 65_536;

/// The key of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackfillKey {
    /// Of `user_trades`.
    Trade {
        /// The owner of this side.
        user: i64,
        symbol: i32,
        /// Milliseconds since 1970.
        settled_at: i64,
        trade: i64,
        /// 0 buyer, 1 seller.
        role: i8,
    },
    /// Of `user_balances`.
    Balance {
        /// The owner.
        user: i64,
        /// In what.
        asset: i32,
    },
}

impl fmt::Display for BackfillKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trade {
                user,
                symbol,
                settled_at,
                trade,
                role,
            } => {
                let role = if *role == 0 { "buyer" } else { "seller" };
                write!(
                    f,
                    "trade {trade}, {role} {user}, symbol {symbol}, settled_at {settled_at}"
                )
            }
            Self::Balance { user, asset } => write!(f, "user {user}, asset {asset}"),
        }
    }
}

/// The columns of a row that are not its key: price, quantity, cost and order id of a trade's side; version, avail, frozen and
/// `updated_at` of a balance.
pub type RowContent = [Option<i64>; 4];

/// A row of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BackfillRow {
    pub key: BackfillKey,
    /// Everything else.
    pub content: RowContent,
}

impl BackfillRow {
    /// The bucket of its key.
    #[must_use]
    pub fn bucket_index(&self) -> usize {
        let mut hasher = DefaultHasher::new();
        self.key.hash(&mut hasher);
        let buckets = u64::try_from(BUCKETS).unwrap_or(u64::MAX);
        let bucket = hasher.finish().checked_rem(buckets).unwrap_or(0);
        usize::try_from(bucket).unwrap_or(0)
    }

    fn key_digest(&self, salt: u8) -> u64 {
        let mut hasher = DefaultHasher::new();
        (salt, self).hash(&mut hasher);
        hasher.finish()
    }
}

/// Number and sum of digests of the rows of a bucket, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct DigestSum {
    rows: u64,
    digests: [u64; 2],
}

/// Sums over all rows of a table, by bucket.
#[derive(Debug, Clone)]
pub struct BucketSums(Vec<DigestSum>);

impl Default for BucketSums {
    fn default() -> Self {
        Self(vec![DigestSum::default(); BUCKETS])
    }
}

impl BucketSums {
    /// Counts one more row.
    pub fn add_row(&mut self, row: &BackfillRow) {
        if let Some(sum) = self.0.get_mut(row.bucket_index()) {
            sum.rows = sum.rows.saturating_add(1);
            let [first, second] = &mut sum.digests;
            *first = first.wrapping_add(row.key_digest(1));
            *second = second.wrapping_add(row.key_digest(2));
        }
    }

    /// Rows in all buckets.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |all, sum| all.saturating_add(sum.rows))
    }

    /// The buckets that differ from another table's.
    #[must_use]
    pub fn differing_buckets(&self, other: &Self) -> BTreeSet<usize> {
        let pairs = self.0.iter().zip(&other.0).enumerate();
        let differing = pairs.filter(|(_, (one, other))| one != other);
        differing.map(|(bucket, _)| bucket).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_row(user: i64, avail: i64) -> BackfillRow {
        BackfillRow {
            key: BackfillKey::Balance { user, asset: 1 },
            content: [Some(1), Some(avail), Some(0), None],
        }
    }

    fn sum_rows(rows: impl IntoIterator<Item = BackfillRow>) -> BucketSums {
        let mut sums = BucketSums::default();
        rows.into_iter().for_each(|row| sums.add_row(&row));
        sums
    }

    #[test]
    fn the_same_rows_in_another_order_have_the_same_sums() {
        let one = sum_rows((1..=1000).map(|user| test_row(user, user)));
        let other = sum_rows((1..=1000).rev().map(|user| test_row(user, user)));
        assert!(one.differing_buckets(&other).is_empty());
        assert_eq!(other.row_count(), 1000);
    }

    #[test]
    fn one_amount_one_row_more_and_one_row_twice_are_each_seen() {
        let all = || (1..=1000).map(|user| test_row(user, user));
        let right = sum_rows(all());
        let bucket = |user| BTreeSet::from([test_row(user, 0).bucket_index()]);
        let amount = sum_rows(all().map(|it| {
            if it == test_row(7, 7) {
                test_row(7, 8)
            } else {
                it
            }
        }));
        assert_eq!(right.differing_buckets(&amount), bucket(7));
        assert_eq!(
            right.differing_buckets(&sum_rows(all().chain([test_row(1001, 1)]))),
            bucket(1001)
        );
        assert_eq!(
            right.differing_buckets(&sum_rows(all().chain([test_row(9, 9)]))),
            bucket(9)
        );
        let absent = |it: &BackfillRow| *it != test_row(4, 4);
        assert_eq!(
            right.differing_buckets(&sum_rows(all().filter(absent))),
            bucket(4)
        );
    }

    #[test]
    fn an_absent_column_is_not_a_zero() {
        let mut without = test_row(1, 0);
        without.content[1] = None;
        assert!(
            !sum_rows([test_row(1, 0)])
                .differing_buckets(&sum_rows([without]))
                .is_empty()
        );
    }
}
