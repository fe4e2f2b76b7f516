//! PostgreSQL.

use super::{SettingsCheck, is_named, is_unquoted_name};
use crate::config::{PostgresAddress, SslMode};

impl SettingsCheck<'_> {
    pub(super) fn postgres(&mut self) {
        let postgres = &self.settings.postgres;
        let address = PostgresAddress::parse_url(&postgres.url);
        if let Err(fault) = &address {
            self.add_mistake(&["postgres.url"], *fault);
        }
        self.require_real_password("postgres.password", &postgres.password);
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
            is_unquoted_name(&postgres.schema, 63),
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
        let files = [
            postgres.tls_ca_file.as_path(),
            &postgres.tls_cert_file,
            &postgres.tls_key_file,
        ];
        let [ca, cert, key] = files.map(is_named);
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
        let keys = ["postgres.tls_cert_file", "postgres.tls_key_file"];
        self.require_both_files(keys, [&postgres.tls_cert_file, &postgres.tls_key_file]);
    }
}
