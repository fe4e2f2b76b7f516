//! The files of TLS to a database: trusted authorities, and this client's certificate with its key.

use std::{fmt, fs::File, io::BufReader, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use crate::config::BadSetting;

/// The name of a setting, and the path that it holds.
pub(super) type PathSetting<'a> = (&'static str, &'a Path);

/// The files as they were read.
pub(super) struct TlsFiles {
    pub(super) roots: RootCertStore,
    /// None where the settings name no certificate.
    pub(super) client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// The authorities, then this client's chain: to tell whether something changed.
    pub(super) content: [Vec<CertificateDer<'static>>; 2],
}

impl TlsFiles {
    /// Reads the files; an empty path of the certificate means that there is none.
    pub(super) fn read_files(
        authorities: PathSetting<'_>,
        certificate: PathSetting<'_>,
        key: PathSetting<'_>,
    ) -> Result<Self, BadSetting> {
        let trusted = read_certificates(authorities)?;
        let mut roots = RootCertStore::empty();
        for authority in &trusted {
            roots
                .add(authority.clone())
                .map_err(|error| BadSetting::new(authorities.0, error))?;
        }
        let mut chain = Vec::new();
        let mut client = None;
        if !certificate.1.as_os_str().is_empty() {
            chain = read_certificates(certificate)?;
            let bad_key = |reason: &dyn fmt::Display| BadSetting::new(key.0, reason);
            let found = rustls_pemfile::private_key(&mut open_file(key)?)
                .map_err(|error| bad_key(&error))?
                .ok_or_else(|| bad_key(&"holds no private key"))?;
            client = Some((chain.clone(), found));
        }
        Ok(Self {
            roots,
            client,
            content: [trusted, chain],
        })
    }
}

fn open_file((name, path): PathSetting<'_>) -> Result<BufReader<File>, BadSetting> {
    File::open(path).map(BufReader::new).map_err(|error| {
        BadSetting::new(
            name,
            format_args!("cannot open {}: {error}", path.display()),
        )
    })
}

fn read_certificates(file: PathSetting<'_>) -> Result<Vec<CertificateDer<'static>>, BadSetting> {
    let found: Result<Vec<_>, _> = rustls_pemfile::certs(&mut open_file(file)?).collect();
    match found {
        Ok(found) if found.is_empty() => Err(BadSetting::new(file.0, "holds no certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(BadSetting::new(file.0, error)),
    }
}
