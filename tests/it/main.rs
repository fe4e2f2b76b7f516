//! Integration tests: the real binary, real servers, and a proxy that breaks the wire between them.
//!
//! One binary for all of them, so that they are linked once. What they stand on is in `support`; `harness` proves that
//! it stands.

#[cfg(test)]
mod harness;
mod read_tiers;
#[cfg(test)]
mod settlement_forms;
#[cfg(test)]
mod settlement_instances;
#[cfg(test)]
mod settlement_support;
#[cfg(test)]
mod source_cql;
#[cfg(test)]
mod source_cql_outages;
#[cfg(test)]
mod source_cql_schema;
#[cfg(test)]
mod support;
