//! The keeper of the session: opens it, checks it four times a second, replaces connections that broke, and opens it again.
//!
//! **Invariants.** A session ends when the server is no master any more, or its run id, history, epoch, source, eviction policy or
//! clock changed. A connection that broke alone is replaced by one to the very same server, and the session goes on.
//!
//! **Limits.** Opening has `redis.connect_timeout_ms`, a check [`WRITER_TIMEOUT`].

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{future::try_join_all, try_join};
use redis::{RedisError, RedisResult, Value};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    advice,
    backoff::{Backoff, jittered_wait},
    client::{RedisLink, WRITER_TIMEOUT},
    clock::{ClockReading, ClockReference},
    connection::SharedConnection,
    dialer::ConnectionTimeouts,
    script::{self, Call},
    server::{Server, fingerprint_of, same_servers},
    session::{Epoch, RedisSession, RedisState, SessionConnections},
};
use crate::diagnosis::{Code, Finding};
use crate::fail_points;

/// How often an open session is checked.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How long a connection that broke waits for its replacement, by [`jittered_wait`]: whatever broke it broke those of other instances
/// too.
pub(super) const REPLACE_AFTER: Duration = Duration::from_millis(20);
/// How often what a settlement needs is tried.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// How often the keeper checks whether the source has told its identity.
const IDENTITY_EVERY: Duration = Duration::from_millis(50);

/// Why a check of an open session did not pass.
enum SessionFault {
    /// The connection gave no answer: another one may.
    Unanswered(Finding),
    Over(Finding),
}

impl RedisLink {
    /// Opens, checks, watches and opens again, until shutdown.
    pub async fn run_keeper(&self, shutdown: CancellationToken) {
        let keep = async {
            let mut backoff = Backoff::new(self.options.breaker_probe_ms.0);
            loop {
                let identity = self.wait_for_identity().await;
                match self.open_checked(&identity).await {
                    Ok(session) => {
                        backoff.reset_row();
                        self.refused.store(false, Ordering::Relaxed);
                        *self.trouble.lock() = None;
                        let session = Arc::new(session);
                        self.session.store(Some(Arc::clone(&session)));
                        tracing::info!(
                            redis.epoch = session.epoch.id,
                            redis.evicts = session.evicts,
                            "redis session opened"
                        );
                        self.watch_session(&session).await;
                    }
                    Err(finding) => self.show_trouble(finding),
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = keep => {}
        }
    }

    fn show_trouble(&self, finding: Finding) {
        let mut trouble = self.trouble.lock();
        if trouble.as_ref() != Some(&finding) {
            tracing::warn!(reason = %finding, "redis cannot be used");
            *trouble = Some(finding);
        }
    }

    async fn wait_for_identity(&self) -> Arc<str> {
        loop {
            if let Some(identity) = (self.identity)() {
                return identity;
            }
            *self.trouble.lock() = Some(self.finding_here(Code::RedisAwaitsSource));
            tokio::time::sleep(IDENTITY_EVERY).await;
        }
    }

    /// Opens the connections of a session, one after the other, and checks what they lead to: a Redis that cannot be used costs one
    /// connection a try.
    async fn open_checked(&self, identity: &str) -> Result<RedisSession, Finding> {
        let told = |error: RedisError| self.finding_of(&error);
        let connect = self.options.connect_timeout_ms.0;
        let count = self.options.connections.max(1);
        let dialer = self.dialer.load_full();
        let writer = dialer.open_one(self.of_writer()).await.map_err(told)?;
        let found = timeout(connect, self.check_in(&writer, identity)).await;
        let found = found.map_err(|_| self.silent_finding(connect))??;
        let readers = dialer
            .open_connections(count, self.of_readers())
            .await
            .map_err(told)?;
        let batch_readers = dialer
            .open_batch_readers(count, connect)
            .await
            .map_err(told)?;
        let checks = async {
            let of_batch_readers = try_join_all(batch_readers.iter().map(|batch_reader| async {
                let info = batch_reader.read_info().await?;
                Ok(vec![Server::parse_info(&info)])
            }));
            let of_readers = try_join_all(readers.iter().map(SharedConnection::read_servers));
            let (of_readers, of_batch_readers) =
                try_join!(of_readers, of_batch_readers).map_err(told)?;
            // While a cluster fails over, its nodes disagree on who has which slots, and so may connections to it.
            let mut all = of_readers.iter().chain(&of_batch_readers);
            if all.any(|servers| !same_servers(&found.fingerprint, servers)) {
                return Err(self.finding_here(Code::RedisDisagree));
            }
            Ok(())
        };
        let checked = timeout(connect, checks).await;
        checked.map_err(|_| self.silent_finding(connect))??;
        let conns = SessionConnections {
            batch_readers,
            readers,
            writer,
        };
        Ok(RedisSession::new(conns, found))
    }

    pub(super) fn of_readers(&self) -> ConnectionTimeouts {
        ConnectionTimeouts {
            connect: self.options.connect_timeout_ms.0,
            reply: Some(self.options.timeout_ms.0),
        }
    }

    fn of_writer(&self) -> ConnectionTimeouts {
        ConnectionTimeouts {
            connect: self.options.connect_timeout_ms.0,
            reply: Some(WRITER_TIMEOUT.max(self.options.timeout_ms.0)),
        }
    }

    fn silent_finding(&self, waited: Duration) -> Finding {
        let finding = self.finding_here(Code::RedisSilent);
        finding.with_detail(format!("{} ms", waited.as_millis()))
    }

    /// Identifies the server: run id, epoch with its birth, and the source of its balances.
    async fn check_in(
        &self,
        conn: &SharedConnection,
        identity: &str,
    ) -> Result<RedisState, Finding> {
        let told = |error: RedisError| self.finding_of(&error);
        let asked = Instant::now();
        let servers = conn.read_servers().await.map_err(told)?;
        let now = read_clock(conn, asked, &servers).await.map_err(told)?;
        if let Some(line) = servers.iter().find_map(Server::missing_line) {
            return Err(self.finding_here(Code::RedisUntold).with_detail(line));
        }
        if let Some(replica) = servers.iter().find(|server| !server.master) {
            return Err(self
                .finding_here(Code::RedisReplica)
                .with_detail(replica.link.as_str()));
        }
        self.claim_namespace(conn, identity).await?;
        let fingerprint = fingerprint_of(&servers);
        let mut ask = redis::cmd("HGET");
        ask.arg(self.keys.epoch_key()).arg("servers");
        let before: Option<String> = conn.send_one(ask).await.map_err(told)?;
        let before = before.filter(|before| same_servers(before, &servers));
        let ended = self.ended_epoch(&servers, &now);
        let call = Call::new(&script::EPOCH)
            .with_key(self.keys.epoch_key())
            .with_arg(fingerprint.as_str())
            .with_arg(format!("{:032x}", rand::random::<u128>()))
            .with_arg(before.unwrap_or_default())
            .with_arg(ended.unwrap_or_default());
        let (id, birth, _, fresh): (String, i64, i64, i64) =
            conn.send_one(call.by_code()).await.map_err(told)?;
        if fresh == 1 {
            let mark = Call::new(&script::ANNOUNCE)
                .with_key(self.keys.feed_key())
                .with_arg("e")
                .with_arg(id.as_str());
            conn.send_one::<Value>(mark.by_code()).await.map_err(told)?;
        }
        self.log_advice(&servers, Some(conn)).await;
        *self.anchor.lock() = Some(ClockReference {
            reading: now,
            fingerprint: fingerprint.clone(),
            epoch: id.clone(),
        });
        Ok(RedisState {
            epoch: Epoch { id, birth },
            now,
            fingerprint,
            evicts: servers.iter().any(Server::may_evict),
        })
    }

    /// Claims this Redis and namespace for this source, unless they are claimed already.
    async fn claim_namespace(
        &self,
        conn: &SharedConnection,
        identity: &str,
    ) -> Result<(), Finding> {
        let told = |error: RedisError| self.finding_of(&error);
        let owner = async || {
            let mut who = redis::cmd("GET");
            who.arg(self.keys.source_key());
            conn.send_one::<Option<String>>(who).await.map_err(told)
        };
        let mut held = owner().await?;
        if held.is_none() {
            let mut claim = redis::cmd("SET");
            claim.arg(self.keys.source_key()).arg(identity).arg("NX");
            conn.send_one::<Value>(claim).await.map_err(told)?;
            held = owner().await?;
        }
        match held.as_deref() {
            None => Err(self.finding_here(Code::RedisForgets)),
            Some(owner) if owner == identity => Ok(()),
            Some(_) => {
                self.refused.store(true, Ordering::Relaxed);
                Err(self.finding_here(Code::RedisOtherSource))
            }
        }
    }

    /// The epoch that this Redis' clock ended since it was seen last, by a step.
    fn ended_epoch(&self, servers: &[Server], now: &ClockReading) -> Option<String> {
        let anchor = self.anchor.lock().clone()?;
        let stepped =
            same_servers(&anchor.fingerprint, servers) && now.step_since(&anchor.reading) != 0;
        stepped.then_some(anchor.epoch)
    }

    /// Logs what this Redis does that could hurt, when that is another than the last time. Settings that INFO does not show are
    /// asked for on `conn`.
    async fn log_advice(&self, servers: &[Server], conn: Option<&SharedConnection>) {
        let mut fsync = None;
        if let Some(conn) = conn {
            let mut ask = redis::cmd("CONFIG");
            ask.arg("GET").arg("appendfsync");
            let found = conn.send_one::<HashMap<String, String>>(ask).await;
            fsync = found.unwrap_or_default().remove("appendfsync");
        }
        let mut found = advice::findings_of(servers, fsync.as_deref(), &self.address);
        let mut before = self.advised.lock();
        if conn.is_none() {
            let unsynced = before.iter().filter(|it| it.code == Code::RedisUnsynced);
            found.extend(unsynced.cloned());
        }
        let codes = |findings: &[Finding]| findings.iter().map(|it| it.code).collect::<Vec<_>>();
        let mut news = codes(&found);
        news.sort_unstable();
        let mut old = codes(&before);
        old.sort_unstable();
        if news != old && !found.is_empty() {
            let lines: Vec<_> = found.iter().map(Finding::to_string).collect();
            let lines = lines.join("\n  ");
            tracing::warn!(advice = %format_args!("\n  {lines}"), "this redis works, and could hurt");
        }
        *before = found;
    }

    // === watching ===

    async fn watch_session(&self, session: &Arc<RedisSession>) {
        let mut tried: Option<Instant> = None;
        loop {
            let _ = timeout(CHECK_EVERY, self.alarm.notified()).await;
            if session.is_over() {
                return;
            }
            fail_points::reach("keeper-looks");
            if let Err(finding) = self.check_session(session).await {
                self.end_session(session, finding);
                return;
            }
            self.keep_alive(session).await;
            if tried.is_none_or(|at| at.elapsed() >= TRY_EVERY) {
                tried = Some(Instant::now());
                self.try_settling(session).await;
                self.read_backfills(session).await;
            }
        }
    }

    /// Whether the session may go on; the writer's connection is replaced if it gave no answer.
    async fn check_session(&self, session: &Arc<RedisSession>) -> Result<(), Finding> {
        let writer = session.writer.get();
        let looked = timeout(WRITER_TIMEOUT, self.look_at_server(session, &writer)).await;
        let finding = match looked {
            Ok(Ok(())) if !session.writer.health().is_broken() => return Ok(()),
            Ok(Ok(())) => self.finding_here(Code::RedisClosed),
            Ok(Err(SessionFault::Over(finding))) => return Err(finding),
            Ok(Err(SessionFault::Unanswered(finding))) => finding,
            Err(_) => self.silent_finding(WRITER_TIMEOUT),
        };
        tokio::time::sleep(jittered_wait(REPLACE_AFTER)).await;
        let Ok(conn) = self.dialer.load_full().open_one(self.of_writer()).await else {
            return Err(finding);
        };
        match timeout(WRITER_TIMEOUT, self.look_at_server(session, &conn)).await {
            Ok(Ok(())) => {
                tracing::info!(reason = %finding, "redis connection replaced");
                session.writer.replace_connection(conn);
                self.mended.notify_waiters();
                Ok(())
            }
            Ok(Err(SessionFault::Over(finding))) => Err(finding),
            Ok(Err(SessionFault::Unanswered(_))) | Err(_) => Err(finding),
        }
    }

    /// Whether it is still the same master with the same data, clock and policy of dropping them.
    async fn look_at_server(
        &self,
        session: &RedisSession,
        conn: &SharedConnection,
    ) -> Result<(), SessionFault> {
        let told = |error: RedisError| SessionFault::Unanswered(self.finding_of(&error));
        let over = |code| SessionFault::Over(self.finding_here(code));
        let (mut epoch, mut source) = (redis::cmd("HGET"), redis::cmd("GET"));
        epoch.arg(self.keys.epoch_key()).arg("id");
        source.arg(self.keys.source_key());
        let id: Option<String> = conn.send_one(epoch).await.map_err(told)?;
        let owner: Option<String> = conn.send_one(source).await.map_err(told)?;
        let asked = Instant::now();
        let servers = conn.read_servers().await.map_err(told)?;
        let now = read_clock(conn, asked, &servers).await.map_err(told)?;
        if let Some(replica) = servers.iter().find(|server| !server.master) {
            let replica = self
                .finding_here(Code::RedisReplica)
                .with_detail(replica.link.as_str());
            return Err(SessionFault::Over(replica));
        }
        let ours = owner.is_some() && owner.as_deref() == (self.identity)().as_deref();
        let same_data = id.as_deref() == Some(session.epoch.id.as_str());
        if !ours || !same_data || !same_servers(&session.fingerprint, &servers) {
            return Err(over(Code::RedisChanged));
        }
        if servers.iter().any(Server::may_evict) != session.evicts {
            return Err(over(Code::RedisPolicyChanged));
        }
        if let Some(anchor) = self.anchor.lock().as_mut() {
            let step_ms = now.step_since(&anchor.reading);
            if step_ms != 0 {
                let stepped = self
                    .finding_here(Code::RedisClock)
                    .with_detail(format!("{step_ms} ms"));
                return Err(SessionFault::Over(stepped));
            }
            anchor.reading = now.anchor_after(anchor.reading);
        }
        session.set_clock(now);
        if let Some(server) = servers.iter().max_by_key(|server| server.memory_permille()) {
            self.meters.redis_memory(server.used, server.maxmemory);
        }
        self.log_advice(&servers, None).await;
        Ok(())
    }
}

/// Redis' clock, of INFO or, where that does not say it, of TIME.
async fn read_clock(
    conn: &SharedConnection,
    asked: Instant,
    servers: &[Server],
) -> RedisResult<ClockReading> {
    if servers.iter().all(|server| server.clock_ms.is_some())
        && let Some(reading) =
            ClockReading::of_all(asked, servers.iter().filter_map(|server| server.clock_ms))
    {
        return Ok(reading);
    }
    let asked = Instant::now();
    let (seconds, micros): (i64, i64) = conn.send_one(redis::cmd("TIME")).await?;
    let micros = micros.checked_div(1000).unwrap_or(0);
    let redis_ms = seconds.saturating_mul(1000).saturating_add(micros);
    Ok(ClockReading::just_now(asked, redis_ms))
}
