//! The progress of backfills in Redis: the tool that fills a table writes it, and instances show it.
//!
//! One string of JSON for each table (`balance:backfill:<table>`).
//!
//! **Invariants.** It decides nothing. A tool that was killed writes nothing more: its key ends after [`RUNNING_TTL`].
//!
//! **Limits.** An instance reads the keys once a second, with its other checks of the session; [`WRITER_TIMEOUT`] for each question.

use std::{fmt, sync::Arc};

use redis::{FromRedisValue, RedisError, Value};
use tokio::time::timeout;

use super::{
    backfill_progress::{BackfillProgress, ENDED_TTL, KnownBackfills, RUNNING_TTL},
    client::{RedisLink, WRITER_TIMEOUT},
    connection::{SharedConnection, timed_out},
    dialer::{ConnectionTimeouts, Dialer},
    faults,
    keys::Keys,
    session::RedisSession,
};
use crate::{config, telemetry::BackfillTarget};

// === the instances' side ===

impl RedisLink {
    /// Backfills that are under way or ended lately, as they were read last. Empty without a session.
    #[must_use]
    pub fn known_backfills(&self) -> Arc<KnownBackfills> {
        self.backfills.load_full()
    }

    /// Reads what tools have written. A fault changes nothing: the next check of the session tells more.
    pub(super) async fn read_backfills(&self, session: &RedisSession) {
        let commands = BackfillTarget::ALL.iter().map(|table| {
            let mut command = redis::cmd("GET");
            command.arg(self.keys.backfill_key(table.label_value()));
            command
        });
        let conn = session.writer.get();
        let asked = timeout(WRITER_TIMEOUT, conn.send_commands(commands.collect())).await;
        let Ok(Ok(replies)) = asked else {
            return;
        };
        let found = BackfillTarget::ALL.iter().zip(replies);
        let found = found.filter_map(|(table, reply)| {
            let text = String::from_redis_value(reply.ok()?).ok()?;
            Some((*table, serde_json::from_str(&text).ok()?))
        });
        self.backfills.store(Arc::new(found.collect()));
    }
}

// === the tool's side ===

/// A connection that writes the progress of one backfill.
pub struct BackfillWriter {
    conn: SharedConnection,
    key: String,
    address: String,
}

impl fmt::Debug for BackfillWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackfillWriter")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl BackfillWriter {
    /// Connects to the Redis of the settings.
    ///
    /// # Errors
    /// A setting that cannot be used, or what kept the connection from opening, in words for the operator.
    pub async fn open_connection(
        settings: &config::RedisSettings,
        table: BackfillTarget,
    ) -> Result<Self, String> {
        let tempers = ConnectionTimeouts {
            connect: settings.connect_timeout_ms.0,
            reply: Some(WRITER_TIMEOUT),
        };
        let dialer = Dialer::new(settings)?;
        let address = dialer.node_addresses();
        let opened = dialer.open_one(tempers).await;
        Ok(Self {
            conn: opened.map_err(|error| faults::finding_of(&error, &address).cause_text())?,
            key: Keys::new(&settings.namespace).backfill_key(table.label_value()),
            address,
        })
    }

    /// Writes how far the backfill is.
    ///
    /// # Errors
    /// The reason that kept Redis from taking it, in words for the operator.
    pub async fn write_progress(&self, progress: &BackfillProgress) -> Result<(), String> {
        let ttl = if progress.phase.is_running() {
            RUNNING_TTL
        } else {
            ENDED_TTL
        };
        let text = serde_json::to_string(progress).map_err(|error| error.to_string())?;
        let mut command = redis::cmd("SET");
        command.arg(&self.key).arg(text).arg("PX");
        command.arg(ttl.as_millis().to_string());
        let asked = timeout(WRITER_TIMEOUT, self.conn.send_one::<Value>(command)).await;
        let told = |error: RedisError| faults::finding_of(&error, &self.address).cause_text();
        asked
            .unwrap_or_else(|_| Err(timed_out()))
            .map(drop)
            .map_err(told)
    }
}
