//! A client of a running service. The interface to hyper's client is localized here.
//!
//! **Invariants.** The token is sent to the address that was named and nowhere else: no redirect is followed. It is in no text.
//!
//! **Cancellation.** A dropped request closes its connection.
//!
//! **Limits.** One connection for each request; an answer has [`ANSWER_BYTES`] and [`PATIENCE`], unless an option says
//! otherwise.
//!
//! **Deliberately absent**: TLS. The service speaks none itself; a proxy before it would hide which instance answers.

use std::{net::SocketAddr, pin::pin, time::Duration};

use balance_cache::config::Settings;
use bytes::Bytes;
use futures::future::{Either, select};
use http::{
    HeaderMap, HeaderValue, Method, Request,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use url::Url;

use super::{arguments::ServiceReach, output::Unable};

/// Bytes of an answer.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How long an answer may take: longer than any deadline that makes sense.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);

/// No answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{base} does not answer: {reason}")]
pub(crate) struct Unanswered {
    base: String,
    reason: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct ClientResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) took: Duration,
}

impl ClientResponse {
    /// A header as text; empty where it is absent.
    pub(crate) fn header_text(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ServiceClient {
    base: String,
    address: String,
    prefix: String,
    token: Option<HeaderValue>,
    patience: Duration,
}

impl ServiceClient {
    /// Of the service that the command names, else of that of the settings.
    pub(crate) fn of_service(reach: &ServiceReach, settings: &Settings) -> Result<Self, Unable> {
        let (url, token) = (reach.url.as_deref(), reach.token.as_deref());
        Self::new(url, settings.http.listen, token)
    }

    /// Of the service at `url`; else of the one that listens where the configuration says.
    pub(crate) fn new(
        url: Option<&str>,
        listen: SocketAddr,
        token: Option<&str>,
    ) -> Result<Self, Unable> {
        let base = match url {
            Some(url) => url.to_owned(),
            None => format!("http://{}", reachable_address(listen)),
        };
        let wrong = |why: &str| Unable(format!("--url {base}: {why}"));
        let parsed = Url::parse(&base).map_err(|error| wrong(&error.to_string()))?;
        if parsed.scheme() != "http" {
            return Err(wrong(
                "must begin with http:// (ask the instance itself, not a proxy with TLS before it)",
            ));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(wrong(
                "takes no user; a token goes into BALANCE_CACHE_TOKEN",
            ));
        }
        let host = parsed.host_str().ok_or_else(|| wrong("names no host"))?;
        let port = parsed.port_or_known_default().unwrap_or(80);
        let token = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Unable("the token has characters that no token has".to_owned()))?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            address: format!("{host}:{port}"),
            prefix: parsed.path().trim_end_matches('/').to_owned(),
            base: base.trim_end_matches('/').to_owned(),
            token: token.transpose()?,
            patience: PATIENCE,
        })
    }

    /// Sets a shorter timeout for answers.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base
    }

    pub(crate) async fn get(&self, path: &str) -> Result<ClientResponse, Unanswered> {
        self.send_request(Method::GET, path, None).await
    }

    pub(crate) async fn post_json(
        &self,
        path: &str,
        json: String,
    ) -> Result<ClientResponse, Unanswered> {
        self.send_request(Method::POST, path, Some(json)).await
    }

    async fn send_request(
        &self,
        method: Method,
        path: &str,
        json: Option<String>,
    ) -> Result<ClientResponse, Unanswered> {
        let begun = Instant::now();
        let failed = |reason: String| Unanswered {
            base: self.base.clone(),
            reason,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        if json.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(json.unwrap_or_default()));
        let request = request
            .body(body)
            .map_err(|error| failed(error.to_string()))?;
        let exchange = timeout(self.patience, self.exchange_once(request, begun)).await;
        exchange
            .unwrap_or_else(|_| Err(format!("no answer in {} s", self.patience.as_secs())))
            .map_err(failed)
    }

    async fn exchange_once(
        &self,
        request: Request<Full<Bytes>>,
        begun: Instant,
    ) -> Result<ClientResponse, String> {
        let connected = timeout(CONNECT, TcpStream::connect(&self.address)).await;
        let stream = connected
            .map_err(|_| "connecting takes too long".to_owned())?
            .map_err(|error| plain_reason(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| error.to_string())?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await;
            Ok(ClientResponse {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.map_err(|error| error.to_string())?.to_bytes(),
                took: begun.elapsed(),
            })
        };
        match select(pin!(exchange), pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            // Bytes received before the end are still to be read.
            Either::Right((_, exchange)) => exchange.await,
        }
    }
}

/// An address to connect to, for one to listen at.
pub(crate) fn reachable_address(listen: SocketAddr) -> SocketAddr {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn plain_reason(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::ConnectionRefused {
        "the connection is refused (nothing listens there)".to_owned()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_asked_is_refused_with_the_reason() {
        let listen = "0.0.0.0:3001".parse().unwrap();
        let of = |url| ServiceClient::new(url, listen, None);
        assert_eq!(of(None).unwrap().base_url(), "http://127.0.0.1:3001");
        assert_eq!(of(Some("http://cache:80/")).unwrap().address, "cache:80");
        for bad in [
            "https://cache",
            "cache:3001",
            "http://u:p@cache",
            "nonsense",
        ] {
            assert!(of(Some(bad)).is_err(), "{bad}");
        }
        assert!(ServiceClient::new(None, listen, Some("a\nb")).is_err());
    }
}
