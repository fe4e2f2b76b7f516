use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConnection, RootCertStore, ServerConfig, ServerConnection, pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;

use super::*;

/// An authority, and a certificate of its own for a node and for a client.
struct TestAuthority {
    pem: String,
    cert: String,
    key: String,
}

impl TestAuthority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
        Self {
            pem: issuer.pem(),
            cert: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// A node with this authority's certificate, which asks clients for theirs.
    fn node_config(&self) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        for authority in rustls_pemfile::certs(&mut self.pem.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let chain: Result<Vec<_>, _> = rustls_pemfile::certs(&mut self.cert.as_bytes()).collect();
        let key: PrivateKeyDer<'static> = rustls_pemfile::private_key(&mut self.key.as_bytes())
            .unwrap()
            .unwrap();
        let provider = Arc::new(crypto_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain.unwrap(), key)
            .unwrap();
        Arc::new(config)
    }
}

struct Files {
    folder: TempDir,
    settings: config::ScyllaSettings,
}

impl Files {
    fn of_authority(authority: &TestAuthority) -> Self {
        let folder = TempDir::new().unwrap();
        let mut settings = config::default_settings().unwrap().scylla;
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        settings.tls_ca_file = path("ca.pem");
        settings.tls_cert_file = path("cert.pem");
        settings.tls_key_file = path("key.pem");
        let files = Self { folder, settings };
        files.write_files(authority);
        files
    }

    fn write_files(&self, authority: &TestAuthority) {
        fs::write(&self.settings.tls_ca_file, &authority.pem).unwrap();
        fs::write(&self.settings.tls_cert_file, &authority.cert).unwrap();
        fs::write(&self.settings.tls_key_file, &authority.key).unwrap();
    }
}

/// Whether both sides accept each other.
fn shake_hands(client: &Arc<ClientConfig>, node: Arc<ServerConfig>) -> bool {
    let name = ServerName::try_from("node").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut node = ServerConnection::new(node).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            node.read_tls(&mut rest).unwrap();
            if node.process_new_packets().is_err() {
                return false;
            }
        }
        let mut wire = Vec::new();
        while node.wants_write() {
            node.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
    }
    !client.is_handshaking() && !node.is_handshaking()
}

#[test]
fn the_next_connection_uses_the_certificates_that_were_read_last() {
    let (before, after) = (TestAuthority::new(), TestAuthority::new());
    let files = Files::of_authority(&before);
    let read = || {
        CheckedCertificates::read_files(&files.settings)
            .unwrap()
            .unwrap()
    };
    let certificates = CqlCertificates::new(read());
    let client = certificates.client_config().unwrap();
    assert!(shake_hands(&client, before.node_config()));
    assert!(
        !shake_hands(&client, after.node_config()),
        "another authority"
    );
    assert!(!certificates.differ_from(&read()), "the same files");
    files.write_files(&after);
    let renewed = read();
    assert!(certificates.differ_from(&renewed));
    certificates.replace_with(renewed);
    assert!(shake_hands(&client, after.node_config()));
    assert!(!shake_hands(&client, before.node_config()));
}

#[test]
fn files_that_cannot_be_used_are_named_by_their_key() {
    let files = Files::of_authority(&TestAuthority::new());
    let key = || {
        CheckedCertificates::read_files(&files.settings)
            .unwrap_err()
            .key
    };
    fs::write(&files.settings.tls_key_file, "").unwrap();
    assert_eq!(key(), "scylla.tls_key_file");
    fs::write(&files.settings.tls_key_file, TestAuthority::new().key).unwrap();
    assert_eq!(key(), "scylla.tls_cert_file", "another's key");
    fs::write(&files.settings.tls_ca_file, "no certificate").unwrap();
    assert_eq!(key(), "scylla.tls_ca_file");
    fs::remove_file(files.folder.path().join("ca.pem")).unwrap();
    assert_eq!(key(), "scylla.tls_ca_file");
}
