//! Entries that were taken: they are applied until they took effect, then acknowledged.

use tokio::time::Instant;

use super::{
    APPLY_MAX, LostConnection, RETRY_EVERY, StreamConsumer, TRIES, TakenEntry, refusals::StreamDuty,
};
use crate::{
    apply,
    cache::redis::stream::{BlockingConnection, StreamFailure},
    diagnosis::{Code, Finding, FindingPart},
    domain::Notification,
    fail_points,
    telemetry::Via,
};

impl StreamConsumer {
    /// Applies entries until they took effect, then acknowledges them. Where some do and others never do, those stay behind.
    pub(super) async fn settle_taken(
        &self,
        tap: &BlockingConnection,
        taken: Vec<TakenEntry>,
    ) -> Result<(), LostConnection> {
        if taken.is_empty() {
            return Ok(());
        }
        let mut tries = 0_usize;
        let ids = loop {
            let all: Vec<_> = taken.iter().flat_map(|(_, some)| some).copied().collect();
            if self.apply_notifications(&all).await.is_ok() {
                break taken.into_iter().map(|(id, _)| id).collect();
            }
            tries = tries.saturating_add(1);
            if tries >= TRIES && taken.len() > 1 && self.redis.link.open_session().is_some() {
                tries = 0;
                let took_effect = self.apply_each(&taken).await;
                if !took_effect.is_empty() {
                    break took_effect;
                }
            }
            tokio::time::sleep(RETRY_EVERY).await;
        };
        fail_points::reach("not-acknowledged");
        self.acknowledge_entries(tap, &ids).await
    }

    /// Applies entries one by one; returns those that took effect.
    async fn apply_each(&self, taken: &[TakenEntry]) -> Vec<String> {
        let mut ids = Vec::with_capacity(taken.len());
        let mut refused = None;
        for (id, notifications) in taken {
            match self.apply_notifications(notifications).await {
                Ok(()) => ids.push(id.clone()),
                Err(error) => refused = Some(error),
            }
        }
        // The last success proves nothing for the entries that failed.
        if let Some(error) = refused {
            self.note_applied(Err(&error));
        }
        ids
    }

    async fn apply_notifications(
        &self,
        notifications: &[Notification],
    ) -> Result<(), apply::ApplyError> {
        let deadline = Instant::now()
            .checked_add(APPLY_MAX)
            .unwrap_or_else(Instant::now);
        let applied = self
            .applier
            .apply_notifications(notifications, Via::Stream, deadline)
            .await;
        if applied.is_ok() || self.redis.link.open_session().is_some() {
            self.note_applied(applied.as_ref().map(|_| ()));
        }
        applied.map(|_| ())
    }

    fn note_applied(&self, applied: Result<(), &apply::ApplyError>) {
        let noted = applied.map_err(|error| {
            let finding = Finding::new(
                FindingPart::Stream,
                Code::StreamNotTaken,
                self.inlet.stream.as_str(),
            );
            StreamFailure::Refused(finding.with_detail(self.why_not_taken(error)))
        });
        let _ = self.refusals.note_result(StreamDuty::Apply, noted);
    }

    /// The word of the finding that stands for settlements, or the error where there is none: its whole sentence is told of settlements
    /// already.
    fn why_not_taken(&self, error: &apply::ApplyError) -> String {
        let told = self.redis.link.settlement_trouble();
        told.map_or_else(
            || error.to_string(),
            |finding| finding.code.label_value().to_owned(),
        )
    }

    /// Acknowledges entries. A refusal is passed: applied again they change nothing.
    pub(super) async fn acknowledge_entries(
        &self,
        tap: &BlockingConnection,
        ids: &[String],
    ) -> Result<(), LostConnection> {
        if ids.is_empty() {
            return Ok(());
        }
        let acknowledged = tap.acknowledge_events(&self.inlet, ids).await;
        let acknowledged =
            acknowledged.map_err(|error| self.redis.stream_failure(&error, &self.inlet.stream));
        let noted = self
            .refusals
            .note_result(StreamDuty::Acknowledge, acknowledged);
        noted.map(|_| ()).map_err(|()| LostConnection)
    }
}
