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
    PgRefused, PgState, Postgres,
    mapped::MappedLedger,
    pool::{PgPool, jittered_wait},
    schema_state::{PgSchemaState, read_schema_state},
};
use crate::{
    diagnosis::{Code, Finding, FindingPart},
    ledger::{LedgerError, SourceReadiness},
};

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_MIN: Duration = Duration::from_millis(100);
const INSPECT_EVERY: Duration = Duration::from_secs(5);
/// The same after a statement that failed.
const INSPECT_AFTER: Duration = Duration::from_secs(1);
/// Pause between two looks at all servers of `postgres.url`.
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn run_checks(source: &Postgres, shutdown: &CancellationToken) {
    let whole_life = async {
        start_watch(source).await;
        tokio::join!(keep_checking(source), look_for_promotions(source));
    };
    shutdown.run_until_cancelled(whole_life).await;
}

/// Tries until balances can be read.
async fn start_watch(source: &Postgres) {
    let mut wait = RETRY_MIN;
    loop {
        match connect_and_look(source).await {
            Ok(Ok(())) => {
                check_replicas(source).await;
                tell_unserved(source).await;
                return show_state(source, SourceReadiness::Ready, PgRefused::Nothing);
            }
            Ok(Err((reason, _))) => {
                show_state(
                    source,
                    SourceReadiness::NotReady(reason),
                    PgRefused::Everything,
                );
            }
            Err(error) => {
                let reason = reason_of(&source.primary, error);
                show_state(
                    source,
                    SourceReadiness::NotReady(reason),
                    PgRefused::Everything,
                );
            }
        }
        sleep(jittered_wait(wait)).await;
        wait = wait.saturating_mul(2).min(RETRY_MAX);
    }
}

/// Says which tables of the operator's statements are read whole.
async fn tell_unserved(source: &Postgres) {
    let Some(mapped) = &source.mapped else {
        return;
    };
    for (key, unserved) in mapped
        .find_unserved(&source.primary)
        .await
        .unwrap_or_default()
    {
        tracing::warn!(
            source.statement = key,
            source.table = unserved.table,
            source.remedy = unserved.create_index.as_deref().unwrap_or_default(),
            "no index serves the statement: each read goes through the whole table"
        );
    }
}

/// The reason of an error, behind the address.
fn reason_of(pool: &PgPool, error: LedgerError) -> Arc<str> {
    let address = pool.address();
    match error {
        LedgerError::Unavailable(reason) | LedgerError::Corrupt(reason) => {
            format!("{address}: {reason}").into()
        }
        LedgerError::Timeout => {
            let silent = Finding::new(FindingPart::Source, Code::PostgresSilent, address);
            format!("{}; {}", silent.cause_text(), silent.remedy_text()).into()
        }
    }
}

/// Whether the tables may be used; a refusal says for what not.
type PgJudged = Result<(), (Arc<str>, PgRefused)>;

/// Connects, however long that takes, and looks. The outer error is a database that does not tell.
async fn connect_and_look(source: &Postgres) -> Result<PgJudged, LedgerError> {
    source.primary.take_connection().await?.give_back();
    look_at_schema(source).await
}

async fn look_at_schema(source: &Postgres) -> Result<PgJudged, LedgerError> {
    if let Some(mapped) = &source.mapped {
        let identity = mapped.check_statements(&source.primary).await?;
        return Ok(judge_identity(source, &identity));
    }
    let schema = source.connector.schema();
    let found = read_schema_state(&source.primary, schema, source.read_from).await?;
    source.note_schema(&found);
    Ok(judge_schema(source, &found))
}

fn judge_schema(source: &Postgres, found: &PgSchemaState) -> PgJudged {
    if let Some(reason) = found.reading_problem(source.read_from) {
        let reason = format!("{}: {reason}", source.primary.address());
        return Err((reason.into(), PgRefused::Loads));
    }
    judge_identity(source, found.identity.as_deref().unwrap_or_default())
}

fn judge_identity(source: &Postgres, identity: &str) -> PgJudged {
    let known = source.identity.get_or_init(|| identity.into());
    if **known == *identity {
        Ok(())
    } else {
        let reason =
            format!("this is another ledger than at the start ({identity}, was {known}): restart");
        Err((reason.into(), PgRefused::Everything))
    }
}

/// Checks for ever.
async fn keep_checking(source: &Postgres) {
    let mut inspected = Instant::now();
    loop {
        let nudged = timeout(PROBE_EVERY, source.nudge.notified()).await.is_ok();
        let before = source.state.load_full();
        let good = before.readiness == SourceReadiness::Ready;
        let pause = if nudged { INSPECT_AFTER } else { INSPECT_EVERY };
        let due = !good || inspected.elapsed() >= pause;
        let checked = check_once(source, due);
        let (readiness, refused) = match checked.await {
            Ok(Ok(())) if good || due => (SourceReadiness::Ready, PgRefused::Nothing),
            Ok(Ok(())) => (before.readiness.clone(), before.refused),
            Ok(Err((reason, refused))) => (SourceReadiness::NotReady(reason), refused),
            Err(error) => {
                if matches!(error, LedgerError::Timeout) {
                    source.primary.close_idle();
                }
                let reason = reason_of(&source.primary, error);
                // A refusal with a reason stands until that reason is known to be gone.
                match before.refused {
                    PgRefused::Nothing => (SourceReadiness::Failing(reason), PgRefused::Nothing),
                    refused => (SourceReadiness::NotReady(reason), refused),
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

/// Looks for a primary that was promoted while the one before it goes on, for ever: no statement fails then.
async fn look_for_promotions(source: &Postgres) {
    loop {
        sleep(jittered_wait(LOOK_EVERY)).await;
        source.connector.look_for_primaries().await;
    }
}

/// Reads a row as every read does, and looks at the schema where that is due: it tells why a row cannot be read, too.
async fn check_once(source: &Postgres, due: bool) -> Result<PgJudged, LedgerError> {
    let probe = source.primary.read_rows(source.probe_text(), &[]).await;
    match probe {
        Err(error @ LedgerError::Timeout) => Err(error),
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
        let look = read_identity(source, &replica.pool);
        let usable = match look.await {
            Ok(found) if found.as_deref() == Some(&**identity) => Ok(()),
            Ok(_) => Err(Arc::from("it holds another ledger than postgres.url")),
            Err(error) => Err(reason_of(&replica.pool, error)),
        };
        if let Err(reason) = &usable
            && let Some(left_out) = source.sparing.permit_line()
        {
            tracing::warn!(
                source.replica = replica.pool.address(),
                source.reason = %reason,
                lines.left_out = left_out,
                "a replica is not read from"
            );
        }
        replica.allow_reads(usable.is_ok());
    }
}

async fn read_identity(source: &Postgres, pool: &PgPool) -> Result<Option<String>, LedgerError> {
    if source.mapped.is_some() {
        return MappedLedger::read_identity(pool).await.map(Some);
    }
    let schema = source.connector.schema();
    let found = read_schema_state(pool, schema, source.read_from).await?;
    Ok(found.identity)
}

/// Publishes a state, and says so once when it changes.
fn show_state(source: &Postgres, readiness: SourceReadiness, refused: PgRefused) {
    let before = source.state.load();
    if before.readiness == readiness && before.refused == refused {
        return;
    }
    match &readiness {
        SourceReadiness::Ready => tracing::info!("source is ready"),
        SourceReadiness::Failing(reason) => {
            tracing::warn!(source.reason = %reason, "source is failing");
        }
        SourceReadiness::NotReady(reason) => {
            tracing::warn!(source.reason = %reason, "source is not ready");
        }
    }
    source.state.store(Arc::new(PgState { readiness, refused }));
}
