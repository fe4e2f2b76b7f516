//! The connections of an open session: each is kept alive, and replaced when it broke alone.

use futures::future::{join, join_all};
use redis::RedisResult;
use tokio::time::timeout;

use super::{
    backoff::jittered_wait,
    batch_reader::BatchReader,
    client::{RedisLink, WRITER_TIMEOUT},
    connection::SharedConnection,
    connection_slot::{ConnectionHealth, ConnectionSlot},
    server::{Server, same_servers},
    session::RedisSession,
    session_keeper::REPLACE_AFTER,
};

impl RedisLink {
    /// Every connection is asked something, so that none is idle at Redis; those that broke are replaced, one after the other.
    pub(super) async fn keep_alive(&self, session: &RedisSession) {
        let batch_readers = session.batch_readers.iter().map(|slot| async move {
            let batch_reader = slot.get();
            self.ping_connection(session, slot.health(), batch_reader.ping_server())
                .await;
        });
        let readers = session.readers.iter().map(|slot| async move {
            let conn = slot.get();
            self.ping_connection(session, slot.health(), conn.ping_server())
                .await;
        });
        join(join_all(batch_readers), join_all(readers)).await;
        self.replace_broken(session).await;
    }

    /// Stops at the first that cannot be replaced now: the next round tries again.
    async fn replace_broken(&self, session: &RedisSession) {
        let batch_readers_are_sound = session
            .batch_readers
            .iter()
            .all(|slot| !slot.health().is_broken());
        let readers_are_sound = session
            .readers
            .iter()
            .all(|slot| !slot.health().is_broken());
        if batch_readers_are_sound && readers_are_sound {
            return;
        }
        tokio::time::sleep(jittered_wait(REPLACE_AFTER)).await;
        for slot in &session.batch_readers {
            if !slot.health().is_broken() {
                continue;
            }
            self.replace_batch_reader(session, slot).await;
            if slot.health().is_broken() {
                return;
            }
        }
        for slot in &session.readers {
            if !slot.health().is_broken() {
                continue;
            }
            self.replace_reader(session, slot).await;
            if slot.health().is_broken() {
                return;
            }
        }
    }

    async fn ping_connection(
        &self,
        session: &RedisSession,
        health: &ConnectionHealth,
        asking: impl Future<Output = RedisResult<()>>,
    ) {
        let (most, time) = (self.options.breaker_failures, self.options.timeout_ms.0);
        match timeout(time, asking).await {
            Ok(Ok(())) => health.note_answered(),
            Ok(Err(error)) if error.is_io_error() && !error.is_timeout() => health.break_off(),
            Ok(Err(_)) | Err(_) => health.note_failed(session.elapsed_ms(), most, time),
        }
    }

    async fn replace_batch_reader(
        &self,
        session: &RedisSession,
        slot: &ConnectionSlot<BatchReader>,
    ) {
        let opened = self
            .dialer
            .load_full()
            .open_batch_readers(1, self.options.connect_timeout_ms.0)
            .await;
        let Some(batch_reader) = opened
            .ok()
            .and_then(|mut batch_readers| batch_readers.pop())
        else {
            return;
        };
        let info = timeout(WRITER_TIMEOUT, batch_reader.read_info()).await;
        let Ok(Ok(info)) = info else { return };
        if same_servers(&session.fingerprint, &[Server::parse_info(&info)]) {
            tracing::info!("redis connection for hashes replaced");
            slot.replace_connection(batch_reader);
        }
    }

    async fn replace_reader(
        &self,
        session: &RedisSession,
        slot: &ConnectionSlot<SharedConnection>,
    ) {
        let Ok(conn) = self.dialer.load_full().open_one(self.of_readers()).await else {
            return;
        };
        let servers = timeout(WRITER_TIMEOUT, conn.read_servers()).await;
        let Ok(Ok(servers)) = servers else { return };
        if same_servers(&session.fingerprint, &servers) {
            tracing::info!("redis connection for reads replaced");
            slot.replace_connection(conn);
        }
    }
}
