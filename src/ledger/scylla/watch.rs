//! The life of the connection: made in the background, checked for ever, its state shown by `readiness`.
//!
//! **Invariants.** The service never waits for the database: until the first good check every question is refused at
//! once, with the reason. After a good start an outage makes the state *failing* and questions are still tried, so the
//! first that succeeds is answered, before the next check says so. A view that is not built, or a table that must not
//! be read, refuses loads (P6), also when that happens late. Another database behind the same addresses is refused.
//!
//! **Cancellation.** The token ends [`run`] at any of its waits.
//!
//! **Limits.** One probe a second, of one row that need not be there; the schema is looked at every [`INSPECT_EVERY`].

use std::{sync::Arc, time::Duration};

use scylla::client::session::Session;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Scylla, State,
    schema_state::{Found, Problem, read_schema_state},
    statements::Live,
};
use crate::{
    config::ViewCheck,
    diagnosis::{Code, Finding, Part},
    ledger::{Error, Readiness},
};

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_MIN: Duration = Duration::from_millis(100);
const INSPECT_EVERY: Duration = Duration::from_secs(5);
/// The same after a statement that failed.
const INSPECT_AFTER: Duration = Duration::from_secs(1);

/// Why the database must not be used.
struct Refusal {
    reason: Arc<str>,
    /// For nothing at all; else only loads are refused.
    entirely: bool,
}

impl Refusal {
    fn of_loads(reason: impl Into<Arc<str>>) -> Self {
        Self {
            reason: reason.into(),
            entirely: false,
        }
    }
}

pub(super) async fn run(scylla: &Scylla, shutdown: &CancellationToken) {
    let whole_life = async {
        let live = start(scylla).await;
        keep(scylla, &live).await;
    };
    shutdown.run_until_cancelled(whole_life).await;
}

/// Tries until there is a session with which balances can be read.
async fn start(scylla: &Scylla) -> Arc<Live> {
    let mut held = None;
    let mut wait = RETRY_MIN;
    loop {
        match attempt(scylla, &mut held).await {
            Ok(live) => {
                let live = Arc::new(live);
                show(scylla, Some(&live), Readiness::Ready);
                return live;
            }
            Err(reason) => show(scylla, None, Readiness::NotReady(reason)),
        }
        sleep(wait).await;
        wait = wait.saturating_mul(2).min(RETRY_MAX);
    }
}

async fn attempt(scylla: &Scylla, held: &mut Option<Session>) -> Result<Live, Arc<str>> {
    let told = |error| text(scylla, error);
    let session = match held.take() {
        Some(session) => session,
        None => scylla.connector.session().await.map_err(told)?,
    };
    let session = held.insert(session);
    look(scylla, session)
        .await
        .map_err(told)?
        .map_err(|refusal| refusal.reason)?;
    let Some(session) = held.take() else {
        return Err("no session".into());
    };
    let sent = Arc::clone(&scylla.sent);
    Live::prepare(session, &scylla.connector.names, scylla.read_from, sent)
        .await
        .map_err(told)
}

/// The reason of an error, behind the addresses of the nodes.
fn text(scylla: &Scylla, error: Error) -> Arc<str> {
    let nodes = scylla.connector.address();
    match error {
        Error::Unavailable(reason) | Error::Corrupt(reason) => format!("{nodes}: {reason}").into(),
        Error::Timeout => {
            let silent = Finding::new(Part::Source, Code::SourceSilent, nodes);
            format!("{}; {}", silent.cause(), silent.remedy()).into()
        }
    }
}

/// Whether what stands there may be used; the outer error is a database that does not tell.
async fn look(scylla: &Scylla, session: &Session) -> Result<Result<(), Refusal>, Error> {
    let found = read_schema_state(session, &scylla.connector.names, scylla.read_from).await?;
    Ok(judge(scylla, &found))
}

fn judge(scylla: &Scylla, found: &Found) -> Result<(), Refusal> {
    match (
        found.problem(scylla.read_from, scylla.view_check),
        scylla.view_check,
    ) {
        (Some(Problem::Blocking(reason)), _)
        | (Some(Problem::ViewNotBuilt(reason)), ViewCheck::Required | ViewCheck::Off) => {
            return Err(Refusal::of_loads(reason));
        }
        (Some(Problem::ViewNotBuilt(reason)), ViewCheck::Warn) => {
            scylla.warn_once(&reason);
        }
        (None, _) => {}
    }
    let Some(identity) = found.identity.as_deref() else {
        return Err(Refusal::of_loads("the ledger has no id"));
    };
    let known = scylla.identity.get_or_init(|| identity.into());
    if **known == *identity {
        Ok(())
    } else {
        let reason = format!(
            "this is another database than at the start ({identity}, was {known}): restart"
        );
        Err(Refusal {
            reason: reason.into(),
            entirely: true,
        })
    }
}

/// Checks for ever.
async fn keep(scylla: &Scylla, live: &Arc<Live>) {
    let mut inspected = Instant::now();
    try_writing(scylla, live).await;
    loop {
        let nudged = timeout(PROBE_EVERY, scylla.nudge.notified()).await.is_ok();
        let before = scylla.state.load_full();
        let good = before.readiness == Readiness::Ready;
        let refused = matches!(before.readiness, Readiness::NotReady(_));
        let pause = if nudged { INSPECT_AFTER } else { INSPECT_EVERY };
        let due = !good || inspected.elapsed() >= pause;
        let (usable, readiness) = match check(scylla, live, due).await {
            Ok(Ok(())) => (Some(live), Readiness::Ready),
            Ok(Err(Refusal { reason, entirely })) => {
                ((!entirely).then_some(live), Readiness::NotReady(reason))
            }
            // A refusal with a reason stands until that reason is known to be gone.
            Err(error) if refused => (
                before.live.as_ref(),
                Readiness::NotReady(text(scylla, error)),
            ),
            Err(error) => (Some(live), Readiness::Failing(text(scylla, error))),
        };
        if due {
            inspected = Instant::now();
            try_writing(scylla, live).await;
        }
        show(scylla, usable, readiness);
        // Failing reads ask for a check; not more often than this.
        sleep(PROBE_MIN).await;
    }
}

/// Tries whether ledger entries may be written. An instance that never could and was never asked to has a user that reads only.
async fn try_writing(scylla: &Scylla, live: &Live) {
    let finding = live.missing_right().await;
    let reason = finding.map(|finding| {
        let nodes = scylla.connector.address();
        format!("{nodes}: {}; {}", finding.cause(), finding.remedy())
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
async fn check(
    scylla: &Scylla,
    live: &Live,
    inspection: bool,
) -> Result<Result<(), Refusal>, Error> {
    live.probe().await?;
    if inspection {
        look(scylla, &live.session).await
    } else {
        Ok(Ok(()))
    }
}

/// Publishes a state, and says so once when it changes.
fn show(scylla: &Scylla, live: Option<&Arc<Live>>, readiness: Readiness) {
    let before = scylla.state.load();
    let unchanged = before.readiness == readiness && before.live.is_some() == live.is_some();
    if unchanged {
        return;
    }
    match &readiness {
        Readiness::Ready => tracing::info!("source is ready"),
        Readiness::Failing(reason) => tracing::warn!(source.reason = %reason, "source is failing"),
        Readiness::NotReady(reason) => {
            tracing::warn!(source.reason = %reason, "source is not ready");
        }
    }
    scylla.state.store(Arc::new(State {
        live: live.map(Arc::clone),
        readiness,
    }));
}
