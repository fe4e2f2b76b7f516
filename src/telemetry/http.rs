//! Answers of the listeners: requests by route and status, and how long each answer took to make.
//!
//! **Invariants.** A hit in memory on the fast path costs nothing here: it is counted once, by [`Meters::memory_hit`], and the
//! request counter, the request histogram, the read histogram and the tier histogram all show that one record.
//!
//! **Limits.** Requests whose client hung up before the answer was made are not counted.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use metrics::{Counter, Label};

use super::{
    HttpStatus, Meters, Op, ReadOutcome, Route, Seconds, Tier,
    counters::{PerLabel, make_each},
    histogram::HistogramTally,
    metric_name,
    prometheus_histograms::Families,
};

const SECONDS: &str = "http_request_seconds";
const REQUESTS: &str = "http_requests_total";

/// A counter and its exported series, which is updated when the metrics are read.
struct Requests {
    counted: AtomicU64,
    shown: Counter,
}

/// Requests of all routes.
pub(super) struct Http {
    routes: PerLabel<Route, (PerLabel<HttpStatus, Requests>, Seconds)>,
    /// Hits in memory on the fast path, of any status.
    hits: Seconds,
    /// Hits among them that were answered with 304.
    unchanged: AtomicU64,
}

impl Http {
    pub(super) fn register_http(families: &mut Families) -> Self {
        let help = "Seconds from a request's head until its answer was made, by route";
        let hits = Seconds::default();
        let routes = make_each(Route::ALL.iter().copied(), |route| {
            let labels = [Label::new("route", route.label_value())];
            let seconds = families.add_seconds(SECONDS, help, &labels);
            if route == Route::Balance {
                families.include_part(SECONDS, &labels, &hits);
            }
            let statuses = HttpStatus::ALL.iter().copied();
            (
                make_each(statuses, |status| request_counter(route, status)),
                seconds,
            )
        });
        Self {
            routes,
            hits,
            unchanged: AtomicU64::new(0),
        }
    }

    /// Hits of the fast path are reads from memory too.
    pub(super) fn include_hits(&self, families: &mut Families) {
        let outcome = Label::new("outcome", ReadOutcome::Memory.word());
        families.include_part("read_seconds", &[outcome], &self.hits);
        let tier = [
            Label::new("tier", Tier::Memory.word()),
            Label::new("op", Op::Get.label_value()),
        ];
        families.include_part("tier_seconds", &tier, &self.hits);
    }

    /// Brings the counters up to date. They never fall: a hit is counted before it is known to be a 304.
    pub(super) fn update_counters(&self) {
        let unchanged = self.unchanged.load(Ordering::Relaxed);
        let hits = self.hits.count_values();
        for (route, (statuses, _)) in &self.routes.0 {
            for (status, requests) in &statuses.0 {
                let hits = match (route, status) {
                    (Route::Balance, HttpStatus::Ok) => hits.saturating_sub(unchanged),
                    (Route::Balance, HttpStatus::NotModified) => unchanged,
                    _ => 0,
                };
                let counted = requests.counted.load(Ordering::Relaxed);
                requests.shown.absolute(counted.saturating_add(hits));
            }
        }
    }

    pub(super) fn count_hits(&self) -> u64 {
        self.hits.count_values()
    }

    pub(super) fn hits_tally(&self) -> HistogramTally {
        self.hits.tally_values()
    }
}

fn request_counter(route: Route, status: HttpStatus) -> Requests {
    let labels = vec![
        Label::new("route", route.label_value()),
        Label::new("status", status.label_value()),
    ];
    let shown = metrics::counter!(metric_name(REQUESTS), labels);
    shown.increment(0);
    Requests {
        counted: AtomicU64::new(0),
        shown,
    }
}

impl Meters {
    /// The fast path answered a balance request from memory: a read, a look into the tier and an HTTP request in one.
    pub fn memory_hit(&self, took: Duration) {
        self.http.hits.record_duration(took);
    }

    /// One of those hits was answered with 304.
    pub fn unchanged_hit(&self) {
        self.http.unchanged.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered, other than by a hit of the fast path. `took` is the time from its head to its answer.
    pub fn http_request(&self, route: Route, status: HttpStatus, took: Duration) {
        if let Some((statuses, seconds)) = self.http.routes.get(route) {
            seconds.record_duration(took);
            if let Some(requests) = statuses.get(status) {
                requests.counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_status_is_there_at_zero() {
        let meters = Meters::new();
        for route in Route::ALL {
            let route = route.label_value();
            for status in HttpStatus::ALL {
                let status = status.label_value();
                let labels = format!("{{route=\"{route}\",status=\"{status}\"}}");
                meters.assert_shows(&[&format!("http_requests_total{labels} 0")]);
            }
            let labels = format!("{{route=\"{route}\"}}");
            meters.assert_shows(&[&format!("http_request_seconds_count{labels} 0")]);
        }
    }

    #[test]
    fn a_hit_of_the_fast_path_is_a_read_a_look_and_a_request() {
        let meters = Meters::new();
        for _ in 0..3 {
            meters.memory_hit(Duration::from_micros(3));
        }
        meters.unchanged_hit();
        let took = Duration::from_millis(5);
        meters.http_request(Route::Balance, HttpStatus::Ok, took);
        meters.http_request(Route::Balance, HttpStatus::Unavailable, took);
        meters.record_read(ReadOutcome::Memory, took);
        meters.assert_shows(&[
            r#"http_requests_total{route="/api/v1/user/balance",status="200"} 3"#,
            r#"http_requests_total{route="/api/v1/user/balance",status="304"} 1"#,
            r#"http_requests_total{route="/api/v1/user/balance",status="503"} 1"#,
            r#"http_request_seconds_count{route="/api/v1/user/balance"} 5"#,
            r#"http_request_seconds_sum{route="/api/v1/user/balance"} 0.010009"#,
            r#"reads_total{outcome="memory"} 4"#,
            r#"read_seconds_count{outcome="memory"} 4"#,
            r#"tier_seconds_count{tier="memory",op="get"} 3"#,
        ]);
        assert_eq!(meters.snapshot_totals().reads[0].count_values(), 4);
    }
}
