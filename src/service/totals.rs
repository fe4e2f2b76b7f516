//! Totals and rates of the assembled parts: asked for by the routes, and shown on the page.

use std::sync::Arc;

use tokio::time::Instant;

use super::{assembled::Assembled, shown::part};
use crate::{
    apply, clock,
    domain::{AssetId, DatedRate, Rates, RatesTaken},
    http::HeldTotals,
    ops::dashboard::{Part, PartState},
    rates,
};

impl Assembled {
    pub(super) fn held_totals(&self) -> HeldTotals {
        match self.totals.totals() {
            _ if !self.totals.is_on() => HeldTotals::Off,
            None => HeldTotals::Pending,
            Some(totals) => HeldTotals::Held(totals),
        }
    }

    pub(super) async fn take_rates(
        &self,
        quote: AssetId,
        all: Vec<(AssetId, DatedRate)>,
        deadline: Instant,
    ) -> Result<RatesTaken, apply::Error> {
        let rates = Arc::clone(&self.rates);
        let change = async move { rates.set(quote, &all, deadline).await };
        let taken = self.finish(change).await;
        taken
            .unwrap_or(Err(rates::Error::Deadline))
            .map_err(told_rates)
    }

    pub(super) async fn known_rates(
        &self,
        quote: AssetId,
        deadline: Instant,
    ) -> Result<Arc<Rates>, apply::Error> {
        self.rates.get(quote, deadline).await.map_err(told_rates)
    }

    pub(super) fn totals_part(&self) -> Part {
        let name = "Totals";
        let scan = self.totals.scan_progress().map_or_else(
            || "no scan here now".to_owned(),
            |(permille, rows)| format!("scan {} % done, {rows} rows", permille / 10),
        );
        match self.totals.totals() {
            _ if !self.totals.is_on() => {
                part(name, PartState::Off, "off", "totals.interval_ms is 0")
            }
            None => part(name, PartState::Warn, "not made yet", &scan),
            Some(totals) => {
                let seconds = totals.began.seconds_until(clock::wall());
                let late = seconds > self.totals.late_after().as_secs();
                let state = if late {
                    PartState::Warn
                } else {
                    PartState::Good
                };
                part(name, state, &format!("{seconds} s old"), &scan)
            }
        }
    }
}

fn told_rates(error: rates::Error) -> apply::Error {
    match error {
        rates::Error::Redis(_) => apply::Error::Unavailable(error.to_string().into()),
        rates::Error::Deadline => apply::Error::Deadline,
    }
}
