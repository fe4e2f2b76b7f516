//! The tests that run on every database, and its servers.

use super::{
    cassandra::{self, Cassandra},
    postgres::{self, PgOptions, PgServer},
    stage::{Database, Stage},
};

/// A running server.
#[derive(Debug, Clone, Copy)]
pub enum DatabaseServer<'a> {
    Cassandra(&'a Cassandra),
    Postgres(&'a PgServer),
}

impl Database {
    /// The server that all tests share.
    pub fn shared_server(self) -> DatabaseServer<'static> {
        match self {
            Self::Cassandra => DatabaseServer::Cassandra(cassandra::shared()),
            Self::Postgres => DatabaseServer::Postgres(postgres::shared()),
        }
    }
}

impl Stage {
    /// On this server.
    pub async fn at(server: DatabaseServer<'_>) -> Self {
        match server {
            DatabaseServer::Cassandra(node) => Self::new(node).await,
            DatabaseServer::Postgres(server) => Self::in_postgres(server).await,
        }
    }
}

/// A server of a test's own.
#[derive(Debug)]
pub enum OwnServer {
    Cassandra(Cassandra),
    Postgres(PgServer),
}

impl OwnServer {
    pub fn start(database: Database) -> Self {
        Self::start_with(database, false)
    }

    /// One that has its data after [`OwnServer::start_again`].
    pub fn start_durable(database: Database) -> Self {
        Self::start_with(database, true)
    }

    fn start_with(database: Database, durable: bool) -> Self {
        match database {
            Database::Cassandra => Self::Cassandra(Cassandra::start(&cassandra::Options {
                durable,
                ..cassandra::Options::default()
            })),
            Database::Postgres => Self::Postgres(PgServer::start(&PgOptions {
                durable,
                ..PgOptions::default()
            })),
        }
    }

    pub fn server(&self) -> DatabaseServer<'_> {
        match self {
            Self::Cassandra(node) => DatabaseServer::Cassandra(node),
            Self::Postgres(server) => DatabaseServer::Postgres(server),
        }
    }

    /// Ends it.
    pub fn stop(&mut self) {
        match self {
            Self::Cassandra(node) => node.stop(),
            Self::Postgres(server) => server.stop(),
        }
    }

    /// Starts it after [`OwnServer::stop`].
    pub fn start_again(&mut self) {
        match self {
            Self::Cassandra(node) => node.start_again(),
            Self::Postgres(server) => server.launch(),
        }
    }

    /// Stops its processes where they stand.
    pub fn pause(&self) {
        match self {
            Self::Cassandra(node) => node.pause(),
            Self::Postgres(server) => server.pause(),
        }
    }

    pub fn resume(&self) {
        match self {
            Self::Cassandra(node) => node.resume(),
            Self::Postgres(server) => server.resume(),
        }
    }
}

/// Runs each of these tests, which take a [`Database`], on every one of them.
macro_rules! on_each_database {
    ($($test:ident,)*) => {
        mod on_cassandra {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($crate::support::stage::Database::Cassandra).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($crate::support::stage::Database::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_each_database;
