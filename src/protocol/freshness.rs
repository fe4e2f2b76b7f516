//! Proofs that this instance knows all changes up to `max_staleness` ago.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The proof that this instance knows all changes up to a moment.
///
/// Proofs belong to a term; a term ends with the session that they came from ([`Freshness::revoke_proof`]). So nothing that was
/// proven with one Redis counts with the next.
#[derive(Debug)]
pub struct Freshness {
    proof: Mutex<Proof>,
    /// A copy of the proof for readers: microseconds from `base`, plus one; 0 where there is none.
    shown: AtomicU64,
    base: Instant,
    max_staleness: Option<Duration>,
}

#[derive(Debug, Default)]
struct Proof {
    term: u64,
    micros: u64,
    ever: bool,
}

impl Freshness {
    /// Freshness with a feed: it has to be proven, and a proof is good for `max_staleness`.
    pub fn by_proof(max_staleness: Duration) -> Self {
        Self::new(Some(max_staleness))
    }

    /// Without a feed this instance is the only one and knows everything that it was told.
    pub fn always_fresh() -> Self {
        Self::new(None)
    }

    fn new(max_staleness: Option<Duration>) -> Self {
        Self {
            proof: Mutex::default(),
            shown: AtomicU64::new(0),
            base: Instant::now(),
            max_staleness,
        }
    }

    /// The term that proofs are given in now.
    pub fn current_term(&self) -> u64 {
        self.proof.lock().term
    }

    /// Everything that was in the feed at `sent` has taken effect here. Nothing is proven if the term is over.
    pub fn prove_fresh(&self, term: u64, sent: Instant) {
        let micros = u64::try_from(sent.saturating_duration_since(self.base).as_micros())
            .unwrap_or(u64::MAX);
        let mut proof = self.proof.lock();
        if proof.term == term {
            proof.micros = proof.micros.max(micros.saturating_add(1));
            proof.ever = true;
            self.shown.store(proof.micros, Ordering::SeqCst);
        }
    }

    /// There was a proof once, in whatever term; without a feed none is needed.
    pub fn ever_proven(&self) -> bool {
        self.max_staleness.is_none() || self.proof.lock().ever
    }

    /// Nothing is proven any more, and a new term begins.
    pub fn revoke_proof(&self) {
        let mut proof = self.proof.lock();
        *proof = Proof {
            term: proof.term.saturating_add(1),
            micros: 0,
            ever: proof.ever,
        };
        self.shown.store(0, Ordering::SeqCst);
    }

    /// How long ago the newest proof was dated; none where there is no feed or nothing is proven.
    pub fn proof_age(&self, now: Instant) -> Option<Duration> {
        self.max_staleness?;
        let micros = self.shown.load(Ordering::SeqCst).checked_sub(1)?;
        let proof = self.base.checked_add(Duration::from_micros(micros))?;
        Some(now.saturating_duration_since(proof))
    }

    /// Whether freshness is proven for a read that begins `now`.
    pub fn is_proven(&self, now: Instant) -> bool {
        let Some(max) = self.max_staleness else {
            return true;
        };
        match self.shown.load(Ordering::SeqCst).checked_sub(1) {
            None => false,
            Some(micros) => {
                let proof = self
                    .base
                    .checked_add(Duration::from_micros(micros))
                    .unwrap_or(self.base);
                now.saturating_duration_since(proof) <= max
            }
        }
    }

    /// Whether something that was read from the ledger at `loaded` may be shown to a read that begins `now`, whatever the feed
    /// says.
    pub fn young_enough(&self, loaded: Instant, now: Instant) -> bool {
        self.max_staleness
            .is_none_or(|max| now.saturating_duration_since(loaded) <= max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_proof_is_good_for_max_staleness_from_when_it_was_asked_for() {
        let freshness = Freshness::by_proof(Duration::from_millis(500));
        assert!(
            !freshness.is_proven(Instant::now()),
            "nothing was proven yet"
        );
        let (term, sent) = (freshness.current_term(), Instant::now());
        tokio::time::advance(Duration::from_millis(400)).await;
        freshness.prove_fresh(term, sent);
        assert!(freshness.is_proven(Instant::now()));
        tokio::time::advance(Duration::from_millis(101)).await;
        assert!(!freshness.is_proven(Instant::now()));
        assert!(Freshness::always_fresh().is_proven(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_proven_with_one_redis_does_not_count_with_the_next() {
        let freshness = Freshness::by_proof(Duration::from_millis(500));
        let (term, now) = (freshness.current_term(), Instant::now());
        freshness.prove_fresh(term, now);
        assert!(freshness.is_proven(now));
        freshness.revoke_proof();
        assert!(!freshness.is_proven(now));
        freshness.prove_fresh(term, now);
        assert!(
            !freshness.is_proven(now),
            "a read that was under way proves nothing"
        );
        freshness.prove_fresh(freshness.current_term(), now);
        assert!(freshness.is_proven(now));
    }
}
