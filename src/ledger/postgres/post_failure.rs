//! Why an attempt to post a group failed, and whether another one may succeed.

use tokio_postgres::error::SqlState;

use super::faults::{is_connection_lost, map_error};
use crate::ledger::LedgerError;

/// Another transaction was faster, or this one was ended to make way.
const RACES: [SqlState; 3] = [
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::UNIQUE_VIOLATION,
];

/// How an attempt ended. Unless the server refused it, the group may stand.
#[derive(Debug)]
pub(super) struct PostFailure {
    pub(super) error: LedgerError,
    pub(super) kind: PostFailureKind,
}

/// The cause of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PostFailureKind {
    /// Another transaction: the connection is sound.
    Race,
    /// The connection, or its server.
    Connection,
    /// Something that another attempt would meet again.
    Final,
}

impl PostFailure {
    pub(super) const fn of(error: LedgerError) -> Self {
        Self {
            error,
            kind: PostFailureKind::Final,
        }
    }

    /// Of a round trip. None: the server was silent.
    pub(super) fn of_trip(error: Option<tokio_postgres::Error>) -> Self {
        let Some(error) = error else {
            return Self::of(LedgerError::Timeout);
        };
        Self {
            kind: kind_of(&error),
            error: map_error(&error),
        }
    }

    /// Whether the server may still be at it.
    pub(super) const fn is_silence(&self) -> bool {
        matches!(self.error, LedgerError::Timeout)
    }

    /// Whether the connection can be used again, once its transaction is rolled back.
    pub(super) fn keeps_connection(&self) -> bool {
        self.kind == PostFailureKind::Race
    }
}

fn kind_of(error: &tokio_postgres::Error) -> PostFailureKind {
    match error.code() {
        Some(code) if RACES.contains(code) => PostFailureKind::Race,
        Some(code) if *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => {
            PostFailureKind::Connection
        }
        // The server ends, or is not the primary any more: another connection may reach one that is.
        Some(_) if !is_connection_lost(error) => PostFailureKind::Final,
        Some(_) | None => PostFailureKind::Connection,
    }
}
