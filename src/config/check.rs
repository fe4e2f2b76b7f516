//! Whether settings that are good one by one can be, and can be together (contract section 6, protocol rule 15).

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use super::{AuthMode, Errors, Mistake, Origin, Settings, SourceKind, layers::Told};
use crate::domain::{Asset, Catalogue};

mod redis;
mod scylla;
mod times;

/// Bytes of memory below which a cache is pointless.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024;

/// Checks everything, and tells what was told before and what is wrong beyond it.
pub(super) fn check(settings: &Settings, told: Told) -> Result<(), Errors> {
    let mut check = Check { settings, told };
    check.listeners();
    check.auth();
    check.bounds();
    times::check(&mut check);
    check.redis();
    check.settlement();
    check.source();
    check.scylla();
    check.catalogue();
    check.telemetry();
    Errors::unless_empty(check.told.mistakes)
}

/// What is allowed and still worth a line at start.
#[must_use]
pub fn advice(settings: &Settings) -> Vec<&'static str> {
    let mut lines = Vec::new();
    let tokens = !settings.auth.tokens.is_empty();
    match settings.auth.mode {
        AuthMode::Network => lines.push(
            "auth.mode is network: everybody who reaches http.listen may read and change every user",
        ),
        AuthMode::None | AuthMode::Token => {}
    }
    if tokens && settings.auth.mode != AuthMode::Token {
        lines.push("auth.tokens are listed and not looked at: auth.mode is not token");
    }
    if !settings.ops.listen.ip().is_loopback() {
        lines.push("ops.listen has no token and is not on loopback: keep it on a private network");
    }
    if settings.source.kind == SourceKind::Embedded && !settings.redis.url.is_empty() {
        lines.push("source.kind is embedded: with this ledger only one instance can use the Redis");
    }
    lines
}

/// Settings under check.
#[derive(Debug)]
struct Check<'a> {
    settings: &'a Settings,
    told: Told,
}

impl Check<'_> {
    /// A mistake in the first of `keys` together with the others. Silent where one of them is known to be bad: the
    /// settings hold its default then, and what does not fit to that is no news.
    fn wrong(&mut self, keys: &[&str], reason: impl Into<String>) {
        let Some(key) = keys.first() else { return };
        if keys.iter().any(|key| self.is_bad(key)) {
            return;
        }
        let origins = &self.told.origins;
        let origin = keys.iter().find_map(|key| origins.get(list_of(key)));
        let origin = origin.cloned().unwrap_or(Origin::Default);
        self.told.mistakes.push(Mistake {
            key: (*key).to_owned(),
            reason: reason.into(),
            origin,
        });
    }

    /// Whether the layers told that `key`, or a part of it, is wrong.
    fn is_bad(&self, key: &str) -> bool {
        let mistakes = self.told.mistakes.iter();
        mistakes
            .filter(|mistake| !mistake.key.is_empty())
            .any(|mistake| {
                let rest = mistake.key.strip_prefix(key);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
            })
    }

    fn require(&mut self, keys: &[&str], good: bool, reason: &str) {
        if !good {
            self.wrong(keys, reason);
        }
    }

    fn listeners(&mut self) {
        let (http, ops) = (self.settings.http.listen, self.settings.ops.listen);
        self.require(
            &["ops.listen", "http.listen"],
            !overlap(http, ops),
            "is http.listen too: operators need their own port",
        );
    }

    fn auth(&mut self) {
        let auth = &self.settings.auth;
        let loopback = self.settings.http.listen.ip().is_loopback();
        self.require(
            &["auth.mode", "http.listen"],
            auth.mode != AuthMode::None || loopback,
            "none needs http.listen on loopback: choose token, or network if everybody who reaches it is trusted",
        );
        self.require(
            &["auth.tokens", "auth.mode"],
            auth.mode != AuthMode::Token || !auth.tokens.is_empty(),
            "auth.mode = \"token\" needs at least one: balance-cache auth token makes it",
        );
        let (mut names, mut digests) = (HashSet::new(), HashSet::new());
        for (at, token) in auth.tokens.iter().enumerate() {
            let key = |name: &str| format!("auth.tokens[{at}].{name}");
            let scopes: HashSet<_> = token.scopes.iter().map(|scope| scope.as_str()).collect();
            let name_is_new = names.insert(token.name.as_str());
            self.require(
                &[&key("name")],
                plain(&token.name, 1, 64),
                "must have 1 to 64 ASCII letters, digits, '-', '_' and '.'",
            );
            self.require(&[&key("name")], name_is_new, "is taken by another token");
            let digest = token.digest();
            self.require(
                &[&key("sha256")],
                digest.is_some(),
                "must be the 64 hex digits of the token's SHA-256",
            );
            let digest_is_new = digest.is_none_or(|digest| digests.insert(digest));
            self.require(&[&key("sha256")], digest_is_new, "is that of another token");
            let scopes_are_good = !scopes.is_empty() && scopes.len() == token.scopes.len();
            self.require(
                &[&key("scopes")],
                scopes_are_good,
                "must name at least one of read, settle, admin, and none twice",
            );
        }
    }

    fn bounds(&mut self) {
        let Settings {
            memory,
            redis,
            limits,
            scylla,
            ..
        } = self.settings;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        for (key, value, min, max) in [
            (
                "memory.max_bytes",
                memory.max_bytes,
                MEMORY_BYTES_MIN,
                1 << 46,
            ),
            ("redis.connections", count(redis.connections), 1, 1024),
            (
                "redis.breaker_failures",
                u64::from(redis.breaker_failures),
                1,
                1_000_000,
            ),
            (
                "scylla.replication_factor",
                u64::from(scylla.replication_factor),
                1,
                100,
            ),
            ("limits.body_bytes", count(limits.body_bytes), 1, 1 << 30),
            (
                "limits.connections",
                count(limits.connections),
                1,
                10_000_000,
            ),
            (
                "limits.source_loads",
                count(limits.source_loads),
                1,
                1_000_000,
            ),
        ] {
            self.require(
                &[key],
                (min..=max).contains(&value),
                &format!("must be from {min} to {max}"),
            );
        }
    }

    fn source(&mut self) {
        let Settings {
            source, embedded, ..
        } = self.settings;
        self.require(
            &["embedded.path", "source.kind"],
            source.kind != SourceKind::Embedded || !embedded.path.as_os_str().is_empty(),
            "source.kind = \"embedded\" needs it",
        );
    }

    /// Assets by themselves, then symbols over assets of these names: a bad asset does not make its symbols bad.
    fn catalogue(&mut self) {
        let Settings {
            assets, symbols, ..
        } = self.settings;
        let wrong = |result: Result<_, Vec<_>>| result.err().unwrap_or_default();
        for error in wrong(Catalogue::new(assets, &[])) {
            self.wrong(&[&error.key], error.reason);
        }
        let stand_ins = stand_ins(self.settings);
        for error in wrong(Catalogue::new(&stand_ins, symbols)) {
            if error.key.starts_with("symbols") && !self.layers_refused_assets() {
                self.wrong(&[&error.key], error.reason);
            }
        }
    }

    /// Whether the list in force is not the one that was meant: what symbols name may be in that.
    fn layers_refused_assets(&self) -> bool {
        !self.told.origins.contains_key("assets") && self.is_bad("assets")
    }

    fn telemetry(&mut self) {
        let log = &self.settings.telemetry.log;
        let good = tracing_subscriber::EnvFilter::try_new(log).is_ok();
        self.require(
            &["telemetry.log"],
            good,
            "must be error, warn, info, debug, trace, or a filter as RUST_LOG takes it",
        );
    }
}

/// The list that a key is in: the whole of it was set, not an element.
fn list_of(key: &str) -> &str {
    key.split('[').next().unwrap_or(key)
}

/// One asset for each name that some asset has, good in everything else.
fn stand_ins(settings: &Settings) -> Vec<Asset> {
    let mut names: Vec<_> = settings.assets.iter().map(|asset| &asset.name).collect();
    names.sort_unstable();
    names.dedup();
    (1..)
        .zip(names)
        .map(|(id, name)| Asset {
            id,
            name: name.clone(),
            decimals: 0,
        })
        .collect()
}

/// Whether both cannot listen, on any platform.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |ip: IpAddr| ip.is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || all(one.ip()) || all(other.ip()))
}

fn plain(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
