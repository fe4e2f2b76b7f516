//! Backfills of this source as the tool that runs them told Redis: on the page, and as gauges.

use std::{sync::Arc, time::Duration};

use super::{
    assembled::Assembled,
    shown::{good_part, off_part, warn_part},
};
use crate::{
    cache::redis::{BackfillPhase, BackfillProgress, KnownBackfills},
    clock,
    domain::UnixMillis,
    ops::dashboard::ServicePart,
    telemetry::{BackfillTarget, ShownBackfill},
};

/// A running backfill tells each second how far it is; a longer silence is shown.
const SILENCE_SECONDS: u64 = 5;

impl Assembled {
    fn known_backfills(&self) -> Arc<KnownBackfills> {
        let redis = self.redis.as_ref();
        redis.map_or_else(Arc::default, |redis| redis.link.known_backfills())
    }

    /// Shows how far each backfill is.
    pub(super) fn show_backfills(&self) {
        let known = self.known_backfills();
        for table in BackfillTarget::ALL {
            let progress = known.iter().find(|(of, _)| of == table);
            let shown =
                progress.map_or_else(ShownBackfill::default, |(_, progress)| ShownBackfill {
                    is_running: progress.phase.is_running(),
                    copied_permille: progress.copied_permille(),
                    compared_permille: progress.compared_permille(),
                    rows: progress.rows,
                    remaining: Duration::from_secs(progress.seconds_left.unwrap_or(0)),
                });
            self.meters.show_backfill(*table, &shown);
        }
    }

    /// A box for each backfill, or one that says that there is none.
    pub(super) fn backfill_parts(&self) -> Vec<ServicePart> {
        let known = self.known_backfills();
        if known.is_empty() {
            let detail = match &self.redis {
                Some(_) => "no ledger backfill runs",
                None => "it is shown where there is a Redis",
            };
            return vec![off_part("Backfill", "not running", detail)];
        }
        let now = clock::wall_now();
        let parts = known.iter();
        let parts = parts.map(|(table, progress)| backfill_part(*table, progress, now));
        parts.collect()
    }
}

fn backfill_part(
    table: BackfillTarget,
    progress: &BackfillProgress,
    now: UnixMillis,
) -> ServicePart {
    let name = match table {
        BackfillTarget::UserTrades => "Backfill: user_trades",
        BackfillTarget::UserBalances => "Backfill: user_balances",
    };
    let BackfillProgress {
        parts,
        copied_parts,
        compared_parts,
        rows,
        rows_per_second,
        ..
    } = progress;
    let percent = |permille: u32| permille / 10;
    let silent = UnixMillis(progress.at).seconds_until(now);
    let ended = format!("{rows} rows, {silent} s ago");
    let (word, told) = match progress.phase {
        BackfillPhase::Copying => {
            let left = progress.seconds_left;
            let left = left.map_or_else(String::new, |left| format!(", {left} s left"));
            (
                format!("{} % copied", percent(progress.copied_permille())),
                format!("{copied_parts} of {parts} parts, {rows} rows, {rows_per_second}/s{left}"),
            )
        }
        BackfillPhase::Comparing => {
            let all = parts.saturating_mul(2);
            (
                format!("{} % compared", percent(progress.compared_permille())),
                format!("{compared_parts} of {all} parts of both tables, {rows} rows copied"),
            )
        }
        BackfillPhase::Done => return good_part(name, "done", &ended),
        BackfillPhase::Different => return warn_part(name, "with differences", &ended),
        BackfillPhase::Failed => {
            return warn_part(
                name,
                "failed",
                &format!("{ended}; the same command goes on"),
            );
        }
    };
    if silent > SILENCE_SECONDS {
        return good_part(name, &word, &format!("{told}; silent for {silent} s"));
    }
    good_part(name, &word, &told)
}
