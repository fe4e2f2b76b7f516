//! PostgreSQL.

use super::{SettingsCheck, is_plain_name};
use crate::config::{PostgresAddress, SslMode, redis_url};

impl SettingsCheck<'_> {
    pub(super) fn postgres(&mut self) {
        let postgres = &self.settings.postgres;
        let address = PostgresAddress::parse_url(&postgres.url);
        if let Err(fault) = &address {
            self.add_mistake(&["postgres.url"], *fault);
        }
        self.require_that(
            &["postgres.password"],
            postgres.password != redis_url::HIDDEN,
            "is hidden (***): put the real one back",
        );
        self.require_that(
            &["postgres.username", "postgres.password"],
            postgres.password.is_empty() || !postgres.username.is_empty(),
            "postgres.password needs it beside",
        );
        let in_both = address.is_ok_and(|address| !address.username.is_empty())
            && !postgres.username.is_empty();
        self.require_that(
            &["postgres.username", "postgres.url"],
            !in_both,
            "a user stands in postgres.url too: leave one of them out",
        );
        for (at, url) in postgres.read_urls.iter().enumerate() {
            self.read_url(&format!("postgres.read_urls[{at}]"), url);
        }
        self.require_that(
            &["postgres.schema"],
            is_schema_name(&postgres.schema),
            "must be a name of 1 to 63 characters: a lower-case letter, then such letters, digits and '_'",
        );
        self.tls_of_postgres();
    }

    /// One replica an address, of the same form as `postgres.url`.
    fn read_url(&mut self, key: &str, url: &str) {
        match PostgresAddress::parse_url(url) {
            Err(fault) => self.add_mistake(&[key], fault),
            Ok(address) => {
                self.require_that(
                    &[key],
                    address.hosts.len() == 1,
                    "must name one host: each replica has an address of its own",
                );
                let in_both =
                    !address.username.is_empty() && !self.settings.postgres.username.is_empty();
                self.require_that(
                    &[key, "postgres.username"],
                    !in_both,
                    "has a user, and postgres.username is set: leave one of them out",
                );
            }
        }
    }

    fn tls_of_postgres(&mut self) {
        let postgres = &self.settings.postgres;
        let is_set = |path: &std::path::Path| !path.as_os_str().is_empty();
        let (ca, cert, key) = (
            is_set(&postgres.tls_ca_file),
            is_set(&postgres.tls_cert_file),
            is_set(&postgres.tls_key_file),
        );
        let is_on = postgres.sslmode == SslMode::VerifyFull;
        self.require_that(
            &["postgres.tls_ca_file", "postgres.sslmode"],
            ca || !is_on,
            "postgres.sslmode = \"verify-full\" needs it: no authorities are built in",
        );
        self.require_that(
            &["postgres.sslmode", "postgres.tls_ca_file"],
            is_on || !(ca || cert || key),
            "must be \"verify-full\" where certificate files are named",
        );
        self.require_that(
            &["postgres.tls_cert_file", "postgres.tls_key_file"],
            cert == key,
            "postgres.tls_cert_file and postgres.tls_key_file need each other",
        );
    }
}

/// A name that needs no quotes in SQL.
fn is_schema_name(text: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    is_plain_name(text, 1, 63)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(tail)
}
