//! Integration tests, on real servers.

mod source_cql;
mod source_cql_outages;
mod source_cql_schema;
mod support;
