//! Checks of `[auth]`: the mode, where it may listen, and the tokens one by one.

use std::collections::HashSet;

use super::{Check, plain};
use crate::config::{AuthMode, Token};

impl Check<'_> {
    pub(super) fn auth(&mut self) {
        let settings = self.settings;
        let auth = &settings.auth;
        for (key, listen) in [
            ("http.listen", settings.http.listen),
            ("ops.listen", settings.ops.listen),
        ] {
            self.require(
                &["auth.mode", key],
                auth.mode != AuthMode::None || listen.ip().is_loopback(),
                &format!(
                    "none needs {key} on loopback: choose token, or network if everybody who reaches it is trusted"
                ),
            );
        }
        self.require(
            &["auth.tokens", "auth.mode"],
            auth.mode != AuthMode::Token || !auth.tokens.is_empty(),
            "auth.mode = \"token\" needs at least one: balance-cache auth token makes it",
        );
        for (at, token) in auth.tokens.iter().enumerate() {
            self.token(at, token);
        }
        let names = auth.tokens.iter().map(|token| &token.name);
        self.unique("auth.tokens", "name", names, |_| {
            "is taken by another token".to_owned()
        });
        let digests = auth.tokens.iter().map(Token::digest);
        self.unique("auth.tokens", "sha256", digests, |_| {
            "is that of another token".to_owned()
        });
    }

    /// One token by itself.
    fn token(&mut self, at: usize, token: &Token) {
        let key = |name: &str| format!("auth.tokens[{at}].{name}");
        self.require(
            &[&key("name")],
            plain(&token.name, 1, 64),
            "must have 1 to 64 ASCII letters, digits, '-', '_' and '.'",
        );
        self.require(
            &[&key("sha256")],
            token.digest().is_some(),
            "must be the 64 hex digits of the token's SHA-256",
        );
        let scopes: HashSet<_> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        self.require(
            &[&key("scopes")],
            !scopes.is_empty() && scopes.len() == token.scopes.len(),
            "must name at least one of read, settle, admin, and none twice",
        );
    }
}
