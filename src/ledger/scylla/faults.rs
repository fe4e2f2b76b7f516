//! Findings of what the database or the way to it answered instead of rows.

use std::io;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};

use crate::{
    diagnosis::{Code, Finding, Part},
    ledger::Error,
};

/// The database, in sentences that are shown behind the addresses of its nodes.
const AT: &str = "the database";

fn of(code: Code) -> Finding {
    Finding::new(Part::Source, code, AT)
}

/// The sentence of a finding as the reason of an error.
fn reason(finding: &Finding) -> Error {
    Error::unavailable(format_args!("{}; {}", finding.cause(), finding.remedy()))
}

/// The error of a session that cannot be made.
pub(super) fn not_connected(error: &NewSessionError) -> Error {
    reason(&match error {
        NewSessionError::MetadataError(error) => of_metadata(error),
        NewSessionError::FailedToResolveAnyHostname(_) => of(Code::SourceUnreachable),
        _ => of(Code::SourceUnexpected).with("while connecting"),
    })
}

/// The error of a database that said nothing while a session was made.
pub(super) fn never_connected() -> Error {
    reason(&of(Code::SourceUnreachable))
}

/// The error of a statement that cannot be prepared.
pub(super) fn not_prepared(error: &PrepareError) -> Error {
    reason(&match error {
        PrepareError::ConnectionPoolError(error) => of_pool(error),
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt),
        _ => of(Code::SourceUnexpected).with("while preparing a statement"),
    })
}

/// The error of a statement that failed.
pub(super) fn failed(error: &ExecutionError) -> Error {
    let finding = finding(error);
    if finding.code == Code::SourceSilent {
        Error::Timeout
    } else {
        reason(&finding)
    }
}

/// The finding of a statement that failed.
pub(super) fn finding(error: &ExecutionError) -> Finding {
    match error {
        ExecutionError::RequestTimeout(_) => of(Code::SourceSilent),
        ExecutionError::LastAttemptError(error) => of_attempt(error),
        ExecutionError::ConnectionPoolError(error) => of_pool(error),
        ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt }) => {
            of_attempt(first_attempt)
        }
        ExecutionError::MetadataError(error) => of_metadata(error),
        ExecutionError::EmptyPlan => of(Code::SourceUnreachable),
        _ => of(Code::SourceUnexpected).with("in the driver"),
    }
}

fn of_metadata(error: &MetadataError) -> Finding {
    match error {
        MetadataError::ConnectionPoolError(error) => of_pool(error),
        _ => of(Code::SourceUnexpected).with("while its nodes were asked for"),
    }
}

fn of_pool(error: &ConnectionPoolError) -> Finding {
    match error {
        ConnectionPoolError::Broken {
            last_connection_error,
        } => of_connection(last_connection_error),
        _ => of(Code::SourceUnreachable),
    }
}

fn of_connection(error: &ConnectionError) -> Finding {
    match error {
        ConnectionError::IoError(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            of(Code::SourceRefused)
        }
        ConnectionError::ConnectionSetupRequestError(error) => match error.get_error() {
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _)
            | ConnectionSetupRequestErrorKind::MissingAuthentication => of(Code::SourceAuth),
            ConnectionSetupRequestErrorKind::DbError(error, words) => of_reply(error, words),
            _ => of(Code::SourceUnreachable),
        },
        _ => of(Code::SourceUnreachable),
    }
}

fn of_attempt(error: &RequestAttemptError) -> Finding {
    match error {
        RequestAttemptError::DbError(error, words) => of_reply(error, words),
        RequestAttemptError::BrokenConnectionError(_) => of(Code::SourceUnreachable),
        _ => of(Code::SourceUnexpected).with("in the driver"),
    }
}

fn of_reply(error: &DbError, words: &str) -> Finding {
    match error {
        DbError::ReadTimeout { .. } | DbError::WriteTimeout { .. } => of(Code::SourceSilent),
        DbError::Unauthorized => of(Code::SourceForbidden).with(right(words)),
        DbError::AuthenticationError => of(Code::SourceAuth),
        DbError::Unavailable {
            required, alive, ..
        } => of(Code::SourceQuorum).with(format!("{alive} of {required} replicas")),
        DbError::Overloaded | DbError::IsBootstrapping | DbError::RateLimitReached { .. } => {
            of(Code::SourceOverloaded)
        }
        DbError::Invalid if words.contains("keyspace") || words.contains("table") => {
            of(Code::SourceSchema)
        }
        DbError::Invalid => of(Code::SourceUnexpected).with("invalid request"),
        DbError::ServerError => of(Code::SourceUnexpected).with("server error"),
        DbError::ReadFailure { .. } => of(Code::SourceUnexpected).with("read failure"),
        DbError::WriteFailure { .. } => of(Code::SourceUnexpected).with("write failure"),
        DbError::TruncateError => of(Code::SourceUnexpected).with("a table is being truncated"),
        _ => of(Code::SourceUnexpected).with("protocol error"),
    }
}

/// The right and the table that a refusal names: `User x has no MODIFY permission on <table y> …`.
fn right(words: &str) -> String {
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

    fn reply(error: DbError, words: &str) -> Finding {
        let attempt = RequestAttemptError::DbError(error, words.to_owned());
        finding(&ExecutionError::LastAttemptError(attempt))
    }

    #[test]
    fn each_answer_of_the_database_has_its_finding() {
        let modify = "User app has no MODIFY permission on <table trading.balance_ledger> or any of its parents";
        let found = reply(DbError::Unauthorized, modify);
        assert_eq!(found.code, Code::SourceForbidden);
        assert!(
            found
                .cause()
                .contains("the right MODIFY on table trading.balance_ledger"),
            "{found}"
        );
        assert_eq!(
            reply(DbError::Invalid, "unconfigured table x").code,
            Code::SourceSchema
        );
        assert_eq!(reply(DbError::Overloaded, "").code, Code::SourceOverloaded);
        let pool = |kind| ExecutionError::ConnectionPoolError(refused_with(kind));
        let code = |kind| finding(&pool(kind)).code;
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
        assert!(matches!(failed(&timeout), Error::Timeout));
    }
}
