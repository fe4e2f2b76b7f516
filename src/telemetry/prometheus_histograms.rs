//! Histograms as Prometheus reads them: the exporter's own are slow, and their sums are floats.
//!
//! **Invariants.** `_count` is the count of `+Inf`; sums are written as the exact decimal of what was added up.

use std::{fmt::Write, sync::Arc};

use metrics::Label;

use super::{
    histogram::{CountHistogram, Histogram, HistogramTally, Seconds},
    metric_name,
};

/// Bounds shown of durations: 1 µs to 8.4 s.
const BOUNDS_SECONDS: u32 = 24;
/// Bounds shown of numbers: 1 to 65,536.
const BOUNDS_COUNTS: u32 = 17;

/// All histograms of a process.
#[derive(Debug, Default)]
pub struct Families(Vec<Family>);

#[derive(Debug, Clone, Copy)]
enum HistogramUnit {
    Seconds,
    Counts,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: HistogramUnit,
    series: Vec<(String, Vec<Arc<Histogram>>)>,
}

impl Families {
    /// A series of durations. The series of one name share their help.
    #[must_use]
    pub fn add_seconds(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[Label],
    ) -> Seconds {
        Seconds(self.add_series(name, help, HistogramUnit::Seconds, labels))
    }

    /// A series of numbers, such as rows or assets.
    #[must_use]
    pub fn add_counts(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[Label],
    ) -> CountHistogram {
        CountHistogram(self.add_series(name, help, HistogramUnit::Counts, labels))
    }

    fn add_series(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: HistogramUnit,
        labels: &[Label],
    ) -> Arc<Histogram> {
        let histogram = Arc::<Histogram>::default();
        let one = (label_text(labels), vec![Arc::clone(&histogram)]);
        match self.0.iter_mut().find(|family| family.name == name) {
            Some(family) => family.series.push(one),
            None => self.0.push(Family {
                name,
                help,
                unit,
                series: vec![one],
            }),
        }
        histogram
    }

    /// Adds what is recorded elsewhere to a series of durations that there is.
    pub fn include_part(&mut self, name: &str, labels: &[Label], part: &Seconds) {
        let text = label_text(labels);
        let family = self.0.iter_mut().find(|family| family.name == name);
        let series = family.and_then(|family| family.series.iter_mut().find(|(at, _)| *at == text));
        if let Some((_, parts)) = series {
            parts.push(Arc::clone(&part.0));
        }
    }

    /// Appends them in Prometheus' text format.
    pub(super) fn render_families(&self, page: &mut String) {
        for family in &self.0 {
            // Writing to a string cannot fail.
            let _ = family.render_family(page);
        }
    }
}

/// Labels as they stand between the braces of a series.
fn label_text(labels: &[Label]) -> String {
    let each = labels.iter();
    let texts: Vec<_> = each
        .map(|label| format!("{}=\"{}\"", label.key(), label.value()))
        .collect();
    texts.join(",")
}

impl Family {
    fn render_family(&self, page: &mut String) -> std::fmt::Result {
        let name = metric_name(self.name);
        writeln!(page, "# HELP {name} {}\n# TYPE {name} histogram", self.help)?;
        for (labels, parts) in &self.series {
            let mut tally = HistogramTally::NONE;
            for histogram in parts {
                tally.add_tally(&histogram.tally_values());
            }
            self.render_buckets(page, &name, labels, &tally)?;
            let braced = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{labels}}}")
            };
            writeln!(
                page,
                "{name}_sum{braced} {}",
                self.unit.value_text(tally.sum)
            )?;
            writeln!(page, "{name}_count{braced} {}", tally.count_values())?;
        }
        writeln!(page)
    }

    fn render_buckets(
        &self,
        page: &mut String,
        name: &str,
        labels: &str,
        tally: &HistogramTally,
    ) -> std::fmt::Result {
        let comma = if labels.is_empty() { "" } else { "," };
        for octave in 0..self.unit.bound_count() {
            let le = self.unit.bound_text(octave);
            let below = tally.count_below(usize::try_from(octave).unwrap_or(usize::MAX));
            writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {below}")?;
        }
        let count = tally.count_values();
        writeln!(page, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")
    }
}

impl HistogramUnit {
    const fn bound_count(self) -> u32 {
        match self {
            Self::Seconds => BOUNDS_SECONDS,
            Self::Counts => BOUNDS_COUNTS,
        }
    }

    fn bound_text(self, octave: u32) -> String {
        let bound = 1_u64.checked_shl(octave).unwrap_or(u64::MAX);
        self.value_text(match self {
            Self::Seconds => bound.saturating_mul(1_000),
            Self::Counts => bound,
        })
    }

    /// Nanoseconds as seconds, or the number.
    fn value_text(self, value: u64) -> String {
        match self {
            Self::Seconds => {
                let (seconds, nanos) = (value / 1_000_000_000, value % 1_000_000_000);
                let text = format!("{seconds}.{nanos:09}");
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
            Self::Counts => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_family_reads_as_prometheus_wants_it() {
        let mut families = Families::default();
        let rows = families.add_counts("rows", "Rows per load", &[]);
        let seconds =
            families.add_seconds("read_seconds", "Seconds", &[Label::new("outcome", "a")]);
        let _other = families.add_seconds("read_seconds", "Seconds", &[Label::new("outcome", "b")]);
        rows.record_number(3);
        seconds.record_duration(Duration::from_nanos(1_001));
        seconds.record_duration(Duration::from_secs(20));
        let mut page = String::new();
        families.render_families(&mut page);
        for line in [
            "# HELP balance_cache_rows Rows per load",
            "balance_cache_rows_bucket{le=\"2\"} 0",
            "balance_cache_rows_bucket{le=\"4\"} 1",
            "balance_cache_rows_bucket{le=\"65536\"} 1",
            "balance_cache_rows_sum 3",
            "balance_cache_read_seconds_bucket{outcome=\"a\",le=\"0.000001\"} 0",
            "balance_cache_read_seconds_bucket{outcome=\"a\",le=\"0.000002\"} 1",
            "balance_cache_read_seconds_bucket{outcome=\"a\",le=\"8.388608\"} 1",
            "balance_cache_read_seconds_bucket{outcome=\"a\",le=\"+Inf\"} 2",
            "balance_cache_read_seconds_sum{outcome=\"a\"} 20.000001001",
            "balance_cache_read_seconds_count{outcome=\"a\"} 2",
            "balance_cache_read_seconds_sum{outcome=\"b\"} 0",
        ] {
            assert!(
                page.lines().any(|at| at == line),
                "{line} is not in\n{page}"
            );
        }
        let types = page.matches("# TYPE balance_cache_read_seconds histogram");
        assert_eq!(types.count(), 1);
    }
}
