//! `ScyllaDB` and Cassandra.

use super::{SettingsCheck, is_plain_name, is_unquoted_name};
use crate::config::{SourceKind, TABLE_NAME_KEY};

impl SettingsCheck<'_> {
    pub(super) fn check_scylla(&mut self) {
        let scylla = &self.settings.scylla;
        self.require_that(
            &["scylla.nodes", "source.kind"],
            self.settings.source.kind != SourceKind::Scylla || !scylla.nodes.is_empty(),
            "source.kind = \"scylla\" needs at least one host:port",
        );
        for (at, node) in scylla.nodes.iter().enumerate() {
            self.require_that(
                &[&format!("scylla.nodes[{at}]")],
                is_node(node),
                "must be host:port; an IPv6 address in brackets",
            );
        }
        self.require_that(
            &["scylla.keyspace"],
            is_unquoted_name(&scylla.keyspace, 48),
            "must be a name of 1 to 48 characters: a lower-case letter, then such letters, digits and '_'",
        );
        self.require_that(
            &["scylla.rack", "scylla.datacenter"],
            scylla.rack.is_empty() || !scylla.datacenter.is_empty(),
            "needs scylla.datacenter",
        );
        let (name, password) = (&scylla.username, &scylla.password);
        self.require_that(
            &["scylla.password", "scylla.username"],
            name.is_empty() == password.is_empty(),
            "scylla.username and scylla.password need each other",
        );
        self.require_real_password("scylla.password", password);
        let files = [
            scylla.tls_ca_file.as_path(),
            &scylla.tls_cert_file,
            &scylla.tls_key_file,
        ];
        self.check_tls_files("scylla", files);
        self.check_names();
    }

    /// Names that can stand in a statement; no two tables of one name, no two columns of one name in a table.
    fn check_names(&mut self) {
        let names = &self.settings.scylla.names;
        let mut tables: Vec<&str> = Vec::new();
        for (table, columns) in names {
            let mut taken: Vec<&str> = Vec::new();
            for (column, name) in columns {
                let key = format!("scylla.names.{table}.{column}");
                self.require_that(&[&key], is_cql_name(name), CQL_NAME_RULE);
                let seen = if column == TABLE_NAME_KEY {
                    &mut tables
                } else {
                    &mut taken
                };
                let is_free = !seen.contains(&name.as_str());
                self.require_that(&[&key], is_free, "this name is taken by another one");
                seen.push(name);
            }
        }
    }
}

/// The form of a name in [`is_cql_name`], for messages.
pub const CQL_NAME_RULE: &str =
    "must be a letter, then letters, digits and underscores, 48 at most";

/// Whether a name can stand in double quotes in a statement and be a keyspace, a table or a column.
pub fn is_cql_name(name: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    is_plain_name(name, 1, 48)
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(tail)
}

/// `host:port`, `1.2.3.4:port` or `[::1]:port`.
pub(super) fn is_node(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_is_good = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_plain_name(host, 1, 253),
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    host_is_good && digits && port.parse::<u16>().is_ok_and(|port| port != 0)
}
