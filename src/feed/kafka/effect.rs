//! Decides what becomes of received records: they take effect, are tried again, or go to the dead topic.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    KafkaConsumer, KafkaDuty,
    progress::PartitionProgress,
    work::{PendingRecord, UnfinishedRecords},
};
use crate::{
    apply,
    diagnosis::{Code, Finding, FindingPart},
    telemetry::{AppliedLabel, Via},
};

/// How long to wait before notifications that were refused one by one are tried again.
const REFUSED_EVERY: Duration = Duration::from_millis(500);
/// How long applying may take.
const APPLY_MAX: Duration = Duration::from_secs(5);
/// Tries of many records before they are tried one by one.
const TRIES: usize = 5;

impl KafkaConsumer {
    /// Applies the received records. After `TRIES` failed tries they are applied one by one, and those that Redis refuses are
    /// tried again later.
    pub(super) async fn apply_fresh(&self, work: &mut UnfinishedRecords) {
        if work.fresh.is_empty() {
            return;
        }
        if self.apply_all(&work.fresh).await.is_ok() {
            work.tries = 0;
            for record in work.fresh.drain(..) {
                work.progress.finish_record(record.place);
            }
            return;
        }
        work.tries = work.tries.saturating_add(1);
        if work.tries >= TRIES && self.redis_answers() {
            work.tries = 0;
            let fresh = std::mem::take(&mut work.fresh);
            let refused = self.apply_each(fresh, &mut work.progress).await;
            work.refused.extend(refused);
            work.refused_due = Instant::now().checked_add(REFUSED_EVERY);
        }
    }

    pub(super) async fn apply_refused(&self, work: &mut UnfinishedRecords) {
        let due = work.refused_due.is_none_or(|due| due <= Instant::now());
        if work.refused.is_empty() || !due {
            return;
        }
        let refused = std::mem::take(&mut work.refused);
        work.refused = self.apply_each(refused, &mut work.progress).await;
        work.refused_due = Instant::now().checked_add(REFUSED_EVERY);
    }

    /// Applies records one by one; returns those that did not take effect.
    async fn apply_each(
        &self,
        records: Vec<PendingRecord>,
        progress: &mut PartitionProgress,
    ) -> Vec<PendingRecord> {
        let mut refused = Vec::new();
        let mut last = None;
        for record in records {
            match self.apply_all(std::slice::from_ref(&record)).await {
                Ok(()) => progress.finish_record(record.place),
                Err(error) => {
                    last = Some(error);
                    refused.push(record);
                }
            }
        }
        // The last success proves nothing for the records that failed.
        if let Some(error) = last {
            self.note_not_taken(&error);
        }
        refused
    }

    async fn apply_all(&self, records: &[PendingRecord]) -> Result<(), apply::ApplyError> {
        let all: Vec<_> = records
            .iter()
            .flat_map(|it| &it.notifications)
            .copied()
            .collect();
        if all.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let deadline = now.checked_add(APPLY_MAX).unwrap_or(now);
        let applied = self
            .applier
            .apply_notifications(&all, Via::Kafka, deadline)
            .await;
        match &applied {
            Ok(_) => self.note_duty(KafkaDuty::Apply, None),
            // An outage of Redis is another finding.
            Err(error) if self.redis_answers() => self.note_not_taken(error),
            Err(_) => {}
        }
        applied.map(|_| ())
    }

    fn note_not_taken(&self, error: &apply::ApplyError) {
        let finding = Finding::new(
            FindingPart::Kafka,
            Code::KafkaNotTaken,
            self.settings.topic.as_str(),
        );
        self.note_duty(
            KafkaDuty::Apply,
            Some(finding.with_detail(error.to_string())),
        );
    }

    fn redis_answers(&self) -> bool {
        let redis = self.redis.as_ref();
        redis.is_none_or(|redis| redis.link.open_session().is_some())
    }

    /// Writes records that cannot be read to the dead topic.
    pub(super) fn put_aside(&self, work: &mut UnfinishedRecords) {
        if work.letters.is_empty() {
            return;
        }
        let (written, refused) = work.letters.write_due(&self.settings);
        if let Some(code) = refused {
            let dead = self.settings.dead_topic();
            let finding = Finding::new(FindingPart::Kafka, Code::KafkaNotPutAside, dead);
            self.note_duty(
                KafkaDuty::PutAside,
                Some(finding.with_detail(format!("{code:?}"))),
            );
        } else if !written.is_empty() {
            self.note_duty(KafkaDuty::PutAside, None);
        }
        let count = u64::try_from(written.len()).unwrap_or(u64::MAX);
        self.meters
            .count_notifications(Via::Kafka, AppliedLabel::Invalid, count);
        for place in written {
            work.progress.finish_record(place);
        }
    }
}
