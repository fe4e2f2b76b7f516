//! Compares both tables, all rows both ways.
//!
//! Each table is read once, and its rows are summed in buckets by their key. Only buckets that differ are read again, row by row, and
//! each row that differs is looked at a third time after the grace time: what was written meanwhile is no difference.
//!
//! **Limits.** [`SUSPECTS_MAX`] rows of each table are looked at one by one; where there are more, the comparison is incomplete, which is
//! no agreement. [`SHOWN_MAX`] differences are shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Result;
use balance_cache::ledger::{
    Error,
    scylla::{
        backfill::{Backfill, Content, Key, Next, Row, Sums},
        inspect::Stretch,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::sleep;

use super::copy::again;
use crate::cli::{arguments, progress::Progress};

/// Rows of one table that are looked at one by one.
const SUSPECTS_MAX: usize = 20_000;
/// Differences that are shown.
const SHOWN_MAX: usize = 100;
/// How often a row that differs is looked at: a live writer writes source and target one after the other.
const LOOKS: u32 = 3;

/// The result.
#[derive(Debug, Default, Serialize)]
pub(super) struct Comparison {
    /// Rows that the source says should stand.
    pub(super) expected: u64,
    /// Rows that stand.
    pub(super) standing: u64,
    pub(super) missing: u64,
    pub(super) different: u64,
    /// Rows of the target that no row of the source stands behind.
    pub(super) unexpected: u64,
    /// Rows of trades that are not finished.
    pub(super) pending: u64,
    /// Rows that were written meanwhile.
    pub(super) settled: u64,
    /// More rows differ than were looked at: the counts of differences are the least that there are.
    pub(super) incomplete: bool,
    /// Some of the differences.
    pub(super) shown: Vec<String>,
}

impl Comparison {
    /// Whether both tables hold the same.
    pub(super) const fn is_same(&self) -> bool {
        self.missing == 0 && self.different == 0 && self.unexpected == 0 && !self.incomplete
    }

    fn show(&mut self, text: String) {
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(text);
        }
    }
}

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

struct Compare<'a> {
    backfill: &'a Backfill,
    parts: u32,
    at_once: usize,
    /// How often a row that differs is looked at.
    looks: u32,
}

pub(super) async fn run(what: &arguments::Backfill, backfill: &Backfill) -> Result<Comparison> {
    let compare = Compare {
        backfill,
        parts: what.parts,
        at_once: usize::try_from(what.at_once).unwrap_or(1).max(1),
        // A row that is still to be written does not come by itself.
        looks: if what.dry_run { 1 } else { LOOKS },
    };
    let failed = |error: Error| anyhow::anyhow!("the tables could not be compared: {error}");
    let progress = Progress::new("comparing", u64::from(what.parts).saturating_mul(2));
    let found = compare.whole(what, &progress).await.map_err(failed);
    progress.done();
    found
}

impl Compare<'_> {
    async fn whole(
        &self,
        what: &arguments::Backfill,
        progress: &Progress,
    ) -> Result<Comparison, Error> {
        let source = self.sum(Side::Source, progress).await?;
        let target = self.sum(Side::Target, progress).await?;
        let mut found = Comparison {
            expected: source.rows(),
            standing: target.rows(),
            ..Comparison::default()
        };
        let buckets = source.differing(&target);
        if buckets.is_empty() {
            return Ok(found);
        }
        progress.beside(format!("{} buckets differ", buckets.len()));
        let expected = self.collect(Side::Source, &buckets).await?;
        let standing = self.collect(Side::Target, &buckets).await?;
        found.incomplete = expected.len() >= SUSPECTS_MAX || standing.len() >= SUSPECTS_MAX;
        let keys: BTreeSet<Key> = expected.keys().chain(standing.keys()).copied().collect();
        let suspects: Vec<Key> = keys
            .into_iter()
            .filter(|key| expected.get(key) != standing.get(key))
            .collect();
        if !suspects.is_empty() {
            sleep(Duration::from_millis(what.grace_ms)).await;
        }
        let looks: Vec<_> = suspects.into_iter().map(|key| self.look(key)).collect();
        let mut looks = stream::iter(looks).buffer_unordered(self.at_once.saturating_mul(8));
        while let Some(look) = looks.try_next().await? {
            found.count(&look);
        }
        Ok(found)
    }

    /// Reads all of a table, some parts at a time.
    async fn read(
        &self,
        side: Side,
        each: impl Fn(&Row) + Copy,
        part_done: impl Fn() + Copy,
    ) -> Result<(), Error> {
        let parts = Stretch::ring(self.parts)
            .into_iter()
            .map(|stretch| async move {
                let mut state = None;
                loop {
                    let at = state.clone();
                    let (rows, next) =
                        again(async || self.page(side, stretch, at.clone()).await).await?;
                    rows.iter().for_each(each);
                    state = next;
                    if state.is_none() {
                        part_done();
                        return Ok(());
                    }
                }
            });
        stream::iter(parts.collect::<Vec<_>>())
            .buffer_unordered(self.at_once)
            .try_collect()
            .await
    }

    async fn page(
        &self,
        side: Side,
        stretch: Stretch,
        state: Next,
    ) -> Result<(Vec<Row>, Next), Error> {
        match side {
            Side::Source => {
                let page = self.backfill.read_source_page(stretch, state).await?;
                let rows = page.planned.into_iter().flat_map(|planned| planned.rows);
                Ok((rows.collect(), page.next))
            }
            Side::Target => self.backfill.read_target_page(stretch, state).await,
        }
    }

    async fn sum(&self, side: Side, progress: &Progress) -> Result<Sums, Error> {
        let sums = Mutex::new(Sums::default());
        self.read(side, |row| sums.lock().add(row), || progress.add(1))
            .await?;
        Ok(sums.into_inner())
    }

    async fn collect(
        &self,
        side: Side,
        buckets: &BTreeSet<usize>,
    ) -> Result<BTreeMap<Key, Content>, Error> {
        let found = Mutex::new(BTreeMap::new());
        let keep = |row: &Row| {
            let mut found = found.lock();
            if found.len() < SUSPECTS_MAX && buckets.contains(&row.bucket()) {
                found.insert(row.key, row.content);
            }
        };
        self.read(side, keep, || {}).await?;
        Ok(found.into_inner())
    }

    /// Looks at one row in both tables.
    async fn look(&self, key: Key) -> Result<Look, Error> {
        let mut looked = again(async || self.backfill.compare(key).await).await?;
        for _ in 1..self.looks {
            if looked.expected == looked.standing {
                break;
            }
            looked = again(async || self.backfill.compare(key).await).await?;
        }
        let absent = looked.claimed && looked.expected.is_some() && looked.standing.is_none();
        let pending = absent && again(async || self.backfill.is_pending(key).await).await?;
        Ok(Look {
            key,
            expected: looked.expected.map(|row| row.content),
            standing: looked.standing.map(|row| row.content),
            pending,
        })
    }
}

/// A row in both tables.
struct Look {
    key: Key,
    expected: Option<Content>,
    standing: Option<Content>,
    pending: bool,
}

impl Comparison {
    fn count(&mut self, look: &Look) {
        let Look {
            key,
            expected,
            standing,
            pending,
        } = look;
        let (counter, text) = match (*expected, *standing) {
            _ if *pending => (&mut self.pending, None),
            (Some(_), None) => (&mut self.missing, Some(format!("missing: {key}"))),
            (None, Some(_)) => (&mut self.unexpected, Some(format!("unexpected: {key}"))),
            (Some(should), Some(is)) if should != is => {
                let words = format!(
                    "different: {key}: {} instead of {}",
                    words(is),
                    words(should)
                );
                (&mut self.different, Some(words))
            }
            (Some(_), Some(_)) | (None, None) => (&mut self.settled, None),
        };
        *counter = counter.saturating_add(1);
        if let Some(text) = text {
            self.show(text);
        }
    }
}

fn words(content: Content) -> String {
    let words = content.map(|column| column.map_or_else(|| "null".to_owned(), |it| it.to_string()));
    format!("({})", words.join(", "))
}
