//! One connection from accept to close: the fast path, requests handed off to the service, refusals, and the end.
//!
//! **Invariants.** One request, one answer, in order, whatever follows it; only an answer to the last request announces the end of
//! the connection. After such an answer the client is listened to for a while, so that a reset does not take the answer from it.
//!
//! **Cancellation.** A request's future is dropped when its connection breaks or is cut. A client that only ends its side gets its
//! answer.
//!
//! **Limits.** An answer is taken within `header_timeout` and [`timeouts::transfer_time`], or the connection is reset. One answer is
//! held at a time. The end takes [`LINGER`] at most.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::body::{Body as AxumBody, HttpBody};
use http::{HeaderName, HeaderValue, Request, Response, Version};
use http_body_util::BodyExt;
use tokio::{
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Body,
    fast_path::{BadRequest, BadRequestReason, BufferedConnection, FastPath, HandOff, NextStep},
    request_body::{Incoming, UnreadBody},
    request_head::{self, Parsed},
    response::{self, ResponseForm, Sending},
    shutdown::ShutdownSignal,
    socket,
    timeouts::{self, ConnectionWaits},
};
use crate::clock;

/// After the last response the client's bytes are read and dropped: for this time, this pause between two reads, and this many
/// bytes at most.
const LINGER: Duration = Duration::from_secs(10);
const LINGER_PAUSE: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 32 * 1024 * 1024;
/// The same time while the service shuts down.
const LINGER_ENDING: Duration = Duration::from_millis(500);
/// Pieces of a body up to so many bytes are sent together with what stands before them.
const TOGETHER_MAX: usize = 16 * 1024;

/// A service that answers requests.
pub trait Answers: FastPath + Clone + Send + Sync + 'static {
    fn answer_request(
        &self,
        request: Request<AxumBody>,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// The bytes of the answer to a request that is refused before it reaches the service; the connection ends behind it.
    fn render_refusal(&self, refusal: &BadRequest) -> Vec<u8>;
}

pub(super) struct Connection<S> {
    pub service: S,
    pub header_timeout: Duration,
    pub ending: ShutdownSignal,
    pub cut: CancellationToken,
    /// The permit that counts this connection against the limit of its listener.
    pub _permit: OwnedSemaphorePermit,
}

impl<S: Answers> Connection<S> {
    /// Serves the connection until it ends.
    pub(super) async fn serve_connection(self, stream: TcpStream) {
        // Answers are written whole: waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let (stop, cut) = (pin!(self.ending.wait_begun()), pin!(self.cut.cancelled()));
        let alarm = pin!(sleep(self.header_timeout));
        let mut waits = ConnectionWaits::new(&self.ending, stop, cut, alarm, self.header_timeout);
        let mut front = BufferedConnection::new(Arc::new(stream));
        loop {
            match front.serve_next(&self.service, &mut waits).await {
                NextStep::End => return self.close_connection(&front.stream, false).await,
                NextStep::Close => return self.close_connection(&front.stream, true).await,
                NextStep::Abort => return socket::forget_unsent(&front.stream),
                NextStep::Refuse(refusal) => {
                    return Box::pin(self.send_refusal(&front.stream, &refusal)).await;
                }
                // Boxed: few connections need this, and the others stay small.
                NextStep::HandOff(request) => {
                    if !Box::pin(self.answer_handed_off(&mut front, request)).await {
                        return;
                    }
                }
            }
            waits.since = Instant::now();
        }
    }

    /// Has the service answer one request; false where the connection ended with it.
    async fn answer_handed_off(&self, front: &mut BufferedConnection, request: HandOff) -> bool {
        let stream = Arc::clone(&front.stream);
        let rest = front.held.split_off(request.head_len.min(front.held.len()));
        let Some(built) = build_request(&std::mem::take(&mut front.held)) else {
            let reason =
                BadRequestReason::Malformed("this is no HTTP/1.1 request that can be read");
            let refusal = BadRequest {
                reason,
                request_id: None,
            };
            self.send_refusal(&stream, &refusal).await;
            return false;
        };
        let expects = request.expects_continue;
        let incoming = Incoming::new(Arc::clone(&stream), rest, request.framing, expects);
        let method = built.method().clone();
        let answering = self
            .service
            .answer_request(built.map(|()| AxumBody::new(incoming.request_body())));
        let response = tokio::select! {
            biased;
            response = answering => response,
            () = socket::wait_broken(&stream) => return false,
            () = self.cut.cancelled() => return false,
        };
        let unread = incoming.skip_arrived();
        let close = request.close || self.ending.has_begun() || unread == UnreadBody::Rest;
        let mut form = ResponseForm::new(&method, request.is_http_1_0, close);
        let sent = tokio::select! {
            biased;
            sent = self.send_response(&stream, response, &mut form) => sent,
            () = self.cut.cancelled() => None,
        };
        if sent.is_none() {
            socket::forget_unsent(&stream);
            return false;
        }
        let goes_on = !form.close
            && match unread {
                UnreadBody::Nothing => true,
                UnreadBody::Little => {
                    matches!(
                        timeout(LINGER_PAUSE, incoming.skip_rest()).await,
                        Ok(Ok(()))
                    )
                }
                UnreadBody::Rest => false,
            };
        if !goes_on {
            self.close_connection(&stream, true).await;
            return false;
        }
        front.resume_reading(incoming.take_buffer());
        true
    }

    /// Sends a response; none if the client does not take it, or it breaks off.
    async fn send_response(
        &self,
        stream: &TcpStream,
        response: Response<Body>,
        form: &mut ResponseForm,
    ) -> Option<()> {
        let (parts, mut body) = response.into_parts();
        let (length, mut out) = (body.size_hint().exact(), Vec::new());
        let now = clock::wall_at_last_tick();
        let sending = response::write_head(&parts, length, form, now, &mut out);
        while sending != Sending::Nothing && !body.is_end_stream() {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = socket::wait_broken(stream) => return None,
            };
            let Some(frame) = frame else { break };
            let piece = frame.ok()?.into_data().unwrap_or_default();
            if sending == Sending::Plain && piece.len() > TOGETHER_MAX {
                self.send_bytes(stream, &std::mem::take(&mut out)).await?;
                self.send_bytes(stream, &piece).await?;
                continue;
            }
            response::write_piece(&piece, sending, &mut out);
            if !body.is_end_stream() {
                self.send_bytes(stream, &std::mem::take(&mut out)).await?;
            }
        }
        response::write_end(sending, &mut out);
        self.send_bytes(stream, &out).await
    }

    async fn send_bytes(&self, stream: &TcpStream, bytes: &[u8]) -> Option<()> {
        let patience = self
            .header_timeout
            .saturating_add(timeouts::transfer_time(bytes.len()));
        timeout(patience, socket::send_all(stream, bytes))
            .await
            .ok()?
            .ok()
    }

    /// Sends the refusal of a request that does not reach the service, then closes the connection.
    async fn send_refusal(&self, stream: &TcpStream, refusal: &BadRequest) {
        let bytes = self.service.render_refusal(refusal);
        let sent = tokio::select! {
            biased;
            sent = self.send_bytes(stream, &bytes) => sent,
            () = self.cut.cancelled() => None,
        };
        match sent {
            Some(()) => self.close_connection(stream, true).await,
            None => socket::forget_unsent(stream),
        }
    }

    /// Ends a connection. A client that is still `sending` would lose the last response to a TCP reset, so its bytes are read
    /// for a while first.
    async fn close_connection(&self, stream: &TcpStream, sending: bool) {
        socket::end_sending(stream);
        if !sending && !matches!(stream.try_read(&mut [0]), Ok(1..)) {
            return;
        }
        let listening = async {
            let (mut bytes, mut remaining) = (Vec::with_capacity(TOGETHER_MAX), LINGER_BYTES);
            while let Ok(Ok(read @ 1..)) =
                timeout(LINGER_PAUSE, socket::receive_bytes(stream, &mut bytes)).await
            {
                bytes.clear();
                remaining = remaining.saturating_sub(read);
                if remaining == 0 {
                    return;
                }
            }
        };
        let ending = async {
            self.ending.wait_begun().await;
            sleep(LINGER_ENDING).await;
        };
        tokio::select! {
            biased;
            _ = timeout(LINGER, listening) => {}
            () = ending => {}
            () = self.cut.cancelled() => {}
        }
    }
}

/// The head as the service takes it; none where a name or a value is not what HTTP allows.
fn build_request(bytes: &[u8]) -> Option<Request<()>> {
    let mut room = request_head::large_room();
    let Parsed::Head(head) = request_head::parse_head(bytes, &mut room) else {
        return None;
    };
    let version = if head.is_http_1_0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    let request = Request::builder()
        .method(head.method)
        .uri(head.target)
        .version(version);
    let mut request = request.body(()).ok()?;
    request.headers_mut().reserve(head.fields.len());
    for field in head.fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(field.value).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}
