//! Integration tests: the real binary, real servers, and a proxy that breaks the wire between them.
//!
//! One binary for all of them, so that they are linked once. What they stand on is in `support`; `harness` proves that
//! it stands.

#[cfg(test)]
mod advice;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod backfill;
#[cfg(test)]
mod backfill_shown;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod cli_conservation;
#[cfg(test)]
mod cli_doctor;
#[cfg(test)]
mod cli_doctor_source;
#[cfg(test)]
mod cli_exit_codes;
#[cfg(test)]
mod cli_get;
#[cfg(test)]
mod cli_support;
#[cfg(test)]
mod cli_trace;
#[cfg(test)]
mod cli_verify;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod dashboard_data;
#[cfg(test)]
mod dashboard_page;
#[cfg(test)]
mod deployments;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod existing_guide;
#[cfg(test)]
mod existing_ledger;
#[cfg(test)]
mod existing_statements;
#[cfg(test)]
mod existing_tools;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod histories_rows;
#[cfg(test)]
mod histories_support;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod kafka_chaos;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod kafka_outages;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod kafka_records;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod kafka_security;
#[cfg(test)]
#[cfg(feature = "failpoints")]
mod kill_points;
#[cfg(test)]
mod ledger_damage;
#[cfg(test)]
mod ledger_external;
#[cfg(test)]
mod ledger_full_disk;
#[cfg(test)]
mod ledger_outbox;
#[cfg(test)]
mod ledger_service;
#[cfg(test)]
mod ledger_settle;
#[cfg(test)]
mod ledger_simulated;
#[cfg(test)]
mod ledger_tools;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod openapi_page;
#[cfg(test)]
mod openapi_schemathesis;
#[cfg(test)]
mod postgres_commits;
#[cfg(test)]
mod postgres_outbox;
#[cfg(test)]
mod postgres_outbox_outages;
#[cfg(test)]
mod postgres_outbox_rows;
#[cfg(test)]
mod process_lines;
#[cfg(test)]
mod process_signals;
#[cfg(test)]
mod prometheus_alerts;
#[cfg(test)]
mod prometheus_exact;
#[cfg(test)]
mod prometheus_panels;
#[cfg(test)]
mod read_batch;
#[cfg(test)]
mod read_flight;
#[cfg(test)]
mod read_redis_outages;
#[cfg(test)]
mod read_redis_ways;
#[cfg(test)]
mod read_source_outages;
#[cfg(test)]
mod read_tiers;
#[cfg(test)]
mod redis_compat;
#[cfg(test)]
mod redis_findings;
#[cfg(test)]
mod redis_scripts;
#[cfg(test)]
mod redis_scripts_fill;
#[cfg(test)]
mod redis_scripts_whole;
#[cfg(test)]
mod redis_sentinel;
#[cfg(test)]
mod redis_sessions;
#[cfg(test)]
mod redis_storm;
#[cfg(test)]
#[cfg(feature = "failpoints")]
mod replay_feed;
#[cfg(test)]
#[cfg(feature = "failpoints")]
mod replay_forgetting;
#[cfg(test)]
#[cfg(feature = "failpoints")]
mod replay_gates;
#[cfg(test)]
#[cfg(feature = "failpoints")]
mod replay_loads;
#[cfg(test)]
#[cfg(feature = "failpoints")]
mod replay_redis;
#[cfg(test)]
#[cfg(feature = "failpoints")]
mod replay_stage;
#[cfg(test)]
mod settlement_cluster;
#[cfg(test)]
mod settlement_forms;
#[cfg(test)]
mod settlement_instances;
#[cfg(test)]
mod settlement_pair;
#[cfg(test)]
mod settlement_stream;
#[cfg(test)]
mod settlement_support;
#[cfg(test)]
mod settlement_whole;
#[cfg(test)]
mod settlement_words;
#[cfg(test)]
mod shadow;
#[cfg(test)]
mod source_cql;
#[cfg(test)]
mod source_cql_compat;
#[cfg(test)]
mod source_cql_names;
#[cfg(test)]
mod source_cql_outages;
#[cfg(test)]
mod source_cql_schema;
#[cfg(test)]
mod source_postgres;
#[cfg(test)]
mod source_postgres_failover;
#[cfg(test)]
mod source_postgres_outages;
#[cfg(test)]
mod source_postgres_tools;
#[cfg(test)]
mod source_postgres_writes;
#[cfg(test)]
mod support;
#[cfg(test)]
mod totals;
#[cfg(test)]
mod totals_databases;
#[cfg(test)]
mod totals_many;
#[cfg(test)]
#[cfg(feature = "otel")]
mod traces;
#[cfg(test)]
mod warm_start;
#[cfg(test)]
mod web_pages;
