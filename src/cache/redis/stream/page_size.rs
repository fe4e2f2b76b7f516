//! How many entries the next read of a stream asks for. A reply must be received in time, and stands in memory whole, so pages
//! of large entries are small; a backlog of small ones is read in large pages.

use std::time::Duration;

use redis::RedisError;

use super::{GRACE, GRACE_OF_ONE, wire::RawEntry};

/// Entries of the first page, and of those of a quiet stream.
const FIRST: usize = 16;
/// Entries of a page, at most.
const MOST: usize = 1_000;
/// Bytes of a page after which the next one is smaller.
const LARGE: usize = 8 * 1024 * 1024;
/// Bytes of a page up to which the next one may be twice as large.
const SMALL: usize = LARGE / 2;
/// Pages that must come in time after one that did not, before they grow again and are waited for no longer than others.
const HOLD: u32 = 16;
/// Reads in a row without a whole reply in time from which on this is a finding.
const STUCK_AFTER: u32 = 3;

/// The page size of one reader of a stream; it survives the reader's connections.
#[derive(Debug)]
pub struct PageSize {
    count: usize,
    /// Reads in a row that got no whole reply in time.
    timeouts: u32,
    /// How many of [`HOLD`] are still to come.
    hold: u32,
}

impl Default for PageSize {
    fn default() -> Self {
        Self {
            count: FIRST,
            timeouts: 0,
            hold: 0,
        }
    }
}

impl PageSize {
    pub(super) const fn entry_count(&self) -> usize {
        self.count
    }

    /// How long a read of a page may take beyond its block before the connection counts as lost: longer where a page cannot be
    /// made smaller.
    pub(super) const fn grace_time(&self) -> Duration {
        if self.count == 1 && self.hold > 0 {
            GRACE_OF_ONE
        } else {
            GRACE
        }
    }

    /// Several reads in a row got no whole reply in time.
    pub(super) const fn is_stuck(&self) -> bool {
        self.timeouts >= STUCK_AFTER
    }

    /// Notes how a read of a page went.
    pub(super) fn note_read(&mut self, read: Result<&[RawEntry], &RedisError>) {
        match read {
            Ok(entries) => {
                let fields = entries.iter().flat_map(|(_, fields)| fields);
                let bytes = fields.fold(0_usize, |bytes, (field, value)| {
                    bytes
                        .saturating_add(field.len())
                        .saturating_add(value.len())
                });
                self.note_page(entries.len(), bytes);
            }
            Err(error) if error.is_timeout() => self.note_timeout(),
            Err(_) => {}
        }
    }

    fn note_page(&mut self, entries: usize, bytes: usize) {
        let may_grow = self.hold == 0;
        self.timeouts = 0;
        self.hold = self.hold.saturating_sub(1);
        // A page of nothing says nothing of the entries to come.
        if entries == 0 {
            return;
        }
        let (half, double) = (self.count / 2, self.count.saturating_mul(2));
        let may_grow = may_grow && bytes < SMALL;
        self.count = if bytes >= LARGE {
            half.max(1)
        } else if entries == self.count && may_grow {
            double.min(MOST)
        } else if self.count < FIRST && may_grow {
            double.min(FIRST)
        } else if entries <= self.count / 4 {
            // Half of a fuller page could be full, and a full page of the feed proves nothing.
            self.count.min(half.max(FIRST))
        } else {
            self.count
        };
    }

    fn note_timeout(&mut self) {
        self.timeouts = self.timeouts.saturating_add(1);
        self.count = (self.count / 2).max(1);
        self.hold = HOLD;
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const MB: usize = 1024 * 1024;

    /// Reads `backlog` entries of `bytes` each over a wire that carries `rate` bytes in a second. Returns how many reads timed out.
    fn drain_backlog(pages: &mut PageSize, mut backlog: usize, bytes: usize, rate: usize) -> u32 {
        let mut timed_out = 0;
        while backlog > 0 {
            let entries = backlog.min(pages.entry_count());
            let carried = rate * usize::try_from(pages.grace_time().as_millis()).unwrap() / 1_000;
            if entries * bytes > carried {
                pages.note_timeout();
                timed_out += 1;
                assert!(timed_out < 1_000, "nothing is received any more");
            } else {
                pages.note_page(entries, entries * bytes);
                backlog -= entries;
            }
        }
        timed_out
    }

    #[test]
    fn a_backlog_of_small_entries_is_read_in_large_pages_soon() {
        let mut pages = PageSize::default();
        for expected in [16, 32, 64, 128, 256, 512, MOST, MOST] {
            assert_eq!(pages.entry_count(), expected);
            pages.note_page(expected, expected * 200);
        }
        for _ in 0..10 {
            pages.note_page(0, 0);
        }
        assert_eq!(pages.entry_count(), MOST, "nothing is known of what comes");
        for _ in 0..10 {
            pages.note_page(1, 200);
        }
        assert_eq!(pages.entry_count(), FIRST, "the backlog is gone");
    }

    #[test]
    fn entries_of_any_size_are_read_over_a_slow_wire_and_few_reads_are_in_vain() {
        for rate in [MB, 20 * MB, 1_000 * MB] {
            for bytes in [200, 10_000, MB / 4, MB, 4 * MB] {
                let mut pages = PageSize {
                    count: MOST,
                    ..PageSize::default()
                };
                for most in [50, 40] {
                    let timed_out = drain_backlog(&mut pages, 500, bytes, rate);
                    assert!(timed_out <= most, "{timed_out}: {bytes} bytes at {rate}");
                }
            }
        }
    }

    #[test]
    fn a_steady_flow_fills_a_page_rarely() {
        for flow in [1, 16, 100, 400] {
            let mut pages = PageSize::default();
            let mut full = 0;
            for _ in 0..100 {
                let entries = flow.min(pages.entry_count());
                full += usize::from(entries == pages.entry_count());
                pages.note_page(entries, entries * 200);
            }
            assert!(full <= 6, "{flow} entries a read: {full} full pages");
        }
    }

    #[test]
    fn timeouts_halve_a_page_down_to_one_entry_that_may_take_longer() {
        let timeout = RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        let mut pages = PageSize::default();
        for expected in [8, 4, 2, 1, 1] {
            let stuck = pages.is_stuck();
            assert_eq!(stuck, expected == 1, "after three");
            pages.note_read(Err(&timeout));
            assert_eq!(pages.entry_count(), expected);
            assert_eq!(pages.grace_time() > GRACE, expected == 1);
        }
        let closed = RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        pages.note_read(Err(&closed));
        assert!(pages.is_stuck(), "another loss says nothing of it");
        let entry = [("1-0".to_owned(), vec![(b"event".to_vec(), b"[]".to_vec())])];
        pages.note_read(Ok(entry.as_slice()));
        assert!(!pages.is_stuck());
        for _ in 1..HOLD {
            assert_eq!(pages.entry_count(), 1, "it does not grow at once");
            pages.note_read(Ok(entry.as_slice()));
        }
        pages.note_read(Ok(entry.as_slice()));
        assert_eq!(pages.entry_count(), 2);
    }

    #[test]
    fn a_quiet_stream_does_not_keep_the_longer_wait() {
        let mut pages = PageSize {
            count: 1,
            timeouts: STUCK_AFTER,
            hold: HOLD,
        };
        for _ in 0..HOLD {
            assert_eq!(pages.grace_time(), GRACE_OF_ONE);
            pages.note_page(0, 0);
        }
        assert_eq!(pages.grace_time(), GRACE);
        assert!(!pages.is_stuck());
    }

    #[test]
    fn pages_of_large_entries_shrink_before_they_time_out() {
        let mut pages = PageSize::default();
        let sizes: Vec<_> = (0..5)
            .map(|_| {
                pages.note_page(pages.entry_count(), pages.entry_count() * MB);
                pages.entry_count()
            })
            .collect();
        assert_eq!(sizes, [8, 4, 4, 4, 4]);
    }
}
