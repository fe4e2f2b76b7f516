//! The way to Redis: opened, checked, watched, given up and opened again by one keeper task.
//!
//! **Invariants.** Whoever has a [`Session`] talks to a Redis whose epoch, source and eviction policy were read on those very
//! connections. Another run id, replication id or epoch ends the session. Without a session everything fails at once:
//! no reader waits for a connection (that is the breaker, and the keeper is its probe).
//!
//! **Limits.** Each reply has `redis.timeout_ms` (readers) or [`WRITER_TIMEOUT`]; opening has `redis.connect_timeout_ms`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures::{TryFutureExt, future::try_join_all, try_join};
use parking_lot::Mutex;
use redis::{RedisError, RedisResult, Value};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    advice,
    clock::Reading,
    conn::{Conn, Dialer, Tempers},
    keys::Keys,
    lane::{Answer, Lane},
    script::{self, Call},
    session::{Conns, Epoch, Findings, Session},
};
use crate::{
    config,
    domain::UserId,
    floor::Freshness,
    telemetry::{Fault, Meters, Op},
    trail::Tier,
};

/// How long the connection that applies notifications waits for a reply: longer than a reader would, shorter than a
/// request's deadline.
const WRITER_TIMEOUT: Duration = Duration::from_secs(1);
/// How often an open session is checked.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How often the keeper looks whether the source has said who it is.
const IDENTITY_EVERY: Duration = Duration::from_millis(50);

/// Where the source's identity comes from: none until it was reached.
pub type Identity = Arc<dyn Fn() -> Option<Arc<str>> + Send + Sync>;

/// The way to Redis.
pub struct Link {
    dialer: Dialer,
    options: config::Redis,
    identity: Identity,
    freshness: Arc<Freshness>,
    meters: Arc<Meters>,
    /// The names of all keys.
    pub keys: Keys,
    session: ArcSwapOption<Session>,
    lost: Notify,
    trouble: Mutex<Option<Arc<str>>>,
    refused: AtomicBool,
    /// The advice that was given last.
    advised: Mutex<Vec<String>>,
}

impl Link {
    /// A way to the Redis of the settings; not opened yet.
    ///
    /// # Errors
    /// A URL or certificate file that cannot be read, in words for the operator.
    pub fn new(
        options: &config::Redis,
        identity: Identity,
        freshness: Arc<Freshness>,
        meters: Arc<Meters>,
    ) -> Result<Self, String> {
        Ok(Self {
            dialer: Dialer::new(options)?,
            keys: Keys::new(&options.namespace),
            options: options.clone(),
            identity,
            freshness,
            meters,
            session: ArcSwapOption::empty(),
            lost: Notify::new(),
            trouble: Mutex::new(Some("not connected yet".into())),
            refused: AtomicBool::new(false),
            advised: Mutex::default(),
        })
    }

    /// Checked connections, if there are any now.
    #[must_use]
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    /// What is the matter, if something is.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.lock().clone()
    }

    /// This Redis and namespace hold another source's balances.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// A connection of its own, for commands that block.
    pub(super) async fn dedicated(&self) -> RedisResult<Conn> {
        let tempers = Tempers {
            connect: self.options.connect_timeout_ms.0,
            reply: None,
        };
        self.dialer
            .open(1, tempers)
            .await?
            .pop()
            .ok_or_else(|| RedisError::from((redis::ErrorKind::Client, "none")))
    }

    /// Commands in one round trip, each with its reply.
    ///
    /// # Errors
    /// The fault, counted; the session may have ended with it.
    pub(super) async fn ask(
        &self,
        session: &Arc<Session>,
        op: Op,
        commands: Vec<redis::Cmd>,
    ) -> Result<Vec<RedisResult<Value>>, Fault> {
        self.timed(session, op, session.conn(op).ask(commands))
            .await
    }

    /// What is held of each of these users, on a connection that is made for that.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub(super) async fn hashes(
        &self,
        session: &Arc<Session>,
        lane: &Lane,
        users: &[UserId],
    ) -> Result<Answer, Fault> {
        let asking = lane.hashes(self.keys.user_prefix(), users);
        self.timed(session, Op::Get, asking).await
    }

    /// A question in its time; what goes wrong is counted, and may end the session.
    async fn timed<T>(
        &self,
        session: &Arc<Session>,
        op: Op,
        asking: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Fault> {
        let wait = match op {
            Op::Get | Op::Fill | Op::Load => self.options.timeout_ms.0,
            Op::Apply => WRITER_TIMEOUT,
        };
        let begun = Instant::now();
        let asked = tokio::time::timeout(wait, asking).await;
        let (fault, gone) = match asked {
            Ok(Ok(answer)) => {
                session.answered();
                self.meters.tier(Tier::Redis, op, begun.elapsed());
                return Ok(answer);
            }
            Ok(Err(error)) if error.is_timeout() => (Fault::Timeout, false),
            Ok(Err(error)) => (
                Fault::Error,
                error.is_io_error() || error.is_unrecoverable_error(),
            ),
            Err(_) => (Fault::Timeout, false),
        };
        self.meters.tier_failure(Tier::Redis, op, fault);
        let open = session.failed(self.options.breaker_failures, self.options.timeout_ms.0);
        if open || gone {
            self.end(session, "commands failed");
        }
        Err(fault)
    }

    /// Scripts in one round trip; those that Redis does not know are sent once more, whole.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub(super) async fn run_scripts(
        &self,
        session: &Arc<Session>,
        op: Op,
        calls: &[Call],
    ) -> Result<Vec<RedisResult<Value>>, Fault> {
        let mut replies = self
            .ask(session, op, calls.iter().map(Call::by_digest).collect())
            .await?;
        let unknown = |reply: &RedisResult<Value>| matches!(reply, Err(error) if error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript));
        if replies.iter().any(unknown) {
            let again: Vec<_> = calls
                .iter()
                .zip(&replies)
                .filter(|(_, reply)| unknown(reply))
                .map(|(call, _)| call.by_code())
                .collect();
            let mut answers = self.ask(session, op, again).await?.into_iter();
            for reply in replies.iter_mut().filter(|reply| unknown(reply)) {
                if let Some(answer) = answers.next() {
                    *reply = answer;
                }
            }
        }
        Ok(replies)
    }

    /// The session is over: what it was opened to may not be what is there now.
    pub fn end(&self, session: &Arc<Session>, why: &'static str) {
        if !session.end() {
            return;
        }
        tracing::warn!(reason = why, "redis session ended");
        *self.trouble.lock() = Some(why.into());
        self.session.store(None);
        // Before there can be another session: what was proven belongs to this one.
        self.freshness.revoke();
        self.lost.notify_one();
    }

    /// Opens, checks, watches and opens again, until shutdown.
    pub async fn run(&self, shutdown: CancellationToken) {
        let keep = async {
            loop {
                let identity = self.wait_for_identity().await;
                match self.open(&identity).await {
                    Ok(session) => {
                        self.refused.store(false, Ordering::Relaxed);
                        *self.trouble.lock() = None;
                        let session = Arc::new(session);
                        self.session.store(Some(Arc::clone(&session)));
                        tracing::info!(
                            redis.epoch = session.epoch.id,
                            redis.evicts = session.evicts,
                            "redis session opened"
                        );
                        self.watch(&session).await;
                    }
                    Err(reason) => {
                        let mut trouble = self.trouble.lock();
                        if trouble.as_deref() != Some(reason.as_str()) {
                            tracing::warn!(reason, "redis cannot be used");
                            *trouble = Some(reason.into());
                        }
                    }
                }
                tokio::time::sleep(self.options.breaker_probe_ms.0).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = keep => {}
        }
    }

    async fn wait_for_identity(&self) -> Arc<str> {
        loop {
            if let Some(identity) = (self.identity)() {
                return identity;
            }
            *self.trouble.lock() = Some("waiting for the source to say who it is".into());
            tokio::time::sleep(IDENTITY_EVERY).await;
        }
    }

    /// Opens all connections of a session and checks what they lead to.
    async fn open(&self, identity: &str) -> Result<Session, String> {
        let told = |error: RedisError| error.category().to_owned();
        let connect = self.options.connect_timeout_ms.0;
        let reply = Some(self.options.timeout_ms.0);
        let readers = self
            .dialer
            .open(self.options.connections.max(1), Tempers { connect, reply })
            .await
            .map_err(told)?;
        let patient = Tempers {
            connect,
            reply: Some(WRITER_TIMEOUT),
        };
        let writer = self
            .dialer
            .open(1, patient)
            .await
            .map_err(told)?
            .pop()
            .ok_or("no connection")?;
        let lanes = self.dialer.lanes(self.options.connections.max(1), connect);
        let conns = Conns {
            lanes: lanes.await.map_err(told)?,
            readers,
            writer,
        };
        let checks = async {
            let found = self.check_in(&conns.writer, identity).await?;
            let (readers, lanes) = (conns.readers.iter(), conns.lanes.iter());
            let of_lanes = try_join_all(lanes.map(|lane| lane.info().map_ok(|info| vec![info])));
            let of_readers = try_join_all(readers.map(Conn::info));
            let (of_readers, of_lanes) = try_join!(of_readers, of_lanes).map_err(told)?;
            // While a cluster fails over, its nodes disagree on who has which slots, and so may connections to it.
            let mut all = of_readers.iter().chain(&of_lanes);
            if all.any(|infos| fingerprint(infos).0 != found.fingerprint) {
                return Err("its connections lead to different servers".to_owned());
            }
            Ok(found)
        };
        let checked = tokio::time::timeout(connect, checks).await;
        let found = checked.map_err(|_| "silent".to_owned())??;
        Ok(Session::new(conns, found))
    }

    /// Who is there, since when, and whose balances it holds.
    async fn check_in(&self, conn: &Conn, identity: &str) -> Result<Findings, String> {
        let told = |error: RedisError| error.category().to_owned();
        let infos = conn.info().await.map_err(told)?;
        let (fingerprint, evicts) = fingerprint(&infos);
        let mut claim = redis::cmd("SET");
        claim.arg(self.keys.source()).arg(identity).arg("NX");
        conn.one::<Value>(claim).await.map_err(told)?;
        let mut who = redis::cmd("GET");
        who.arg(self.keys.source());
        let owner: Option<String> = conn.one(who).await.map_err(told)?;
        if owner.is_none() {
            return Err("what is written is gone at once".to_owned());
        }
        if owner.as_deref() != Some(identity) {
            self.refused.store(true, Ordering::Relaxed);
            return Err("this Redis and namespace hold the balances of another source; give this deployment a redis.namespace of its own".to_owned());
        }
        let call = Call::new(&script::EPOCH)
            .key(self.keys.epoch())
            .arg(fingerprint.as_str())
            .arg(format!("{:032x}", rand::random::<u128>()));
        let asked = Instant::now();
        let (id, birth, redis_ms, fresh): (String, i64, i64, i64) =
            conn.one(call.by_code()).await.map_err(told)?;
        let now = Reading::just_now(asked, redis_ms);
        if fresh == 1 {
            let mark = Call::new(&script::ANNOUNCE)
                .key(self.keys.feed())
                .arg("e")
                .arg(id.as_str());
            conn.one::<Value>(mark.by_code()).await.map_err(told)?;
        }
        self.advise(&infos, conn).await;
        Ok(Findings {
            epoch: Epoch { id, birth },
            now,
            fingerprint,
            evicts,
        })
    }

    /// Tells what this Redis does that could hurt, when that is another than the last time.
    async fn advise(&self, infos: &[String], conn: &Conn) {
        let mut ask = redis::cmd("CONFIG");
        ask.arg("GET").arg("appendfsync");
        let found = conn.one::<HashMap<String, String>>(ask).await;
        let found = found.unwrap_or_default();
        let said = advice::of(infos, found.get("appendfsync").map(String::as_str));
        let mut before = self.advised.lock();
        if *before != said && !said.is_empty() {
            let lines = said.join("\n  ");
            tracing::warn!(advice = %format_args!("\n  {lines}"), "this redis works, and could hurt");
        }
        *before = said;
    }

    /// Returns when the session is over.
    async fn watch(&self, session: &Arc<Session>) {
        loop {
            let lost = tokio::time::timeout(CHECK_EVERY, self.lost.notified())
                .await
                .is_ok();
            if lost || session.is_over() {
                return;
            }
            fail::fail_point!("keeper-looks");
            let looked = tokio::time::timeout(WRITER_TIMEOUT, self.look(session)).await;
            match looked {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => self.end(
                    session,
                    "another redis, its data are gone, or its eviction policy is another",
                ),
                Ok(Err(_)) | Err(_) => self.end(session, "no answer"),
            }
        }
    }

    /// Whether it is still the same Redis with the same data and the same policy of dropping them.
    async fn look(&self, session: &Arc<Session>) -> RedisResult<bool> {
        let (mut epoch, mut source) = (redis::cmd("HGET"), redis::cmd("GET"));
        epoch.arg(self.keys.epoch()).arg("id");
        source.arg(self.keys.source());
        let id: Option<String> = session.writer.one(epoch).await?;
        let owner: Option<String> = session.writer.one(source).await?;
        let ours = owner.is_some() && owner.as_deref() == (self.identity)().as_deref();
        let (fingerprint, evicts) = fingerprint(&session.writer.info().await?);
        let asked = Instant::now();
        let (seconds, micros): (i64, i64) = session.writer.one(redis::cmd("TIME")).await?;
        let redis_ms = seconds
            .saturating_mul(1000)
            .saturating_add(micros.checked_div(1000).unwrap_or(0));
        session.set_clock(Reading::just_now(asked, redis_ms));
        Ok(ours
            && id.as_deref() == Some(session.epoch.id.as_str())
            && fingerprint == session.fingerprint
            && evicts == session.evicts)
    }
}

/// Run and replication ids of all masters, and whether any of them may drop keys.
pub(super) fn fingerprint(infos: &[String]) -> (String, bool) {
    let field = |info: &str, name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let mut ids: Vec<_> = infos
        .iter()
        .map(|info| format!("{}/{}", field(info, "run_id"), field(info, "master_replid")))
        .collect();
    ids.sort();
    let evicts = infos
        .iter()
        .any(|info| field(info, "maxmemory_policy") != "noeviction");
    (ids.join(" "), evicts)
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("open", &self.session.load().is_some())
            .finish_non_exhaustive()
    }
}
