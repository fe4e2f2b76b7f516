//! `redis.url`: what it may be, and how it looks without its user and password.

use url::Url;

use super::{RedisMode, RedisSettings};

/// The text shown in place of a secret.
pub(super) const HIDDEN: &str = "***";

/// The fault of one address. Never says the address: it may have a password.
pub(super) fn find_fault(node: &str, mode: RedisMode) -> Option<&'static str> {
    let Ok(url) = Url::parse(node) else {
        return Some(
            "is not a URL: redis://host:port, rediss://host:port or unix:///path; special characters of a password stand in \
             redis.password, or as %XX",
        );
    };
    if url.fragment().is_some() {
        return Some(
            "must not have a #fragment: no certificate goes unchecked, and # in a password is %23, or stands in redis.password",
        );
    }
    if is_hidden(&url) {
        return Some("has a hidden user or password (***): put the real one back");
    }
    query_fault(&url).or_else(|| address_fault(&url, mode))
}

fn address_fault(url: &Url, mode: RedisMode) -> Option<&'static str> {
    match (url.scheme(), mode) {
        ("redis" | "rediss" | "valkey" | "valkeys", mode) => tcp_fault(url, mode),
        ("unix", RedisMode::Cluster) => Some("a cluster is not reached through unix://"),
        ("unix", RedisMode::Sentinel) => Some("sentinels are not reached through unix://"),
        ("unix", RedisMode::Single) => (url.host().is_some() || url.path().len() < 2)
            .then_some("needs an absolute path: unix:///run/redis.sock"),
        _ => Some("must begin with redis://, rediss://, valkey://, valkeys:// or unix://"),
    }
}

fn tcp_fault(url: &Url, mode: RedisMode) -> Option<&'static str> {
    let database = url.path().trim_matches('/');
    match url.host_str() {
        None | Some("") => return Some("has no host"),
        Some("0.0.0.0" | "[::]") => return Some("names no host that can be connected to"),
        Some(_) => {}
    }
    if url.port() == Some(0) {
        return Some("port 0 cannot be connected to");
    }
    if !database.is_empty() && !is_database(database) {
        return Some("the path must be the number of a database");
    }
    (mode == RedisMode::Cluster && !matches!(database, "" | "0"))
        .then_some("a cluster has database 0 only")
}

/// Whether the address asks for TLS; case does not count in a scheme.
pub(super) fn is_tls(node: &str) -> bool {
    Url::parse(node).is_ok_and(|url| matches!(url.scheme(), "rediss" | "valkeys"))
}

/// The fault of the text behind the '?'. The driver passes over what it does not know, a password too.
fn query_fault(url: &Url) -> Option<&'static str> {
    let over_tcp = url.scheme() != "unix";
    url.query_pairs()
        .find_map(|(key, value)| match (key.as_ref(), value.as_ref()) {
            ("protocol", "2" | "resp2" | "3" | "resp3") => None,
            ("protocol", _) => Some("protocol must be resp2 or resp3"),
            ("user" | "pass" | "db", _) if over_tcp => Some(
                "user, password and database stand before and behind the host: redis://user:password@host:port/0",
            ),
            ("user" | "pass", _) => None,
            ("db", number) if is_database(number) => None,
            ("db", _) => Some("db must be the number of a database"),
            _ => Some("has a parameter behind '?' that is not known"),
        })
}

fn is_database(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u32>().is_ok_and(|number| number < 1 << 16)
}

/// Whether user or password is the mark of [`hide_secrets`].
fn is_hidden(url: &Url) -> bool {
    url.username() == HIDDEN
        || url.password() == Some(HIDDEN)
        || url
            .query_pairs()
            .any(|(key, value)| is_secret(&key) && value == HIDDEN)
}

/// Whether the parameter's value is a secret.
fn is_secret(key: &str) -> bool {
    matches!(key, "user" | "pass")
}

/// Whether an address names a user or a password.
pub(super) fn has_user(node: &str) -> bool {
    Url::parse(node).is_ok_and(|url| {
        let in_query = url.query_pairs().any(|(key, _)| is_secret(&key));
        !url.username().is_empty() || url.password().is_some() || in_query
    })
}

/// Whether addresses differ in user, password, database or protocol. One that is no URL has none of them.
pub(super) fn are_unlike(nodes: &[&str]) -> bool {
    let mut urls = nodes.iter().filter_map(|node| Url::parse(node).ok());
    let first = urls.next();
    first.is_some_and(|first| urls.any(|url| session_of(&url) != session_of(&first)))
}

/// User and password as they stand, the database, and whether the protocol is RESP3.
fn session_of(url: &Url) -> (&str, Option<&str>, u32, bool) {
    let database = url.path().trim_matches('/').parse().unwrap_or(0);
    let resp3 = url
        .query_pairs()
        .any(|(key, value)| key == "protocol" && value.ends_with('3'));
    (url.username(), url.password(), database, resp3)
}

/// All addresses, each with user and password as `***`. What [`find_fault`] refuses is hidden whole, because a secret may stand
/// anywhere in it.
pub(super) fn hide_secrets(redis: &RedisSettings) -> String {
    let nodes: Vec<_> = redis
        .node_urls()
        .map(|node| hidden_node(node, redis.mode).unwrap_or_else(|| HIDDEN.to_owned()))
        .collect();
    nodes.join(",")
}

fn hidden_node(node: &str, mode: RedisMode) -> Option<String> {
    if find_fault(node, mode).is_some() {
        return None;
    }
    let mut url = Url::parse(node).ok()?;
    let in_query = url.query_pairs().any(|(key, _)| is_secret(&key));
    if url.username().is_empty() && url.password().is_none() && !in_query {
        return Some(node.to_owned());
    }
    if !url.username().is_empty() {
        url.set_username(HIDDEN).ok()?;
    }
    if url.password().is_some() {
        url.set_password(Some(HIDDEN)).ok()?;
    }
    if in_query {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(key, value)| {
                let value = if is_secret(&key) {
                    HIDDEN.into()
                } else {
                    value
                };
                (key.into_owned(), value.into_owned())
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    Some(url.into())
}
