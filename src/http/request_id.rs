//! A name for every request: the client's, if it is fit for a log, else a new one.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a client's id.
const CLIENT_MAX: usize = 128;

/// Characters of an id that is made here.
const NEW: usize = 32;

/// Makes ids that no other process makes: a random prefix, then a counter.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids behind this prefix, which is random.
    pub const fn new(prefix: u64) -> Self {
        Self {
            prefix,
            next: AtomicU64::new(0),
        }
    }

    /// Returns the client's id if it is valid, else a new one.
    pub fn choose_id(&self, headers: &HeaderMap) -> HeaderValue {
        headers
            .get(REQUEST_ID)
            .filter(|value| is_fit(value.as_bytes()))
            .cloned()
            .unwrap_or_else(|| self.new_id())
    }

    pub fn new_id(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.next_id_bytes())
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    }

    /// Makes the next id as bytes.
    pub fn next_id_bytes(&self) -> [u8; NEW] {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let both = (u128::from(self.prefix) << 64) | u128::from(number);
        let mut id = [0; NEW];
        for (place, byte) in id.as_chunks_mut::<2>().0.iter_mut().zip(both.to_be_bytes()) {
            *place = [hex_digit(byte >> 4), hex_digit(byte & 15)];
        }
        id
    }
}

const fn hex_digit(nibble: u8) -> u8 {
    let base = if nibble < 10 {
        b'0'
    } else {
        b'a'.wrapping_sub(10)
    };
    base.wrapping_add(nibble)
}

/// 1 to 128 visible ASCII characters.
pub fn is_fit(id: &[u8]) -> bool {
    (1..=CLIENT_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_prefix_and_number_in_hexadecimal() {
        let ids = RequestIds::new(0xabc);
        assert_eq!(ids.next_id_bytes(), *b"0000000000000abc0000000000000000");
        ids.next.store(0x1f9e_8d7c_6b5a_4039, Ordering::Relaxed);
        assert_eq!(ids.new_id(), "0000000000000abc1f9e8d7c6b5a4039");
    }
}
