//! The ledger as its writers see it: Cassandra, whose view they fill themselves, or PostgreSQL.

use std::time::Duration;

use scylla::{
    client::session::Session,
    statement::{Consistency, prepared::PreparedStatement},
};

use crate::{history::Key, pg_writer::PgWriter};

/// How long one statement of a client may take.
pub const STATEMENT: Duration = Duration::from_secs(1);

/// One row of the ledger.
#[derive(Debug, Clone, Copy)]
pub struct NewRow {
    pub key: Key,
    pub seq: i64,
    pub avail: i64,
    pub created_at: i64,
}

impl NewRow {
    /// User and asset as the tables have them.
    pub fn ids(&self) -> (i64, i32) {
        let (user, asset) = self.key;
        (i64::try_from(user).unwrap(), i32::try_from(asset).unwrap())
    }
}

/// A way to write it.
#[derive(Debug)]
pub enum LedgerWriter {
    Cassandra(Box<CqlWriter>),
    Postgres(PgWriter),
}

impl LedgerWriter {
    /// Tries to write the row to the ledger.
    pub async fn write_row(&self, row: NewRow) -> bool {
        match self {
            Self::Cassandra(writer) => writer.insert(&writer.ledger, row).await,
            Self::Postgres(writer) => writer.write_row(row).await,
        }
    }

    /// Tries to write the row to the view, where the clients fill it.
    pub async fn write_view(&self, row: NewRow) -> bool {
        match self {
            Self::Cassandra(writer) => writer.insert(&writer.view, row).await,
            Self::Postgres(_) => true,
        }
    }

    /// PostgreSQL, where the clients write there.
    pub fn postgres(&self) -> Option<&PgWriter> {
        match self {
            Self::Cassandra(_) => None,
            Self::Postgres(writer) => Some(writer),
        }
    }
}

/// Statements of a session with Cassandra.
#[derive(Debug)]
pub struct CqlWriter {
    session: Session,
    ledger: PreparedStatement,
    view: PreparedStatement,
}

impl CqlWriter {
    pub async fn open_writer(session: Session, keyspace: &str) -> LedgerWriter {
        let prepare = async |table: &str| {
            let text = format!(
                "INSERT INTO {keyspace}.{table} (user_id, asset_id, seq, avail, frozen, created_at) \
                 VALUES (?, ?, ?, ?, 0, ?)"
            );
            let mut insert = session.prepare(text).await.unwrap();
            insert.set_consistency(Consistency::LocalQuorum);
            insert.set_is_idempotent(true);
            insert.set_request_timeout(Some(STATEMENT));
            insert
        };
        let (ledger, view) = (
            prepare("balance_ledger").await,
            prepare("user_balances_by_user").await,
        );
        LedgerWriter::Cassandra(Box::new(Self {
            session,
            ledger,
            view,
        }))
    }

    async fn insert(&self, statement: &PreparedStatement, row: NewRow) -> bool {
        let (user, asset) = row.ids();
        let values = (user, asset, row.seq, row.avail, row.created_at);
        self.session
            .execute_unpaged(statement, values)
            .await
            .is_ok()
    }
}
