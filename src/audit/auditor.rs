//! The loop that looks again.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use rand::Rng;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    ASSETS_MAX, LATE_MAX, LOOKS_MAX,
    report::{self, Missed},
    sampler::{AuditNote, AuditSample, SampleQueue, Sampler},
    schedule::{AuditSchedule, ScheduledCheck},
    staleness::{StalenessVerdict, judge_staleness},
    view_lag::{FOLLOWS_MAX, Follow, NEWS_EVERY},
};
use crate::{
    clock,
    config::AuditSettings,
    domain::{AssetId, Catalogue},
    ledger::{Source, SourceReadiness},
    protocol::ChangeLog,
    telemetry::{Meters, RateLimitedLog},
};

/// The tiers share what may be noted.
const TIERS: u32 = 3;

pub struct AuditorParts {
    /// The sampler to which serving threads give answers.
    pub sampler: Arc<Sampler>,
    pub inbox: SampleQueue,
    /// The ledger.
    pub source: Arc<dyn Source>,
    /// The assets that an answer may have lacked.
    pub catalogue: Arc<Catalogue>,
    /// The change log, for the log line of a stale answer.
    pub change_log: Arc<ChangeLog>,
    /// The counted thing.
    pub meters: Arc<Meters>,
    /// More than half of the permits for loads are free.
    pub has_room: Arc<dyn Fn() -> bool + Send + Sync>,
    /// A load may lag behind the ledger.
    pub source_lags: bool,
}

/// Compares what was served with the ledger.
pub struct Auditor {
    parts: AuditorParts,
    /// How often an answer of each tier is noted.
    every: Duration,
    pending_max: usize,
    /// How old a row may be that was not shown.
    allowed: Duration,
    floor_ttl: Duration,
    /// Between two statements.
    gap: Duration,
    next_read: Instant,
    agenda: AuditSchedule,
    follows: Vec<Follow>,
    log: RateLimitedLog,
}

impl Auditor {
    /// None where `audit.samples_per_second` is 0: nothing is ever noted then.
    pub fn new(
        parts: AuditorParts,
        settings: &AuditSettings,
        max_staleness: Duration,
        floor_ttl: Duration,
    ) -> Option<Self> {
        let every =
            Duration::from_secs(u64::from(TIERS)).checked_div(settings.samples_per_second)?;
        let gap = Duration::from_secs(1).checked_div(settings.reads_per_second)?;
        Some(Self {
            parts,
            every,
            pending_max: settings.pending_max,
            allowed: max_staleness.saturating_add(settings.grace_ms.0),
            floor_ttl,
            gap,
            next_read: Instant::now(),
            agenda: AuditSchedule::default(),
            follows: Vec::new(),
            log: RateLimitedLog::default(),
        })
    }

    /// Compares served answers with the ledger until shutdown.
    pub async fn run_audit(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.audit_loop()).await;
        self.parts.sampler.disarm_all();
    }

    async fn audit_loop(&mut self) {
        let (mut answers, mut news) = (Instant::now(), Instant::now());
        loop {
            let due = self.next_due();
            tokio::select! {
                seen = self.parts.inbox.0.recv() => match seen {
                    Some(seen) => self.note_seen(seen),
                    None => return,
                },
                () = sleep_until(answers) => {
                    if self.agenda.len() < self.pending_max {
                        self.parts.sampler.arm_tiers();
                    }
                    answers = add_wait(Instant::now(), randomise_pause(self.every));
                }
                () = sleep_until(news), if self.parts.source_lags => {
                    if self.follows.len() < FOLLOWS_MAX {
                        self.parts.sampler.arm_for_news();
                    }
                    news = add_wait(Instant::now(), randomise_pause(NEWS_EVERY));
                }
                () = sleep_until_due(due) => self.look_at_next().await,
            }
        }
    }

    fn note_seen(&mut self, seen: AuditNote) {
        match seen {
            AuditNote::Answer(sample) if self.agenda.len() < self.pending_max => {
                self.agenda.add_answer(sample);
            }
            AuditNote::News(news) if self.follows.len() < FOLLOWS_MAX => {
                self.follows.push(Follow::new(news));
            }
            AuditNote::Answer(_) | AuditNote::News(_) => {}
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let follows = self.follows.iter().map(|follow| follow.next);
        follows.chain(self.agenda.next_due()).min()
    }

    /// Checks the answer or the notification that is due the longest.
    async fn look_at_next(&mut self) {
        let now = Instant::now();
        let first = self
            .follows
            .iter()
            .enumerate()
            .min_by_key(|(_, follow)| follow.next);
        let first = first.map(|(place, follow)| (place, follow.next));
        match first {
            Some((place, next)) if self.agenda.next_due().is_none_or(|due| next < due) => {
                let follow = self.follows.swap_remove(place);
                self.follow_news(follow).await;
            }
            Some(_) | None => {
                if let Some(due) = self.agenda.take_due(now) {
                    self.check_sample(due).await;
                }
            }
        }
    }

    /// Waits until the read budget allows a statement. False while readers need the source or it is not ready.
    async fn wait_for_turn(&mut self) -> bool {
        sleep_until(self.next_read).await;
        self.next_read = add_wait(Instant::now(), self.gap);
        (self.parts.has_room)() && self.parts.source.readiness() == SourceReadiness::Ready
    }

    async fn check_sample(&mut self, mut due: ScheduledCheck) {
        if Instant::now().saturating_duration_since(due.at) <= LATE_MAX
            && let Some(missed) = self.find_missed(&due.sample).await
        {
            let stale = !missed.is_empty();
            self.parts
                .meters
                .record_audit(due.sample.tier, due.window, stale);
            if stale && !due.told {
                due.told = true;
                for missed in &missed {
                    if let Some(left_out) = self.log.permit_line() {
                        report::log_stale_answer(
                            &due.sample,
                            missed,
                            due.window,
                            &self.parts.change_log,
                            left_out,
                        );
                    }
                }
            }
        }
        self.agenda.schedule_next_window(due);
    }

    /// The row that the answer should have shown and did not. None where that cannot be told, or not now.
    async fn find_missed(&mut self, sample: &AuditSample) -> Option<Vec<Missed>> {
        let assets = self.assets_to_check(sample);
        if !self.wait_for_turn().await {
            return None;
        }
        let source = Arc::clone(&self.parts.source);
        let newest = source.load_latest(sample.user, &assets).await.ok()?;
        let shown = |asset| sample.of_asset(asset).map(|shown| shown.seq);
        let above = newest
            .balances()
            .iter()
            .filter(|row| shown(row.asset) < Some(row.seq));
        let (mut missed, mut unknown) = (Vec::new(), false);
        for newest in above.take(LOOKS_MAX) {
            if !self.wait_for_turn().await {
                return None;
            }
            let asset = newest.asset;
            let row = source
                .row_above(sample.user, asset, shown(asset))
                .await
                .ok()?;
            let Some(row) = row else { continue };
            match judge_staleness(&row, sample.asked_at, self.allowed, clock::wall_now()) {
                StalenessVerdict::Stale(since) => missed.push(Missed {
                    asset,
                    row,
                    since,
                    newest: newest.seq,
                }),
                StalenessVerdict::Good => {}
                StalenessVerdict::Unknown => unknown = true,
            }
        }
        (!unknown || !missed.is_empty()).then_some(missed)
    }

    /// The rows that were shown, and those that might have been, ascending.
    fn assets_to_check(&self, sample: &AuditSample) -> Vec<AssetId> {
        let mut assets: BTreeSet<_> = sample.shown.iter().map(|shown| shown.asset).collect();
        // An answer that is remembered in part does not show which assets it lacked.
        if !sample.cut {
            let room = ASSETS_MAX.saturating_sub(assets.len());
            let others = self
                .parts
                .catalogue
                .asset_ids()
                .filter(|id| sample.of_asset(*id).is_none());
            assets.extend(others.take(room));
        }
        assets.into_iter().collect()
    }

    async fn follow_news(&mut self, follow: Follow) {
        if follow.is_late(Instant::now()) || !self.wait_for_turn().await {
            return;
        }
        let news = follow.news;
        let Ok(loaded) = self.parts.source.load_snapshot(news.user).await else {
            return;
        };
        let passed = news.told.elapsed();
        if loaded
            .get(news.asset)
            .is_some_and(|balance| balance.seq >= news.seq)
        {
            self.parts.meters.view_lag(passed);
        } else if passed < self.floor_ttl {
            self.follows.push(follow.schedule_again(Instant::now()));
        } else if self.wait_for_turn().await {
            self.give_up(follow, passed).await;
        }
    }

    /// A row that the ledger has and the view does not is the longest lag there is. What the ledger does not have either was
    /// notified by mistake, and says nothing of the view.
    async fn give_up(&self, Follow { news, .. }: Follow, passed: Duration) {
        let Ok(ledger) = self
            .parts
            .source
            .load_latest(news.user, &[news.asset])
            .await
        else {
            return;
        };
        if ledger
            .get(news.asset)
            .is_some_and(|balance| balance.seq >= news.seq)
        {
            self.parts.meters.view_lag(passed);
            if let Some(left_out) = self.log.permit_line() {
                tracing::warn!(
                    user.id = news.user.get(),
                    asset.id = news.asset.get(),
                    notified.seq = news.seq.get(),
                    passed.ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX),
                    lines.left_out = left_out,
                    "a row of the ledger does not come into the view"
                );
            }
        }
    }
}

impl fmt::Debug for Auditor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auditor")
            .field("pending", &self.agenda.len())
            .finish_non_exhaustive()
    }
}

fn add_wait(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

/// From a half to one and a half of it, so that no client's pace is met again and again.
fn randomise_pause(mean: Duration) -> Duration {
    let millis = u64::try_from(mean.as_millis()).unwrap_or(u64::MAX);
    let half = millis / 2;
    Duration::from_millis(half.saturating_add(rand::rng().random_range(0..=millis)))
}

async fn sleep_until_due(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
