//! Authorization: bearer tokens with scopes.
//!
//! **Invariants.** Tokens are known by their SHA-256 only. A digest is compared with all of them, each in constant time,
//! so that the time taken tells nothing of which token came close.
//!
//! **Deliberately absent**: users. A token may read every user; telling users apart is its holder's business.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::failure::Failure;
use crate::config::{self, AuthMode, Scope};

const DIGEST_BYTES: usize = 32;

/// The rules of one deployment. Clones share the tokens.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// None: everybody may ask everything (`none` and `network`).
    tokens: Option<Arc<ArcSwap<Vec<KnownToken>>>>,
}

/// Tokens that are checked and not in force yet.
#[derive(Debug)]
pub struct Tokens(Vec<KnownToken>);

#[derive(Debug, Clone)]
struct KnownToken {
    digest: [u8; DIGEST_BYTES],
    scopes: u8,
}

impl Authorization {
    /// The rules that are configured.
    /// Errors: the index of a token whose `sha256` is not 64 hexadecimal digits.
    pub fn new(settings: &config::AuthSettings) -> Result<Self, usize> {
        let tokens = match settings.mode {
            AuthMode::None | AuthMode::Network => None,
            AuthMode::Token => Some(Arc::new(ArcSwap::from_pointee(Tokens::new(settings)?.0))),
        };
        Ok(Self { tokens })
    }

    /// Replaces all known tokens. Has no effect if no tokens are required.
    pub fn replace_tokens(&self, tokens: Tokens) {
        if let Some(known) = &self.tokens {
            known.store(Arc::new(tokens.0));
        }
    }

    /// Whether the bearer of these `Authorization` fields may do this.
    /// Errors: [`Failure::Unauthenticated`] or [`Failure::Forbidden`].
    pub fn check_token<'v>(
        &self,
        fields: impl Iterator<Item = &'v [u8]>,
        scope: Scope,
    ) -> Result<(), Failure> {
        let Some(tokens) = &self.tokens else {
            return Ok(());
        };
        let token = find_bearer_token(fields).ok_or(Failure::Unauthenticated)?;
        let digest: [u8; DIGEST_BYTES] = Sha256::digest(token).into();
        let (mut known, mut scopes) = (Choice::from(0), 0_u8);
        for token in tokens.load().iter() {
            let same = token.digest.ct_eq(&digest);
            known |= same;
            scopes |= u8::conditional_select(&0, &token.scopes, same);
        }
        if !bool::from(known) {
            Err(Failure::Unauthenticated)
        } else if scopes & scope_bit(scope) == 0 {
            Err(Failure::Forbidden(scope))
        } else {
            Ok(())
        }
    }
}

impl Tokens {
    /// The tokens that are configured.
    /// Errors: the index of a token whose `sha256` is not 64 hexadecimal digits.
    pub fn new(settings: &config::AuthSettings) -> Result<Self, usize> {
        let known = |(at, token): (usize, &config::TokenSettings)| {
            Ok(KnownToken {
                digest: digest_of_hex(&token.sha256).ok_or(at)?,
                scopes: token
                    .scopes
                    .iter()
                    .fold(0, |all, one| all | scope_bit(*one)),
            })
        };
        let known = settings.tokens.iter().enumerate().map(known);
        known.collect::<Result<_, _>>().map(Self)
    }
}

const fn scope_bit(scope: Scope) -> u8 {
    match scope {
        Scope::Read => 1,
        Scope::Settle => 2,
        Scope::Admin => 4,
    }
}

/// The token of the one `Authorization` header; two of them are none.
fn find_bearer_token<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<&'v [u8]> {
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then(|| token.trim_ascii())
}

/// The digest that 64 hexadecimal digits of either case spell.
pub fn digest_of_hex(hex: &str) -> Option<[u8; DIGEST_BYTES]> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != DIGEST_BYTES {
        return None;
    }
    let mut digest = [0; DIGEST_BYTES];
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let text = str::from_utf8(pair).ok()?;
        if !pair.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        assert_eq!(digest_of_hex(&"aB".repeat(32)), Some([0xab; 32]));
        for bad in [
            "",
            "ab",
            &"a".repeat(63),
            &"ab".repeat(33),
            &"+a".repeat(32),
            &"ä".repeat(32),
        ] {
            assert_eq!(digest_of_hex(bad), None, "{bad}");
        }
    }
}
