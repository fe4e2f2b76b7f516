//! Whether settings that are good one by one can be, and can be together (contract section 6, protocol rule 15).

use std::{
    collections::HashSet,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::Path,
};

use super::{Errors, Mistake, Settings, SourceKind, ValueOrigin, judge::SettingOrigins, redis_url};

mod auth;
mod catalogue;
mod kafka;
mod ledger;
mod outbox;
mod postgres;
mod redis;
mod scylla;
mod times;

pub use auth::{TOKEN_NAME_RULE, is_token_name};
pub use scylla::{CQL_NAME_RULE, is_cql_name};

/// Bytes of memory below which a cache is pointless.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024;
/// More than any machine has.
const BYTES_MAX: u64 = 1 << 46;

/// Checks everything, and tells what was told before and what is wrong beyond it.
pub(super) fn check_settings(settings: &Settings, told: SettingOrigins) -> Result<(), Errors> {
    let told_before = told.mistakes.iter().map(|mistake| mistake.key.clone());
    let mut check = SettingsCheck {
        settings,
        unusable: told_before.filter(|key| !key.is_empty()).collect(),
        told,
    };
    check.check_listeners();
    check.check_auth();
    check.check_bounds();
    times::check_times(&mut check);
    check.check_redis();
    check.check_settlement();
    check.check_kafka();
    check.check_source();
    check.check_scylla();
    check.postgres();
    check.mapped_ledger();
    check.check_ledger();
    check.check_catalogue();
    check.check_telemetry();
    Errors::unless_empty(check.told.mistakes, settings.telemetry.format)
}

#[derive(Debug)]
struct SettingsCheck<'a> {
    settings: &'a Settings,
    /// Keys that are wrong by themselves. A key that only does not fit to another is not among them: it may be wrong
    /// beside a third one too.
    unusable: Vec<String>,
    told: SettingOrigins,
}

impl SettingsCheck<'_> {
    /// A mistake in the first of `keys` together with the others. Reports nothing if one of the keys was reported before: the
    /// settings hold its default then, and a conflict with a default is no mistake.
    fn add_mistake(&mut self, keys: &[&str], reason: impl Into<String>) {
        let Some(key) = keys.first() else { return };
        if keys.iter().any(|key| self.is_bad(key)) {
            return;
        }
        if let [only] = keys {
            self.unusable.push((*only).to_owned());
        }
        let origin = keys.iter().find_map(|key| self.told.key_origin(key));
        self.told.mistakes.push(Mistake {
            key: (*key).to_owned(),
            reason: reason.into(),
            origin: origin.unwrap_or(ValueOrigin::Default),
        });
    }

    /// Whether `key`, a part of it, or what it is a part of is wrong by itself.
    fn is_bad(&self, key: &str) -> bool {
        let mut unusable = self.unusable.iter();
        unusable.any(|bad| is_in(bad, key) || is_in(key, bad))
    }

    /// That no two elements of `list` have the same in `field`, among those where it is usable.
    fn require_unique<T: Eq + Hash>(
        &mut self,
        list: &str,
        field: &str,
        values: impl IntoIterator<Item = T>,
        reason: impl Fn(&T) -> String,
    ) {
        let mut seen = HashSet::new();
        for (at, value) in values.into_iter().enumerate() {
            let key = format!("{list}[{at}].{field}");
            if self.is_bad(&key) {
                continue;
            }
            let taken = reason(&value);
            self.require_that(&[&key], seen.insert(value), &taken);
        }
    }

    fn require_that(&mut self, keys: &[&str], good: bool, reason: &str) {
        if !good {
            self.add_mistake(keys, reason);
        }
    }

    fn require_range(&mut self, key: &str, value: impl TryInto<u64>, range: RangeInclusive<u64>) {
        let value = value.try_into().unwrap_or(u64::MAX);
        let (min, max) = (range.start(), range.end());
        let reason = format!("must be from {min} to {max}");
        self.require_that(&[key], range.contains(&value), &reason);
    }

    /// A password as `config show` prints it is no password.
    fn require_real_password(&mut self, key: &str, password: &str) {
        let is_real = password != redis_url::HIDDEN;
        self.require_that(&[key], is_real, "is hidden (***): put the real one back");
    }

    /// A client's certificate and its key.
    fn require_both_files(&mut self, keys: [&str; 2], [certificate, key]: [&Path; 2]) {
        let reason = format!("{} need each other", keys.join(" and "));
        self.require_that(&keys, is_named(certificate) == is_named(key), &reason);
    }

    /// Files of a connection on which TLS is switched on by its authorities.
    fn check_tls_files(&mut self, section: &str, [authorities, certificate, key]: [&Path; 3]) {
        let names = ["tls_ca_file", "tls_cert_file", "tls_key_file"];
        let keys = names.map(|name| format!("{section}.{name}"));
        let keys @ [_, cert_key, key_key] = keys.each_ref().map(String::as_str);
        self.require_both_files([cert_key, key_key], [certificate, key]);
        self.require_that(
            &keys,
            is_named(authorities) || !(is_named(certificate) || is_named(key)),
            "a certificate needs it: it switches TLS on",
        );
    }

    fn check_listeners(&mut self) {
        let (http, ops) = (self.settings.http.listen, self.settings.ops.listen);
        self.require_that(
            &["ops.listen", "http.listen"],
            !listeners_overlap(http, ops),
            "is http.listen too: operators need their own port",
        );
    }

    fn check_bounds(&mut self) {
        let Settings {
            memory,
            settlement,
            redis,
            scylla,
            postgres,
            limits,
            audit,
            totals,
            ..
        } = self.settings;
        self.require_range(
            "memory.max_bytes",
            memory.max_bytes,
            MEMORY_BYTES_MIN..=BYTES_MAX,
        );
        self.require_range("memory.warm_users", memory.warm_users, 1..=100_000);
        self.require_range(
            "memory.warm_users_per_second",
            memory.warm_users_per_second,
            1..=1_000_000,
        );
        self.require_range(
            "settlement.change_log_max_bytes",
            settlement.change_log_max_bytes,
            1 << 20..=BYTES_MAX,
        );
        self.require_range("redis.connections", redis.connections, 1..=1024);
        self.require_range(
            "redis.breaker_failures",
            redis.breaker_failures,
            1..=1_000_000,
        );
        self.require_range(
            "scylla.replication_factor",
            scylla.replication_factor,
            1..=100,
        );
        self.require_range("postgres.connections", postgres.connections, 1..=1_000);
        self.require_range("limits.body_bytes", limits.body_bytes, 1..=1 << 30);
        self.require_range("limits.connections", limits.connections, 1..=10_000_000);
        self.require_range("limits.source_loads", limits.source_loads, 1..=1_000_000);
        self.require_range(
            "audit.samples_per_second",
            audit.samples_per_second,
            0..=1_000,
        );
        self.require_range(
            "audit.reads_per_second",
            audit.reads_per_second,
            1..=100_000,
        );
        self.require_range(
            "totals.rows_per_second",
            totals.rows_per_second,
            1..=100_000_000,
        );
        self.require_range("audit.pending_max", audit.pending_max, 1..=1_000_000);
    }

    fn check_source(&mut self) {
        let Settings {
            source, embedded, ..
        } = self.settings;
        self.require_that(
            &["embedded.path", "source.kind"],
            source.kind != SourceKind::Embedded || !embedded.path.as_os_str().is_empty(),
            "source.kind = \"embedded\" needs it",
        );
    }

    fn check_telemetry(&mut self) {
        if let Err(reason) = super::log_filter::filter_directives(&self.settings.telemetry.log) {
            self.add_mistake(&["telemetry.log"], reason);
        }
        let endpoint = &self.settings.telemetry.otlp_endpoint;
        let host = endpoint.strip_prefix("http://");
        self.require_that(
            &["telemetry.otlp_endpoint"],
            endpoint.is_empty() || host.is_some_and(|host| !host.is_empty()),
            "must be http://host:port of a collector, or empty",
        );
        self.require_that(
            &["telemetry.otlp_endpoint"],
            endpoint.is_empty() || cfg!(feature = "otel"),
            "this binary was built without traces: build it with --features otel, or leave the key empty",
        );
    }
}

/// Whether `part` is `whole` or stands in it.
fn is_in(part: &str, whole: &str) -> bool {
    let rest = part.strip_prefix(whole);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
}

/// Whether both cannot listen, on any platform.
fn listeners_overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |ip: IpAddr| ip.is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || all(one.ip()) || all(other.ip()))
}

fn is_plain_name(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A name of lower-case letters, digits and underscores, which needs no quotes in a statement.
fn is_unquoted_name(text: &str, max: usize) -> bool {
    let tail = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    is_plain_name(text, 1, max)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(tail)
}

fn is_named(file: &Path) -> bool {
    !file.as_os_str().is_empty()
}
