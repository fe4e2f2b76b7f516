//! Tokens as settings have them.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::service::Setup;

impl Setup {
    /// With tokens, and this one with these scopes (`"read", "settle"`) among them.
    #[must_use]
    pub fn with_token(mut self, token: &str, scopes: &str) -> Self {
        let digest = Sha256::digest(token.as_bytes());
        let mut hex = String::new();
        for byte in digest {
            write!(hex, "{byte:02x}").unwrap();
        }
        write!(
            self.file,
            "[auth]\nmode = \"token\"\n[[auth.tokens]]\nname = \"test\"\nsha256 = \"{hex}\"\nscopes = [{scopes}]\n"
        )
        .unwrap();
        self
    }
}
