//! Looks at the topic from outside: its partitions, the group's offsets, and what keeps both from being read.
//!
//! **Invariants.** Nothing is written, and no group is joined.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::{MetadataPartition, MetadataTopic},
};

use super::client::{self, Context};
use crate::{
    config::{BadSetting, KafkaSettings},
    diagnosis::{Code, Finding, FindingPart},
};

/// How long one question to the brokers may take.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Errors that are listened to after a failure, and how long each is waited for.
const TOLD_MAX: usize = 20;
const TOLD_WITHIN: Duration = Duration::from_millis(50);

/// A partition, and how far the group is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicPartition {
    /// Its number.
    pub id: i32,
    /// Offset of the oldest record that the brokers have.
    pub first: i64,
    /// The offset behind the newest record.
    pub end: i64,
    /// The offset that the group goes on at; none if it committed none.
    pub committed: Option<i64>,
}

impl TopicPartition {
    /// Records that did not take effect yet, and offsets that compaction left empty.
    pub fn lag(&self) -> u64 {
        let from = self.committed.map_or(self.first, |at| at.max(self.first));
        u64::try_from(self.end.saturating_sub(from)).unwrap_or(0)
    }
}

/// The topic, the group and the dead topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// The topic's partitions, by their numbers.
    pub partitions: Vec<TopicPartition>,
    /// Records in the dead topic; none where it does not exist or cannot be read.
    pub dead: Option<u64>,
}

/// Asks the brokers of the settings. Blocks for some seconds at most.
/// Errors: the setting that cannot be used, or why the topic cannot be looked at.
pub fn look_at_topic(settings: &KafkaSettings) -> Result<Result<TopicState, Finding>, BadSetting> {
    let observer = client::create_observer(settings)?;
    let partitions = match read_partitions(&observer, settings, &settings.topic) {
        Ok(partitions) => partitions,
        Err(finding) => return Ok(Err(explain_finding(&observer, settings, finding))),
    };
    let dead = self::read_partitions(&observer, settings, &settings.dead_topic());
    let dead = dead.ok().map(|all| {
        let sizes = all.iter().map(|it| it.end.saturating_sub(it.first));
        sizes.fold(0_u64, |sum, size| {
            sum.saturating_add(u64::try_from(size).unwrap_or(0))
        })
    });
    Ok(Ok(TopicState { partitions, dead }))
}

/// The finding, with the reason that librdkafka tells beside its answer: nothing else polls an observer.
fn explain_finding(
    observer: &BaseConsumer<Context>,
    settings: &KafkaSettings,
    finding: Finding,
) -> Finding {
    let vague = matches!(finding.code, Code::KafkaUnreachable | Code::KafkaSilent);
    for _ in 0..TOLD_MAX {
        if !vague || observer.poll(TOLD_WITHIN).is_none() {
            break;
        }
    }
    match observer.context().last_complaint().filter(|_| vague) {
        Some(complaint) => {
            let code = Some(RDKafkaErrorCode::BrokerTransportFailure);
            self::topic_finding(settings, &settings.topic, code, Some(complaint))
        }
        None => finding,
    }
}

/// The partitions of a topic, and the group's offsets in them. Blocks for some seconds at most.
pub(super) fn read_partitions(
    consumer: &impl Consumer<Context>,
    settings: &KafkaSettings,
    topic: &str,
) -> Result<Vec<TopicPartition>, Finding> {
    let asked = ask_offsets(consumer, topic);
    if asked.is_ok() {
        consumer.context().clear_complaint();
    }
    asked.map_err(|error| {
        let code = error.rdkafka_error_code();
        let complaint = consumer.context().last_complaint();
        topic_finding(settings, topic, code, complaint)
    })
}

fn ask_offsets(
    consumer: &impl Consumer<Context>,
    topic: &str,
) -> Result<Vec<TopicPartition>, KafkaError> {
    let client = consumer.client();
    let metadata = client.fetch_metadata(Some(topic), ANSWER_MAX)?;
    let found = metadata.topics().first();
    let refused = found.and_then(MetadataTopic::error);
    if let Some(code) = refused {
        return Err(KafkaError::MetadataFetch(code.into()));
    }
    let ids: Vec<i32> = found
        .map(|found| {
            found
                .partitions()
                .iter()
                .map(MetadataPartition::id)
                .collect()
        })
        .unwrap_or_default();
    if ids.is_empty() {
        return Err(KafkaError::MetadataFetch(
            RDKafkaErrorCode::UnknownTopicOrPartition,
        ));
    }
    let list = |offset| {
        let mut list = TopicPartitionList::with_capacity(ids.len());
        for id in &ids {
            list.add_partition_offset(topic, *id, offset)?;
        }
        Ok::<_, KafkaError>(list)
    };
    // As times, these two offsets stand for the oldest record and for the place behind the newest.
    let firsts = consumer.offsets_for_times(list(Offset::Beginning)?, ANSWER_MAX)?;
    let ends = consumer.offsets_for_times(list(Offset::End)?, ANSWER_MAX)?;
    let committed = consumer.committed_offsets(list(Offset::Invalid)?, ANSWER_MAX)?;
    let offset_in = |list: &TopicPartitionList, id| {
        let element = list.find_partition(topic, id);
        match element.map(|element| (element.error(), element.offset())) {
            Some((Ok(()), Offset::Offset(offset))) => Ok(Some(offset)),
            Some((Err(error), _)) => Err(error),
            Some((Ok(()), _)) | None => Ok(None),
        }
    };
    let mut partitions = Vec::with_capacity(ids.len());
    for id in &ids {
        let end = offset_in(&ends, *id)?.unwrap_or(0);
        partitions.push(TopicPartition {
            id: *id,
            first: offset_in(&firsts, *id)?.unwrap_or(end),
            end,
            committed: offset_in(&committed, *id)?,
        });
    }
    partitions.sort_by_key(|partition| partition.id);
    Ok(partitions)
}

/// The finding of a refusal; `complaint` is why brokers could not be reached lately.
pub(super) fn topic_finding(
    settings: &KafkaSettings,
    topic: &str,
    code: Option<RDKafkaErrorCode>,
    complaint: Option<RDKafkaErrorCode>,
) -> Finding {
    use RDKafkaErrorCode as Kafka;
    let at = settings.brokers.join(",");
    let found = |code| Finding::new(FindingPart::Kafka, code, at.as_str());
    let silent = matches!(
        code,
        None | Some(
            Kafka::OperationTimedOut
                | Kafka::RequestTimedOut
                | Kafka::BrokerTransportFailure
                | Kafka::AllBrokersDown
                | Kafka::TimedOutQueue
        )
    );
    match complaint.filter(|_| silent).or(code) {
        Some(
            Kafka::Authentication
            | Kafka::SaslAuthenticationFailed
            | Kafka::UnsupportedSASLMechanism,
        ) => found(Code::KafkaAuth),
        Some(Kafka::SSL) => found(Code::KafkaTls),
        Some(Kafka::Resolve) => found(Code::KafkaResolve),
        Some(Kafka::AllBrokersDown | Kafka::BrokerTransportFailure) => {
            found(Code::KafkaUnreachable)
        }
        Some(Kafka::UnknownTopicOrPartition | Kafka::UnknownTopic) => {
            found(Code::KafkaNoTopic).with_detail(topic)
        }
        Some(Kafka::LeaderNotAvailable) => found(Code::KafkaNoLeader),
        Some(Kafka::TopicAuthorizationFailed) => {
            found(Code::KafkaForbidden).with_detail(format!("the topic {topic}"))
        }
        Some(Kafka::GroupAuthorizationFailed) => {
            found(Code::KafkaForbidden).with_detail(format!("the group {}", settings.group))
        }
        Some(Kafka::ClusterAuthorizationFailed) => {
            found(Code::KafkaForbidden).with_detail("the cluster")
        }
        Some(other) if !silent => found(Code::KafkaUnexpected).with_detail(format!("{other:?}")),
        Some(_) | None => {
            found(Code::KafkaSilent).with_detail(humantime::format_duration(ANSWER_MAX).to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_counted_from_the_oldest_record_that_is_there() {
        let partition = |first, end, committed| TopicPartition {
            id: 0,
            first,
            end,
            committed,
        };
        assert_eq!(partition(0, 10, None).lag(), 10);
        assert_eq!(partition(4, 10, None).lag(), 6);
        assert_eq!(partition(4, 10, Some(2)).lag(), 6);
        assert_eq!(partition(4, 10, Some(10)).lag(), 0);
        assert_eq!(
            partition(0, 3, Some(7)).lag(),
            0,
            "a topic that was made anew"
        );
    }

    #[test]
    fn a_silence_is_told_by_its_cause_and_a_refusal_by_its_code() {
        use RDKafkaErrorCode as Kafka;
        let settings = crate::config::default_settings().unwrap().settlement.kafka;
        for (code, complaint, expected) in [
            (Kafka::OperationTimedOut, None, Code::KafkaSilent),
            (Kafka::OperationTimedOut, Some(Kafka::SSL), Code::KafkaTls),
            (
                Kafka::BrokerTransportFailure,
                Some(Kafka::Authentication),
                Code::KafkaAuth,
            ),
            (
                Kafka::BrokerTransportFailure,
                Some(Kafka::AllBrokersDown),
                Code::KafkaUnreachable,
            ),
            (
                Kafka::UnknownTopicOrPartition,
                Some(Kafka::AllBrokersDown),
                Code::KafkaNoTopic,
            ),
            (Kafka::GroupAuthorizationFailed, None, Code::KafkaForbidden),
            (Kafka::InvalidGroupId, None, Code::KafkaUnexpected),
        ] {
            let found = topic_finding(&settings, "t", Some(code), complaint);
            assert_eq!(found.code, expected, "{code:?} {complaint:?}");
        }
    }
}
