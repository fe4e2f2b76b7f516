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
use balance_cache::{
    cache::redis::{BackfillPhase, BackfillProgress},
    ledger::{
        LedgerError,
        scylla::{
            backfill::{Backfill, BackfillKey, BackfillRow, BucketSums, NextPage, RowContent},
            inspect::TokenRange,
        },
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::sleep;

use super::{copy::retry_unavailable, share::SharedProgress};
use crate::cli::{arguments, progress::Progress};

/// Rows of one table that are looked at one by one.
const SUSPECTS_MAX: usize = 20_000;
/// Differences that are shown.
const SHOWN_MAX: usize = 100;
/// How often a row that differs is looked at: a live writer writes source and target one after the other.
const LOOKS: u32 = 3;

/// The result.
#[derive(Debug, Default, Serialize)]
pub(super) struct TableComparison {
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

impl TableComparison {
    /// Whether both tables hold the same.
    pub(super) const fn is_same(&self) -> bool {
        self.missing == 0 && self.different == 0 && self.unexpected == 0 && !self.incomplete
    }

    fn show_line(&mut self, text: String) {
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(text);
        }
    }
}

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TableSide {
    Source,
    Target,
}

struct Compare<'a> {
    backfill: &'a Backfill,
    shared: &'a SharedProgress,
    parts: u32,
    at_once: usize,
    /// How often a row that differs is looked at.
    looks: u32,
}

pub(super) async fn compare_tables(
    what: &arguments::BackfillArguments,
    backfill: &Backfill,
    shared: &SharedProgress,
) -> Result<TableComparison> {
    shared.update_progress(|progress| {
        progress.phase = BackfillPhase::Comparing;
        progress.seconds_left = None;
    });
    let compare = Compare {
        backfill,
        shared,
        parts: what.parts,
        at_once: usize::try_from(what.at_once).unwrap_or(1).max(1),
        // A row that is still to be written does not come by itself.
        looks: if what.dry_run { 1 } else { LOOKS },
    };
    let failed = |error: LedgerError| anyhow::anyhow!("the tables could not be compared: {error}");
    let progress = Progress::new("comparing", u64::from(what.parts).saturating_mul(2));
    let found = compare.compare_all(what, &progress).await.map_err(failed);
    progress.clear_bar();
    found
}

impl Compare<'_> {
    async fn compare_all(
        &self,
        what: &arguments::BackfillArguments,
        progress: &Progress,
    ) -> Result<TableComparison, LedgerError> {
        let source = self.sum_table(TableSide::Source, progress).await?;
        let target = self.sum_table(TableSide::Target, progress).await?;
        let mut found = TableComparison {
            expected: source.row_count(),
            standing: target.row_count(),
            ..TableComparison::default()
        };
        let buckets = source.differing_buckets(&target);
        if buckets.is_empty() {
            return Ok(found);
        }
        progress.set_message(format!("{} buckets differ", buckets.len()));
        let expected = self.collect_suspects(TableSide::Source, &buckets).await?;
        let standing = self.collect_suspects(TableSide::Target, &buckets).await?;
        found.incomplete = expected.len() >= SUSPECTS_MAX || standing.len() >= SUSPECTS_MAX;
        let keys: BTreeSet<BackfillKey> = expected.keys().chain(standing.keys()).copied().collect();
        let suspects: Vec<BackfillKey> = keys
            .into_iter()
            .filter(|key| expected.get(key) != standing.get(key))
            .collect();
        if !suspects.is_empty() {
            sleep(Duration::from_millis(what.grace_ms)).await;
        }
        let looks: Vec<_> = suspects
            .into_iter()
            .map(|key| self.look_at_row(key))
            .collect();
        let mut looks = stream::iter(looks).buffer_unordered(self.at_once.saturating_mul(8));
        while let Some(look) = looks.try_next().await? {
            found.count_look(&look);
        }
        Ok(found)
    }

    /// Reads all of a table, some parts at a time.
    async fn read_table(
        &self,
        side: TableSide,
        each: impl Fn(&BackfillRow) + Copy,
        part_done: impl Fn() + Copy,
    ) -> Result<(), LedgerError> {
        let parts = TokenRange::split_ring(self.parts)
            .into_iter()
            .map(|stretch| async move {
                let mut state = None;
                loop {
                    let at = state.clone();
                    let (rows, next) =
                        retry_unavailable(async || self.read_page(side, stretch, at.clone()).await)
                            .await?;
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

    async fn read_page(
        &self,
        side: TableSide,
        stretch: TokenRange,
        state: NextPage,
    ) -> Result<(Vec<BackfillRow>, NextPage), LedgerError> {
        match side {
            TableSide::Source => {
                let page = self.backfill.read_source_page(stretch, state).await?;
                let rows = page.planned.into_iter().flat_map(|planned| planned.rows);
                Ok((rows.collect(), page.next))
            }
            TableSide::Target => self.backfill.read_target_page(stretch, state).await,
        }
    }

    async fn sum_table(
        &self,
        side: TableSide,
        progress: &Progress,
    ) -> Result<BucketSums, LedgerError> {
        let sums = Mutex::new(BucketSums::default());
        self.read_table(
            side,
            |row| sums.lock().add_row(row),
            || {
                progress.add_done(1);
                let done = |shared: &mut BackfillProgress| {
                    shared.compared_parts = shared.compared_parts.saturating_add(1);
                };
                self.shared.update_progress(done);
            },
        )
        .await?;
        Ok(sums.into_inner())
    }

    async fn collect_suspects(
        &self,
        side: TableSide,
        buckets: &BTreeSet<usize>,
    ) -> Result<BTreeMap<BackfillKey, RowContent>, LedgerError> {
        let found = Mutex::new(BTreeMap::new());
        let keep = |row: &BackfillRow| {
            let mut found = found.lock();
            if found.len() < SUSPECTS_MAX && buckets.contains(&row.bucket_index()) {
                found.insert(row.key, row.content);
            }
        };
        self.read_table(side, keep, || {}).await?;
        Ok(found.into_inner())
    }

    /// Looks at one row in both tables.
    async fn look_at_row(&self, key: BackfillKey) -> Result<RowInBoth, LedgerError> {
        let mut looked = retry_unavailable(async || self.backfill.compare_row(key).await).await?;
        for _ in 1..self.looks {
            if looked.expected == looked.standing {
                break;
            }
            looked = retry_unavailable(async || self.backfill.compare_row(key).await).await?;
        }
        let absent = looked.claimed && looked.expected.is_some() && looked.standing.is_none();
        let pending =
            absent && retry_unavailable(async || self.backfill.is_pending(key).await).await?;
        Ok(RowInBoth {
            key,
            expected: looked.expected.map(|row| row.content),
            standing: looked.standing.map(|row| row.content),
            pending,
        })
    }
}

/// A row in both tables.
struct RowInBoth {
    key: BackfillKey,
    expected: Option<RowContent>,
    standing: Option<RowContent>,
    pending: bool,
}

impl TableComparison {
    fn count_look(&mut self, look: &RowInBoth) {
        let RowInBoth {
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
                    content_text(is),
                    content_text(should)
                );
                (&mut self.different, Some(words))
            }
            (Some(_), Some(_)) | (None, None) => (&mut self.settled, None),
        };
        *counter = counter.saturating_add(1);
        if let Some(text) = text {
            self.show_line(text);
        }
    }
}

fn content_text(content: RowContent) -> String {
    let words = content.map(|column| column.map_or_else(|| "null".to_owned(), |it| it.to_string()));
    format!("({})", words.join(", "))
}
