//! A connection that follows the outbox.
//!
//! **Limits.** [`QUESTIONS`] statements on their way at once. The server ends each after `source.timeout_ms` and runs them one after the
//! other, so an answer that is not there twice as long after the one before it does not come.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{Client, Error as PgError, Row, Statement, error::SqlState, types::ToSql};

use super::{
    OutboxBacklog, OutboxContent, OutboxRow, OutboxUser, Statements, UnknownKey, UnreadBalances,
};
use crate::{
    clock,
    domain::{Catalogue, UserId},
    ledger::{
        LedgerError,
        postgres::{faults, mapped::BalancesQuery, timeline::NewestPrimary},
    },
};

/// Statements that are sent before the first is answered.
const QUESTIONS: usize = 32;
/// The name by which the turn is known in one database.
const TURN: &str =
    "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '.balance_outbox', 0))";

/// A connection that follows the outbox.
pub struct OutboxSession {
    pub(super) client: Client,
    pub(super) opened: Instant,
    pub(super) newest: Arc<NewestPrimary>,
    pub(super) wakeups: mpsc::Receiver<()>,
    pub(super) timeout: Duration,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) balances: BalancesQuery,
    pub(super) statements: Statements,
}

/// An answer about one row's user. The outer error is the database's.
type UserAnswer<T, E> = Result<Result<T, E>, LedgerError>;

/// Why a statement about one user failed, where the database is not to blame.
enum StatementFault {
    Late,
    /// With the SQLSTATE.
    Data(String),
}

impl OutboxSession {
    /// Whether this session has the turn, now or already.
    ///
    /// # Errors
    /// The connection is of no use any more, or leads to an old primary.
    pub async fn take_turn(&self) -> Result<bool, LedgerError> {
        if self.newest.outdates(self.opened) {
            return Err(faults::never_connected());
        }
        let taking = async {
            let row = self.client.query_one(TURN, &[]).await?;
            row.try_get(0)
        };
        self.ask(taking).await
    }

    /// Rows above `after`, in order.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read_page(&self, after: i64) -> Result<Vec<OutboxRow>, LedgerError> {
        let rows = self.query(&self.statements.page, &[&after]).await?;
        let read = |row: &Row| {
            let (key, event): (Option<String>, Option<String>) = (row.try_get(1)?, row.try_get(3)?);
            Ok::<_, PgError>(OutboxRow {
                id: row.try_get(0)?,
                content: match event {
                    Some(event) => OutboxContent::Event(event),
                    None => OutboxContent::User(key.unwrap_or_default()),
                },
                removed: row.try_get::<_, &str>(2)? == "removed",
            })
        };
        let read: Result<Vec<_>, _> = rows.iter().map(read).collect();
        read.map_err(|error| faults::map_error(&error))
    }

    /// The users of these keys and their balances as they are now, in the order of the keys.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn find_balances(
        &self,
        keys: &[&str],
    ) -> Result<Vec<Result<OutboxUser, UnknownKey>>, LedgerError> {
        let mut lookups = Vec::with_capacity(keys.len());
        for key in keys {
            lookups.push(self.find_user(key).boxed());
        }
        let users = self.collect_answers(lookups).await?;
        let mut reads = Vec::with_capacity(keys.len());
        for user in users {
            let read = async move {
                match user {
                    Ok(user) => self.read_balances(user).await.map(Ok),
                    Err(unknown) => Ok(Err(unknown)),
                }
            };
            reads.push(read.boxed());
        }
        self.collect_answers(reads).await
    }

    /// Answers in the order of the questions, which is that of the server.
    async fn collect_answers<T: Send>(
        &self,
        questions: Vec<BoxFuture<'_, Result<T, LedgerError>>>,
    ) -> Result<Vec<T>, LedgerError> {
        let mut collected = Vec::with_capacity(questions.len());
        let mut answers = stream::iter(questions).buffered(QUESTIONS);
        let patience = self.timeout.saturating_mul(2);
        loop {
            let next = timeout(patience, answers.next()).await;
            match next.map_err(|_| LedgerError::Timeout)? {
                Some(answer) => collected.push(answer?),
                None => return Ok(collected),
            }
        }
    }

    async fn read_balances(&self, user: UserId) -> Result<OutboxUser, LedgerError> {
        let said_at = clock::wall_now();
        let id = user.get();
        let rows = self.ask_about(&self.statements.balances, &[&id]).await?;
        let balances = match rows {
            Ok(rows) => {
                let catalogue = self.catalogue.current_table();
                match self.balances.read(user, &rows, &catalogue, said_at) {
                    Ok(snapshot) => Ok(snapshot),
                    Err(LedgerError::Corrupt(reason)) => {
                        Err(UnreadBalances::Corrupt(reason.to_string()))
                    }
                    Err(other) => return Err(other),
                }
            }
            Err(StatementFault::Late) => Err(UnreadBalances::Late),
            Err(StatementFault::Data(code)) => Err(UnreadBalances::Corrupt(format!(
                "user {user}: postgres.balances_sql fails for this user (SQLSTATE {code})"
            ))),
        };
        Ok(OutboxUser { user, balances })
    }

    /// The service's id of the user that the table calls `key`.
    async fn find_user(&self, key: &str) -> UserAnswer<UserId, UnknownKey> {
        let id = match &self.statements.user {
            None => key.to_owned(),
            Some(statement) => match self.ask_about(statement, &[&key]).await? {
                Ok(rows) => {
                    let id: Option<String> = match rows.first() {
                        None => None,
                        Some(row) => row.try_get(0).ok().flatten(),
                    };
                    let Some(id) = id else {
                        return Ok(Err(UnknownKey::Absent));
                    };
                    id
                }
                Err(StatementFault::Late) => return Err(LedgerError::Timeout),
                Err(StatementFault::Data(code)) => {
                    return Ok(Err(UnknownKey::Unreadable(format!(
                        "the database cannot take the key (SQLSTATE {code})"
                    ))));
                }
            },
        };
        Ok(id.parse().map_err(|_| UnknownKey::Unreadable(
            "the user is no whole number from 1 to 9223372036854775807; postgres.outbox.user_id_sql has to make one of it".to_owned(),
        )))
    }

    /// Removes rows that took effect.
    ///
    /// # Errors
    /// They may be there still, and may be removed again.
    pub async fn remove_rows(&self, ids: &[i64]) -> Result<(), LedgerError> {
        self.query(&self.statements.remove, &[&ids]).await.map(drop)
    }

    /// Puts a row that cannot be read where nothing reads it, with the reason.
    ///
    /// # Errors
    /// It may be there still.
    pub async fn put_aside(&self, id: i64, reason: &str) -> Result<(), LedgerError> {
        let statement = &self.statements.put_aside;
        self.query(statement, &[&id, &reason]).await.map(drop)
    }

    /// Rows that wait.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count_waiting(&self) -> Result<OutboxBacklog, LedgerError> {
        let rows = self.query(&self.statements.count, &[]).await?;
        let number = |at: usize| {
            let row = rows.first();
            let number: Option<Option<i64>> = row.and_then(|row| row.try_get(at).ok());
            number.flatten().unwrap_or(0)
        };
        Ok(OutboxBacklog {
            rows: u64::try_from(number(0)).unwrap_or(0),
            last_id: number(1),
        })
    }

    /// Waits for a change, at most this long.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn wait_for_change(&mut self, at_most: Duration) -> Result<(), LedgerError> {
        match timeout(at_most, self.wakeups.recv()).await {
            Ok(None) => Err(faults::never_connected()),
            Ok(Some(())) | Err(_) => Ok(()),
        }
    }

    async fn query(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, LedgerError> {
        self.ask(self.client.query(statement, values)).await
    }

    async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, PgError>>,
    ) -> Result<T, LedgerError> {
        let answered = timeout(self.timeout, asked).await;
        let answered = answered.map_err(|_| LedgerError::Timeout)?;
        answered.map_err(|error| faults::map_error(&error))
    }

    /// Asks about the user of one row. A statement that fails for its data, or is too slow, keeps no other row back.
    async fn ask_about(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> UserAnswer<Vec<Row>, StatementFault> {
        match self.client.query(statement, values).await {
            Ok(rows) => Ok(Ok(rows)),
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                Ok(Err(StatementFault::Late))
            }
            Err(error) => match faults::data_fault(&error) {
                Some(code) => Ok(Err(StatementFault::Data(code.to_owned()))),
                None => Err(faults::map_error(&error)),
            },
        }
    }
}

impl std::fmt::Debug for OutboxSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboxSession").finish_non_exhaustive()
    }
}
