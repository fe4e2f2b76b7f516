//! The life of the source: checked in the background for ever, its state shown by `readiness`.
//!
//! **Invariants.** The service never waits for the database: until the first good check every question is refused at once, with the
//! reason. After a good start an outage makes the state *failing* and questions are still tried. Tables that must not be read
//! refuse loads (P6), also when that happens late. Another ledger behind the same address is refused.
//!
//! **Cancellation.** The token ends [`run_checks`] at any of its waits.
//!
//! **Limits.** One probe a second of one row that need not be there; the schema is looked at every [`INSPECT_EVERY`].

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    PgRefused, PgState, Postgres,
    mapped::MappedLedger,
    pool::{PgPool, jittered_wait},
    replicas::LAG_MAX,
    schema_state::{PgSchemaState, read_schema_state},
    session::check_sessions,
    statements::read_column,
};
use crate::{
    diagnosis::Code,
    ledger::{
        LedgerError, SourceReadiness,
        watch::{
            INSPECT_AFTER, INSPECT_EVERY, PROBE_EVERY, PROBE_MIN, RETRY_MAX, RETRY_MIN,
            check_identity, describe_failure, log_readiness,
        },
    },
};

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
                tell_statements(source).await;
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

/// Says in which units the operator's statements have amounts, and which of their tables are read whole.
async fn tell_statements(source: &Postgres) {
    let Some(mapped) = &source.mapped else {
        return;
    };
    for (key, units) in mapped.describe_units().unwrap_or_default() {
        tracing::info!(
            source.statement = key,
            source.units = units,
            "the amounts of the statement"
        );
    }
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

fn reason_of(pool: &PgPool, error: LedgerError) -> Arc<str> {
    describe_failure(pool.address(), Code::PostgresSilent, error)
}

/// Whether the tables may be used; a refusal says for what not.
type PgJudged = Result<(), (Arc<str>, PgRefused)>;

/// Connects, however long that takes, and looks. The outer error is a database that does not tell.
async fn connect_and_look(source: &Postgres) -> Result<PgJudged, LedgerError> {
    source.primary.take_connection().await?.give_back();
    check_sessions(&source.primary, source.connector.schema()).await?;
    look_at_schema(source).await
}

async fn look_at_schema(source: &Postgres) -> Result<PgJudged, LedgerError> {
    if let Some(mapped) = &source.mapped {
        let identity = mapped.check_statements(&source.primary).await?;
        return Ok(judge_identity(source, &identity));
    }
    let schema = source.connector.schema();
    let found = read_schema_state(&source.primary, schema, source.read_from).await?;
    note_schema(source, &found);
    Ok(judge_schema(source, &found))
}

/// Takes over what a look at the schema found.
fn note_schema(source: &Postgres, found: &PgSchemaState) {
    let commit_times = &source.has_commit_times;
    commit_times.store(found.commit_times, Ordering::Relaxed);
    let address = source.primary.address();
    let writing = &source.writing;
    writing.note_schema(found, address, source.assigns_seqs);
}

fn judge_schema(source: &Postgres, found: &PgSchemaState) -> PgJudged {
    if let Some(reason) = found.reading_problem(source.read_from) {
        let reason = format!("{}: {reason}", source.primary.address());
        return Err((reason.into(), PgRefused::Loads));
    }
    judge_identity(source, found.identity.as_deref().unwrap_or_default())
}

fn judge_identity(source: &Postgres, identity: &str) -> PgJudged {
    let same = check_identity(&source.identity, identity, "ledger");
    same.map_err(|reason| (reason, PgRefused::Everything))
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
    let text = match &source.mapped {
        Some(_) => "SELECT 1",
        None => &source.texts.probe,
    };
    let probe = source.primary.read_rows(text, &[]).await;
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

/// The end of the log that a primary has written, and that of what a standby has replayed; none of a server that is no standby.
const WRITTEN: &str = "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::int8";
const REPLAYED: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::int8 END";

/// A replica may be asked while it shows the same ledger as the primary, and does not lag too far behind it.
async fn check_replicas(source: &Postgres) {
    let Some(identity) = source.identity.get() else {
        return;
    };
    let replicas = &source.replicas;
    if replicas.servers().is_empty() {
        return;
    }
    // While the primary is away, replicas are held to what it had written before.
    if let Ok(Some(position)) = read_position(&source.primary, WRITTEN).await {
        replicas.note_primary_position(position);
    }
    for replica in replicas.servers() {
        let usable = check_replica(source, &replica.pool, identity).await;
        if let Err(reason) = &usable
            && let Some(left_out) = source.limited_log.permit_line()
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

async fn check_replica(source: &Postgres, pool: &PgPool, identity: &str) -> Result<(), Arc<str>> {
    let failed = |error| reason_of(pool, error);
    let found = read_identity(source, pool).await.map_err(failed)?;
    if found.as_deref() != Some(identity) {
        return Err("it holds another ledger than postgres.url".into());
    }
    match read_position(pool, REPLAYED).await.map_err(failed)? {
        Some(replayed) if source.replicas.is_too_late(replayed) => {
            let limit = LAG_MAX.as_secs();
            Err(
                format!("it is more than {limit} s behind postgres.url, or follows it no more")
                    .into(),
            )
        }
        Some(_) | None => Ok(()),
    }
}

async fn read_position(pool: &PgPool, text: &str) -> Result<Option<i64>, LedgerError> {
    let rows = pool.read_rows(text, &[]).await?;
    rows.first().map_or(Ok(None), |row| read_column(row, 0))
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
    log_readiness(&readiness);
    source.state.store(Arc::new(PgState { readiness, refused }));
}
