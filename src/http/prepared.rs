//! Header values of memory hits, made at start: a hit formats nothing.
//!
//! **Limits.** Ages and lives up to [`SECONDS_MAX`]; longer ones are made when they are needed.

use http::HeaderValue;

use crate::trail::Trail;

/// Seconds of which there are values. Memory holds nothing much longer by default.
const SECONDS_MAX: u64 = 120;

/// Values by seconds. Each is a piece of memory that lives as long as the process, so that taking one counts nothing.
#[derive(Debug)]
pub struct Prepared {
    ages: Vec<HeaderValue>,
    hits: Vec<HeaderValue>,
}

impl Prepared {
    /// All of them: a few kilobytes that are never given back, once per listener.
    pub fn new() -> Self {
        let all =
            |value: fn(u64) -> String| (0..=SECONDS_MAX).map(|at| lasting(value(at))).collect();
        Self {
            ages: all(|age| age.to_string()),
            hits: all(|ttl| Trail::memory(ttl).to_string()),
        }
    }

    /// `Age`.
    pub fn age(&self, seconds: u64) -> HeaderValue {
        of(&self.ages, seconds).unwrap_or_else(|| HeaderValue::from(seconds))
    }

    /// `Cache-Status`.
    pub fn status(&self, trail: &Trail) -> Option<HeaderValue> {
        trail
            .ttl
            .filter(|ttl| *trail == Trail::memory(*ttl))
            .and_then(|ttl| of(&self.hits, ttl))
            .or_else(|| HeaderValue::try_from(trail.to_string()).ok())
    }
}

fn of(values: &[HeaderValue], seconds: u64) -> Option<HeaderValue> {
    let at = usize::try_from(seconds).ok()?;
    values.get(at).cloned()
}

fn lasting(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes::Bytes::from_static(text.leak().as_bytes()))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prepared_is_what_would_be_made() {
        let prepared = Prepared::new();
        for seconds in [0, 9, SECONDS_MAX, SECONDS_MAX + 1, u64::MAX] {
            assert_eq!(prepared.age(seconds), HeaderValue::from(seconds));
            let stale = Trail {
                source_failed: true,
                ..Trail::memory(seconds)
            };
            for trail in [Trail::memory(seconds), stale] {
                let status = prepared.status(&trail).unwrap();
                assert_eq!(status, trail.to_string());
            }
        }
    }
}
