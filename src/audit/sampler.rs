//! Notes of answers and notifications, and how little they cost the threads that serve.
//!
//! **Invariants.** A serving thread looks at one flag of its tier, which is written only a few times a second, and goes on.
//! A read never waits: a full queue drops the note.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::mpsc, time::Instant};

use crate::{
    cache_status::Tier,
    clock,
    domain::{AssetId, Seq, Snapshot, UnixMillis, UserId},
};

use super::ASSETS_MAX;

/// The most notes between two looks of the auditor.
const INBOX_MAX: usize = 64;

/// One balance of an answer, without its amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownSeq {
    pub asset: AssetId,
    pub seq: Seq,
    /// The `created_at` of that seq, as it was shown.
    pub updated_at: Option<UnixMillis>,
    /// When the source, or a notification, said so.
    pub said_at: UnixMillis,
}

/// An answer, as far as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSample {
    /// Whose balances.
    pub user: UserId,
    pub tier: Tier,
    /// When the answer was there.
    pub served: Instant,
    /// When the read began, by the wall clock: what was in the ledger long before has to be shown.
    pub asked_at: UnixMillis,
    /// When the read began, by the monotonic clock.
    pub asked: Instant,
    /// The seqs that were shown, by asset.
    pub shown: Vec<ShownSeq>,
    /// More assets were shown than are remembered.
    pub cut: bool,
    /// Freshness was proven then.
    pub proven: bool,
    /// Another reader's load was joined.
    pub joined: bool,
}

/// A notification that changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldChange {
    pub user: UserId,
    pub asset: AssetId,
    /// The lowest seq that the balance has now.
    pub seq: Seq,
    /// When it took effect here.
    pub told: Instant,
}

#[derive(Debug)]
pub(super) enum AuditNote {
    Answer(Box<AuditSample>),
    News(ToldChange),
}

/// The auditor's end of the queue.
#[derive(Debug)]
pub struct SampleQueue(pub(super) mpsc::Receiver<AuditNote>);

/// Notes one answer per tier, and one notification, after each time it was armed.
#[derive(Debug)]
#[repr(align(64))]
pub struct Sampler {
    memory: AtomicBool,
    redis: AtomicBool,
    source: AtomicBool,
    news: AtomicBool,
    inbox: mpsc::Sender<AuditNote>,
}

impl AuditSample {
    /// An answer of this tier that is ready now, for a read that began at `asked`.
    pub fn from_answer(user: UserId, tier: Tier, snapshot: &Snapshot, asked: Instant) -> Self {
        let served = Instant::now();
        let took = served.saturating_duration_since(asked).as_millis();
        let took = i64::try_from(took).unwrap_or(i64::MAX);
        let balances = snapshot.balances();
        let shown = balances.iter().take(ASSETS_MAX).map(|balance| ShownSeq {
            asset: balance.asset,
            seq: balance.seq,
            updated_at: balance.updated_at,
            said_at: balance.said_at,
        });
        Self {
            user,
            tier,
            served,
            asked_at: UnixMillis(clock::wall_now().0.saturating_sub(took)),
            asked,
            shown: shown.collect(),
            cut: balances.len() > ASSETS_MAX,
            proven: false,
            joined: false,
        }
    }

    pub fn of_asset(&self, asset: AssetId) -> Option<&ShownSeq> {
        self.shown.iter().find(|shown| shown.asset == asset)
    }
}

impl Sampler {
    /// A sampler that is not armed, and where its notes go.
    pub fn new() -> (Arc<Self>, SampleQueue) {
        let (inbox, notes) = mpsc::channel(INBOX_MAX);
        let sampler = Self {
            memory: AtomicBool::new(false),
            redis: AtomicBool::new(false),
            source: AtomicBool::new(false),
            news: AtomicBool::new(false),
            inbox,
        };
        (Arc::new(sampler), SampleQueue(notes))
    }

    const fn of_tier(&self, tier: Tier) -> &AtomicBool {
        match tier {
            Tier::Memory => &self.memory,
            Tier::Redis => &self.redis,
            Tier::Source => &self.source,
        }
    }

    /// Whether this answer is to be noted: [`Sampler::note_answer`] follows then.
    pub fn wants_answer(&self, tier: Tier) -> bool {
        take_flag(self.of_tier(tier))
    }

    pub fn note_answer(&self, sample: AuditSample) {
        let _ = self.inbox.try_send(AuditNote::Answer(Box::new(sample)));
    }

    /// Notes a notification that changed something.
    pub fn note_change(&self, user: UserId, asset: AssetId, seq: Seq) {
        if take_flag(&self.news) {
            let told = Instant::now();
            let news = ToldChange {
                user,
                asset,
                seq,
                told,
            };
            let _ = self.inbox.try_send(AuditNote::News(news));
        }
    }

    /// The next answer of each tier is noted.
    pub fn arm_tiers(&self) {
        for tier in [Tier::Memory, Tier::Redis, Tier::Source] {
            self.of_tier(tier).store(true, Ordering::Relaxed);
        }
    }

    /// The next notification is noted.
    pub fn arm_for_news(&self) {
        self.news.store(true, Ordering::Relaxed);
    }

    /// Stops taking samples.
    pub fn disarm_all(&self) {
        for flag in [&self.memory, &self.redis, &self.source, &self.news] {
            flag.store(false, Ordering::Relaxed);
        }
    }
}

/// Takes the flag if it is set: one thread writes it, the others only read the cache line.
fn take_flag(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::Relaxed)
}
