//! A DNS name with several addresses, for one service: without a DNS server and without rights over the machine.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use super::service::Setup;

/// The name.
pub const NAME: &str = "nodes.test";

/// The library that tells its addresses.
#[derive(Debug)]
pub struct Names {
    folder: TempDir,
}

impl Names {
    pub fn compile() -> Self {
        let folder = TempDir::with_prefix("names-").unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/names.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("names.so"))
            .arg(source)
            .arg("-ldl")
            .output()
            .expect("cc can be started");
        assert!(compiled.status.success(), "{compiled:?}");
        Self { folder }
    }

    /// A service for which [`NAME`] has these addresses.
    pub fn tell(&self, setup: Setup, addresses: &[&str]) -> Setup {
        let library = self.folder.path().join("names.so");
        setup
            .raw("LD_PRELOAD", library.display().to_string())
            .raw("TEST_NAME", NAME.to_owned())
            .raw("TEST_ADDRESSES", addresses.join(","))
    }
}
