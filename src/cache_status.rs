//! The words of an answer: the tier that answered, and why each tier before it did not.

use std::fmt;

/// Where an answer can come from, nearest the reader first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// This process.
    Memory,
    Redis,
    /// The ledger, or what is derived from it.
    Source,
}

/// Why a tier sent the reader on, in the words of RFC 9211.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForwardReason {
    /// The tier holds no snapshot of the user.
    Miss,
    /// The tier holds a snapshot that may not be shown: unproven, below a floor or below the reader's `min_seq`.
    Stale,
    /// The reader asked for the ledger.
    Request,
    /// The tier could not be asked.
    Bypass,
}

/// The reason why an answer is not as good as promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detail {
    /// A floor is known that not even the ledger reaches yet.
    Behind,
    /// The source is down; this is what was known last.
    Stale,
}

impl Detail {
    /// The word in headers, bodies and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Stale => "stale",
        }
    }
}

/// How an answer came about: the `Cache-Status` of RFC 9211, the tier nearest the source first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStatus {
    pub answered: Tier,
    /// Whole seconds for which a tier that answered may go on to do so.
    pub ttl: Option<u64>,
    /// The fault of the answer.
    pub detail: Option<Detail>,
    /// Redis' reply, if it was asked and gave no answer. None where no Redis is configured too.
    pub redis: Option<ForwardReason>,
    /// Memory's reason, if it did not answer.
    pub memory: Option<ForwardReason>,
    /// Another reader's load was joined.
    pub collapsed: bool,
    /// The source was asked, and failed, before a tier answered with something stale.
    pub source_failed: bool,
}

impl CacheStatus {
    /// A hit in memory that lasts for `ttl` more whole seconds.
    pub const fn memory_hit(ttl: u64) -> Self {
        Self {
            answered: Tier::Memory,
            ttl: Some(ttl),
            detail: None,
            redis: None,
            memory: None,
            collapsed: false,
            source_failed: false,
        }
    }

    /// The time to live of a hit in memory about which there is nothing else to say.
    pub fn plain_hit(&self) -> Option<u64> {
        self.ttl.filter(|ttl| *self == Self::memory_hit(*ttl))
    }

    /// The word of metrics and logs for this answer.
    pub const fn read_outcome(&self) -> ReadOutcome {
        match (self.detail, self.collapsed, self.answered) {
            (Some(Detail::Stale), _, _) => ReadOutcome::Stale,
            (Some(Detail::Behind), _, _) => ReadOutcome::Behind,
            (None, true, _) => ReadOutcome::Joined,
            (None, false, Tier::Memory) => ReadOutcome::Memory,
            (None, false, Tier::Redis) => ReadOutcome::Redis,
            (None, false, Tier::Source) => ReadOutcome::Source,
        }
    }
}

/// The tier or result of a read: one word for header, metric, log and dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadOutcome {
    Memory,
    Redis,
    Source,
    /// Another reader's load.
    Joined,
    /// Something old, marked so.
    Stale,
    /// Something below a known floor, marked so.
    Behind,
    /// No tier: too much is in flight.
    Shed,
    /// No tier: the read failed.
    Failed,
}

impl ReadOutcome {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Memory,
        Self::Redis,
        Self::Source,
        Self::Joined,
        Self::Stale,
        Self::Behind,
        Self::Shed,
        Self::Failed,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Source => "source",
            Self::Joined => "joined",
            Self::Stale => "stale",
            Self::Behind => "behind",
            Self::Shed => "shed",
            Self::Failed => "failed",
        }
    }
}

impl Tier {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Source => "source",
        }
    }
}

impl ForwardReason {
    const fn word(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Bypass => "bypass",
        }
    }
}

impl CacheStatus {
    /// Says it piece by piece, as a header has it.
    pub fn write_pieces(&self, mut piece: impl FnMut(&str)) {
        piece(self.answered.word());
        piece("; hit");
        if let Some(ttl) = self.ttl {
            piece("; ttl=");
            piece(itoa::Buffer::new().format(ttl));
        }
        if let Some(detail) = self.detail {
            piece("; detail=");
            piece(detail.word());
        }
        if self.source_failed {
            piece(", source; fwd=stale");
        }
        for (tier, forward) in [(Tier::Redis, self.redis), (Tier::Memory, self.memory)] {
            if let Some(forward) = forward {
                piece(", ");
                piece(tier.word());
                piece("; fwd=");
                piece(forward.word());
            }
        }
        if self.collapsed {
            piece("; collapsed");
        }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut done = Ok(());
        self.write_pieces(|piece| done = done.and_then(|()| f.write_str(piece)));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_status_reads_as_the_contract_writes_it() {
        let cold = CacheStatus {
            answered: Tier::Source,
            ttl: None,
            redis: Some(ForwardReason::Miss),
            memory: Some(ForwardReason::Miss),
            ..CacheStatus::memory_hit(0)
        };
        assert_eq!(CacheStatus::memory_hit(9).to_string(), "memory; hit; ttl=9");
        assert_eq!(
            CacheStatus {
                answered: Tier::Redis,
                memory: Some(ForwardReason::Miss),
                ..CacheStatus::memory_hit(52)
            }
            .to_string(),
            "redis; hit; ttl=52, memory; fwd=miss"
        );
        assert_eq!(
            cold.to_string(),
            "source; hit, redis; fwd=miss, memory; fwd=miss"
        );
        assert_eq!(
            CacheStatus {
                collapsed: true,
                ..cold
            }
            .to_string(),
            "source; hit, redis; fwd=miss, memory; fwd=miss; collapsed"
        );
        let bypassed = CacheStatus {
            redis: Some(ForwardReason::Bypass),
            memory: Some(ForwardReason::Stale),
            ..cold
        };
        assert_eq!(
            bypassed.to_string(),
            "source; hit, redis; fwd=bypass, memory; fwd=stale"
        );
        let stale = CacheStatus {
            detail: Some(Detail::Stale),
            ttl: None,
            source_failed: true,
            redis: Some(ForwardReason::Bypass),
            ..CacheStatus::memory_hit(0)
        };
        assert_eq!(
            stale.to_string(),
            "memory; hit; detail=stale, source; fwd=stale, redis; fwd=bypass"
        );
    }
}
