//! Writes the records that cannot be read to the dead topic.
//!
//! **Invariants.** A record is done when the brokers have its copy, never before: until then it is held here, and its partition is not
//! committed behind it.
//!
//! **Limits.** [`LETTERS_MAX`] records and [`BYTES_MAX`] bytes; nothing more is consumed beyond that.

use std::{collections::BTreeMap, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use tokio::time::Instant;

use super::{
    client::{self, Context},
    progress::RecordPlace,
};
use crate::config::KafkaSettings;

/// Records that are held at most, about.
const LETTERS_MAX: usize = 1_000;
/// Bytes of records that are held at most, about.
const BYTES_MAX: usize = 16 << 20;
/// How long to wait before another try.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Characters of a reason: it may quote what a producer sent.
pub(super) const REASON_MAX_CHARS: usize = 200;

/// A record that cannot be read.
#[derive(Debug)]
pub(super) struct UnreadableRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
    pub reason: String,
}

impl UnreadableRecord {
    fn byte_size(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        length(&self.key).saturating_add(length(&self.value))
    }
}

/// How one try to write a record went.
type WrittenLetter = (RecordPlace, Result<(), RDKafkaErrorCode>);

/// The records that wait for their place in the dead topic.
#[derive(Default)]
pub(super) struct DeadLetters {
    waiting: BTreeMap<RecordPlace, (UnreadableRecord, Option<Instant>)>,
    bytes: usize,
    under_way: FuturesUnordered<BoxFuture<'static, WrittenLetter>>,
    producer: Option<FutureProducer<Context>>,
}

impl DeadLetters {
    /// Takes a record; [`Self::write_due`] writes it.
    pub(super) fn put_letter(&mut self, place: RecordPlace, letter: UnreadableRecord) {
        self.bytes = self.bytes.saturating_add(letter.byte_size());
        let due = Some(Instant::now());
        if let Some((before, _)) = self.waiting.insert(place, (letter, due)) {
            self.bytes = self.bytes.saturating_sub(before.byte_size());
        }
    }

    /// Drops the records of a partition that is another consumer's now.
    pub(super) fn forget_partition(&mut self, partition: i32) {
        self.waiting.retain(|place, _| place.partition != partition);
        let held = self.waiting.values().map(|(letter, _)| letter.byte_size());
        self.bytes = held.fold(0, usize::saturating_add);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nothing more may be consumed for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= LETTERS_MAX || self.bytes >= BYTES_MAX
    }

    /// Begins to write what is due, and takes what the brokers said meanwhile: the records that are written, and the last refusal.
    pub(super) fn write_due(
        &mut self,
        settings: &KafkaSettings,
    ) -> (Vec<RecordPlace>, Option<RDKafkaErrorCode>) {
        self.send_due(settings);
        let (mut written, mut refused) = (Vec::new(), None);
        while let Some(Some((place, result))) = self.under_way.next().now_or_never() {
            match result {
                Ok(()) => {
                    if let Some((letter, _)) = self.waiting.remove(&place) {
                        self.bytes = self.bytes.saturating_sub(letter.byte_size());
                        written.push(place);
                    }
                }
                Err(code) => {
                    refused = Some(code);
                    if let Some((_, due)) = self.waiting.get_mut(&place) {
                        *due = Instant::now().checked_add(RETRY_EVERY);
                    }
                }
            }
        }
        (written, refused)
    }

    fn send_due(&mut self, settings: &KafkaSettings) {
        let now = Instant::now();
        let is_due = |due: &Option<Instant>| due.is_some_and(|due| due <= now);
        if !self.waiting.values().any(|(_, due)| is_due(due)) {
            return;
        }
        if self.producer.is_none() {
            // The settings were good for the consumer.
            self.producer = client::create_producer(settings).ok();
        }
        let Some(producer) = &self.producer else {
            return;
        };
        let topic = settings.dead_topic();
        for (place, (letter, due)) in &mut self.waiting {
            if !is_due(due) {
                continue;
            }
            *due = None;
            let place = *place;
            let result =
                producer.send_result(letter_record(&topic, &settings.topic, place, letter));
            self.under_way.push(match result {
                Ok(delivery) => Box::pin(async move {
                    let result = match delivery.await {
                        Ok(Ok(_)) => Ok(()),
                        Ok(Err((error, _))) => Err(code_of(&error)),
                        Err(_) => Err(RDKafkaErrorCode::PurgeInflight),
                    };
                    (place, result)
                }),
                Err((error, _)) => {
                    let code = code_of(&error);
                    Box::pin(async move { (place, Err(code)) })
                }
            });
        }
    }
}

fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    error
        .rdkafka_error_code()
        .unwrap_or(RDKafkaErrorCode::Unknown)
}

/// The copy: key, value and headers as they were, the reason, and where it was.
fn letter_record<'a>(
    topic: &'a str,
    from: &str,
    place: RecordPlace,
    letter: &'a UnreadableRecord,
) -> FutureRecord<'a, [u8], [u8]> {
    let (partition, offset) = (place.partition.to_string(), place.offset.to_string());
    let mut headers = letter.headers.clone();
    for (key, value) in [
        ("reason", letter.reason.as_str()),
        ("topic", from),
        ("partition", &partition),
        ("offset", &offset),
    ] {
        let value = Some(value);
        headers = headers.insert(Header { key, value });
    }
    FutureRecord {
        topic,
        partition: None,
        payload: letter.value.as_deref(),
        key: letter.key.as_deref(),
        timestamp: None,
        headers: Some(headers),
    }
}
