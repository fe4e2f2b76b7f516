//! The certificates of TLS to the database: the trusted authorities, and this client's certificate. They are read again on
//! demand, and the driver's next connections use what was read last.
//!
//! **Invariants.** Files that cannot be used change nothing. Checking a node's certificate is rustls' own work.

use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

use super::super::tls_files::TlsFiles;
use crate::config::{self, BadSetting};

/// The certificates that were read last. Shared by all connections.
#[derive(Debug)]
pub(super) struct CqlCertificates(ArcSwap<CheckedCertificates>);

#[derive(Debug)]
pub(super) struct CheckedCertificates {
    verifier: Arc<WebPkiServerVerifier>,
    client: Option<Arc<CertifiedKey>>,
    /// The authorities, then this client's chain: to tell whether something changed.
    content: [Vec<CertificateDer<'static>>; 2],
}

impl CheckedCertificates {
    /// The files of the settings; none where TLS is off.
    pub(super) fn read_files(
        settings: &config::ScyllaSettings,
    ) -> Result<Option<Self>, BadSetting> {
        let none = |path: &Path| path.as_os_str().is_empty();
        let (cert, key) = (&settings.tls_cert_file, &settings.tls_key_file);
        if none(cert) != none(key) {
            let reason = "certificate and key come together";
            return Err(BadSetting::new("scylla.tls_cert_file", reason));
        }
        if none(&settings.tls_ca_file) {
            return if none(cert) {
                Ok(None)
            } else {
                let reason = "is needed beside scylla.tls_cert_file";
                Err(BadSetting::new("scylla.tls_ca_file", reason))
            };
        }
        let files = TlsFiles::read_files(
            ("scylla.tls_ca_file", &settings.tls_ca_file),
            ("scylla.tls_cert_file", cert),
            ("scylla.tls_key_file", key),
        )?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(files.roots),
            Arc::new(crypto_provider()),
        )
        .build()
        .map_err(|error| BadSetting::new("scylla.tls_ca_file", error))?;
        let client = files.client.map(|(chain, key)| {
            CertifiedKey::from_der(chain, key, &crypto_provider())
                .map(Arc::new)
                .map_err(|error| BadSetting::new("scylla.tls_cert_file", error))
        });
        Ok(Some(Self {
            verifier,
            client: client.transpose()?,
            content: files.content,
        }))
    }
}

impl CqlCertificates {
    pub(super) fn new(read: CheckedCertificates) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(read)))
    }

    /// Whether these are other certificates than those in force.
    pub(super) fn differ_from(&self, read: &CheckedCertificates) -> bool {
        self.0.load().content != read.content
    }

    /// Connections that are opened from here on use these.
    pub(super) fn replace_with(&self, read: CheckedCertificates) {
        self.0.store(Arc::new(read));
    }

    /// How the driver speaks TLS.
    pub(super) fn client_config(self: &Arc<Self>) -> Result<Arc<ClientConfig>, BadSetting> {
        // The provider is named: with two of them built in, rustls would not choose.
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| BadSetting::new("scylla.tls_ca_file", error))?;
        let verifier: Arc<dyn ServerCertVerifier> = self.clone();
        let config = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.clone());
        Ok(Arc::new(config))
    }
}

fn crypto_provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

impl ServerCertVerifier for CqlCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let read = self.0.load();
        let verifier = &read.verifier;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let read = self.0.load();
        read.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let read = self.0.load();
        read.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().verifier.supported_verify_schemes()
    }
}

impl ResolvesClientCert for CqlCertificates {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let client = self.0.load().client.clone()?;
        client.key.choose_scheme(schemes).map(|_| client.clone())
    }

    fn has_certs(&self) -> bool {
        self.0.load().client.is_some()
    }
}

#[cfg(test)]
mod tests;
