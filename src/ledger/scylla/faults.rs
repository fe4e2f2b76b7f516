//! Findings of what the database or the way to it answered instead of rows.

use std::io;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};

use crate::{
    diagnosis::{Code, Finding, FindingPart},
    ledger::LedgerError,
};

/// The database, in sentences that are shown behind the addresses of its nodes.
const AT: &str = "the database";

fn finding_of(code: Code) -> Finding {
    Finding::new(FindingPart::Source, code, AT)
}

fn reason_of(finding: &Finding) -> LedgerError {
    LedgerError::unavailable(format_args!(
        "{}; {}",
        finding.cause_text(),
        finding.remedy_text()
    ))
}

/// The error of a session that cannot be made.
pub(super) fn not_connected(error: &NewSessionError) -> LedgerError {
    reason_of(&match error {
        NewSessionError::MetadataError(error) => of_metadata(error),
        NewSessionError::FailedToResolveAnyHostname(_) => finding_of(Code::SourceUnreachable),
        _ => finding_of(Code::SourceUnexpected).with_detail("while connecting"),
    })
}

/// The error of a database that said nothing while a session was made.
pub(super) fn never_connected() -> LedgerError {
    reason_of(&finding_of(Code::SourceUnreachable))
}

/// The error of a statement that cannot be prepared.
pub(super) fn not_prepared(error: &PrepareError) -> LedgerError {
    reason_of(&match error {
        PrepareError::ConnectionPoolError(error) => of_pool(error),
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt),
        _ => finding_of(Code::SourceUnexpected).with_detail("while preparing a statement"),
    })
}

pub(super) fn statement_error(error: &ExecutionError) -> LedgerError {
    let finding = statement_finding(error);
    if finding.code == Code::SourceSilent {
        LedgerError::Timeout
    } else {
        reason_of(&finding)
    }
}

pub(super) fn statement_finding(error: &ExecutionError) -> Finding {
    match error {
        ExecutionError::RequestTimeout(_) => finding_of(Code::SourceSilent),
        ExecutionError::LastAttemptError(error) => of_attempt(error),
        ExecutionError::ConnectionPoolError(error) => of_pool(error),
        ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt }) => {
            of_attempt(first_attempt)
        }
        ExecutionError::MetadataError(error) => of_metadata(error),
        ExecutionError::EmptyPlan => finding_of(Code::SourceUnreachable),
        _ => finding_of(Code::SourceUnexpected).with_detail("in the driver"),
    }
}

fn of_metadata(error: &MetadataError) -> Finding {
    match error {
        MetadataError::ConnectionPoolError(error) => of_pool(error),
        _ => finding_of(Code::SourceUnexpected).with_detail("while its nodes were asked for"),
    }
}

fn of_pool(error: &ConnectionPoolError) -> Finding {
    match error {
        ConnectionPoolError::Broken {
            last_connection_error,
        } => of_connection(last_connection_error),
        _ => finding_of(Code::SourceUnreachable),
    }
}

fn of_connection(error: &ConnectionError) -> Finding {
    match error {
        ConnectionError::IoError(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            finding_of(Code::SourceRefused)
        }
        ConnectionError::ConnectionSetupRequestError(error) => match error.get_error() {
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _)
            | ConnectionSetupRequestErrorKind::MissingAuthentication => {
                finding_of(Code::SourceAuth)
            }
            ConnectionSetupRequestErrorKind::DbError(error, words) => of_reply(error, words),
            _ => finding_of(Code::SourceUnreachable),
        },
        _ => finding_of(Code::SourceUnreachable),
    }
}

fn of_attempt(error: &RequestAttemptError) -> Finding {
    match error {
        RequestAttemptError::DbError(error, words) => of_reply(error, words),
        RequestAttemptError::BrokenConnectionError(_) => finding_of(Code::SourceUnreachable),
        _ => finding_of(Code::SourceUnexpected).with_detail("in the driver"),
    }
}

fn of_reply(error: &DbError, words: &str) -> Finding {
    match error {
        DbError::ReadTimeout { .. } | DbError::WriteTimeout { .. } => {
            finding_of(Code::SourceSilent)
        }
        DbError::Unauthorized => {
            finding_of(Code::SourceForbidden).with_detail(refused_right(words))
        }
        DbError::AuthenticationError => finding_of(Code::SourceAuth),
        DbError::Unavailable {
            required, alive, ..
        } => finding_of(Code::SourceQuorum).with_detail(format!("{alive} of {required} replicas")),
        DbError::Overloaded | DbError::IsBootstrapping | DbError::RateLimitReached { .. } => {
            finding_of(Code::SourceOverloaded)
        }
        DbError::Invalid if words.contains("keyspace") || words.contains("table") => {
            finding_of(Code::SourceSchema)
        }
        DbError::Invalid => finding_of(Code::SourceUnexpected).with_detail("invalid request"),
        DbError::ServerError => finding_of(Code::SourceUnexpected).with_detail("server error"),
        DbError::ReadFailure { .. } => {
            finding_of(Code::SourceUnexpected).with_detail("read failure")
        }
        DbError::WriteFailure { .. } => {
            finding_of(Code::SourceUnexpected).with_detail("write failure")
        }
        DbError::TruncateError => {
            finding_of(Code::SourceUnexpected).with_detail("a table is being truncated")
        }
        _ => finding_of(Code::SourceUnexpected).with_detail("protocol error"),
    }
}

/// The right and the table that a refusal names: `User x has no MODIFY permission on <table y> …`.
fn refused_right(words: &str) -> String {
    let named = words.split_once("has no ").and_then(|(_, rest)| {
        let (right, rest) = rest.split_once(" permission on <")?;
        let (table, _) = rest.split_once('>')?;
        Some(format!("{right} on {table}"))
    });
    named.unwrap_or_else(|| "that the statement needs".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn refused_with(kind: io::ErrorKind) -> ConnectionPoolError {
        ConnectionPoolError::Broken {
            last_connection_error: ConnectionError::IoError(Arc::new(kind.into())),
        }
    }

    fn reply_finding(error: DbError, words: &str) -> Finding {
        let attempt = RequestAttemptError::DbError(error, words.to_owned());
        statement_finding(&ExecutionError::LastAttemptError(attempt))
    }

    #[test]
    fn each_answer_of_the_database_has_its_finding() {
        let modify = "User app has no MODIFY permission on <table trading.balance_ledger> or any of its parents";
        let found = reply_finding(DbError::Unauthorized, modify);
        assert_eq!(found.code, Code::SourceForbidden);
        assert!(
            found
                .cause_text()
                .contains("the right MODIFY on table trading.balance_ledger"),
            "{found}"
        );
        assert_eq!(
            reply_finding(DbError::Invalid, "unconfigured table x").code,
            Code::SourceSchema
        );
        assert_eq!(
            reply_finding(DbError::Overloaded, "").code,
            Code::SourceOverloaded
        );
        let pool = |kind| ExecutionError::ConnectionPoolError(refused_with(kind));
        let code = |kind| statement_finding(&pool(kind)).code;
        assert_eq!(code(io::ErrorKind::ConnectionRefused), Code::SourceRefused);
        assert_eq!(code(io::ErrorKind::TimedOut), Code::SourceUnreachable);
    }

    #[test]
    fn no_text_of_the_driver_is_in_a_reason() {
        let pool = refused_with(io::ErrorKind::ConnectionRefused);
        let error = NewSessionError::MetadataError(MetadataError::ConnectionPoolError(pool));
        let said = not_connected(&error).to_string();
        assert!(
            said.contains("the connection is refused") && said.contains("scylla.nodes"),
            "{said}"
        );
        assert!(
            !said.contains("pool") && !said.contains("Control"),
            "{said}"
        );
        let timeout = ExecutionError::RequestTimeout(std::time::Duration::from_secs(1));
        assert!(matches!(statement_error(&timeout), LedgerError::Timeout));
    }
}
