//! A name for every request: the client's, if it is fit for a log, else a new one.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a client's id.
const CLIENT_MAX: usize = 128;
/// Characters of ours.
const ID_BYTES: usize = 32;
/// Ids that a thread makes at once: all of them share two allocations.
const BLOCK: u64 = 64;
const BLOCK_BYTES: usize = 64 * ID_BYTES;

thread_local! {
    /// Whose ids this thread has left, and those.
    static LEFT: RefCell<(u64, Bytes)> = const { RefCell::new((0, Bytes::new())) };
}

/// Makes ids that no other process makes: a random prefix, then a counter.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids behind this prefix, which is random.
    #[must_use]
    pub const fn new(prefix: u64) -> Self {
        Self {
            prefix,
            next: AtomicU64::new(0),
        }
    }

    /// The client's id, if it is 1 to 128 visible ASCII characters, else a new one.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap) -> HeaderValue {
        headers
            .get(REQUEST_ID)
            .filter(|value| {
                (1..=CLIENT_MAX).contains(&value.len())
                    && value.as_bytes().iter().all(u8::is_ascii_graphic)
            })
            .cloned()
            .unwrap_or_else(|| self.new_id())
    }

    /// A new one.
    pub fn new_id(&self) -> HeaderValue {
        let id = LEFT.with_borrow_mut(|(prefix, left)| {
            if *prefix != self.prefix || left.len() < ID_BYTES {
                (*prefix, *left) = (self.prefix, self.block());
            }
            left.split_to(ID_BYTES.min(left.len()))
        });
        HeaderValue::from_maybe_shared(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    }

    fn block(&self) -> Bytes {
        let first = self.next.fetch_add(BLOCK, Ordering::Relaxed);
        let ids = (first..first.saturating_add(BLOCK)).flat_map(|number| {
            let digits = (u128::from(self.prefix).wrapping_shl(64)) | u128::from(number);
            (0..ID_BYTES).rev().map(move |at| {
                let shift = u32::try_from(at).unwrap_or(0).wrapping_mul(4);
                let digit = u32::try_from(digits.wrapping_shr(shift) & 0xf).unwrap_or(0);
                u8::try_from(char::from_digit(digit, 16).unwrap_or('0')).unwrap_or(b'0')
            })
        });
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        block.extend(ids);
        block.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_ids_are_the_same_and_each_begins_with_the_prefix() {
        let (one, other) = (RequestIds::new(0xabc), RequestIds::new(7));
        let mut seen = HashSet::new();
        for _ in 0..200 {
            for (ids, prefix) in [(&one, "0000000000000abc"), (&other, "0000000000000007")] {
                let id = ids.new_id().to_str().unwrap().to_owned();
                assert!(id.len() == ID_BYTES && id.starts_with(prefix), "{id}");
                assert!(seen.insert(id));
            }
        }
    }
}
