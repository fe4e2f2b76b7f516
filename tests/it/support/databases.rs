//! The tests that run on every database.

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
