//! `postgres.url`: what it may be, and how it looks without its user and password.
//!
//! `postgresql://user:password@host:port,host:port/database`. A host may be a folder of Unix sockets, with `%2F` for each slash.

use super::redis_url::HIDDEN;

/// The port of a host that names none.
const PORT: u16 = 5432;

/// The parts of an address, without escapes.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAddress {
    /// Empty: none.
    pub username: String,
    /// Empty: none.
    pub password: String,
    /// At least one; the folder of a Unix socket begins with a slash.
    pub hosts: Vec<(String, u16)>,
    pub database: String,
}

/// Without user and password.
impl std::fmt::Debug for PostgresAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show_place())
    }
}

impl PostgresAddress {
    /// Reads an address.
    /// Errors: its fault, in words that name no part of it: it may have a password.
    pub fn parse_url(url: &str) -> Result<Self, &'static str> {
        let rest = url
            .strip_prefix("postgresql://")
            .or_else(|| url.strip_prefix("postgres://"))
            .ok_or("must begin with postgresql:// or postgres://")?;
        if rest.contains(['?', '#']) {
            return Err(
                "must end with the database: what stands behind '?' elsewhere has keys of its own here, as postgres.sslmode; '?' and '#' in a password are %3F and %23",
            );
        }
        let (authority, path) = rest
            .split_once('/')
            .ok_or("must end with a slash and the database")?;
        if path.is_empty() || path.contains('/') {
            return Err("must end with a slash and the database; a slash in a password is %2F");
        }
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (user, hosts),
            None => ("", authority),
        };
        if user.contains('@') {
            return Err("has more than one '@': in a password it is %40");
        }
        let (username, password) = user.split_once(':').unwrap_or((user, ""));
        let address = Self {
            username: decode_escapes(username)?,
            password: decode_escapes(password)?,
            hosts: hosts.split(',').map(parse_host).collect::<Result<_, _>>()?,
            database: decode_escapes(path)?,
        };
        if [&address.username, &address.password].contains(&&HIDDEN.to_owned()) {
            return Err("has a hidden user or password (***): put the real one back");
        }
        Ok(address)
    }

    /// Hosts and database, for messages.
    pub fn show_place(&self) -> String {
        let hosts: Vec<_> = self
            .hosts
            .iter()
            .map(|(host, port)| show_host(host, *port))
            .collect();
        format!("{}/{}", hosts.join(","), self.database)
    }
}

fn show_host(host: &str, port: u16) -> String {
    if host.starts_with('/') {
        format!("{host}/.s.PGSQL.{port}")
    } else if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn parse_host(text: &str) -> Result<(String, u16), &'static str> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, rest)) => (
            host,
            rest.strip_prefix(':')
                .or_else(|| rest.is_empty().then_some("")),
        ),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    let port = match port {
        Some("") if !text.ends_with(':') => PORT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("the port of a host must be from 1 to 65535")?,
        Some(_) | None => return Err("the port of a host must be from 1 to 65535"),
    };
    let host = decode_escapes(host)?;
    let is_plain = host.bytes().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/')
    });
    match host.as_str() {
        "" => Err("has no host"),
        _ if host.contains(':') && bracketed.is_none() => Err("an IPv6 address stands in brackets"),
        _ if !is_plain => Err("has a host that is no name and no address"),
        _ => Ok((host, port)),
    }
}

/// `%41` as `A`.
fn decode_escapes(text: &str) -> Result<String, &'static str> {
    let fault = "has a '%' that is not the begin of an escape as %40: a '%' itself is %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2).ok_or(fault)?;
        let digits = std::str::from_utf8(digits).map_err(|_| fault)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| fault)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| fault)
}

/// The address with user and password as `***`. One that cannot be read is hidden whole.
pub(super) fn hide_secrets(url: &str) -> String {
    let Ok(address) = PostgresAddress::parse_url(url) else {
        return HIDDEN.to_owned();
    };
    let user = match (address.username.is_empty(), address.password.is_empty()) {
        (true, true) => return url.to_owned(),
        (_, true) => format!("{HIDDEN}@"),
        (_, false) => format!("{HIDDEN}:{HIDDEN}@"),
    };
    let place = url.rsplit_once('@').map_or("", |(_, place)| place);
    format!("postgresql://{user}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_every_form() {
        let address = PostgresAddress::parse_url("postgres://app:p%40ss@a,b:6432,[::1]:7/money");
        let address = address.unwrap();
        assert_eq!((&*address.username, &*address.password), ("app", "p@ss"));
        assert_eq!(address.show_place(), "a:5432,b:6432,[::1]:7/money");
        let socket = PostgresAddress::parse_url("postgresql://%2Frun%2Fpostgresql:5433/money");
        assert_eq!(
            socket.unwrap().hosts,
            [("/run/postgresql".to_owned(), 5433)]
        );
    }

    #[test]
    fn each_fault_is_told_without_the_address() {
        for url in [
            "mysql://a/b",
            "postgresql://a",
            "postgresql://a/",
            "postgresql://secret/x/y",
            "postgresql://a/b?sslmode=disable",
            "postgresql://u:p@ss@a/b",
            "postgresql://a:0/b",
            "postgresql://a:/b",
            "postgresql://:5432/b",
            "postgresql://::1/b",
            "postgresql://u:%4@a/b",
            "postgresql://***:***@a/b",
        ] {
            let fault = PostgresAddress::parse_url(url).unwrap_err();
            assert!(!fault.contains("secret"), "{url}: {fault}");
        }
    }

    #[test]
    fn secrets_are_hidden() {
        for (url, shown) in [
            ("postgresql://a/b", "postgresql://a/b"),
            ("postgres://u@a,b:1/b", "postgresql://***@a,b:1/b"),
            ("postgresql://u:pw@a/b", "postgresql://***:***@a/b"),
            ("postgresql://u:pw@a", "***"),
        ] {
            assert_eq!(hide_secrets(url), shown);
        }
    }
}
