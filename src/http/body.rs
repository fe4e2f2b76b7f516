//! Reading a request's body: bounded in bytes, in time, and over all requests together.
//!
//! **Invariants.** Not more than `max` bytes of one body, and not more than [`WHOLE_BODIES`] whole bodies of all requests,
//! are held at once. A client that trickles is let go.
//!
//! **Cancellation.** Dropped with the connection; the room it took is given back.
//!
//! **Limits.** Each wait for more is `wait` long, all of them together [`WAITS_MAX`] times that. The request's deadline
//! begins when its body is there: a long upload is not the server's work.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_TYPE, EXPECT},
};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::failure::Failure;

/// Bodies of the greatest length that are held at once, over all connections.
const WHOLE_BODIES: usize = 32;
/// Waits of full length that one body may take in all.
const WAITS_MAX: u32 = 30;
/// What room is measured in.
const UNIT_BYTES: usize = 4096;
/// How long, and how many times the limit, of a body that is too long is thrown away before the answer, so that a
/// client that sends first and reads later gets to read it.
const DISCARD_WAIT: Duration = Duration::from_secs(1);
const DISCARD_TIMES: usize = 2;

/// Reads bodies.
#[derive(Debug)]
pub struct Bodies {
    max: usize,
    wait: Duration,
    room: Arc<Semaphore>,
}

/// A body, and the room that it takes as long as it is held.
#[derive(Debug)]
pub struct Whole {
    bytes: Vec<u8>,
    room: Vec<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Bodies of at most `max` bytes, with `wait` for each piece.
    #[must_use]
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

    /// The whole of a JSON body.
    ///
    /// # Errors
    /// Another type, too long, too slow, cut off, or no room for it now.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Whole, Failure> {
        if !may_be_json(headers) {
            return Err(Failure::NotJson);
        }
        let told = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut body = body;
        let read = async {
            if told > self.max {
                return Err(self.too_large());
            }
            self.pieces(&mut body).await
        };
        let whole = timeout(self.wait.saturating_mul(WAITS_MAX), read)
            .await
            .unwrap_or(Err(Failure::Deadline));
        if matches!(whole, Err(Failure::TooLarge { .. })) && !headers.contains_key(EXPECT) {
            let _ = timeout(DISCARD_WAIT, self.discard(&mut body)).await;
        }
        whole
    }

    async fn pieces(&self, body: &mut Body) -> Result<Whole, Failure> {
        let mut whole = Whole {
            bytes: Vec::new(),
            room: Vec::new(),
        };
        let mut units = 0_usize;
        while let Some(piece) = self.piece(body).await? {
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

    async fn piece(&self, body: &mut Body) -> Result<Option<Bytes>, Failure> {
        match timeout(self.wait, body.frame()).await {
            Err(_) => Err(Failure::Deadline),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(Failure::malformed("the body ended early or is not HTTP")),
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
        }
    }

    async fn discard(&self, body: &mut Body) {
        let mut left = self.max.saturating_mul(DISCARD_TIMES);
        while let Ok(Some(piece)) = self.piece(body).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
        }
    }

    const fn too_large(&self) -> Failure {
        Failure::TooLarge { max: self.max }
    }
}

impl std::ops::Deref for Whole {
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
        let read = || bodies.read(&none, Body::from("{}".to_owned()));
        let mut held = Vec::new();
        for _ in 0..WHOLE_BODIES {
            held.push(read().await.unwrap());
        }
        assert!(matches!(read().await, Err(Failure::Shed)));
        held.pop();
        assert_eq!(&*read().await.unwrap(), b"{}");
    }
}
