//! Tokens as settings have them.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::service::Setup;

/// The block of a token with these scopes (`"read", "settle"`) in a file.
pub fn token_block(token: &str, scopes: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    let mut hex = String::new();
    for byte in digest {
        write!(hex, "{byte:02x}").unwrap();
    }
    format!("[[auth.tokens]]\nname = \"{token}\"\nsha256 = \"{hex}\"\nscopes = [{scopes}]\n")
}

impl Setup {
    /// With tokens, and this one with these scopes (`"read", "settle"`) among them.
    #[must_use]
    pub fn with_token(mut self, token: &str, scopes: &str) -> Self {
        let block = token_block(token, scopes).replace(&format!("\"{token}\""), "\"test\"");
        write!(self.file, "[auth]\nmode = \"token\"\n{block}").unwrap();
        self
    }
}
