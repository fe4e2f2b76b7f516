//! Writes transactions: all that wait are one group, judged together and appended to the journal as one record.
//!
//! A round: records of others that share a user or an id with the group are written; ids and balances are read; the group is
//! judged and appended behind the tail. Where another instance was faster, the group is judged again.
//!
//! **Invariants.** A record is appended only behind the tail by which it was judged. An answer is given when all rows stand. A
//! refusal is given only while the tail is the one that was judged by.
//!
//! **Cancellation.** A request that is dropped before its group begins writes nothing. A record is finished by the next group that
//! needs it, or by [`super::recovery`].
//! **Limits.** [`REQUESTS_MAX`] requests and about [`ROWS_MAX`] rows in a group; a group gives up when its callers have.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use rand::Rng as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    Scylla,
    appends::WaitingAppend,
    journal::{Appended, JournalTail, PAGE},
    judge::{JudgedAnswer, LedgerRequest, judge_requests, judged_pairs},
    prepared::Postings,
    record::JournalRecord,
    statements::LiveSession,
};
use crate::{
    clock,
    domain::{Reference, UserId},
    fail_points,
    ledger::{Commit, LedgerError},
};

/// Requests of one group.
const REQUESTS_MAX: usize = 256;
/// Rows of one group, but for its last request.
const ROWS_MAX: usize = 1_024;
/// The longest pause after a lost race, and after a won one while others write.
const PAUSE_MAX: Duration = Duration::from_millis(32);
const YIELD_MAX: Duration = Duration::from_millis(6);
/// Another instance counts as writing for so long after its record was met.
const CONTENDED_FOR: Duration = Duration::from_secs(1);

/// The writer's knowledge of the journal.
#[derive(Debug)]
struct JournalState {
    tail: JournalTail,
    /// Records up to the tail that it has neither written nor seen removed.
    unwritten: BTreeMap<i64, JournalRecord>,
}

/// An append whose answer was lost, or that was answered.
struct Attempt {
    record: JournalRecord,
    answers: Vec<JudgedAnswer>,
}

/// The writer's own state, kept from group to group.
#[derive(Debug, Default)]
struct WriterState {
    known: Option<JournalState>,
    /// When a record of another instance was met.
    contended: Option<Instant>,
}

/// Writes one group after the other, for ever.
pub(super) async fn run_writer(scylla: &Scylla, queue: &mut mpsc::Receiver<WaitingAppend>) {
    let mut writer = WriterState::default();
    while let Some(first) = queue.recv().await {
        let group = gather_group(first, queue);
        if group.is_empty() {
            continue;
        }
        match writer.settle_group(scylla, &group).await {
            Ok(answers) => {
                for (waiting, answer) in group.into_iter().zip(answers) {
                    let _ = waiting.reply.send(Ok(answer));
                }
            }
            Err(error) => {
                // Whether the record stands is read from the journal.
                writer.known = None;
                for waiting in group {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
            }
        }
        writer.let_others_write().await;
    }
}

/// Collects the waiting requests in their order, without those whose callers are gone.
fn gather_group(
    first: WaitingAppend,
    queue: &mut mpsc::Receiver<WaitingAppend>,
) -> Vec<WaitingAppend> {
    let mut group = Vec::new();
    let mut rows: usize = 0;
    let mut next = Some(first);
    while let Some(waiting) = next {
        if !waiting.reply.is_closed() {
            rows = rows.saturating_add(judged_pairs(&waiting.request).len());
            group.push(waiting);
        }
        if group.len() >= REQUESTS_MAX || rows >= ROWS_MAX {
            break;
        }
        next = queue.try_recv().ok();
    }
    group
}

impl WriterState {
    async fn settle_group(
        &mut self,
        scylla: &Scylla,
        group: &[WaitingAppend],
    ) -> Result<Vec<JudgedAnswer>, LedgerError> {
        let live = scylla.live_connection()?;
        let postings = scylla.prepared_postings(&live).await?;
        let mut group_writer = GroupWriter {
            scylla,
            live: &live,
            postings,
            group,
            lost: Vec::new(),
        };
        let mut round: u32 = 0;
        loop {
            if group.iter().all(|waiting| waiting.reply.is_closed()) {
                return Err(LedgerError::Timeout);
            }
            let known = match &mut self.known {
                Some(known) => known,
                none => none.insert(group_writer.read_journal().await?),
            };
            if let Some(answers) = group_writer.try_round(known).await? {
                return Ok(answers);
            }
            scylla.appends.lost_race();
            self.contended = Some(Instant::now());
            round = round.saturating_add(1);
            let longest = Duration::from_millis(1_u64.checked_shl(round).unwrap_or(u64::MAX));
            pause_randomly(longest.min(PAUSE_MAX)).await;
        }
    }

    /// Pauses shortly while other instances write too.
    async fn let_others_write(&mut self) {
        match self.contended {
            Some(at) if at.elapsed() < CONTENDED_FOR => pause_randomly(YIELD_MAX).await,
            Some(_) => self.contended = None,
            None => {}
        }
    }
}

/// A random part of this time.
async fn pause_randomly(longest: Duration) {
    let part = rand::rng().random_range(0.0..1.0);
    sleep(longest.mul_f64(part)).await;
}

/// One group on its way.
struct GroupWriter<'g> {
    scylla: &'g Scylla,
    live: &'g LiveSession,
    postings: &'g Postings,
    group: &'g [WaitingAppend],
    /// Appends whose answers were lost.
    lost: Vec<Attempt>,
}

impl GroupWriter<'_> {
    async fn read_journal(&self) -> Result<JournalState, LedgerError> {
        let tail = self.postings.journal.read_tail(self.live).await?;
        let journal = &self.postings.journal;
        let records = journal
            .read_records(self.live, tail.removed, tail.position)
            .await?;
        Ok(JournalState {
            tail,
            unwritten: records.into_iter().collect(),
        })
    }

    /// The answers; none where another instance was faster.
    async fn try_round(
        &mut self,
        known: &mut JournalState,
    ) -> Result<Option<Vec<JudgedAnswer>>, LedgerError> {
        if let Some((position, attempt)) = self.found_again(known) {
            return self.finish_group(position, attempt).await.map(Some);
        }
        self.write_for_others(known).await?;
        let facts = self
            .postings
            .read_facts(self.live, self.group_requests())
            .await?;
        let judged = judge_requests(self.group_requests(), facts, clock::wall_now());
        if judged.items.is_empty() {
            let holds = self.hold_at_the_tail(&judged.answers, known).await?;
            return Ok(holds.then_some(judged.answers));
        }
        let attempt = Attempt {
            record: JournalRecord {
                token: rand::random(),
                items: judged.items,
            },
            answers: judged.answers,
        };
        fail_points::reach("record-judged");
        self.append_record(known, attempt).await
    }

    fn group_requests(&self) -> impl Iterator<Item = &LedgerRequest> + Clone {
        self.group.iter().map(|waiting| &waiting.request)
    }

    /// A record of this group whose append seemed lost.
    fn found_again(&mut self, known: &mut JournalState) -> Option<(i64, Attempt)> {
        let (position, at) = known.unwritten.iter().find_map(|(position, record)| {
            let of = |attempt: &Attempt| attempt.record.token == record.token;
            Some((*position, self.lost.iter().position(of)?))
        })?;
        known.unwritten.remove(&position);
        Some((position, self.lost.swap_remove(at)))
    }

    /// Unwritten records of others without which this group would be judged by what no longer stands.
    fn needed_records(&self, known: &JournalState) -> Vec<i64> {
        let mut users: HashSet<UserId> = self
            .group_requests()
            .flat_map(judged_pairs)
            .map(|(user, _)| user)
            .collect();
        let ids: HashSet<Reference> = self
            .group_requests()
            .filter_map(|request| match request {
                LedgerRequest::Transaction(transaction) => Some(transaction.reference),
                LedgerRequest::Entries(_) => None,
            })
            .collect();
        // A record before one that is written is written too where they share a user: its rows of that user stand earlier.
        let mut positions = Vec::new();
        for (position, record) in known.unwritten.iter().rev() {
            let is_needed = record.rows().any(|row| users.contains(&row.entry.user))
                || record
                    .references()
                    .any(|reference| ids.contains(&reference));
            if is_needed {
                users.extend(record.rows().map(|row| row.entry.user));
                positions.push(*position);
            }
        }
        positions.reverse();
        positions
    }

    /// Whether answers by which nothing is appended hold beside what others appended meanwhile. A repetition does, once the records up
    /// to the tail that it may hang on are written.
    async fn hold_at_the_tail(
        &mut self,
        answers: &[JudgedAnswer],
        known: &mut JournalState,
    ) -> Result<bool, LedgerError> {
        let refuses = answers.iter().any(JudgedAnswer::is_refusal);
        let repeats = answers.iter().any(JudgedAnswer::is_repetition);
        let has_more = (refuses || repeats) && self.catch_up(known).await?;
        if has_more && !refuses {
            self.write_for_others(known).await?;
        }
        Ok(!has_more || !refuses)
    }

    async fn write_for_others(&mut self, known: &mut JournalState) -> Result<(), LedgerError> {
        for position in self.needed_records(known) {
            if let Some(record) = known.unwritten.get(&position) {
                self.postings.write_record(self.live, record).await?;
                self.scylla.appends.take_record(position, record);
                self.tell_commits(record);
            }
            known.unwritten.remove(&position);
        }
        Ok(())
    }

    async fn append_record(
        &mut self,
        known: &mut JournalState,
        attempt: Attempt,
    ) -> Result<Option<Vec<JudgedAnswer>>, LedgerError> {
        let tail = JournalTail {
            removed: self.scylla.appends.removed_up_to(known.tail),
            ..known.tail
        };
        let text = attempt.record.to_text()?;
        let position = tail.position.saturating_add(1);
        let journal = &self.postings.journal;
        match journal
            .append_record(self.live, tail, position, &text)
            .await
        {
            Ok(Appended::Stands) => {
                known.tail = JournalTail { position, ..tail };
                self.finish_group(position, attempt).await.map(Some)
            }
            Ok(Appended::Behind) => {
                self.catch_up(known).await?;
                Ok(None)
            }
            Err(error @ LedgerError::Corrupt(_)) => Err(error),
            // It may stand. The tail, read by a lightweight transaction, tells.
            Err(_) => {
                self.lost.push(attempt);
                self.catch_up(known).await?;
                Ok(None)
            }
        }
    }

    /// Reads what others appended. Whether there was anything.
    async fn catch_up(&self, known: &mut JournalState) -> Result<bool, LedgerError> {
        let journal = &self.postings.journal;
        let tail = journal.read_tail(self.live).await?;
        if tail.position < known.tail.position {
            // The table was emptied.
            *known = self.read_journal().await?;
            return Ok(true);
        }
        let is_new = tail.position > known.tail.position;
        let (from, to) = (known.tail.position, tail.position);
        known
            .unwritten
            .extend(journal.read_records(self.live, from, to).await?);
        known.tail = tail;
        if known.unwritten.len() > PAGE {
            self.forget_removed(known).await?;
        }
        Ok(is_new)
    }

    /// Others remove their records: those are not kept here.
    async fn forget_removed(&self, known: &mut JournalState) -> Result<(), LedgerError> {
        if let Some((first, _)) = known.unwritten.first_key_value() {
            let (above, to) = (first.saturating_sub(1), known.tail.position);
            let left = self
                .postings
                .journal
                .read_records(self.live, above, to)
                .await?;
            let left: HashSet<i64> = left.into_iter().map(|(position, _)| position).collect();
            known
                .unwritten
                .retain(|position, _| left.contains(position));
        }
        Ok(())
    }

    /// The record stands: it takes effect here, its rows are written, and its callers may hear of it.
    async fn finish_group(
        &self,
        position: i64,
        attempt: Attempt,
    ) -> Result<Vec<JudgedAnswer>, LedgerError> {
        if fail_points::reach("record-appended") {
            return Err(LedgerError::Timeout);
        }
        let Attempt { record, answers } = attempt;
        self.scylla.appends.take_record(position, &record);
        self.tell_commits(&record);
        self.postings.write_record(self.live, &record).await?;
        fail_points::reach("record-written");
        Ok(answers)
    }

    /// The transactions of a record take effect on this instance, one after the other and each whole: a later one of the same user
    /// must not be shown without them.
    fn tell_commits(&self, record: &JournalRecord) {
        let Some(hook) = self.scylla.hook.get() else {
            return;
        };
        for item in &record.items {
            if let Some(claim) = &item.claim {
                hook(&item.receipt_of(claim), Commit::Stands);
            }
        }
    }
}
