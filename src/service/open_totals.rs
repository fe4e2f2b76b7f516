//! Makes the keeper of totals and the book of rates.

use std::{sync::Arc, time::Duration};

use crate::{
    cache::redis::Redis,
    config::{Millis, Settings},
    domain::Catalogue,
    ledger::Source,
    rates::RateBook,
    telemetry::Meters,
    totals::TotalsKeeper,
};

/// Makes the parts; scans begin with the loops.
pub(super) fn open_totals(
    settings: &Settings,
    source: &Arc<dyn Source>,
    redis: Option<&Arc<Redis>>,
    catalogue: &Arc<Catalogue>,
    meters: &Arc<Meters>,
) -> (Arc<TotalsKeeper>, Arc<RateBook>) {
    let mut totals = settings.totals.clone();
    if settings.shows_balances_only() {
        totals.interval_ms = Millis(Duration::ZERO);
    }
    let totals = TotalsKeeper::new(
        Arc::clone(source),
        redis.cloned(),
        Arc::clone(catalogue),
        Arc::clone(meters),
        &totals,
    );
    let rates = RateBook::new(
        redis.cloned(),
        Arc::clone(catalogue),
        settings.settlement.max_staleness_ms.0,
    );
    (Arc::new(totals), Arc::new(rates))
}
