//! The life of the connection: made in the background, checked for ever, its state shown by `readiness`.
//!
//! **Invariants.** The service never waits for the database: until the first good check every question is refused at
//! once, with the reason. After a good start an outage makes the state *failing* and questions are still tried, so the
//! first that succeeds is answered, before the next check says so. A view that is not built, or a table that must not
//! be read, refuses loads (P6), also when that happens late. Another database behind the same addresses is refused.
//!
//! **Cancellation.** The token ends [`run_watch`] at any of its waits.
//!
//! **Limits.** One probe a second, of one row that need not be there; the schema is looked at every [`INSPECT_EVERY`].

use std::sync::Arc;

use scylla::client::session::Session;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    ConnectionState, Scylla,
    schema_state::{FoundSchema, Problem, read_schema_state},
    statements::LiveSession,
};
use crate::{
    config::ViewCheck,
    diagnosis::Code,
    ledger::{
        LedgerError, SourceReadiness,
        watch::{
            INSPECT_AFTER, INSPECT_EVERY, PROBE_EVERY, PROBE_MIN, RETRY_MAX, RETRY_MIN,
            check_identity, describe_failure, log_readiness,
        },
    },
};

/// Why the database must not be used.
struct UnusableDatabase {
    reason: Arc<str>,
    /// For nothing at all; else only loads are refused.
    entirely: bool,
}

impl UnusableDatabase {
    fn of_loads(reason: impl Into<Arc<str>>) -> Self {
        Self {
            reason: reason.into(),
            entirely: false,
        }
    }
}

pub(super) async fn run_watch(scylla: &Scylla, shutdown: &CancellationToken) {
    let whole_life = async {
        let live = start_session(scylla).await;
        keep_checking(scylla, &live).await;
    };
    shutdown.run_until_cancelled(whole_life).await;
}

/// Tries until there is a session with which balances can be read.
async fn start_session(scylla: &Scylla) -> Arc<LiveSession> {
    let mut held = None;
    let mut wait = RETRY_MIN;
    loop {
        match try_session(scylla, &mut held).await {
            Ok(live) => {
                let live = Arc::new(live);
                show_state(scylla, Some(&live), SourceReadiness::Ready);
                return live;
            }
            Err(reason) => show_state(scylla, None, SourceReadiness::NotReady(reason)),
        }
        sleep(wait).await;
        wait = wait.saturating_mul(2).min(RETRY_MAX);
    }
}

async fn try_session(scylla: &Scylla, held: &mut Option<Session>) -> Result<LiveSession, Arc<str>> {
    let told = |error| reason_text(scylla, error);
    let session = match held.take() {
        Some(session) => session,
        None => scylla.connector.open_session().await.map_err(told)?,
    };
    let session = held.insert(session);
    look_at_schema(scylla, session)
        .await
        .map_err(told)?
        .map_err(|refusal| refusal.reason)?;
    let Some(session) = held.take() else {
        return Err("no session".into());
    };
    let sent = Arc::clone(&scylla.sent);
    LiveSession::prepare_reads(session, &scylla.connector.names, scylla.read_from, sent)
        .await
        .map_err(told)
}

fn reason_text(scylla: &Scylla, error: LedgerError) -> Arc<str> {
    let nodes = scylla.connector.node_addresses();
    describe_failure(nodes, Code::SourceSilent, error)
}

/// Whether what stands there may be used; the outer error is a database that does not tell.
async fn look_at_schema(
    scylla: &Scylla,
    session: &Session,
) -> Result<Result<(), UnusableDatabase>, LedgerError> {
    let found = read_schema_state(session, &scylla.connector.names, scylla.read_from).await?;
    Ok(judge_schema(scylla, &found))
}

fn judge_schema(scylla: &Scylla, found: &FoundSchema) -> Result<(), UnusableDatabase> {
    match (
        found.first_problem(scylla.read_from, scylla.view_check),
        scylla.view_check,
    ) {
        (Some(Problem::Blocking(reason)), _)
        | (Some(Problem::ViewNotBuilt(reason)), ViewCheck::Required | ViewCheck::Off) => {
            return Err(UnusableDatabase::of_loads(reason));
        }
        (Some(Problem::ViewNotBuilt(reason)), ViewCheck::Warn) => {
            scylla.warn_once(&reason);
        }
        (None, _) => {}
    }
    let Some(identity) = found.identity.as_deref() else {
        return Err(UnusableDatabase::of_loads("the ledger has no id"));
    };
    let same = check_identity(&scylla.identity, identity, "database");
    same.map_err(|reason| UnusableDatabase {
        reason,
        entirely: true,
    })
}

/// Checks for ever.
async fn keep_checking(scylla: &Scylla, live: &Arc<LiveSession>) {
    let mut inspected = Instant::now();
    try_writing(scylla, live).await;
    loop {
        let nudged = timeout(PROBE_EVERY, scylla.nudge.notified()).await.is_ok();
        let before = scylla.state.load_full();
        let good = before.readiness == SourceReadiness::Ready;
        let refused = matches!(before.readiness, SourceReadiness::NotReady(_));
        let pause = if nudged { INSPECT_AFTER } else { INSPECT_EVERY };
        let due = !good || inspected.elapsed() >= pause;
        let (usable, readiness) = match check_session(scylla, live, due).await {
            Ok(Ok(())) => (Some(live), SourceReadiness::Ready),
            Ok(Err(UnusableDatabase { reason, entirely })) => (
                (!entirely).then_some(live),
                SourceReadiness::NotReady(reason),
            ),
            // A refusal with a reason stands until that reason is known to be gone.
            Err(error) if refused => (
                before.live.as_ref(),
                SourceReadiness::NotReady(reason_text(scylla, error)),
            ),
            Err(error) => (
                Some(live),
                SourceReadiness::Failing(reason_text(scylla, error)),
            ),
        };
        if due {
            inspected = Instant::now();
            try_writing(scylla, live).await;
        }
        show_state(scylla, usable, readiness);
        // Failing reads ask for a check; not more often than this.
        sleep(PROBE_MIN).await;
    }
}

/// Tries whether ledger entries may be written. An instance that never could and was never asked to has a user that reads only.
async fn try_writing(scylla: &Scylla, live: &LiveSession) {
    let finding = live.missing_right().await;
    let reason = finding.map(|finding| {
        let nodes = scylla.connector.node_addresses();
        format!(
            "{nodes}: {}; {}",
            finding.cause_text(),
            finding.remedy_text()
        )
    });
    let mut writing = scylla.writing.lock();
    writing.wanted |= reason.is_none();
    if let Some(reason) = &reason
        && writing.refusal.is_none()
    {
        tracing::warn!(source.reason = %reason, "ledger entries cannot be written");
    }
    writing.refusal = reason.map(Arc::from);
}

/// Reads a row with the consistency of every read, and looks at the schema where that is due.
async fn check_session(
    scylla: &Scylla,
    live: &LiveSession,
    inspection: bool,
) -> Result<Result<(), UnusableDatabase>, LedgerError> {
    live.probe_read().await?;
    if inspection {
        look_at_schema(scylla, &live.session).await
    } else {
        Ok(Ok(()))
    }
}

/// Publishes a state, and says so once when it changes.
fn show_state(scylla: &Scylla, live: Option<&Arc<LiveSession>>, readiness: SourceReadiness) {
    let before = scylla.state.load();
    let unchanged = before.readiness == readiness && before.live.is_some() == live.is_some();
    if unchanged {
        return;
    }
    log_readiness(&readiness);
    scylla.state.store(Arc::new(ConnectionState {
        live: live.map(Arc::clone),
        readiness,
    }));
}
