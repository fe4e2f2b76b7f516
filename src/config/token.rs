//! Bearer tokens: made here; the service stores only their digests.
//!
//! **Invariants.** A token is 256 random bits that the caller brings; the file keeps its SHA-256 only. Digests of random
//! tokens need no salt and no slow hash: there is nothing to guess.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{Scope, TokenSettings};

/// The prefix of tokens, so that one that leaked is recognised by secret scanners.
pub const PREFIX: &str = "bc_";

/// The record of a token.
pub type Digest = [u8; 32];

/// A new token, to be shown once.
#[derive(Clone)]
pub struct NewToken {
    /// The token as the client sends it: `bc_` and 43 characters.
    pub token: String,
    pub block: String,
}

/// A new token for `name` out of `random`. A scope that is named twice counts once.
pub fn make_token(name: &str, scopes: &[Scope], random: [u8; 32]) -> NewToken {
    let token = format!("{PREFIX}{}", base64url_text(&random));
    let mut words = Vec::new();
    for word in scopes.iter().map(|scope| format!("\"{}\"", scope.as_str())) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    let block = format!(
        "[[auth.tokens]]\nname = {}\nsha256 = \"{}\"\nscopes = [{}]\n",
        toml::Value::String(name.to_owned()),
        hex_text(&token_digest(&token)),
        words.join(", ")
    );
    NewToken { token, block }
}

pub fn token_digest(token: &str) -> Digest {
    Sha256::digest(token.as_bytes()).into()
}

impl TokenSettings {
    /// `sha256` as bytes; none where it is not 64 hex digits, which [`super::load_settings`] refuses.
    pub fn digest_bytes(&self) -> Option<Digest> {
        let digits: Vec<u8> = self
            .sha256
            .chars()
            .map(|digit| {
                digit
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            })
            .collect::<Option<_>>()?;
        let (pairs, rest) = digits.as_chunks::<2>();
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| (high << 4) | low).collect();
        rest.is_empty().then_some(bytes)?.try_into().ok()
    }
}

fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// RFC 4648 section 5, without padding.
fn base64url_text(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut padded = [0_u8; 4];
        for (to, from) in padded.iter_mut().skip(1).zip(chunk) {
            *to = *from;
        }
        let bits = u32::from_be_bytes(padded);
        let digits = [bits >> 18, bits >> 12, bits >> 6, bits];
        for digit in digits.into_iter().take(chunk.len().saturating_add(1)) {
            let at = usize::try_from(digit & 63).unwrap_or_default();
            text.extend(ALPHABET.get(at).map(|byte| char::from(*byte)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AuthSettings;

    #[test]
    fn a_token_is_made_with_its_block() {
        let scopes = [Scope::Read, Scope::Settle, Scope::Read];
        let made = make_token("wal\"let", &scopes, [0xfb; 32]);
        assert_eq!(made.token.len(), 3 + 43);
        assert!(made.token.starts_with("bc_-_v7"), "{}", made.token);
        let block = format!("mode = \"token\"\n{}", made.block.replace("auth.", ""));
        let auth: AuthSettings = toml::from_str(&block).unwrap();
        assert_eq!(auth.tokens[0].name, "wal\"let");
        assert_eq!(auth.tokens[0].scopes, [Scope::Read, Scope::Settle]);
        assert_eq!(
            auth.tokens[0].digest_bytes(),
            Some(token_digest(&made.token))
        );
        assert!(!made.block.contains(&made.token));
    }

    #[test]
    fn base64url_is_that_of_the_rfc() {
        let encoded = ["", "f", "fo", "foo", "foob", "fooba", "foobar"]
            .map(|text| base64url_text(text.as_bytes()));
        assert_eq!(
            encoded,
            ["", "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"]
        );
    }

    #[test]
    fn a_digest_is_64_hex_digits() {
        let token = |sha256: &str| TokenSettings {
            name: String::new(),
            sha256: sha256.to_owned(),
            scopes: vec![],
        };
        assert_eq!(
            hex_text(&token_digest("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let upper = hex_text(&token_digest("abc")).to_uppercase();
        assert_eq!(token(&upper).digest_bytes(), Some(token_digest("abc")));
        for bad in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"a".repeat(66)] {
            assert_eq!(token(bad).digest_bytes(), None, "{bad}");
        }
    }
}
