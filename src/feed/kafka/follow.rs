//! Follows the topic: receives records, has them take effect, and stores the offsets behind them.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{Consumer as _, MessageStream},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedHeaders, BorrowedMessage},
};

use super::{
    BrokenClient, KafkaConsumer, KafkaDuty,
    client::{Context, PartitionChange, Subscriber},
    dead_letters::{REASON_MAX_CHARS, UnreadableRecord},
    progress::RecordPlace,
    record,
    work::{AT_ONCE, PendingRecord, UnfinishedRecords},
};

/// Records that are read without leaving the thread to others.
const YIELD_EVERY: usize = 256;
/// How long to wait for records where nothing else is to be done.
const IDLE: Duration = Duration::from_secs(1);
/// How long to wait before another try.
const RETRY_EVERY: Duration = Duration::from_millis(100);

impl KafkaConsumer {
    /// Takes records until the client cannot go on.
    pub(super) async fn follow_topic(&self, client: &Subscriber) -> BrokenClient {
        if let Err(error) = client.subscribe(&[&self.settings.topic]) {
            tracing::warn!(%error, "kafka: the topic could not be subscribed to");
            return BrokenClient;
        }
        let mut records = client.stream();
        let mut work = UnfinishedRecords::default();
        loop {
            if let Err(broken) = self.receive_records(client, &mut records, &mut work).await {
                return broken;
            }
            self.apply_fresh(&mut work).await;
            self.apply_refused(&mut work).await;
            self.put_aside(&mut work);
            self.store_offsets(client, &mut work);
        }
    }

    /// Receives what is there, up to the bounds; waits for a first record where there is none.
    async fn receive_records(
        &self,
        client: &Subscriber,
        records: &mut MessageStream<'_, Context>,
        work: &mut UnfinishedRecords,
    ) -> Result<(), BrokenClient> {
        Self::pause_or_resume(client, work);
        let wait = if work.is_pending() { RETRY_EVERY } else { IDLE };
        let first = tokio::time::timeout(wait, records.next()).await;
        let mut next = first.ok().flatten();
        let mut received = 0_usize;
        let (mut size, mut full) = (work.notification_count(), false);
        loop {
            self.take_changes(client, work);
            match next {
                None => return Ok(()),
                Some(Ok(record)) => {
                    size = size.saturating_add(self.begin_record(work, &record));
                    full = full || work.letters.is_full();
                }
                Some(Err(error)) => self.note_error(&error)?,
            }
            received = received.saturating_add(1);
            if size >= AT_ONCE || full {
                return Ok(());
            }
            if received.is_multiple_of(YIELD_EVERY) {
                tokio::task::yield_now().await;
            }
            next = records.next().now_or_never().flatten();
        }
    }

    /// Parses a record into the work; returns how many notifications it has. A record that cannot be read becomes a dead
    /// letter.
    fn begin_record(&self, work: &mut UnfinishedRecords, record: &BorrowedMessage<'_>) -> usize {
        let place = RecordPlace {
            partition: record.partition(),
            offset: record.offset(),
        };
        work.progress.begin_record(place);
        match record::read_record(&self.fields, record.key(), record.payload()) {
            Ok(notifications) => {
                let count = notifications.len();
                work.fresh.push(PendingRecord {
                    place,
                    notifications,
                });
                count
            }
            Err(reason) => {
                let reason: String = reason.chars().take(REASON_MAX_CHARS).collect();
                if let Some(left_out) = self.unreadable_log.permit_line() {
                    let RecordPlace { partition, offset } = place;
                    tracing::warn!(
                        partition,
                        offset,
                        reason,
                        lines.left_out = left_out,
                        "a kafka record cannot be read"
                    );
                }
                let letter = UnreadableRecord {
                    key: record.key().map(<[u8]>::to_vec),
                    value: record.payload().map(<[u8]>::to_vec),
                    headers: record
                        .headers()
                        .map(BorrowedHeaders::detach)
                        .unwrap_or_default(),
                    reason,
                };
                work.letters.put_letter(place, letter);
                0
            }
        }
    }

    /// Follows the changes of partitions that came before the next record.
    fn take_changes(&self, client: &Subscriber, work: &mut UnfinishedRecords) {
        for change in client.context().take_changes() {
            match change {
                // Partitions come unpaused.
                PartitionChange::Assigned if work.paused => Self::pause_topic(client),
                PartitionChange::Assigned => {}
                PartitionChange::Revoked(partitions) => {
                    for partition in partitions {
                        work.forget_partition(partition);
                    }
                }
            }
            self.note_duty(KafkaDuty::Follow, None);
        }
    }

    fn note_error(&self, error: &KafkaError) -> Result<(), BrokenClient> {
        use RDKafkaErrorCode as Kafka;
        let code = error.rdkafka_error_code();
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            tracing::error!(%error, "kafka: the client cannot go on and is made anew");
            return Err(BrokenClient);
        }
        match code {
            // These are told by looking at the topic, which also says when they are over.
            None
            | Some(
                Kafka::AllBrokersDown
                | Kafka::BrokerTransportFailure
                | Kafka::Resolve
                | Kafka::SSL
                | Kafka::Authentication
                | Kafka::UnknownTopicOrPartition
                | Kafka::UnknownTopic
                | Kafka::LeaderNotAvailable
                | Kafka::OperationTimedOut,
            ) => {}
            Some(code @ (Kafka::TopicAuthorizationFailed | Kafka::GroupAuthorizationFailed)) => {
                self.note_duty(KafkaDuty::Follow, Some(self.finding_of(Some(code))));
            }
            Some(code) => tracing::info!(?code, "kafka: told while records are received"),
        }
        Ok(())
    }

    // === pausing ===

    fn pause_or_resume(client: &Subscriber, work: &mut UnfinishedRecords) {
        let full = work.is_full();
        if full == work.paused {
            return;
        }
        work.paused = full;
        if full {
            Self::pause_topic(client);
        } else if let Ok(all) = client.assignment()
            && let Err(error) = client.resume(&all)
        {
            tracing::warn!(%error, "kafka: partitions could not be resumed");
            work.paused = true;
        }
    }

    fn pause_topic(client: &Subscriber) {
        let paused = client.assignment().and_then(|all| client.pause(&all));
        if let Err(error) = paused {
            // Records that come all the same are taken: they are bounded by what is fetched ahead.
            tracing::warn!(%error, "kafka: partitions could not be paused");
        }
    }

    /// Stores the offsets to go on at; librdkafka commits them soon.
    fn store_offsets(&self, client: &Subscriber, work: &mut UnfinishedRecords) {
        let moved = work.progress.moved_offsets();
        if moved.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(moved.len());
        for RecordPlace { partition, offset } in moved {
            let offset = Offset::Offset(offset);
            let _ = list.add_partition_offset(&self.settings.topic, partition, offset);
        }
        if let Err(error) = client.store_offsets(&list) {
            // A partition that is being revoked: its next consumer receives these records again.
            tracing::debug!(%error, "kafka: offsets were not stored");
        }
    }
}
