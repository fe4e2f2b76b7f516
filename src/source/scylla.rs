//! ScyllaDB and Cassandra.
