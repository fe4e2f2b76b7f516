//! The life of the source: checked in the background for ever, its state shown by `readiness`.
//!
//! **Invariants.** The service never waits for the database: until the first good check every question is refused at once, with the
//! reason. After a good start an outage makes the state *failing* and questions are still tried. Tables that must not be read
//! refuse loads (P6), also when that happens late. Another ledger behind the same address is refused.
//!
//! **Cancellation.** The token ends [`run_checks`] at any of its waits.
//!
//! **Limits.** One probe a second of one row that need not be there; the schema is looked at every [`INSPECT_EVERY`].

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    PgState, Postgres, Refused,
    pool::{PgPool, jitter},
    schema_state::{PgSchemaState, read_schema_state},
};
use crate::{
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

pub(super) async fn run_checks(source: &Postgres, shutdown: &CancellationToken) {
    let whole_life = async {
        start(source).await;
        keep_checking(source).await;
    };
    shutdown.run_until_cancelled(whole_life).await;
}

/// Tries until balances can be read.
async fn start(source: &Postgres) {
    let mut wait = RETRY_MIN;
    loop {
        match connect_and_look(source).await {
            Ok(Ok(())) => {
                check_replicas(source).await;
                return show_state(source, Readiness::Ready, Refused::Nothing);
            }
            Ok(Err((reason, _))) => {
                show_state(source, Readiness::NotReady(reason), Refused::Everything);
            }
            Err(error) => {
                let reason = reason_of(&source.primary, error);
                show_state(source, Readiness::NotReady(reason), Refused::Everything);
            }
        }
        sleep(jitter(wait)).await;
        wait = wait.saturating_mul(2).min(RETRY_MAX);
    }
}

/// The reason of an error, behind the address.
fn reason_of(pool: &PgPool, error: Error) -> Arc<str> {
    let address = pool.address();
    match error {
        Error::Unavailable(reason) | Error::Corrupt(reason) => {
            format!("{address}: {reason}").into()
        }
        Error::Timeout => {
            let silent = Finding::new(Part::Source, Code::PostgresSilent, address);
            format!("{}; {}", silent.cause(), silent.remedy()).into()
        }
    }
}

/// Whether the tables may be used; a refusal says for what not.
type Judged = Result<(), (Arc<str>, Refused)>;

/// Connects, however long that takes, and looks. The outer error is a database that does not tell.
async fn connect_and_look(source: &Postgres) -> Result<Judged, Error> {
    source.primary.take_connection().await?.give_back();
    look_at_schema(source).await
}

async fn look_at_schema(source: &Postgres) -> Result<Judged, Error> {
    let schema = source.connector.schema();
    let found = read_schema_state(&source.primary, schema, source.read_from).await?;
    source.note_schema(&found);
    Ok(judge_schema(source, &found))
}

fn judge_schema(source: &Postgres, found: &PgSchemaState) -> Judged {
    if let Some(reason) = found.reading_problem(source.read_from) {
        let reason = format!("{}: {reason}", source.primary.address());
        return Err((reason.into(), Refused::Loads));
    }
    let identity = found.identity.as_deref().unwrap_or_default();
    let known = source.identity.get_or_init(|| identity.into());
    if **known == *identity {
        Ok(())
    } else {
        let reason =
            format!("this is another ledger than at the start ({identity}, was {known}): restart");
        Err((reason.into(), Refused::Everything))
    }
}

/// Checks for ever.
async fn keep_checking(source: &Postgres) {
    let mut inspected = Instant::now();
    loop {
        let nudged = timeout(PROBE_EVERY, source.nudge.notified()).await.is_ok();
        let before = source.state.load_full();
        let good = before.readiness == Readiness::Ready;
        let pause = if nudged { INSPECT_AFTER } else { INSPECT_EVERY };
        let due = !good || inspected.elapsed() >= pause;
        let checked = check_once(source, due);
        let (readiness, refused) = match checked.await {
            Ok(Ok(())) if good || due => (Readiness::Ready, Refused::Nothing),
            Ok(Ok(())) => (before.readiness.clone(), before.refused),
            Ok(Err((reason, refused))) => (Readiness::NotReady(reason), refused),
            Err(error) => {
                if matches!(error, Error::Timeout) {
                    source.primary.close_idle();
                }
                let reason = reason_of(&source.primary, error);
                // A refusal with a reason stands until that reason is known to be gone.
                match before.refused {
                    Refused::Nothing => (Readiness::Failing(reason), Refused::Nothing),
                    refused => (Readiness::NotReady(reason), refused),
                }
            }
        };
        if due {
            inspected = Instant::now();
            check_replicas(source).await;
        }
        show_state(source, readiness, refused);
        // Failing reads ask for a check; not more often than this.
        sleep(PROBE_MIN).await;
    }
}

/// Reads a row as every read does, and looks at the schema where that is due: it tells why a row cannot be read, too.
async fn check_once(source: &Postgres, due: bool) -> Result<Judged, Error> {
    let probe = source.primary.read_rows(&source.texts.probe, &[]).await;
    match probe {
        Err(error @ Error::Timeout) => Err(error),
        Ok(_) if !due => Ok(Ok(())),
        Err(error) if !due => Err(error),
        Ok(_) => look_at_schema(source).await,
        Err(error) => match look_at_schema(source).await {
            Ok(Ok(())) => Err(error),
            otherwise => otherwise,
        },
    }
}

/// A replica may be asked while it shows the same ledger as the primary.
async fn check_replicas(source: &Postgres) {
    let Some(identity) = source.identity.get() else {
        return;
    };
    for replica in source.replicas.servers() {
        let schema = source.connector.schema();
        let look = read_schema_state(&replica.pool, schema, source.read_from);
        let usable = match look.await {
            Ok(found) if found.identity.as_deref() == Some(&**identity) => Ok(()),
            Ok(_) => Err(Arc::from("it holds another ledger than postgres.url")),
            Err(error) => Err(reason_of(&replica.pool, error)),
        };
        if let Err(reason) = &usable
            && let Some(left_out) = source.sparing.line()
        {
            tracing::warn!(
                source.replica = replica.pool.address(),
                source.reason = %reason,
                lines.left_out = left_out,
                "a replica is not read from"
            );
        }
        replica.allow(usable.is_ok());
    }
}

/// Publishes a state, and says so once when it changes.
fn show_state(source: &Postgres, readiness: Readiness, refused: Refused) {
    let before = source.state.load();
    if before.readiness == readiness && before.refused == refused {
        return;
    }
    match &readiness {
        Readiness::Ready => tracing::info!("source is ready"),
        Readiness::Failing(reason) => tracing::warn!(source.reason = %reason, "source is failing"),
        Readiness::NotReady(reason) => {
            tracing::warn!(source.reason = %reason, "source is not ready");
        }
    }
    source.state.store(Arc::new(PgState { readiness, refused }));
}
