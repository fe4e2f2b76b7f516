//! TLS under the driver, by rustls.
//!
//! **Invariants.** A certificate is checked against the authorities of `postgres.tls_ca_file` and the name of the host; without TLS
//! the driver asks for none. Files that are read again are in force for connections that are opened from then on.
//!
//! Deliberately absent: channel binding of SCRAM. The server is known by its certificate.

use std::{future::Future, io, pin::Pin, sync::Arc, task};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Socket,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::{TlsConnector, client};

use super::super::tls_files::TlsFiles;
use crate::config::{self, BadSetting, SslMode};

/// Certificates that were read, and the bytes by which a change is seen.
#[derive(Debug)]
pub(super) struct CheckedPgCertificates {
    client: Arc<ClientConfig>,
    content: [Vec<CertificateDer<'static>>; 2],
}

impl CheckedPgCertificates {
    /// The files of the settings; none where TLS is off.
    pub(super) fn read_files(
        settings: &config::PostgresSettings,
    ) -> Result<Option<Self>, BadSetting> {
        if settings.sslmode == SslMode::Disable {
            return Ok(None);
        }
        let files = TlsFiles::read_files(
            ("postgres.tls_ca_file", &settings.tls_ca_file),
            ("postgres.tls_cert_file", &settings.tls_cert_file),
            ("postgres.tls_key_file", &settings.tls_key_file),
        )?;
        // The provider is named: with two of them built in, rustls would not choose.
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| BadSetting::new("postgres.tls_ca_file", error))?
            .with_root_certificates(files.roots);
        let client = match files.client {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| BadSetting::new("postgres.tls_cert_file", error))?,
            None => builder.with_no_client_auth(),
        };
        Ok(Some(Self {
            client: Arc::new(client),
            content: files.content,
        }))
    }
}

/// The certificates in force, shared by all pools.
#[derive(Debug)]
pub(super) struct TlsInForce(ArcSwap<CheckedPgCertificates>);

impl TlsInForce {
    pub(super) fn new(files: CheckedPgCertificates) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(files)))
    }

    /// Whether these are other certificates than those in force.
    pub(super) fn differs_from(&self, files: &CheckedPgCertificates) -> bool {
        self.0.load().content != files.content
    }

    /// Connections that are opened from here on use these.
    pub(super) fn replace_files(&self, files: CheckedPgCertificates) {
        self.0.store(Arc::new(files));
    }

    /// A connector for the driver.
    pub(super) fn make_connector(&self) -> RustlsMaker {
        RustlsMaker(Arc::clone(&self.0.load().client))
    }
}

/// Makes a connector for each host.
#[derive(Debug, Clone)]
pub(super) struct RustlsMaker(Arc<ClientConfig>);

impl MakeTlsConnect<Socket> for RustlsMaker {
    type Stream = RustlsStream;
    type TlsConnect = RustlsConnect;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, Self::Error> {
        Ok(RustlsConnect {
            client: Arc::clone(&self.0),
            name: ServerName::try_from(domain)?.to_owned(),
        })
    }
}

/// The handshake with one host.
pub(super) struct RustlsConnect {
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for RustlsConnect {
    type Stream = RustlsStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<RustlsStream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let connecting = TlsConnector::from(self.client).connect(self.name, socket);
        Box::pin(async move { connecting.await.map(RustlsStream) })
    }
}

/// An encrypted connection.
pub(super) struct RustlsStream(client::TlsStream<Socket>);

impl TlsStream for RustlsStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for RustlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for RustlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> task::Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
