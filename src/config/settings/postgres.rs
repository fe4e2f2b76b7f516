//! Where a PostgreSQL ledger is, and how it is reached.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{super::postgres_url, Millis};

/// Whether connections to PostgreSQL are encrypted, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS, with the server's certificate and its name checked.
    VerifyFull,
}

section! {
    /// The outbox: changes that triggers note for this service.
    #[derive(Debug)]
    PostgresOutbox {
        enabled: bool,
        table: String,
        user_column: String,
        asset_column: String,
        user_id_sql: String,
    }
}

section! {
    /// PostgreSQL.
    PostgresSettings {
        url: String,
        username: String,
        password: String,
        read_urls: Vec<String>,
        schema: String,
        connections: usize,
        connect_timeout_ms: Millis,
        sslmode: SslMode,
        tls_ca_file: PathBuf,
        tls_cert_file: PathBuf,
        tls_key_file: PathBuf,
        balances_sql: String,
        balance_sql: String,
        user_id_sql: String,
        outbox: PostgresOutbox,
    }
}

impl PostgresSettings {
    /// Whether balances come from somebody else's tables.
    pub fn is_mapped(&self) -> bool {
        !self.balances_sql.trim().is_empty()
    }
}

/// With user and password in each URL hidden: settings may be logged whole.
impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("url", &postgres_url::hide_secrets(&self.url))
            .field("read_urls", &self.read_urls.len())
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}
