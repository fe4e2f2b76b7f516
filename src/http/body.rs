//! Reading a request's body: bounded in bytes, in time, and over all requests together.
//!
//! **Invariants.** Not more than `max` bytes of one body, and not more than [`WHOLE_BODIES`] whole bodies of all requests, are
//! held at once. A client that sends too slowly is refused.
//!
//! **Cancellation.** Dropped with the connection; the room it took is given back.
//!
//! **Limits.** Each wait for more is `wait` long; all of them together [`WAITS_MAX`] times that, and [`timeouts::transfer_time`] of
//! what came. The request's deadline begins when its body is there: a long upload is not the server's work.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{failure::Failure, timeouts};

/// Bodies of the greatest length that are held at once, over all connections.
const WHOLE_BODIES: usize = 32;
/// Waits of full length that one body may take in all.
const WAITS_MAX: u32 = 4;
/// The unit of the room.
const UNIT_BYTES: usize = 4096;
#[derive(Debug)]
pub struct Bodies {
    max: usize,
    wait: Duration,
    room: Arc<Semaphore>,
}

/// A body with its share of the memory budget.
#[derive(Debug)]
pub struct BudgetedBody {
    bytes: Vec<u8>,
    room: Vec<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Bodies of at most `max` bytes, with `wait` for each piece.
    pub fn new(max: usize, wait: Duration) -> Self {
        let units = max
            .saturating_mul(WHOLE_BODIES)
            .checked_div(UNIT_BYTES)
            .unwrap_or(0);
        Self {
            max,
            wait,
            room: Arc::new(Semaphore::new(
                units.clamp(WHOLE_BODIES, Semaphore::MAX_PERMITS),
            )),
        }
    }

    /// Reads a whole JSON body.
    /// Errors: another type, too long, too slow, cut off, or no room for it now.
    pub async fn read_json_body(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<BudgetedBody, Failure> {
        if !may_be_json(headers) {
            return Err(Failure::NotJson);
        }
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > self.max {
            return Err(self.too_large());
        }
        self.collect_pieces(body).await
    }

    async fn collect_pieces(&self, mut body: Body) -> Result<BudgetedBody, Failure> {
        let begun = Instant::now();
        let mut whole = BudgetedBody {
            bytes: Vec::new(),
            room: Vec::new(),
        };
        let mut units = 0_usize;
        while let Some(piece) = self
            .next_piece(&mut body, self.end_of_wait(begun, whole.bytes.len()))
            .await?
        {
            let len = whole.bytes.len().saturating_add(piece.len());
            if len > self.max {
                return Err(self.too_large());
            }
            let needed = len.div_ceil(UNIT_BYTES);
            if let Ok(more @ 1..) = u32::try_from(needed.saturating_sub(units)) {
                let room = Arc::clone(&self.room).try_acquire_many_owned(more);
                whole.room.push(room.map_err(|_| Failure::Shed)?);
                units = needed;
            }
            whole.bytes.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    async fn next_piece(&self, body: &mut Body, end: Instant) -> Result<Option<Bytes>, Failure> {
        match timeout_at(end, body.frame()).await {
            Err(_) => Err(Failure::Deadline),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(Failure::malformed_request(
                "the body ended early or is not HTTP",
            )),
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
        }
    }

    /// When a wait that begins now ends, for a body that began then and of which so many bytes came.
    fn end_of_wait(&self, begun: Instant, came: usize) -> Instant {
        let now = Instant::now();
        let whole = self.wait.saturating_mul(WAITS_MAX);
        let whole = whole.saturating_add(timeouts::transfer_time(came));
        let ends = [now.checked_add(self.wait), begun.checked_add(whole)];
        ends.into_iter().flatten().min().unwrap_or(now)
    }

    const fn too_large(&self) -> Failure {
        Failure::TooLarge { max: self.max }
    }
}

impl std::ops::Deref for BudgetedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// No type at all, `application/json`, or `application/*+json`; parameters do not count.
fn may_be_json(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_TYPE).iter().all(|value| {
        let essence = value.to_str().map(|text| {
            let (essence, _) = text.split_once(';').unwrap_or((text, ""));
            essence.trim().to_ascii_lowercase()
        });
        essence.is_ok_and(|essence| {
            essence
                .strip_prefix("application/")
                .is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_of_all_requests_together_are_bounded_and_give_their_room_back() {
        let bodies = Bodies::new(UNIT_BYTES, Duration::from_secs(1));
        let none = HeaderMap::new();
        let read = || bodies.read_json_body(&none, Body::from("{}".to_owned()));
        let mut held = Vec::new();
        for _ in 0..WHOLE_BODIES {
            held.push(read().await.unwrap());
        }
        assert!(matches!(read().await, Err(Failure::Shed)));
        held.pop();
        assert_eq!(&*read().await.unwrap(), b"{}");
    }
}
