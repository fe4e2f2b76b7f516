//! A notification takes effect: Redis first (floor, value, lease, feed), then this instance, then the acknowledgement. HTTP,
//! stream, Kafka and ledger writes all use this path.
//!
//! **Invariants.** Idempotent and free of order: late, duplicate and replayed notifications are harmless. Nothing is
//! acknowledged that did not take effect in Redis and here. The change log is written before memory is changed. All changes of
//! one user that one call brings become visible together, in each tier (promise P10).
//!
//! **Cancellation.** Dropped in the middle, Redis may have it and this instance not yet: the feed brings it here, and the
//! sender, who has no acknowledgement, repeats it.
//!
//! **Limits.** Redis gets them in pipelines; the caller bounds how many there are.

mod grouping;
mod outbox;
mod retell;

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    audit::Sampler,
    cache::{
        memory::Memory,
        redis::{Redis, stream::FeedNews},
    },
    cache_status::Tier,
    clock,
    domain::{BalanceChange, Entry, Notification, Receipt, UnixMillis, UserId},
    fail_points,
    ledger::{self, Commit, Source, WrittenCounts},
    protocol::ChangeLog,
    telemetry::{self, Fault, Meters, Op, Via},
};

use self::grouping::{by_user, changes_of, users_of};
pub use self::outbox::OutboxState;

/// Why a notification was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It cannot be given its promise now.
    #[error("redis cannot take it now: {0}")]
    Unavailable(Arc<str>),
    /// The request's deadline passed first.
    #[error("the deadline passed")]
    Deadline,
}

/// Why ledger entries were not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EntriesError {
    /// The seq of the entry at `index` exists with other amounts; nothing was written.
    #[error("the seq of entry {index} is taken by other amounts")]
    Conflict {
        /// Counted from 0.
        index: usize,
    },
    #[error(transparent)]
    Source(#[from] ledger::LedgerError),
    /// The rows stand, but did not take effect here.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The result of a request of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApplyResult {
    /// Notifications that changed something.
    pub applied: u64,
    /// Notifications that were known already.
    pub old: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WarmResult {
    /// Users asked for.
    pub users: u64,
    /// Users that are held now.
    pub loaded: u64,
    /// Users that could not be loaded.
    pub failed: u64,
}

/// Makes notifications take effect.
#[derive(Debug)]
pub struct Applier {
    redis: Option<Arc<Redis>>,
    source: Arc<dyn Source>,
    memory: Arc<Memory>,
    marks: Arc<ChangeLog>,
    meters: Arc<Meters>,
    sampler: Arc<Sampler>,
    /// The outbox of the source, if it has one.
    pub outbox: OutboxState,
    retold: retell::RetoldUsers,
}

impl Applier {
    /// Makes an applier over these tiers.
    pub fn new(
        redis: Option<Arc<Redis>>,
        source: Arc<dyn Source>,
        memory: Arc<Memory>,
        marks: Arc<ChangeLog>,
        meters: Arc<Meters>,
        sampler: Arc<Sampler>,
    ) -> Self {
        Self {
            redis,
            source,
            memory,
            marks,
            meters,
            sampler,
            outbox: OutboxState::default(),
            retold: retell::RetoldUsers::default(),
        }
    }

    /// All of them take effect, or the error: then some may have, and all may be repeated.
    pub async fn apply_notifications(
        &self,
        notifications: &[Notification],
        via: Via,
        deadline: Instant,
    ) -> Result<ApplyResult, ApplyError> {
        let heard_at = clock::wall_now();
        let grouped = by_user(notifications);
        let result = match &self.redis {
            None => Ok(None),
            Some(redis) => {
                match tokio::time::timeout_at(
                    deadline,
                    redis.apply_notifications(&grouped, heard_at),
                )
                .await
                {
                    Ok(Ok(effects)) => Ok(Some(effects)),
                    Ok(Err(fault)) => Err(ApplyError::Unavailable(fault_word(fault).into())),
                    Err(_) => Err(ApplyError::Deadline),
                }
            }
        };
        let effects = result.inspect_err(|_| {
            let count = u64::try_from(notifications.len()).unwrap_or(u64::MAX);
            self.meters
                .count_notifications(via, telemetry::AppliedLabel::Failed, count);
        })?;
        fail_points::reach("redis-took");
        let mut applied = ApplyResult::default();
        let mut effects = effects.map(Vec::into_iter);
        for (user, one_users) in users_of(&grouped) {
            let changes = changes_of(one_users, heard_at);
            let news_here = self.take_changes(user, &changes);
            for (notification, is_news) in one_users.iter().zip(news_here) {
                let old = match &mut effects {
                    Some(effects) => effects.next().is_some_and(|effect| effect.old),
                    None => !is_news,
                };
                self.count_effect(&mut applied, old, notification.created_at);
            }
        }
        fail_points::reach("took-effect");
        self.meters
            .count_notifications(via, telemetry::AppliedLabel::News, applied.applied);
        self.meters
            .count_notifications(via, telemetry::AppliedLabel::Old, applied.old);
        Ok(applied)
    }

    fn count_effect(&self, applied: &mut ApplyResult, old: bool, created_at: Option<UnixMillis>) {
        let count = if old {
            &mut applied.old
        } else {
            &mut applied.applied
        };
        *count = count.saturating_add(1);
        if let (false, Some(created_at)) = (old, created_at) {
            self.meters
                .notification_delay(created_at, clock::wall_now());
        }
    }

    /// The effect on this instance alone: what the feed brings.
    pub fn take_news(&self, news: &FeedNews) {
        match news {
            FeedNews::Changed { user, changes } => {
                let _ = self.take_changes(*user, changes);
            }
            FeedNews::Dropped { user, floors } => {
                if *floors {
                    self.marks.forget_user(*user);
                } else {
                    self.marks.require_reread(*user, None);
                }
                self.memory.forget_user(*user);
            }
        }
    }

    /// One user's changes take effect on this instance in one step: the mark, then memory. Returns for each whether it was news.
    fn take_changes(&self, user: UserId, changes: &[BalanceChange]) -> Vec<bool> {
        if changes.len() > 1 && !takes_together() {
            let one_by_one = changes.chunks(1);
            return one_by_one
                .flat_map(|one| self.take_changes(user, one))
                .collect();
        }
        let news = self.marks.advance_user(user, changes);
        fail_points::reach("marked");
        self.memory.advance_user(user, changes);
        for (change, is_news) in changes.iter().zip(&news) {
            if let (BalanceChange::Moved { asset, seq, .. }, true) = (change, *is_news) {
                self.sampler.note_change(user, *asset, *seq);
            }
        }
        news
    }

    /// Changes may have been missed: everything held, and every load under way, counts for nothing.
    pub fn note_missed(&self) {
        self.marks.note_missed();
        self.meters.bus_resync();
    }

    /// Redis lost its data: everything held, and every load under way, counts for nothing.
    pub fn note_lost(&self) {
        self.marks.note_lost();
        self.meters.bus_resync();
    }

    /// Discards everything held from before the feed was followed: changes may have been missed.
    pub fn start_over(&self) {
        self.marks.start_over();
    }

    /// Writes entries to the ledger, then applies them as notifications.
    /// Errors: [`EntriesError`]; after [`EntriesError::Apply`] the rows stand, and the same request completes it.
    pub async fn write_entries(
        &self,
        entries: &[Entry],
        deadline: Instant,
    ) -> Result<WrittenCounts, EntriesError> {
        let result = self.write_and_apply(entries, deadline).await;
        if let Err(EntriesError::Source(_) | EntriesError::Apply(_)) = &result {
            self.outbox.note_unannounced();
        }
        result
    }

    async fn write_and_apply(
        &self,
        entries: &[Entry],
        deadline: Instant,
    ) -> Result<WrittenCounts, EntriesError> {
        let begun = Instant::now();
        let written =
            match tokio::time::timeout_at(deadline, self.source.write_entries(entries)).await {
                Ok(Ok(written)) => {
                    fail_points::reach("ledger-written");
                    self.meters
                        .record_tier(Tier::Source, Op::Apply, begun.elapsed());
                    written
                }
                Ok(Err(ledger::WriteError::Conflict { index })) => {
                    return Err(EntriesError::Conflict { index });
                }
                Ok(Err(ledger::WriteError::Source(error))) => return Err(self.write_failed(error)),
                Err(_) => return Err(self.write_failed(ledger::LedgerError::Timeout)),
            };
        let mut notifications: Vec<_> = entries.iter().map(Notification::from).collect();
        notifications.extend(self.source.announced_with(&notifications));
        self.apply_notifications(&notifications, Via::Ledger, deadline)
            .await?;
        self.source.note_announced(&notifications);
        Ok(written)
    }

    /// A transaction takes effect on this instance alone: right after its commit, before its caller hears of it.
    pub fn take_committed(&self, receipt: &Receipt, commit: Commit) {
        let notifications: Vec<_> = receipt.notifications().collect();
        match commit {
            Commit::Stands => self.take_here(&notifications),
            Commit::Unknown => {
                for (user, _) in users_of(&by_user(&notifications)) {
                    let _ = self.take_changes(user, &[BalanceChange::Unknown { asset: None }]);
                }
            }
        }
    }

    /// Balances take effect on this instance alone.
    pub fn take_here(&self, notifications: &[Notification]) {
        let heard_at = clock::wall_now();
        for (user, one_users) in users_of(&by_user(notifications)) {
            let _ = self.take_changes(user, &changes_of(one_users, heard_at));
        }
    }

    /// The balances of transactions that stand take effect in all tiers and instances. Without a Redis they have, where the
    /// source tells of its commits ([`Self::take_committed`]).
    /// Errors: [`ApplyError`]; the transactions stand, and the same request completes it.
    pub async fn announce_balances(
        &self,
        notifications: &[Notification],
        deadline: Instant,
    ) -> Result<(), ApplyError> {
        if self.redis.is_none() && self.source.isolation().is_some() {
            let count = u64::try_from(notifications.len()).unwrap_or(u64::MAX);
            self.meters
                .count_notifications(Via::Ledger, telemetry::AppliedLabel::News, count);
            return Ok(());
        }
        self.apply_notifications(notifications, Via::Ledger, deadline)
            .await?;
        Ok(())
    }

    fn write_failed(&self, error: ledger::LedgerError) -> EntriesError {
        self.count_write_failure(&error);
        EntriesError::Source(error)
    }

    /// Counts a write that the source did not take.
    pub fn count_write_failure(&self, error: &ledger::LedgerError) {
        let fault = match error {
            ledger::LedgerError::Timeout => Fault::Timeout,
            ledger::LedgerError::Corrupt(_) => Fault::Corrupt,
            ledger::LedgerError::Unavailable(_) => Fault::Error,
        };
        self.meters.tier_failure(Tier::Source, Op::Apply, fault);
    }

    /// Drops snapshots in every tier and instance; floors too if they are to be forgotten.
    /// Errors: [`ApplyError`]: some may be dropped.
    pub async fn invalidate_users(
        &self,
        users: &[UserId],
        floors: bool,
        deadline: Instant,
    ) -> Result<(), ApplyError> {
        if let Some(redis) = &self.redis {
            match tokio::time::timeout_at(deadline, redis.drop_users(users, floors)).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => return Err(ApplyError::Unavailable(fault_word(fault).into())),
                Err(_) => return Err(ApplyError::Deadline),
            }
        }
        for user in users {
            self.take_news(&FeedNews::Dropped {
                user: *user,
                floors,
            });
            if floors {
                self.note_forgotten(*user);
            }
        }
        Ok(())
    }
}

/// The fault of Redis, for a line of the log.
const fn fault_word(fault: Fault) -> &'static str {
    match fault {
        Fault::Timeout => "it did not answer in time",
        Fault::Error => "it refused a command, or the connection broke",
        Fault::Corrupt => "it answered something else",
        Fault::Open => "there is no session with it",
    }
}

/// The changes of one user are taken together; not so where a test looks what happens otherwise.
fn takes_together() -> bool {
    !fail_points::reach("one-by-one")
}
