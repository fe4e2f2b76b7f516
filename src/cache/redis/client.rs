//! The way to Redis: commands in their time, what their failures mean, and the session that is open now.
//!
//! **Invariants.** A [`RedisSession`] leads to a Redis whose role, epoch, source and eviction policy were read on its own connections.
//! Without a session everything fails at once: no reader waits for a connection (that is the breaker; the keeper is its probe).
//!
//! **Limits.** Each reply has `redis.timeout_ms` (readers) or at least [`WRITER_TIMEOUT`].

mod script_calls;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use redis::{RedisError, RedisResult, Value};
use tokio::{sync::Notify, time::Instant};

use super::{
    backfill_progress::KnownBackfills,
    batch_reader::{BatchReader, RespReplies},
    clock::ClockReference,
    connection::SharedConnection,
    connection_slot::{ConnectionHealth, ConnectionSlot},
    dialer::{ConnectionTimeouts, Dialer},
    faults,
    keys::Keys,
    session::RedisSession,
};
use crate::{
    cache_status::Tier,
    config,
    diagnosis::{Code, Finding, FindingPart},
    domain::UserId,
    protocol::Freshness,
    telemetry::{Fault, Meters, Op},
};

/// How long the connection that applies notifications waits for a reply, if a reader waits no longer: shorter than a request's
/// deadline.
pub(super) const WRITER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a refused command is shown as a finding.
const REFUSAL_SHOWN: Duration = Duration::from_secs(5);

/// Where the source's identity comes from: none until it was reached.
pub type Identity = Arc<dyn Fn() -> Option<Arc<str>> + Send + Sync>;

/// Authorities that were read and are not in force yet: see [`RedisLink::read_authorities`].
#[derive(Debug)]
pub struct NewAuthorities(Dialer);

/// The way to Redis.
pub struct RedisLink {
    pub(super) dialer: ArcSwap<Dialer>,
    pub(super) options: config::RedisSettings,
    pub(super) identity: Identity,
    pub(super) freshness: Arc<Freshness>,
    pub(super) meters: Arc<Meters>,
    pub keys: Keys,
    /// The nodes of `redis.url`, without user and password.
    pub(super) address: Arc<str>,
    pub(super) session: ArcSwapOption<RedisSession>,
    /// Wakes the keeper: the session ended, or one of its connections broke.
    pub(super) alarm: Notify,
    /// Wakes what waits for the writer's connection: it was replaced, or the session ended.
    pub(super) mended: Notify,
    pub(super) trouble: Mutex<Option<Finding>>,
    /// The finding that keeps settlements from succeeding while the session is open, as the keeper tried it last.
    pub(super) unsettled: Mutex<Option<Finding>>,
    refusal: Mutex<Option<(Instant, Finding)>>,
    pub(super) refused: AtomicBool,
    pub(super) anchor: Mutex<Option<ClockReference>>,
    /// The advice that was given last.
    pub(super) advised: Mutex<Vec<Finding>>,
    /// Backfills as they were read last.
    pub(super) backfills: ArcSwap<KnownBackfills>,
}

/// How a question ended that was not answered.
struct FailedCommand {
    fault: Fault,
    /// Its connection ended.
    gone: bool,
}

impl RedisLink {
    /// A way to the Redis of the settings; not opened yet.
    /// Errors: a URL or certificate file that cannot be read, in words for the operator.
    pub fn new(
        options: &config::RedisSettings,
        identity: Identity,
        freshness: Arc<Freshness>,
        meters: Arc<Meters>,
    ) -> Result<Self, String> {
        let dialer = Dialer::new(options)?;
        let address: Arc<str> = dialer.node_addresses().into();
        let starting = Finding::new(
            FindingPart::Redis,
            Code::RedisStarting,
            Arc::clone(&address),
        );
        Ok(Self {
            dialer: ArcSwap::from_pointee(dialer),
            keys: Keys::new(&options.namespace),
            options: options.clone(),
            identity,
            freshness,
            meters,
            address,
            session: ArcSwapOption::empty(),
            alarm: Notify::new(),
            mended: Notify::new(),
            trouble: Mutex::new(Some(starting)),
            unsettled: Mutex::default(),
            refusal: Mutex::default(),
            refused: AtomicBool::new(false),
            anchor: Mutex::default(),
            advised: Mutex::default(),
            backfills: ArcSwap::default(),
        })
    }

    /// Reads `redis.ca_file` again; nothing is in force yet. None where it is as it was.
    /// Errors: a file that cannot be used.
    pub fn read_authorities(
        &self,
        options: &config::RedisSettings,
    ) -> Result<Option<NewAuthorities>, String> {
        let dialer = Dialer::new(options)?;
        let same = dialer.trusts_as(&self.dialer.load());
        Ok((!same).then_some(NewAuthorities(dialer)))
    }

    /// Connections that are opened from here on trust these authorities.
    pub fn use_authorities(&self, new: NewAuthorities) {
        self.dialer.store(Arc::new(new.0));
    }

    /// Checked connections, if there are any now.
    pub fn open_session(&self) -> Option<Arc<RedisSession>> {
        self.session.load_full()
    }

    /// Why there is no session, if there is none.
    pub fn session_trouble(&self) -> Option<Finding> {
        self.trouble.lock().clone()
    }

    /// The finding that keeps settlements from succeeding though there is a session: as the keeper tried it, or as a command was answered in
    /// the last seconds.
    pub fn settlement_trouble(&self) -> Option<Finding> {
        if let Some(finding) = self.unsettled.lock().clone() {
            return Some(finding);
        }
        let refusal = self.refusal.lock().clone();
        refusal.and_then(|(at, finding)| (at.elapsed() < REFUSAL_SHOWN).then_some(finding))
    }

    /// Findings of a Redis that works and could hurt, as it was seen last.
    pub fn last_advice(&self) -> Vec<Finding> {
        self.advised.lock().clone()
    }

    /// This Redis and namespace hold another source's balances.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn finding_here(&self, code: Code) -> Finding {
        Finding::new(FindingPart::Redis, code, Arc::clone(&self.address))
    }

    /// The finding of an error that Redis or the way to it gave.
    pub fn finding_of(&self, error: &RedisError) -> Finding {
        faults::finding_of(error, &self.address)
    }

    /// The finding of an error reply, without the sign that it begins with.
    pub(super) fn finding_of_reply(&self, text: &str) -> Finding {
        let (code, words) = text.split_once(' ').unwrap_or((text, ""));
        faults::of_reply(code, words, "HGETALL", &self.address)
    }

    /// A command of a settlement was refused: shown for some seconds.
    pub(super) fn note_refusal(&self, finding: Finding) {
        *self.refusal.lock() = Some((Instant::now(), finding));
    }

    /// A connection of its own, for commands that block.
    pub(super) async fn open_dedicated(&self) -> RedisResult<SharedConnection> {
        let tempers = ConnectionTimeouts {
            connect: self.options.connect_timeout_ms.0,
            reply: None,
        };
        self.dialer.load_full().open_one(tempers).await
    }

    /// Commands in one round trip, each with its reply.
    /// Errors: the fault, counted; the session may have ended with it.
    pub(super) async fn send_commands(
        &self,
        session: &Arc<RedisSession>,
        op: Op,
        commands: Vec<redis::Cmd>,
    ) -> Result<Vec<RedisResult<Value>>, Fault> {
        let slot = session.slot_for(op);
        let asked = self.ask_on(session, slot, op, commands).await;
        asked.map_err(|failure| failure.fault)
    }

    async fn ask_on(
        &self,
        session: &Arc<RedisSession>,
        slot: &ConnectionSlot<SharedConnection>,
        op: Op,
        commands: Vec<redis::Cmd>,
    ) -> Result<Vec<RedisResult<Value>>, FailedCommand> {
        let conn = slot.get();
        let asking = conn.send_commands(commands);
        let replies = self.limit_time(session, slot.health(), op, asking).await?;
        for error in replies.iter().filter_map(|reply| reply.as_ref().err()) {
            let finding = self.finding_of(error);
            if faults::ends_session(finding.code) {
                self.end_session(session, finding);
            }
        }
        Ok(replies)
    }

    /// The entries of these users, on a connection that is made for that.
    pub(super) async fn read_hashes(
        &self,
        session: &Arc<RedisSession>,
        slot: &ConnectionSlot<BatchReader>,
        users: &[UserId],
    ) -> Result<RespReplies, Fault> {
        let batch_reader = slot.get();
        let asking = batch_reader.read_hashes(self.keys.user_prefix(), users);
        let asked = self
            .limit_time(session, slot.health(), Op::Get, asking)
            .await;
        asked.map_err(|failure| failure.fault)
    }

    /// A question in its time; what goes wrong is counted for its connection and for the session.
    async fn limit_time<T>(
        &self,
        session: &Arc<RedisSession>,
        health: &ConnectionHealth,
        op: Op,
        asking: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, FailedCommand> {
        let wait = match op {
            Op::Get | Op::Fill | Op::Load => self.options.timeout_ms.0,
            Op::Apply => WRITER_TIMEOUT.max(self.options.timeout_ms.0),
        };
        let begun = Instant::now();
        let asked = tokio::time::timeout(wait, asking).await;
        let (fault, gone) = match asked {
            Ok(Ok(answer)) => {
                session.note_answered();
                health.note_answered();
                self.meters.record_tier(Tier::Redis, op, begun.elapsed());
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
        let (most, time) = (self.options.breaker_failures, self.options.timeout_ms.0);
        health.note_failed(session.elapsed_ms(), most, time);
        if gone {
            health.break_off();
        }
        if session.count_failure(most, time) {
            let silent = self.finding_here(Code::RedisSilent);
            self.end_session(
                session,
                silent.with_detail(format!("{} ms", time.as_millis())),
            );
        } else if health.is_broken() {
            self.alarm.notify_one();
        }
        Err(FailedCommand { fault, gone })
    }

    /// The session is over: its connections may not lead to what it was opened to.
    pub(super) fn end_session(&self, session: &Arc<RedisSession>, why: Finding) {
        if !session.end_session() {
            return;
        }
        tracing::warn!(reason = %why, "redis session ended");
        *self.trouble.lock() = Some(why);
        *self.unsettled.lock() = None;
        self.session.store(None);
        self.backfills.store(Arc::default());
        // Before there can be another session: what was proven belongs to this one.
        self.freshness.revoke_proof();
        self.alarm.notify_one();
        self.mended.notify_waiters();
    }

    /// Ends the session because the feed is another one or went back.
    pub fn end_changed(&self, session: &Arc<RedisSession>) {
        self.end_session(session, self.finding_here(Code::RedisChanged));
    }
}

impl std::fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("open", &self.session.load().is_some())
            .finish_non_exhaustive()
    }
}
