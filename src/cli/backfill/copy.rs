//! Copies the parts that are not done, some at a time, no faster than `--rate`.
//!
//! **Limits.** [`WRITES`] rows of a part are written at the same time. A statement that fails is tried [`TRIES`] times.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Result;
use balance_cache::ledger::{
    LedgerError,
    scylla::{
        backfill::{Backfill, Planned, Wrote},
        inspect::TokenRange,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{BackfillReport, OutcomeCounts, checkpoint::Checkpoint, share::SharedProgress};
use crate::cli::{arguments, output::print_error, pace::Pace, progress::Progress};

/// Rows of one part that are written at the same time.
const WRITES: usize = 16;
/// How often a statement is sent before the backfill gives up.
const TRIES: u32 = 8;
/// Before a statement is sent again; twice as long each time.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a line tells how far it is, where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);

struct Copy<'a> {
    backfill: &'a Backfill,
    pace: Pace,
    progress: Progress,
    /// Rows of the source that this run has read.
    rows: AtomicU64,
    begun: Instant,
    told: Mutex<Instant>,
    quiet: bool,
    done: AtomicU64,
    resumed: u64,
    parts: u64,
    /// Rows of the source that earlier runs read.
    rows_before: u64,
    shared: &'a SharedProgress,
}

/// Copies what is not done yet, and adds to the report.
pub(super) async fn copy_parts(
    what: &arguments::BackfillArguments,
    backfill: &Backfill,
    checkpoint: &mut Checkpoint,
    report: &mut BackfillReport,
    shared: &SharedProgress,
) -> Result<()> {
    let (resumed, before) = checkpoint.done_parts();
    let parts = u64::from(what.parts);
    let copy = &Copy {
        backfill,
        pace: Pace::new(what.rate),
        progress: Progress::resume_from(backfill.target().table_name(), parts, resumed),
        rows: AtomicU64::new(0),
        begun: Instant::now(),
        told: Mutex::new(Instant::now()),
        quiet: what.json,
        done: AtomicU64::new(resumed),
        resumed,
        parts,
        rows_before: before.source_rows,
        shared,
    };
    copy.share_progress();
    let rest = TokenRange::split_ring(what.parts).into_iter().zip(0_u32..);
    let rest: Vec<_> = rest
        .filter(|(_, part)| !checkpoint.is_done(*part))
        .map(|(stretch, part)| async move { Ok((part, copy.copy_part(stretch).await?)) })
        .collect();
    let at_once = usize::try_from(what.at_once).unwrap_or(1).max(1);
    let mut done = stream::iter(rest).buffer_unordered(at_once);
    let outcome = async {
        while let Some(part) = done.next().await {
            let (part, counts) = part.map_err(|error: LedgerError| {
                anyhow::anyhow!("{error}; the same command goes on where it was")
            })?;
            checkpoint.note_done_part(part, counts)?;
            copy.report_done_part();
        }
        Ok(())
    };
    let outcome = outcome.await;
    copy.progress.clear_bar();
    report.millis = super::whole_millis(copy.begun.elapsed());
    report.read_now = copy.rows.load(Ordering::Relaxed);
    let (_, counts) = checkpoint.done_parts();
    report.counts = counts;
    outcome
}

impl Copy<'_> {
    async fn copy_part(&self, stretch: TokenRange) -> Result<OutcomeCounts, LedgerError> {
        let mut counts = OutcomeCounts::default();
        let mut state = None;
        loop {
            let at = state.clone();
            let page = retry_unavailable(async || {
                self.backfill.read_source_page(stretch, at.clone()).await
            });
            let page = page.await?;
            let unusable = u64::try_from(page.unusable.len()).unwrap_or(u64::MAX);
            let planned = u64::try_from(page.planned.len()).unwrap_or(u64::MAX);
            let writes: Vec<_> = page
                .planned
                .iter()
                .map(|row| self.write_planned(row))
                .collect();
            let wrote: Vec<(Wrote, u64)> = stream::iter(writes)
                .buffer_unordered(WRITES)
                .try_collect()
                .await?;
            for (outcome, rows) in wrote {
                match outcome {
                    Wrote::Rows => counts.written = counts.written.saturating_add(rows),
                    Wrote::Present => counts.present = counts.present.saturating_add(rows),
                    Wrote::Pending => counts.pending = counts.pending.saturating_add(1),
                }
            }
            let read = planned.saturating_add(unusable);
            counts.source_rows = counts.source_rows.saturating_add(read);
            counts.unusable = counts.unusable.saturating_add(unusable);
            self.rows.fetch_add(read, Ordering::Relaxed);
            self.share_progress();
            state = page.next;
            if state.is_none() {
                return Ok(counts);
            }
        }
    }

    async fn write_planned(&self, planned: &Planned) -> Result<(Wrote, u64), LedgerError> {
        self.pace.wait_turn().await;
        let wrote = retry_unavailable(async || self.backfill.write_planned(planned).await).await?;
        Ok((wrote, u64::try_from(planned.rows.len()).unwrap_or(u64::MAX)))
    }

    /// The time that the other parts will take, by those of this run: earlier ones say nothing about its speed.
    fn time_left(&self, done: u64) -> Option<Duration> {
        let this_run = u32::try_from(done.saturating_sub(self.resumed)).unwrap_or(u32::MAX);
        let left = u32::try_from(self.parts.saturating_sub(done)).unwrap_or(u32::MAX);
        let each = self.begun.elapsed().checked_div(this_run)?;
        Some(each.saturating_mul(left))
    }

    /// Rows that this run has read, and how many in a second.
    fn rows_and_rate(&self) -> (u64, u64) {
        let rows = self.rows.load(Ordering::Relaxed);
        let millis = super::whole_millis(self.begun.elapsed());
        (rows, super::per_second(rows, millis))
    }

    fn share_progress(&self) {
        let done = self.done.load(Ordering::Relaxed);
        let (rows, rate) = self.rows_and_rate();
        self.shared.update_progress(|progress| {
            progress.copied_parts = done;
            progress.rows = self.rows_before.saturating_add(rows);
            progress.rows_per_second = rate;
            progress.seconds_left = self.time_left(done).map(|left| left.as_secs());
        });
    }

    /// One more part is done.
    fn report_done_part(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.share_progress();
        let (rows, rate) = self.rows_and_rate();
        self.progress.add_done(1);
        self.progress.set_message(format!("{rows} rows, {rate}/s"));
        let mut told = self.told.lock();
        if !self.quiet && Progress::is_hidden() && told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            let left = self.time_left(done).unwrap_or_default();
            print_error(&format!(
                "{}: {done} of {} parts, {rows} rows, {rate}/s, {} s left",
                self.backfill.target().table_name(),
                self.parts,
                left.as_secs()
            ));
        }
    }
}

/// Asks until it is answered, or [`TRIES`] times.
pub(super) async fn retry_unavailable<T>(
    ask: impl AsyncFn() -> Result<T, LedgerError>,
) -> Result<T, LedgerError> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match ask().await {
            Err(LedgerError::Unavailable(_) | LedgerError::Timeout) => {}
            answered => return answered,
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2);
    }
    ask().await
}
