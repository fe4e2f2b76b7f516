//! Whether an answer was too old when it was served: pure.

use std::time::Duration;

use crate::{domain::UnixMillis, ledger::RowAbove};

/// How far a time may be ahead of this machine's clock to be believed.
const AHEAD_MAX_MS: i64 = 1_000;

/// The judgement of an answer by a row that it did not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StalenessVerdict {
    /// It was too old: the row stood there since then.
    Stale(UnixMillis),
    /// It was good enough.
    Good,
    /// The row has no time that can be believed.
    Unknown,
}

/// Since when the row stood in the ledger, at the latest: both the writer and the database must have said so. The word of the writer
/// alone proves nothing: a late settlement has the time of its event.
pub(super) fn stood_since(row: &RowAbove, now: UnixMillis) -> Option<UnixMillis> {
    let horizon = UnixMillis(now.0.saturating_add(AHEAD_MAX_MS));
    let believed = |at: &UnixMillis| at.0 > 0 && *at <= horizon;
    // A database whose clock is ahead, or whose timestamps are no times: the row may be younger than anything here says.
    let written = row.written_at.filter(believed)?;
    let created = row.created_at.filter(believed);
    Some(created.map_or(written, |at| at.max(written)))
}

/// The answer to a read that began at `asked_at` did not show this row, and may miss what is younger than `allowed`.
pub(super) fn judge_staleness(
    row: &RowAbove,
    asked_at: UnixMillis,
    allowed: Duration,
    now: UnixMillis,
) -> StalenessVerdict {
    let allowed = i64::try_from(allowed.as_millis()).unwrap_or(i64::MAX);
    match stood_since(row, now) {
        None => StalenessVerdict::Unknown,
        Some(since) if since.0.saturating_add(allowed) < asked_at.0 => {
            StalenessVerdict::Stale(since)
        }
        Some(_) => StalenessVerdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seq;

    const NOW: i64 = 1_765_352_441_000;
    const ALLOWED: Duration = Duration::from_secs(1);

    /// Of a read that began at `NOW`, about a row with these times before it, in milliseconds.
    fn verdict_of(created: Option<i64>, written: Option<i64>) -> StalenessVerdict {
        let at = |before: i64| UnixMillis(NOW - before);
        let row = RowAbove {
            seq: Seq::new(2).unwrap(),
            created_at: created.map(at),
            written_at: written.map(at),
        };
        judge_staleness(&row, UnixMillis(NOW), ALLOWED, UnixMillis(NOW + 100))
    }

    const fn stale_since(before: i64) -> StalenessVerdict {
        StalenessVerdict::Stale(UnixMillis(NOW - before))
    }

    #[test]
    fn a_row_that_stood_longer_than_allowed_before_the_read_began_was_missed() {
        assert_eq!(verdict_of(None, Some(1_001)), stale_since(1_001));
        assert_eq!(verdict_of(None, Some(1_000)), StalenessVerdict::Good);
        // Written after the answer.
        assert_eq!(verdict_of(None, Some(-50)), StalenessVerdict::Good);
    }

    #[test]
    fn both_the_writer_and_the_database_must_say_that_it_stood_there() {
        // The event is old, the row is not.
        let verdict = verdict_of(Some(60_000), Some(10));
        assert_eq!(verdict, StalenessVerdict::Good);
        assert_eq!(verdict_of(Some(10), Some(60_000)), StalenessVerdict::Good);
        assert_eq!(verdict_of(Some(60_000), Some(2_000)), stale_since(2_000));
        assert_eq!(verdict_of(None, Some(2_000)), stale_since(2_000));
    }

    #[test]
    fn times_that_cannot_be_prove_nothing() {
        assert_eq!(verdict_of(None, None), StalenessVerdict::Unknown);
        // Still to come; at 0; a late settlement with the time of its event; and the database's clock is ahead.
        for (created, written) in [
            (None, Some(-5_000)),
            (None, Some(NOW)),
            (Some(60_000), None),
            (Some(60_000), Some(-5_000)),
        ] {
            let verdict = verdict_of(created, written);
            assert_eq!(verdict, StalenessVerdict::Unknown, "{created:?}");
        }
        // A `created_at` in microseconds.
        let verdict = verdict_of(Some(-NOW * 999), Some(2_000));
        assert_eq!(verdict, stale_since(2_000));
    }
}
