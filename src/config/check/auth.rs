//! Checks of `[auth]`: the mode, where it may listen, and the tokens one by one.

use std::collections::HashSet;

use super::{SettingsCheck, is_plain_name};
use crate::config::{AuthMode, TokenSettings};

/// The rule of [`is_token_name`], as it is told.
pub const TOKEN_NAME_RULE: &str = "must have 1 to 64 ASCII letters, digits, '-', '_' and '.'";

/// Whether a token may have this name.
pub fn is_token_name(name: &str) -> bool {
    is_plain_name(name, 1, 64)
}

impl SettingsCheck<'_> {
    pub(super) fn check_auth(&mut self) {
        let settings = self.settings;
        let auth = &settings.auth;
        for (key, listen) in [
            ("http.listen", settings.http.listen),
            ("ops.listen", settings.ops.listen),
        ] {
            self.require_that(
                &["auth.mode", key],
                auth.mode != AuthMode::None || listen.ip().is_loopback(),
                &format!(
                    "none needs {key} on loopback: choose token, or network if everybody who reaches it is trusted"
                ),
            );
        }
        self.require_that(
            &["auth.tokens", "auth.mode"],
            auth.mode != AuthMode::Token || !auth.tokens.is_empty(),
            "auth.mode = \"token\" needs at least one: balance-cache auth token makes it",
        );
        for (at, token) in auth.tokens.iter().enumerate() {
            self.check_token(at, token);
        }
        let names = auth.tokens.iter().map(|token| &token.name);
        self.require_unique("auth.tokens", "name", names, |_| {
            "is taken by another token".to_owned()
        });
        let digests = auth.tokens.iter().map(TokenSettings::digest_bytes);
        self.require_unique("auth.tokens", "sha256", digests, |_| {
            "is that of another token".to_owned()
        });
    }

    /// One token by itself.
    fn check_token(&mut self, at: usize, token: &TokenSettings) {
        let key = |name: &str| format!("auth.tokens[{at}].{name}");
        self.require_that(&[&key("name")], is_token_name(&token.name), TOKEN_NAME_RULE);
        self.require_that(
            &[&key("sha256")],
            token.digest_bytes().is_some(),
            "must be the 64 hex digits of the token's SHA-256",
        );
        let scopes: HashSet<_> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        self.require_that(
            &[&key("scopes")],
            !scopes.is_empty() && scopes.len() == token.scopes.len(),
            "must name at least one of read, settle, admin, and none twice",
        );
    }
}
