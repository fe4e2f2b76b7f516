//! Reads of balances. [`pipeline`] shows one read from top to bottom, and is the only place that knows the order of the tiers.
//!
//! **Invariants.** Memory is asked before any lock is taken and without a task, and serves only while freshness is proven. A read
//! shows nothing below the seqs that were announced or served here before it began, or says so (`behind`). Only the source can
//! fail a read. A client's `min_seq` concerns that client only. Overload sheds loads, never hits in memory.
//!
//! **Cancellation.** A reader may be dropped at any time; the load that it began goes on for its followers.
//!
//! **Limits.** Each wait ends with the request's deadline. Lookups and loads need permits ([`crate::admission`]). A batch loads
//! [`redis_batcher::BATCH_LOADS`] users at a time.

mod history;
mod load;
mod memory_hit;
mod min_seq;
mod most_read;
mod multi_get;
mod pipeline;
mod record;
mod redis_batcher;
mod redis_hit;
mod single_flight;
#[cfg(test)]
mod tests;
mod timings;
mod usage;
mod whole_batch;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use self::history::HistoryReader;
use self::{
    load::SourceTier, memory_hit::MemoryTier, record::ReadRecorder, redis_batcher::RedisBatcher,
    redis_hit::RedisTier, single_flight::SingleFlight,
};
pub use crate::render::RenderedSnapshot;
use crate::{
    admission::{self, Admission, LoadClass},
    audit::Sampler,
    cache::{memory::Memory, redis::Redis},
    cache_status::{CacheStatus, ForwardReason},
    domain::{Catalogue, Floors, UserId},
    ledger::{self, Source},
    protocol::{ChangeLog, Freshness},
    telemetry::Meters,
};

/// The wishes of a read beside the user.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The lowest seqs of the answer, for this request only.
    pub min_seq: Floors,
    /// Read the ledger, whatever is cached.
    pub no_cache: bool,
    /// The refusal of memory, where it was asked a moment ago ([`Reader::serve_from_memory`]).
    pub passed_on: Option<PassedOn>,
}

/// Memory refused a read.
#[derive(Debug, Clone, Copy)]
pub struct PassedOn {
    pub said: ForwardReason,
    pub came: Instant,
}

#[derive(Debug, Clone, Copy)]
pub struct ReadAnswer<B: AsRef<[u8]> = Bytes> {
    /// The balances, whole, with their rendered body.
    pub held: RenderedSnapshot<B>,
    pub cache_status: CacheStatus,
}

impl ReadAnswer {
    /// The same answer, borrowed.
    pub fn borrowed_view(&self) -> ReadAnswer<&[u8]> {
        ReadAnswer {
            held: self.held.borrowed_view(),
            cache_status: self.cache_status,
        }
    }
}

impl ReadAnswer<&[u8]> {
    /// The same answer, owned.
    pub fn to_shared(&self) -> ReadAnswer {
        ReadAnswer {
            held: self.held.to_shared(),
            cache_status: self.cache_status,
        }
    }
}

/// The reason why a read was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The source cannot answer, and nothing that may be shown is cached.
    #[error(transparent)]
    Source(#[from] ledger::LedgerError),
    /// `min_seq` was not reached in time.
    #[error("min_seq was not reached in time")]
    NotReached,
    /// No permit came in time, or none could be expected.
    #[error("too many loads in flight")]
    Shed,
    /// The request's deadline passed, elsewhere than in the source.
    #[error("the request's deadline passed")]
    Deadline,
}

impl From<admission::Shed> for ReadError {
    fn from(_: admission::Shed) -> Self {
        Self::Shed
    }
}

#[derive(Debug)]
pub struct ReaderParts {
    /// Names and scales.
    pub catalogue: Arc<Catalogue>,
    /// The nearest tier.
    pub memory: Arc<Memory>,
    /// The tier between, if there is one.
    pub redis: Option<Arc<Redis>>,
    /// The ledger, and the tables derived from it.
    pub source: Arc<dyn Source>,
    pub change_log: Arc<ChangeLog>,
    /// How fresh that is.
    pub freshness: Arc<Freshness>,
    /// Metrics.
    pub meters: Arc<Meters>,
    pub tasks: TaskTracker,
    /// The auditor's sampler of answers.
    pub sampler: Arc<Sampler>,
}

#[derive(Debug)]
pub struct Reader {
    memory: MemoryTier,
    redis: Option<RedisTier>,
    source: SourceTier,
    admission: Arc<Admission>,
    single_flight: SingleFlight,
    batcher: Mutex<RedisBatcher>,
    recorder: ReadRecorder,
    tasks: TaskTracker,
}

/// A read on its way down the tiers.
#[derive(Debug, Clone, Copy)]
struct Miss {
    class: LoadClass,
    user: UserId,
    /// When the read came.
    begun: Instant,
    /// Why memory did not serve it.
    memory: ForwardReason,
    deadline: Instant,
}
