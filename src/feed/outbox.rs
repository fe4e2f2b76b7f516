//! Taking changes from the outbox of a PostgreSQL ledger, as the one instance that has the turn.
//!
//! **Invariants.** A row is removed after it took effect, never before: what a killed instance had read is read again by the next. A row
//! that cannot be read is put aside with the reason, and the rows behind it go on; so do those behind one that Redis refuses.
//! A user's balances are read after the row was seen, so any number of rows of one user cost one read. Where they cannot be read,
//! or a row of the ledger went away, the next read of that user asks the ledger.
//!
//! **Limits.** A page of rows at a time; [`AT_ONCE`] notifications, and those of one user, are applied together.
//!
//! **Cancellation.** Dropped in the middle, some rows took effect and are not removed: they take effect once more, as old ones.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::work::{OutboxTask, OutboxWork};
use crate::{
    apply::{self, Applier},
    cache::redis::{Redis, jittered_wait},
    diagnosis::{Code, Finding, FindingPart},
    ledger::{
        self,
        postgres::outbox::{OutboxSession, OutboxTable},
    },
    telemetry::{AppliedLabel, Meters, RateLimitedLog, Via},
};

mod work;

/// Pause before another try.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// How long to wait for a change before the table is looked at all the same.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long applying may take.
const APPLY_MAX: Duration = Duration::from_secs(5);
/// Notifications that are applied together.
const AT_ONCE: usize = 2_000;

/// Takes changes from the outbox.
#[derive(Debug)]
pub struct OutboxConsumer {
    table: OutboxTable,
    applier: Arc<Applier>,
    redis: Option<Arc<Redis>>,
    meters: Arc<Meters>,
    reach: Mutex<Option<Finding>>,
    effect: Mutex<Option<Finding>>,
    unreadable_log: RateLimitedLog,
}

impl OutboxConsumer {
    /// Not started yet.
    pub fn new(
        table: OutboxTable,
        applier: Arc<Applier>,
        redis: Option<Arc<Redis>>,
        meters: Arc<Meters>,
    ) -> Self {
        Self {
            table,
            applier,
            redis,
            meters,
            reach: Mutex::default(),
            effect: Mutex::default(),
            unreadable_log: RateLimitedLog::default(),
        }
    }

    /// Takes until shutdown.
    pub async fn run(&self, shutdown: CancellationToken) {
        let take = async {
            loop {
                let Err(error) = self.follow().await;
                self.note_reach(Some(&error));
                tokio::time::sleep(jittered_wait(RETRY_EVERY)).await;
            }
        };
        let _ = shutdown.run_until_cancelled(take).await;
    }

    /// The findings that keep changes from taking effect.
    pub fn trouble(&self) -> Vec<Finding> {
        let findings = [&self.reach, &self.effect];
        findings.iter().filter_map(|of| of.lock().clone()).collect()
    }

    /// Follows the outbox on one connection, for as long as it lasts.
    async fn follow(&self) -> Result<std::convert::Infallible, ledger::LedgerError> {
        let mut session = self.table.open().await?;
        let mut pass = OutboxPass::default();
        loop {
            if !session.take_turn().await? {
                self.meters.outbox_lag(0);
                self.note_reach(None);
                session.wait_for_change(LOOK_EVERY).await?;
                continue;
            }
            let backlog = session.count_waiting().await?;
            self.meters.outbox_lag(backlog.rows);
            self.note_reach(None);
            if !self.redis_answers() {
                tokio::time::sleep(RETRY_EVERY).await;
                continue;
            }
            pass.set_end(backlog.last_id);
            let page = session.read_page(pass.after).await?;
            let last = page.last().map(|row| row.id);
            if !page.is_empty() {
                let work = self.read_work(&session, page).await?;
                pass.keep_refused(self.take_work(&session, work).await?);
            }
            let pause = if pass.after == 0 {
                LOOK_EVERY
            } else {
                RETRY_EVERY
            };
            if last.is_none_or(|last| pass.is_over(last)) {
                pass = OutboxPass::default();
                session.wait_for_change(pause).await?;
            }
        }
    }

    /// Finds out what each row says. Rows that cannot be read are put aside.
    async fn read_work(
        &self,
        session: &OutboxSession,
        page: Vec<ledger::postgres::outbox::OutboxRow>,
    ) -> Result<Vec<OutboxTask>, ledger::LedgerError> {
        let work = OutboxWork::group(page);
        let keys: Vec<&str> = work.keys().collect();
        let found = session.find_balances(&keys).await?;
        let (tasks, unreadable) = work.complete(found);
        for (id, reason) in unreadable {
            self.put_aside(session, id, &reason).await?;
        }
        Ok(tasks)
    }

    async fn put_aside(
        &self,
        session: &OutboxSession,
        id: i64,
        reason: &str,
    ) -> Result<(), ledger::LedgerError> {
        session.put_aside(id, reason).await?;
        self.meters
            .count_notifications(Via::Outbox, AppliedLabel::Invalid, 1);
        if let Some(left_out) = self.unreadable_log.permit_line() {
            tracing::warn!(
                outbox.id = id,
                reason,
                lines.left_out = left_out,
                "a row of the outbox cannot be read"
            );
        }
        Ok(())
    }

    /// Makes tasks take effect and removes their rows. Returns the last row that was refused.
    async fn take_work(
        &self,
        session: &OutboxSession,
        tasks: Vec<OutboxTask>,
    ) -> Result<Option<i64>, ledger::LedgerError> {
        let mut refused: Vec<OutboxTask> = Vec::new();
        let mut group: Vec<OutboxTask> = Vec::new();
        let mut size = 0_usize;
        for task in tasks {
            size = size.saturating_add(task.notifications.len());
            group.push(task);
            if size >= AT_ONCE {
                size = 0;
                refused.extend(self.take_group(session, std::mem::take(&mut group)).await?);
            }
        }
        refused.extend(self.take_group(session, group).await?);
        if refused.is_empty() {
            self.note_effect(None);
        }
        Ok(refused.iter().flat_map(|task| &task.rows).max().copied())
    }

    /// All of them together, or one by one where that is refused. Returns those that did not take effect.
    async fn take_group(
        &self,
        session: &OutboxSession,
        group: Vec<OutboxTask>,
    ) -> Result<Vec<OutboxTask>, ledger::LedgerError> {
        if self.take_effect(&group).await.is_ok() {
            self.finish_tasks(session, &group).await?;
            return Ok(Vec::new());
        }
        let mut refused = Vec::new();
        for task in group {
            let one = std::slice::from_ref(&task);
            match self.take_effect(one).await {
                Ok(()) => self.finish_tasks(session, one).await?,
                Err(error) => {
                    self.note_effect(Some(&error));
                    refused.push(task);
                }
            }
        }
        Ok(refused)
    }

    /// Removes the rows of tasks that took effect, or puts them aside.
    async fn finish_tasks(
        &self,
        session: &OutboxSession,
        tasks: &[OutboxTask],
    ) -> Result<(), ledger::LedgerError> {
        let sound = tasks.iter().filter(|task| task.corrupt.is_none());
        let rows: Vec<i64> = sound.flat_map(|task| &task.rows).copied().collect();
        session.remove_rows(&rows).await?;
        for task in tasks {
            if let Some(reason) = &task.corrupt {
                for id in &task.rows {
                    self.put_aside(session, *id, reason).await?;
                }
            }
        }
        Ok(())
    }

    async fn take_effect(&self, tasks: &[OutboxTask]) -> Result<(), apply::ApplyError> {
        if tasks.is_empty() {
            return Ok(());
        }
        if !self.redis_answers() {
            return Err(apply::ApplyError::Unavailable(
                "there is no session with it".into(),
            ));
        }
        let now = Instant::now();
        let deadline = now.checked_add(APPLY_MAX).unwrap_or(now);
        let (removed, notifications) = work::merge_tasks(tasks);
        if !removed.is_empty() {
            // Seqs of a row that went away count no more.
            self.applier
                .invalidate_users(&removed, true, deadline)
                .await?;
        }
        if notifications.is_empty() {
            return Ok(());
        }
        let applied = self
            .applier
            .apply_notifications(&notifications, Via::Outbox, deadline)
            .await;
        applied.map(drop)
    }

    fn redis_answers(&self) -> bool {
        let redis = self.redis.as_ref();
        redis.is_none_or(|redis| redis.link.open_session().is_some())
    }

    fn note_reach(&self, error: Option<&ledger::LedgerError>) {
        let code = Code::OutboxUnreachable;
        let finding = error.map(|error| {
            Finding::new(FindingPart::Outbox, code, "balance_outbox").with_detail(error.to_string())
        });
        replace_finding(&self.reach, finding);
    }

    fn note_effect(&self, error: Option<&apply::ApplyError>) {
        // That Redis is away is told elsewhere.
        let error = error.filter(|_| self.redis_answers());
        let code = Code::OutboxNotTaken;
        let finding = error.map(|error| {
            Finding::new(FindingPart::Outbox, code, "balance_outbox").with_detail(error.to_string())
        });
        replace_finding(&self.effect, finding);
    }
}

/// One way through the rows, from the lowest id to the highest that stood when it began. Rows that Redis refuses stay, and so do gaps
/// for transactions that are not committed yet: both are looked at again by the next pass, however many rows come meanwhile.
#[derive(Debug, Default)]
struct OutboxPass {
    /// The highest row that was refused; 0 where none was, so nothing is skipped.
    after: i64,
    end: i64,
}

impl OutboxPass {
    fn set_end(&mut self, last_id: i64) {
        if self.after == 0 {
            self.end = last_id;
        }
    }

    fn keep_refused(&mut self, refused: Option<i64>) {
        self.after = refused.map_or(self.after, |last| last.max(self.after));
    }

    /// Whether the page that ends with `last` was the last of this pass. One in which nothing was refused goes on.
    const fn is_over(&self, last: i64) -> bool {
        self.after > 0 && last >= self.end
    }
}

fn replace_finding(place: &Mutex<Option<Finding>>, finding: Option<Finding>) {
    let mut place = place.lock();
    match &finding {
        Some(finding) if place.as_ref() != Some(finding) => {
            tracing::warn!(reason = %finding, "outbox: in trouble");
        }
        None if place.is_some() => tracing::info!("outbox: works"),
        Some(_) | None => {}
    }
    *place = finding;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_row_ends_the_pass_at_the_row_that_was_last_when_it_began() {
        let mut pass = OutboxPass::default();
        pass.set_end(1_000);
        pass.keep_refused(None);
        assert!(!pass.is_over(1_000), "nothing is skipped yet");
        pass.set_end(3_000);
        pass.keep_refused(Some(1_500));
        assert!(!pass.is_over(2_000));
        // Rows that come meanwhile do not make the pass longer.
        pass.set_end(9_000);
        pass.keep_refused(None);
        assert!(pass.is_over(3_000));
        assert_eq!(pass.after, 1_500);
    }
}
