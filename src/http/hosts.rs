//! Names under which a listener may be addressed (`Host`).
//!
//! A page on any site can point its own name at 127.0.0.1 and then ask this service as its own origin (DNS rebinding).
//! Without tokens a listener therefore answers to loopback names and its own address only.

use std::net::{IpAddr, Ipv6Addr};

/// The names that one listener accepts, on any port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    Any,
    /// Loopback names, and this address.
    Local(IpAddr),
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostError {
    /// Not `host` or `host:port`.
    Malformed,
    /// Another host's name.
    Foreign,
}

impl Hosts {
    /// Checks the value of a `Host` field.
    /// Errors: the name is malformed, or not accepted here.
    pub fn check_host(self, host: &[u8]) -> Result<(), HostError> {
        let authority = HostAndPort::parse_host(host).ok_or(HostError::Malformed)?;
        match self {
            Self::Local(listen) if !authority.is_local(listen) => Err(HostError::Foreign),
            Self::Any | Self::Local(_) => Ok(()),
        }
    }
}

/// A host and a port as `Host` and `Origin` spell them.
#[derive(Debug, Clone, Copy)]
pub struct HostAndPort<'a> {
    /// A name or an address; without brackets.
    pub name: &'a str,
    /// The port, where one is given.
    pub port: Option<u16>,
}

impl<'a> HostAndPort<'a> {
    /// Reads `host`, `host:port` or `[v6]:port`. User information is not accepted.
    pub fn parse_host(value: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(value).ok()?;
        let (name, port) = if let Some(literal) = text.strip_prefix('[') {
            let (name, rest) = literal.split_once(']')?;
            name.parse::<Ipv6Addr>().ok()?;
            match rest.strip_prefix(':') {
                Some(port) => (name, port),
                None if rest.is_empty() => (name, ""),
                None => return None,
            }
        } else {
            text.split_once(':').unwrap_or((text, ""))
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%:".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) || !port.bytes().all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let port = (!port.is_empty()).then(|| port.parse().ok());
        match port {
            Some(None) => None,
            port => Some(Self {
                name,
                port: port.flatten(),
            }),
        }
    }

    fn is_local(self, listen: IpAddr) -> bool {
        let name = self.name.strip_suffix('.').unwrap_or(self.name);
        let local = |address: IpAddr| {
            let address = address.to_canonical();
            address.is_loopback() || address == listen.to_canonical()
        };
        name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTEN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

    #[test]
    fn loopback_names_and_the_own_address_are_local_on_any_port() {
        for host in [
            "localhost",
            "LocalHost:80",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:3001",
            "127.9.9.9:1",
            "127.0.0.1:",
            "[::1]:3001",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "10.1.2.3:3001",
        ] {
            assert_eq!(
                Hosts::Local(LISTEN).check_host(host.as_bytes()),
                Ok(()),
                "{host}"
            );
        }
        for host in [
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "10.1.2.4",
            "[::2]",
            "xlocalhost",
            "balance-cache:3001",
        ] {
            let checked = |hosts: Hosts| hosts.check_host(host.as_bytes());
            assert_eq!(
                checked(Hosts::Local(LISTEN)),
                Err(HostError::Foreign),
                "{host}"
            );
            assert_eq!(checked(Hosts::Any), Ok(()), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_malformed_everywhere() {
        for host in [
            "", ":80", "a b", "a/b", "a@b", "a,b", "a:b", "a:70000", "a:1:2", "[::1", "[::1]x",
            "[x]:1", "::1", "http://a", "a\\b", "a?", "a#", "\u{e4}",
        ] {
            for hosts in [Hosts::Any, Hosts::Local(LISTEN)] {
                assert_eq!(
                    hosts.check_host(host.as_bytes()),
                    Err(HostError::Malformed),
                    "{host}"
                );
            }
        }
    }
}
