//! Old primaries: servers that take writes although another one of the same cluster was promoted after them.
//!
//! A promotion begins a timeline with a higher number. `target_session_attrs` does not see that, and so cannot tell an old primary that
//! is started again as it was from the new one.
//!
//! **Invariants.** Once a primary was seen, no connection is opened to one of a lower timeline, and none that was opened before is used.
//! A server that does not tell its timeline, and one of another cluster, are used as before.

use std::{collections::BTreeMap, time::Instant};

use parking_lot::Mutex;
use tokio_postgres::{Client, Error as PgError};

/// Cluster, and the timeline on which a primary writes. A standby has none.
const READ: &str = "SELECT system_identifier, CASE WHEN pg_is_in_recovery() THEN NULL \
     ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END FROM pg_control_system()";
/// The SQLSTATE of a connection that leads to an old primary. No server has it by itself.
pub(super) const REPLACED: &str = "BC001";
/// Has the driver return an error of that SQLSTATE, which only a server can make.
const REFUSE: &str = "DO $$ BEGIN RAISE EXCEPTION 'another server was promoted after this one' USING ERRCODE = 'BC001'; END $$";

/// The place of a primary in the history of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrimaryTimeline {
    cluster: i64,
    number: i64,
}

impl PrimaryTimeline {
    /// That of the server behind a connection. None: a standby, or a server that does not tell.
    pub(super) async fn read_timeline(client: &Client) -> Result<Option<Self>, PgError> {
        let row = match client.query_one(READ, &[]).await {
            Ok(row) => row,
            Err(error) if is_not_told(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (cluster, number) = (row.try_get(0)?, row.try_get::<_, Option<i64>>(1)?);
        Ok(number.map(|number| Self { cluster, number }))
    }

    /// Whether it was promoted after the other.
    pub(super) const fn is_newer_than(self, other: Self) -> bool {
        self.cluster == other.cluster && self.number > other.number
    }
}

/// Whether the server has no such functions, or keeps them from this user, as some services in the cloud do. Class 57 is an end of
/// the server or of the statement.
fn is_not_told(error: &PgError) -> bool {
    error
        .code()
        .is_some_and(|code| !code.code().starts_with("57"))
}

/// Has a server that must not be used say so.
pub(super) async fn refuse_connection(client: &Client) -> Result<(), PgError> {
    client.batch_execute(REFUSE).await
}

/// The newest primary of each cluster that this process has seen.
#[derive(Debug, Default)]
pub(super) struct NewestPrimary {
    seen: Mutex<SeenPrimaries>,
}

#[derive(Debug, Default)]
struct SeenPrimaries {
    timelines: BTreeMap<i64, i64>,
    /// When a newer one than before was seen.
    changed: Option<Instant>,
}

impl NewestPrimary {
    /// Takes note of a primary. False: it is an old one.
    pub(super) fn admit_primary(&self, found: PrimaryTimeline) -> bool {
        let mut seen = self.seen.lock();
        let known = seen.timelines.insert(found.cluster, found.number);
        match known {
            Some(known) if known > found.number => {
                seen.timelines.insert(found.cluster, known);
                false
            }
            Some(known) => {
                if known < found.number {
                    seen.changed = Some(Instant::now());
                }
                true
            }
            None => true,
        }
    }

    /// Whether none was seen yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.seen.lock().timelines.is_empty()
    }

    /// Whether a connection that was opened then may lead to an old primary.
    pub(super) fn outdates(&self, opened: Instant) -> bool {
        self.seen
            .lock()
            .changed
            .is_some_and(|changed| opened < changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(cluster: i64, number: i64) -> PrimaryTimeline {
        PrimaryTimeline { cluster, number }
    }

    #[test]
    fn an_old_primary_is_refused_and_connections_to_it_are_outdated() {
        let newest = NewestPrimary::default();
        assert!(newest.is_unknown());
        assert!(newest.admit_primary(primary(7, 1)) && newest.admit_primary(primary(7, 1)));
        let opened = Instant::now();
        assert!(!newest.outdates(opened));
        assert!(newest.admit_primary(primary(7, 2)));
        assert!(newest.outdates(opened) && !newest.outdates(Instant::now()));
        assert!(!newest.admit_primary(primary(7, 1)));
        assert!(newest.admit_primary(primary(7, 2)));
        // Another cluster has timelines of its own.
        assert!(newest.admit_primary(primary(8, 1)) && newest.admit_primary(primary(7, 2)));
        assert!(primary(7, 2).is_newer_than(primary(7, 1)));
        assert!(!primary(8, 2).is_newer_than(primary(7, 1)));
    }
}
