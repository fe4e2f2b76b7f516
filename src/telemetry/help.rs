//! The help texts of counters and gauges, a line for each. A histogram brings its own.

use super::metric_name;

/// Name and text; a name that ends in `_total` is a counter's, any other one a gauge's.
const HELP: &str = "\
reads_total: Users' reads by who answered
absent_reads_total: Reads that showed a user with nothing
negative_amounts_total: Amounts below zero that the source held
seq_regressions_total: Answers held back because a higher seq was shown before; must stay 0
tier_failures_total: Times that a tier could not do what it was asked
memory_entries: Snapshots held in memory
memory_bytes: Bytes held in memory, as weighed
evictions_total: Snapshots that memory let go of
loads_in_flight: Loads from the source under way
loads_limit: Loads that the source is asked for at once, now
turns_waiting: Loads that wait for a turn at Redis or the source
source_detours_total: Rows or statements of a load that could not be used, so that the ledger was read instead
notifications_total: Settlement notifications by way and result
bus_resyncs_total: Times that the feed could not be followed without a gap
refused_fills_total: Loads that Redis refused to keep
blind: 1 while changes may be unknown, so that each load asks the ledger beside the view
change_log_users: Users whose changes, or reads, are remembered
change_log_bytes: Bytes of that, at most settlement.change_log_max_bytes together
change_log_given_up_total: Users forgotten for want of room, earlier than by settlement.floor_ttl_ms
ledger_transactions_total: Transactions and trades by what became of them
ledger_recovered_total: Transactions that a failed request or a killed instance left, finished later without being sent again
ledger_append_retries_total: Lightweight transactions of the ledger's journal that were made again: another instance was faster, or no answer came
ledger_writes_failing: 1 while the embedded ledger cannot be written for this cause
ledger_write_failures_total: Write transactions of the embedded ledger that failed or were not begun
ledger_reopened_total: Times that the embedded ledger was opened again after a failure of its disk
audit_checked_total: Answers compared with the ledger afterwards
audit_stale_total: Answers that were too old when they were given
totals_age_seconds: Age of the totals that are shown, or time since the start while there are none
totals_interval_seconds: totals.interval_ms; 0: off
totals_scan_progress_ratio: The part of the scan under way that is done; 0 while there is none
totals_difference_units: Raw units between the scanned total and the one that the writer maintained, by asset; must stay 0
totals_untrusted_rows: Rows that the last scan found and that were not written as the service writes them
totals_rows_total: Rows that scans for totals read
totals_scans_total: Scans for totals by result
warmed_users_total: Users loaded after the start because they were read most, by result
warm_users: Users that are to be loaded after the start
warm_under_way: 1 while users are loaded after the start
backfill_under_way: 1 while a backfill of the table runs, as Redis was told
backfill_progress_ratio: The part that is done of the step: copying, then comparing; 0 where there is no backfill
backfill_rows: Rows of the source that the backfill of the table has read
backfill_remaining_seconds: Seconds that the rest of the copy will take; 0 where that is not known
http_requests_total: HTTP requests by route and status
build_info: The version that runs
ready: 1 where /readyz says 200
degraded: 1 where /readyz names this
finding: 1 where /readyz says the sentence of this code
stream_lag_entries: Entries of the settlement stream that are not acknowledged
outbox_lag_entries: Rows of the PostgreSQL outbox that wait for their effect
kafka_lag_entries: Records of the Kafka topic behind what the consumer group committed
redis_memory_bytes: Bytes that Redis uses, of the fullest master
redis_memory_max_bytes: Its maxmemory; 0: no limit
config_reloads_total: Reloads of the settings (SIGHUP) by result
config_last_reload_timestamp_seconds: When settings were taken last after the start, in seconds since 1970; 0: never
";

/// Gives each metric its help text, for those that are registered.
pub(super) fn describe_metrics() {
    for (name, text) in HELP.lines().filter_map(|line| line.split_once(": ")) {
        if name.ends_with("_total") {
            metrics::describe_counter!(metric_name(name), text);
        } else {
            metrics::describe_gauge!(metric_name(name), text);
        }
    }
}
