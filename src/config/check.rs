//! Whether settings that are good one by one can be, and can be together (contract section 6, protocol rule 15).

use std::{
    collections::HashSet,
    hash::Hash,
    net::{IpAddr, SocketAddr},
};

use super::{Errors, Mistake, Settings, SourceKind, ValueOrigin, judge::SettingOrigins};

mod auth;
mod catalogue;
mod kafka;
mod ledger;
mod outbox;
mod postgres;
mod redis;
mod scylla;
mod times;

pub use scylla::{CQL_NAME_RULE, is_cql_name};

/// Bytes of memory below which a cache is pointless.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024;

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

    fn check_listeners(&mut self) {
        let (http, ops) = (self.settings.http.listen, self.settings.ops.listen);
        self.require_that(
            &["ops.listen", "http.listen"],
            !listeners_overlap(http, ops),
            "is http.listen too: operators need their own port",
        );
    }

    fn check_bounds(&mut self) {
        let sizes = size_bounds(self.settings).into_iter();
        for (key, value, min, max) in sizes.chain(rate_bounds(self.settings)) {
            self.require_that(
                &[key],
                (min..=max).contains(&value),
                &format!("must be from {min} to {max}"),
            );
        }
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

/// A key, its value, and the least and the most that it may be.
type Bound = (&'static str, u64, u64, u64);

fn as_count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn size_bounds(settings: &Settings) -> [Bound; 11] {
    [
        (
            "memory.max_bytes",
            settings.memory.max_bytes,
            MEMORY_BYTES_MIN,
            1 << 46,
        ),
        (
            "memory.warm_users",
            u64::from(settings.memory.warm_users),
            1,
            100_000,
        ),
        (
            "memory.warm_users_per_second",
            u64::from(settings.memory.warm_users_per_second),
            1,
            1_000_000,
        ),
        (
            "settlement.change_log_max_bytes",
            settings.settlement.change_log_max_bytes,
            1 << 20,
            1 << 46,
        ),
        (
            "redis.connections",
            as_count(settings.redis.connections),
            1,
            1024,
        ),
        (
            "redis.breaker_failures",
            u64::from(settings.redis.breaker_failures),
            1,
            1_000_000,
        ),
        (
            "scylla.replication_factor",
            u64::from(settings.scylla.replication_factor),
            1,
            100,
        ),
        (
            "postgres.connections",
            as_count(settings.postgres.connections),
            1,
            1_000,
        ),
        (
            "limits.body_bytes",
            as_count(settings.limits.body_bytes),
            1,
            1 << 30,
        ),
        (
            "limits.connections",
            as_count(settings.limits.connections),
            1,
            10_000_000,
        ),
        (
            "limits.source_loads",
            as_count(settings.limits.source_loads),
            1,
            1_000_000,
        ),
    ]
}

fn rate_bounds(settings: &Settings) -> [Bound; 4] {
    [
        (
            "audit.samples_per_second",
            u64::from(settings.audit.samples_per_second),
            0,
            1_000,
        ),
        (
            "audit.reads_per_second",
            u64::from(settings.audit.reads_per_second),
            1,
            100_000,
        ),
        (
            "totals.rows_per_second",
            u64::from(settings.totals.rows_per_second),
            1,
            100_000_000,
        ),
        (
            "audit.pending_max",
            as_count(settings.audit.pending_max),
            1,
            1_000_000,
        ),
    ]
}
