//! `redis.url`: what it may be, and how it looks without its password.

use url::Url;

use super::{Redis, RedisMode};

/// What is shown where a secret stands.
pub(super) const HIDDEN: &str = "***";

/// What is wrong with one address. Never says the address: it may have a password.
pub(super) fn fault(node: &str, mode: RedisMode) -> Option<&'static str> {
    let Ok(url) = Url::parse(node) else {
        return Some("is not a URL: redis://host:port, rediss://host:port or unix:///path");
    };
    if url.fragment().is_some() {
        return Some("must not have a #fragment: no certificate goes unchecked");
    }
    if is_hidden(&url) {
        return Some("has a hidden password (***): put the real one back");
    }
    match (url.scheme(), mode) {
        ("redis" | "rediss", mode) => tcp_fault(&url, mode),
        ("unix", RedisMode::Cluster) => Some("a cluster is not reached through unix://"),
        ("unix", RedisMode::Single) => (url.host().is_some() || url.path().len() < 2)
            .then_some("needs an absolute path: unix:///run/redis.sock"),
        _ => Some("must begin with redis://, rediss:// or unix://"),
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
    if !database.is_empty() && !database.parse::<u32>().is_ok_and(|number| number < 1 << 16) {
        return Some("the path must be the number of a database");
    }
    (mode == RedisMode::Cluster && !matches!(database, "" | "0"))
        .then_some("a cluster has database 0 only")
}

/// Whether the address asks for TLS; case does not count in a scheme.
pub(super) fn is_tls(node: &str) -> bool {
    Url::parse(node).is_ok_and(|url| url.scheme() == "rediss")
}

/// Whether the password is the mark of [`hidden`].
fn is_hidden(url: &Url) -> bool {
    url.password() == Some(HIDDEN)
        || url
            .query_pairs()
            .any(|(key, value)| key == "pass" && value == HIDDEN)
}

/// All addresses, each with its password as `***`. What cannot be understood is hidden whole.
pub(super) fn hidden(redis: &Redis) -> String {
    let nodes: Vec<_> = redis.nodes().map(hidden_node).collect();
    nodes.join(",")
}

fn hidden_node(node: &str) -> String {
    let Ok(mut url) = Url::parse(node) else {
        return HIDDEN.to_owned();
    };
    let has_pass = url.query_pairs().any(|(key, _)| key == "pass");
    if url.password().is_none() && !has_pass {
        return node.to_owned();
    }
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return HIDDEN.to_owned();
    }
    if has_pass {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(key, value)| {
                let value = if key == "pass" { HIDDEN.into() } else { value };
                (key.into_owned(), value.into_owned())
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.into()
}
