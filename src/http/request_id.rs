//! A name for every request: the client's, if it is fit for a log, else a new one.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a client's id.
const CLIENT_MAX: usize = 128;

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
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        HeaderValue::try_from(format!("{:016x}{number:016x}", self.prefix))
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    }
}
