//! Rates as this instance knows them: from Redis, or its own where there is none.
//!
//! **Invariants.** What is used was in Redis within `settlement.max_staleness_ms`. A rate that was acknowledged is used by this
//! instance's next answer. Where Redis cannot be asked there is no answer.
//!
//! **Cancellation.** Rates whose request was dropped may be taken; they may be sent again.
//!
//! **Limits.** The rates of each quote of the catalogue, read from Redis once for all waiting callers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Mutex as Turn,
    time::{Instant, timeout_at},
};

use crate::{
    cache::redis::Redis,
    domain::{AssetId, Catalogue, DatedRate, Rates, RatesTaken},
    telemetry::Fault,
};

/// Why rates were not taken, or are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RatesError {
    /// Redis cannot be asked now.
    #[error("redis cannot be asked for rates: {}", .0.label_value())]
    Redis(Fault),
    /// The request's deadline passed.
    #[error("the request's deadline passed")]
    Deadline,
}

#[derive(Debug)]
pub struct RateBook {
    redis: Option<Arc<Redis>>,
    catalogue: Arc<Catalogue>,
    max_staleness: Duration,
    quotes: Mutex<HashMap<AssetId, Arc<Quote>>>,
}

#[derive(Debug, Default)]
struct Quote {
    held: Mutex<HeldRates>,
    /// One request asks Redis, for all that wait.
    turn: Turn<()>,
}

#[derive(Debug, Default)]
struct HeldRates {
    rates: Arc<Rates>,
    /// When Redis was asked for them. None: they have to be read again.
    asked: Option<Instant>,
    /// Rises with each rate that is taken here: an answer that was on its way before may lack it.
    version: u64,
}

impl RateBook {
    /// An empty book. `max_staleness` is `settlement.max_staleness_ms`.
    pub fn new(
        redis: Option<Arc<Redis>>,
        catalogue: Arc<Catalogue>,
        max_staleness: Duration,
    ) -> Self {
        Self {
            redis,
            catalogue,
            max_staleness,
            quotes: Mutex::default(),
        }
    }

    /// Takes rates in a quote of the catalogue, in this order; each unless a newer one is held.
    /// Errors: [`RatesError`]; some may be taken, and all may be sent again.
    pub async fn set_rates(
        &self,
        quote: AssetId,
        rates: &[(AssetId, DatedRate)],
        deadline: Instant,
    ) -> Result<RatesTaken, RatesError> {
        let held = self.quote_entry(quote);
        let Some(redis) = &self.redis else {
            return Ok(held.take_rates(rates));
        };
        let table = self.catalogue.current_table();
        let name = table.get_asset(quote).map(|(name, _)| name.to_owned());
        let name = name.unwrap_or_else(|| quote.to_string());
        let taken = timeout_at(deadline, redis.set_rates(&name, rates, &table)).await;
        // Forgotten even after an error: Redis may have taken the rates.
        held.forget_answer();
        taken
            .map_err(|_| RatesError::Deadline)?
            .map_err(RatesError::Redis)
    }

    /// Returns the rates in a quote of the catalogue; empty if none was posted.
    pub async fn get_rates(
        &self,
        quote: AssetId,
        deadline: Instant,
    ) -> Result<Arc<Rates>, RatesError> {
        let held = self.quote_entry(quote);
        let Some(redis) = &self.redis else {
            return Ok(Arc::clone(&held.held.lock().rates));
        };
        if let Some(rates) = held.fresh_rates(self.max_staleness) {
            return Ok(rates);
        }
        let read = async {
            let _turn = held.turn.lock().await;
            if let Some(rates) = held.fresh_rates(self.max_staleness) {
                return Ok(rates);
            }
            let (asked, version) = (Instant::now(), held.held.lock().version);
            let table = self.catalogue.current_table();
            let name = table.get_asset(quote).map(|(name, _)| name.to_owned());
            let name = name.unwrap_or_else(|| quote.to_string());
            let rates = redis
                .read_rates(&name, &table)
                .await
                .map_err(RatesError::Redis)?;
            let rates = Arc::new(rates);
            held.keep_answer(Arc::clone(&rates), asked, version);
            Ok(rates)
        };
        timeout_at(deadline, read)
            .await
            .unwrap_or(Err(RatesError::Deadline))
    }

    fn quote_entry(&self, quote: AssetId) -> Arc<Quote> {
        Arc::clone(self.quotes.lock().entry(quote).or_default())
    }
}

impl Quote {
    fn take_rates(&self, rates: &[(AssetId, DatedRate)]) -> RatesTaken {
        let mut held = self.held.lock();
        let mut all = Rates::clone(&held.rates);
        let mut taken = RatesTaken::default();
        for (asset, dated) in rates {
            let counted = if all.offer_rate(*asset, dated.clone()) {
                &mut taken.applied
            } else {
                &mut taken.old
            };
            *counted = counted.saturating_add(1);
        }
        held.rates = Arc::new(all);
        taken
    }

    fn forget_answer(&self) {
        let mut held = self.held.lock();
        held.asked = None;
        held.version = held.version.saturating_add(1);
    }

    fn fresh_rates(&self, max_staleness: Duration) -> Option<Arc<Rates>> {
        let held = self.held.lock();
        let fresh = held.asked.is_some_and(|at| at.elapsed() < max_staleness);
        fresh.then(|| Arc::clone(&held.rates))
    }

    /// Keeps an answer, unless rates were taken here since it was asked for.
    fn keep_answer(&self, rates: Arc<Rates>, asked: Instant, version: u64) {
        let mut held = self.held.lock();
        if held.version == version {
            held.rates = rates;
            held.asked = Some(asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UnixMillis;

    fn dated_rate(rate: &str, at: i64) -> DatedRate {
        DatedRate {
            rate: rate.parse().unwrap(),
            at: UnixMillis(at),
        }
    }

    #[tokio::test]
    async fn without_redis_the_instance_keeps_them() {
        let book = RateBook::new(None, Arc::default(), Duration::from_millis(500));
        let id = |id| AssetId::new(id).unwrap();
        let deadline = Instant::now() + Duration::from_secs(1);
        assert_eq!(
            *book.get_rates(id(2), deadline).await.unwrap(),
            Rates::default()
        );
        let rates = [
            (id(1), dated_rate("5", 10)),
            (id(1), dated_rate("6", 9)),
            (id(3), dated_rate("7", 10)),
        ];
        let taken = book.set_rates(id(2), &rates, deadline).await.unwrap();
        assert_eq!((taken.applied, taken.old), (2, 1));
        let held = book.get_rates(id(2), deadline).await.unwrap();
        assert_eq!(held.0[&id(1)], dated_rate("5", 10));
        assert!(book.get_rates(id(1), deadline).await.unwrap().0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_on_its_way_when_a_rate_was_taken_is_not_kept() {
        let quote = Quote::default();
        let staleness = Duration::from_millis(500);
        let asked = Instant::now();
        quote.keep_answer(Arc::default(), asked, 0);
        assert!(quote.fresh_rates(staleness).is_some());
        tokio::time::advance(staleness).await;
        assert!(quote.fresh_rates(staleness).is_none());
        let (asked, version) = (Instant::now(), 0);
        quote.forget_answer();
        quote.keep_answer(Arc::default(), asked, version);
        assert!(quote.fresh_rates(staleness).is_none());
        quote.keep_answer(Arc::default(), asked, 1);
        assert!(quote.fresh_rates(staleness).is_some());
    }
}
