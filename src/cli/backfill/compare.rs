//! Compares both tables, all rows both ways.
//!
//! Each table is read once, and its rows are summed in buckets by their key. Only buckets that differ are read again, row by row, and
//! each row that differs is looked at a third time after the grace time: what was written meanwhile is no difference. All of it is read
//! no faster than `--rate`.
//!
//! **Limits.** [`SUSPECTS_MAX`] rows of each table are looked at one by one; where there are more, the comparison is incomplete, which is
//! no agreement. [`NAMED_MAX`] rows of the source that no row can be made of are named.

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
            backfill::{
                Backfill, BackfillKey, BackfillRow, BucketSums, NextPage, RowContent, Target,
                UnusableRow,
            },
            inspect::TokenRange,
        },
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::{
    BackfillReport,
    copy::retry_unavailable,
    looks::{ContentInBoth, RowInBoth},
    share::SharedProgress,
};
use crate::cli::{arguments, output::print_error, pace::Pace, progress::Progress};

/// Rows of one table that are looked at one by one.
const SUSPECTS_MAX: usize = 20_000;
/// Rows that cannot be used and are named.
const NAMED_MAX: usize = 20;
/// How often a row that differs is looked at: a live writer writes source and target one after the other.
const LOOKS: u32 = 3;

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TableSide {
    Source,
    Target,
}

/// A page of either table.
#[derive(Debug, Default)]
struct ComparedPage {
    rows: Vec<BackfillRow>,
    /// Of the source only.
    unusable: Vec<UnusableRow>,
    next: NextPage,
    /// Rows of the source that were read, or that become what was read.
    source_rows: usize,
}

/// All rows of a table.
#[derive(Debug, Default)]
struct TableSum {
    rows: BucketSums,
    unusable: u64,
    /// Some of the rows that cannot be used.
    named: Vec<String>,
}

impl TableSum {
    fn add_page(&mut self, page: &ComparedPage) {
        page.rows.iter().for_each(|row| self.rows.add_row(row));
        for row in &page.unusable {
            self.unusable = self.unusable.saturating_add(1);
            if self.named.len() < NAMED_MAX {
                self.named.push(row.to_string());
            }
        }
    }
}

struct Compare<'a> {
    backfill: &'a Backfill,
    pace: Pace,
    shared: &'a SharedProgress,
    parts: u32,
    at_once: usize,
    /// How often a row that differs is looked at.
    looks: u32,
}

/// Compares both tables, and adds to the report.
pub(super) async fn compare_tables(
    what: &arguments::BackfillArguments,
    backfill: &Backfill,
    report: &mut BackfillReport,
    shared: &SharedProgress,
) -> Result<()> {
    shared.update_progress(|progress| {
        progress.phase = BackfillPhase::Comparing;
        progress.seconds_left = None;
    });
    let compare = Compare {
        backfill,
        pace: Pace::new(what.rate),
        shared,
        parts: what.parts,
        at_once: usize::try_from(what.at_once).unwrap_or(1).max(1),
        // A row that is still to be written does not come by itself.
        looks: if what.dry_run { 1 } else { LOOKS },
    };
    let failed = |error: LedgerError| anyhow::anyhow!("the tables could not be compared: {error}");
    let progress = Progress::new("comparing", u64::from(what.parts).saturating_mul(2));
    let compared = compare.compare_all(what, report, &progress).await;
    progress.clear_bar();
    compared.map_err(failed)
}

impl Compare<'_> {
    async fn compare_all(
        &self,
        what: &arguments::BackfillArguments,
        report: &mut BackfillReport,
        progress: &Progress,
    ) -> Result<(), LedgerError> {
        let source = self.sum_table(TableSide::Source, progress).await?;
        if !what.json {
            for row in &source.named {
                progress.suspend_for(|| print_error(&format!("left out: {row}")));
            }
        }
        // Of the whole source as it is now, also in a dry run.
        report.counts.unusable = source.unusable;
        report.named = source.named;
        let target = self.sum_table(TableSide::Target, progress).await?.rows;
        let found = &mut report.comparison;
        found.expected = source.rows.row_count();
        found.standing = target.row_count();
        let buckets = source.rows.differing_buckets(&target);
        if buckets.is_empty() {
            return Ok(());
        }
        progress.set_message(format!("{} buckets differ", buckets.len()));
        let expected = self.collect_suspects(TableSide::Source, &buckets).await?;
        let standing = self.collect_suspects(TableSide::Target, &buckets).await?;
        found.incomplete = expected.len() >= SUSPECTS_MAX || standing.len() >= SUSPECTS_MAX;
        let keys: BTreeSet<BackfillKey> = expected.keys().chain(standing.keys()).copied().collect();
        let suspects = keys.into_iter().map(|key| {
            let first = ContentInBoth {
                expected: expected.get(&key).copied(),
                standing: standing.get(&key).copied(),
            };
            (key, first)
        });
        let suspects: Vec<(BackfillKey, ContentInBoth)> = suspects
            .filter(|(_, first)| first.expected != first.standing)
            .collect();
        if !suspects.is_empty() {
            sleep(Duration::from_millis(what.grace_ms)).await;
        }
        let looks: Vec<_> = suspects
            .into_iter()
            .map(|(key, first)| self.look_at_row(key, first))
            .collect();
        let mut looks = stream::iter(looks).buffer_unordered(self.at_once.saturating_mul(8));
        while let Some(look) = looks.try_next().await? {
            found.count_look(&look);
        }
        Ok(())
    }

    /// Reads all of a table, some parts at a time.
    async fn read_table(
        &self,
        side: TableSide,
        each: impl Fn(&ComparedPage) + Copy,
        part_done: impl Fn() + Copy,
    ) -> Result<(), LedgerError> {
        let parts = TokenRange::split_ring(self.parts)
            .into_iter()
            .map(|stretch| async move {
                let mut state = None;
                loop {
                    let at = state.clone();
                    let page =
                        retry_unavailable(async || self.read_page(side, stretch, at.clone()).await)
                            .await?;
                    self.pace.wait_turns(page.source_rows).await;
                    each(&page);
                    state = page.next;
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
    ) -> Result<ComparedPage, LedgerError> {
        match side {
            TableSide::Source => {
                let page = self.backfill.read_source_page(stretch, state).await?;
                let source_rows = page.planned.len().saturating_add(page.unusable.len());
                let rows = page.planned.into_iter().flat_map(|planned| planned.rows);
                Ok(ComparedPage {
                    rows: rows.collect(),
                    unusable: page.unusable,
                    next: page.next,
                    source_rows,
                })
            }
            TableSide::Target => {
                let (rows, next) = self.backfill.read_target_page(stretch, state).await?;
                let source_rows = match self.backfill.target() {
                    Target::UserTrades => rows.len().div_ceil(2),
                    Target::UserBalances => rows.len(),
                };
                Ok(ComparedPage {
                    rows,
                    next,
                    source_rows,
                    ..ComparedPage::default()
                })
            }
        }
    }

    async fn sum_table(
        &self,
        side: TableSide,
        progress: &Progress,
    ) -> Result<TableSum, LedgerError> {
        let sum = Mutex::new(TableSum::default());
        self.read_table(
            side,
            |page| sum.lock().add_page(page),
            || {
                progress.add_done(1);
                let done = |shared: &mut BackfillProgress| {
                    shared.compared_parts = shared.compared_parts.saturating_add(1);
                };
                self.shared.update_progress(done);
            },
        )
        .await?;
        Ok(sum.into_inner())
    }

    async fn collect_suspects(
        &self,
        side: TableSide,
        buckets: &BTreeSet<usize>,
    ) -> Result<BTreeMap<BackfillKey, RowContent>, LedgerError> {
        let found = Mutex::new(BTreeMap::new());
        let keep = |page: &ComparedPage| {
            let mut found = found.lock();
            for row in &page.rows {
                if found.len() < SUSPECTS_MAX && buckets.contains(&row.bucket_index()) {
                    found.insert(row.key, row.content);
                }
            }
        };
        self.read_table(side, keep, || {}).await?;
        Ok(found.into_inner())
    }

    /// Looks at one row in both tables until it is settled, or some times.
    async fn look_at_row(
        &self,
        key: BackfillKey,
        first: ContentInBoth,
    ) -> Result<RowInBoth, LedgerError> {
        let mut looks = 1;
        loop {
            self.pace.wait_turn().await;
            let row = retry_unavailable(async || self.backfill.compare_row(key).await).await?;
            let content = ContentInBoth::of_row(&row);
            let settled = first.is_settled(key, &content);
            if !settled && looks < self.looks {
                looks = looks.saturating_add(1);
                continue;
            }
            let absent = row.claimed && row.expected.is_some() && row.standing.is_none();
            let pending =
                absent && retry_unavailable(async || self.backfill.is_pending(key).await).await?;
            return Ok(RowInBoth {
                key,
                content,
                settled,
                pending,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_cannot_be_used_are_counted_and_some_of_them_are_named() {
        let row = |user| BackfillRow {
            key: BackfillKey::Balance { user, asset: 1 },
            content: [Some(1), Some(5), Some(0), None],
        };
        let page = |first: i64| ComparedPage {
            rows: (first..first + 3).map(row).collect(),
            unusable: (first..first + 15)
                .map(|id| UnusableRow(format!("row {id}")))
                .collect(),
            ..ComparedPage::default()
        };
        let mut sum = TableSum::default();
        sum.add_page(&page(1));
        sum.add_page(&page(16));
        assert_eq!((sum.rows.row_count(), sum.unusable), (6, 30));
        let named: Vec<String> = (1..=20).map(|id| format!("row {id}")).collect();
        assert_eq!(sum.named, named);
    }
}
