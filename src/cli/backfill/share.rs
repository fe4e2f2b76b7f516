//! Tells Redis how far a backfill is, so that running instances show it.
//!
//! **Invariants.** A Redis that is away, slow or refuses keeps the backfill from nothing: it is told once on standard error, and
//! tried again.
//!
//! **Limits.** One write each [`WRITE_EVERY`]; the end of the backfill waits [`LAST_WAIT`] for the last one.

use std::{sync::Arc, time::Duration};

use balance_cache::{
    cache::redis::{BackfillPhase, BackfillProgress, BackfillWriter},
    clock,
    config::RedisSettings,
    ledger::scylla::backfill::Target,
    telemetry::BackfillTarget,
};
use parking_lot::Mutex;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::cli::output::print_error;

const WRITE_EVERY: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(3);

/// How far the backfill is, for whatever part of it knows more.
#[derive(Debug, Clone)]
pub(super) struct SharedProgress(Arc<Mutex<BackfillProgress>>);

impl SharedProgress {
    pub(super) fn new(parts: u32) -> Self {
        Self(Arc::new(Mutex::new(BackfillProgress {
            phase: BackfillPhase::Copying,
            parts: parts.into(),
            copied_parts: 0,
            compared_parts: 0,
            rows: 0,
            rows_per_second: 0,
            seconds_left: None,
            at: 0,
        })))
    }

    /// Changes what will be told next.
    pub(super) fn update_progress(&self, change: impl FnOnce(&mut BackfillProgress)) {
        change(&mut self.0.lock());
    }

    fn dated_copy(&self) -> BackfillProgress {
        BackfillProgress {
            at: clock::wall_now().0,
            ..self.0.lock().clone()
        }
    }
}

/// Writes the progress until the backfill ends.
#[derive(Debug)]
pub(super) struct ProgressSharer {
    progress: SharedProgress,
    ended: CancellationToken,
    writes: Option<JoinHandle<()>>,
}

impl ProgressSharer {
    /// Begins to write; with `quiet` nothing is said about a Redis that is not there.
    pub(super) fn start_writes(
        settings: &RedisSettings,
        target: Target,
        progress: &SharedProgress,
        quiet: bool,
    ) -> Self {
        let table = match target {
            Target::UserTrades => BackfillTarget::UserTrades,
            Target::UserBalances => BackfillTarget::UserBalances,
        };
        let ended = CancellationToken::new();
        let has_redis = !settings.url.is_empty();
        if !has_redis && !quiet {
            print_error(
                "redis.url is empty: progress is shown here only, not by running instances",
            );
        }
        let writes = has_redis.then(|| {
            let writes = ProgressWrites {
                settings: settings.clone(),
                table,
                progress: progress.clone(),
                ended: ended.clone(),
                quiet,
            };
            TaskTracker::new().spawn(writes.write_until_ended())
        });
        Self {
            progress: progress.clone(),
            ended,
            writes,
        }
    }

    /// Writes how the backfill ended.
    pub(super) async fn end_writes(self, phase: BackfillPhase) {
        self.progress.update_progress(|progress| {
            progress.phase = phase;
            progress.seconds_left = None;
        });
        self.ended.cancel();
        if let Some(mut writes) = self.writes
            && timeout(LAST_WAIT, &mut writes).await.is_err()
        {
            writes.abort();
        }
    }
}

/// The task that writes.
struct ProgressWrites {
    settings: RedisSettings,
    table: BackfillTarget,
    progress: SharedProgress,
    ended: CancellationToken,
    quiet: bool,
}

impl ProgressWrites {
    async fn write_until_ended(self) {
        let mut writer = None;
        let mut told = self.quiet;
        loop {
            let is_last = self.ended.is_cancelled();
            if let Err(reason) = self.write_once(&mut writer).await {
                writer = None;
                if !told {
                    print_error(&format!(
                        "running instances do not show the progress: {reason}"
                    ));
                }
                told = true;
            }
            if is_last {
                return;
            }
            let _ = self.ended.run_until_cancelled(sleep(WRITE_EVERY)).await;
        }
    }

    async fn write_once(&self, writer: &mut Option<BackfillWriter>) -> Result<(), String> {
        let open = match writer.take() {
            Some(open) => open,
            None => BackfillWriter::open_connection(&self.settings, self.table).await?,
        };
        let open = writer.insert(open);
        open.write_progress(&self.progress.dated_copy()).await
    }
}
