//! Totals and rates of the assembled parts: asked for by the routes, and shown on the page.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    assembled::Assembled,
    shown::{good_part, off_part, warn_part},
};
use crate::{
    apply, clock,
    domain::{AssetId, DatedRate, Rates, RatesTaken},
    http::HeldTotals,
    ops::dashboard::ServicePart,
    rates,
};

impl Assembled {
    pub(super) fn held_totals(&self) -> HeldTotals {
        match self.totals.newest_totals() {
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
    ) -> Result<RatesTaken, apply::ApplyError> {
        let rates = Arc::clone(&self.rates);
        let change = async move { rates.set_rates(quote, &all, deadline).await };
        let taken = self.run_to_end(change).await;
        taken
            .unwrap_or(Err(rates::RatesError::Deadline))
            .map_err(told_rates)
    }

    pub(super) async fn known_rates(
        &self,
        quote: AssetId,
        deadline: Instant,
    ) -> Result<Arc<Rates>, apply::ApplyError> {
        self.rates
            .get_rates(quote, deadline)
            .await
            .map_err(told_rates)
    }

    pub(super) fn totals_part(&self) -> ServicePart {
        let name = "Totals";
        let scan = self.totals.scan_progress().map_or_else(
            || "no scan here now".to_owned(),
            |(permille, rows)| format!("scan {} % done, {rows} rows", permille / 10),
        );
        match self.totals.newest_totals() {
            _ if !self.totals.is_on() => off_part(name, "off", "totals.interval_ms is 0"),
            None => warn_part(name, "not made yet", &scan),
            Some(totals) => {
                let seconds = totals.began.seconds_until(clock::wall_now());
                let age = format!("{seconds} s old");
                if seconds > self.totals.late_after().as_secs() {
                    warn_part(name, &age, &scan)
                } else {
                    good_part(name, &age, &scan)
                }
            }
        }
    }
}

fn told_rates(error: rates::RatesError) -> apply::ApplyError {
    match error {
        rates::RatesError::Redis(_) => apply::ApplyError::Unavailable(error.to_string().into()),
        rates::RatesError::Deadline => apply::ApplyError::Deadline,
    }
}
