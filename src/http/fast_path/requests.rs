//! Parses the requests that a connection sent, and answers them, hands them off to the service, or refuses them.
//!
//! **Invariants.** The handling of a request depends on its bytes only, never on how they were cut or on what follows.

use http::HeaderValue;
use tokio::time::Instant;

use super::{FastPath, FastPathOutcome, PendingResponse};
use crate::http::{
    hosts,
    request_head::{self, Framing, HEAD_MAX, Parsed, RequestHead},
};

/// Bytes of answers that are made before they are sent; one answer more may stand behind them.
pub const OUT_MAX: usize = 64 * 1024;
/// Bytes of a `Host` that is remembered.
const HOST_MAX: usize = 256;

/// Why a request is refused before it reaches the service; the connection ends behind the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRequest {
    pub reason: BadRequestReason,
    /// The client's own request id, where it could be read.
    pub request_id: Option<HeaderValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRequestReason {
    /// The request is not well-formed HTTP/1.
    Malformed(&'static str),
    /// More than [`HEAD_MAX`] bytes, or [`request_head::FIELDS_MAX`] fields.
    HeadTooLarge,
    /// `Host` names another host.
    ForeignHost,
}

impl From<hosts::HostError> for BadRequestReason {
    fn from(error: hosts::HostError) -> Self {
        match error {
            hosts::HostError::Malformed => Self::Malformed("Host is no host"),
            hosts::HostError::Foreign => Self::ForeignHost,
        }
    }
}

/// A request for the service: its head is the first `head_len` bytes of [`super::BufferedConnection::held`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOff {
    /// Bytes.
    pub head_len: usize,
    /// How its body is delimited.
    pub framing: Framing,
    /// The connection ends behind the answer.
    pub close: bool,
    pub is_http_1_0: bool,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
}

/// The next need of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing: the client has ended it, or was idle for too long.
    End,
    /// An end behind an answer that announced it: the client may still be sending.
    Close,
    /// An end at once: the client does not take its answers, or the connection is broken.
    Abort,
    /// A refusal, and an end.
    Refuse(BadRequest),
    /// An answer by the service.
    HandOff(HandOff),
}

/// The next step for the bytes at the beginning of an input.
pub(super) enum RequestStep {
    /// More bytes.
    More,
    /// The rest is looked at when the answers so far have been sent.
    SendFirst,
    Pending(PendingResponse, Option<NextStep>),
    Next(NextStep),
}

/// Answers the requests that `input` begins with, which came at `now`: how many bytes they were, and what the rest needs. Where
/// the service `ends`, the first of them is the last.
pub(super) fn answer_all(
    who: &impl FastPath,
    host: &mut Vec<u8>,
    input: &[u8],
    now: Instant,
    ends: bool,
    out: &mut Vec<u8>,
) -> (usize, RequestStep) {
    let mut used: usize = 0;
    while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
        if out.len() >= OUT_MAX {
            return (used, RequestStep::SendFirst);
        }
        // Empty lines may stand before a request.
        if rest.starts_with(b"\r\n") {
            used = used.saturating_add(2);
            continue;
        }
        // Behind the longest head there is no head: the verdict is the same however much has come.
        let window = rest.get(..HEAD_MAX).unwrap_or(rest);
        let mut room = request_head::empty_fields();
        let head = match request_head::parse_head(window, &mut room) {
            Parsed::TooMany => return (used, many_fields(who, host, window)),
            parsed => match check_head(who, host, parsed, window.len()) {
                Ok(head) => head,
                Err(then) => return (used, then),
            },
        };
        let last = ends || head.close;
        let said = if head.framing == Framing::None && !head.is_http_1_0 {
            who.try_answer(&head, now, last, out)
        } else {
            FastPathOutcome::Unhandled
        };
        let behind = used.saturating_add(head.len);
        match said {
            FastPathOutcome::Written if last => {
                return (input.len(), RequestStep::Next(NextStep::Close));
            }
            FastPathOutcome::Written => used = behind,
            FastPathOutcome::Pending(later) if last => {
                return (
                    input.len(),
                    RequestStep::Pending(later, Some(NextStep::Close)),
                );
            }
            FastPathOutcome::Pending(later) => return (behind, RequestStep::Pending(later, None)),
            FastPathOutcome::Unhandled => return (used, RequestStep::Next(hand_off(who, &head))),
        }
    }
    (used, RequestStep::More)
}

/// A head with more fields than the fast path has room for.
fn many_fields(who: &impl FastPath, host: &mut Vec<u8>, window: &[u8]) -> RequestStep {
    let mut room = request_head::large_room();
    match check_head(
        who,
        host,
        request_head::parse_head(window, &mut room),
        window.len(),
    ) {
        Ok(head) => RequestStep::Next(hand_off(who, &head)),
        Err(then) => then,
    }
}

/// Returns the head if it is complete, well-formed, and names a host of this service.
fn check_head<'h, 'b>(
    who: &impl FastPath,
    host: &mut Vec<u8>,
    parsed: Parsed<'h, 'b>,
    window_len: usize,
) -> Result<RequestHead<'h, 'b>, RequestStep> {
    let head = match parsed {
        Parsed::Head(head) => head,
        Parsed::Partial if window_len < HEAD_MAX => return Err(RequestStep::More),
        Parsed::Partial | Parsed::TooMany => {
            return Err(refuse_request(BadRequestReason::HeadTooLarge, None));
        }
        Parsed::Unreadable => {
            let reason =
                BadRequestReason::Malformed("this is no HTTP/1.1 request that can be read");
            return Err(refuse_request(reason, None));
        }
        Parsed::Bad { reason, request_id } => {
            return Err(refuse_request(
                BadRequestReason::Malformed(reason),
                request_id,
            ));
        }
    };
    if let Some(named) = head.host
        && (named.is_empty() || named != host.as_slice())
    {
        who.check_host(named)
            .map_err(|error| refuse_request(error.into(), head.request_id()))?;
        if named.len() <= HOST_MAX {
            host.clear();
            host.extend_from_slice(named);
        }
    }
    Ok(head)
}

fn refuse_request(reason: BadRequestReason, request_id: Option<HeaderValue>) -> RequestStep {
    RequestStep::Next(NextStep::Refuse(BadRequest { reason, request_id }))
}

/// A request for the service, unless its target is none.
fn hand_off(who: &impl FastPath, head: &RequestHead<'_, '_>) -> NextStep {
    let refused = |reason| {
        NextStep::Refuse(BadRequest {
            reason,
            request_id: head.request_id(),
        })
    };
    let target = head.target.parse::<http::Uri>().ok();
    // A host alone is the target of a proxy.
    let target = target.filter(|target| target.scheme().is_some() || target.authority().is_none());
    let Some(target) = target else {
        return refused(BadRequestReason::Malformed("the request's target is none"));
    };
    // A target may name a host, too.
    if let Some(named) = target.authority()
        && let Err(error) = who.check_host(named.as_str().as_bytes())
    {
        return refused(error.into());
    }
    NextStep::HandOff(HandOff {
        head_len: head.len,
        framing: head.framing,
        close: head.close,
        is_http_1_0: head.is_http_1_0,
        expects_continue: head.expects_continue,
    })
}
