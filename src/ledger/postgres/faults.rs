//! Findings of what the database or the way to it answered instead of rows.

use std::{error::Error as _, io};

use tokio_postgres::{Error as PgError, error::SqlState};

use super::timeline::REPLACED;
use crate::{
    diagnosis::{Code, Finding, FindingPart},
    ledger::LedgerError,
};

/// The database, in sentences that are shown behind its address.
const AT: &str = "the database";

pub(super) fn finding_of(code: Code) -> Finding {
    Finding::new(FindingPart::Source, code, AT)
}

/// The sentence of a finding as the reason of an error.
pub(super) fn error_of_finding(finding: &Finding) -> LedgerError {
    if finding.code == Code::PostgresSilent {
        return LedgerError::Timeout;
    }
    LedgerError::unavailable(format_args!(
        "{}; {}",
        finding.cause_text(),
        finding.remedy_text()
    ))
}

/// The error of a statement that failed, or of a connection that could not be made.
pub(super) fn map_error(error: &PgError) -> LedgerError {
    error_of_finding(&find_fault(error))
}

/// The error of a database that said nothing while a connection was made.
pub(super) fn never_connected() -> LedgerError {
    error_of_finding(&finding_of(Code::PostgresUnreachable))
}

/// Classes of SQLSTATE: a connection that broke, and a server that ends (or a pooler that gives up).
const LOST: [&str; 2] = ["08", "57P"];
/// Classes of SQLSTATE that speak of the values: wrong number of rows, bad value, errors that functions raise.
const DATA: [&str; 6] = ["21", "22", "2F", "38", "39", "P0"];
/// The place in the server that finds that a prepared statement does not fit its table any more.
const STALE_PLAN: &str = "RevalidateCachedQuery";

/// Whether another connection may succeed where this one failed.
pub(super) fn is_connection_lost(error: &PgError) -> bool {
    let Some(reply) = error.as_db_error() else {
        return error.is_closed() || io_error(error).is_some();
    };
    let code = reply.code();
    LOST.iter().any(|class| code.code().starts_with(class))
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        // A prepared statement that a change of its table, or a pooler on the way, made useless.
        || *code == SqlState::INVALID_SQL_STATEMENT_NAME
        || reply.routine() == Some(STALE_PLAN)
}

/// The SQLSTATE of a statement that failed for the values that it met: it would fail again, and others would not.
pub(super) fn data_fault(error: &PgError) -> Option<&str> {
    let code = error.as_db_error()?.code();
    let of_data = DATA.iter().any(|class| code.code().starts_with(class));
    let unsupported = *code == SqlState::FEATURE_NOT_SUPPORTED && !is_connection_lost(error);
    (of_data || unsupported).then(|| code.code())
}

/// Whether a statement failed for the rows that it met, and not for its parameters.
pub(super) fn is_of_row(error: &PgError) -> bool {
    data_fault(error).is_some_and(|state| !state.starts_with("22"))
}

/// The finding of an error of the driver.
pub(super) fn find_fault(error: &PgError) -> Finding {
    if let Some(reply) = error.as_db_error() {
        return of_reply(reply.code(), reply.message(), reply.table());
    }
    // The driver tells its kinds of errors apart by their texts only.
    let text = error.to_string();
    if text.starts_with("error performing TLS handshake") {
        return finding_of(Code::PostgresTls);
    }
    if text.starts_with("authentication error") {
        return finding_of(Code::PostgresAuth);
    }
    match io_error(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            finding_of(Code::PostgresRefused)
        }
        // The driver's own, for a server that takes no writes.
        Some(io::ErrorKind::PermissionDenied) => finding_of(Code::PostgresReadOnly),
        Some(_) => finding_of(Code::PostgresUnreachable),
        None if error.is_closed() || text.starts_with("timeout") => {
            finding_of(Code::PostgresUnreachable)
        }
        None => finding_of(Code::PostgresUnexpected).with_detail("in the driver"),
    }
}

fn io_error(error: &PgError) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

/// The finding of an answer of the server.
fn of_reply(code: &SqlState, message: &str, table: Option<&str>) -> Finding {
    if *code == SqlState::QUERY_CANCELED || *code == SqlState::LOCK_NOT_AVAILABLE {
        return finding_of(Code::PostgresSilent);
    }
    if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
    {
        return finding_of(Code::PostgresAuth);
    }
    if *code == SqlState::INVALID_CATALOG_NAME {
        return finding_of(Code::PostgresDatabase);
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return finding_of(Code::PostgresForbidden).with_detail(named_object(message, table));
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return finding_of(Code::PostgresReadOnly);
    }
    if code.code() == REPLACED {
        return finding_of(Code::PostgresReplaced);
    }
    if *code == SqlState::PROTOCOL_VIOLATION && message.contains("startup parameter") {
        return finding_of(Code::PostgresPooled).with_detail("it refuses the options of a session");
    }
    if *code == SqlState::TOO_MANY_CONNECTIONS {
        return finding_of(Code::PostgresFull);
    }
    if *code == SqlState::CANNOT_CONNECT_NOW
        || *code == SqlState::ADMIN_SHUTDOWN
        || *code == SqlState::CRASH_SHUTDOWN
    {
        return finding_of(Code::PostgresStarting);
    }
    if *code == SqlState::UNDEFINED_TABLE
        || *code == SqlState::UNDEFINED_COLUMN
        || *code == SqlState::INVALID_SCHEMA_NAME
    {
        return finding_of(Code::PostgresSchema);
    }
    finding_of(Code::PostgresUnexpected).with_detail(format!("SQLSTATE {}", code.code()))
}

/// The object of a refusal: `permission denied for table balance_ledger`.
fn named_object(message: &str, table: Option<&str>) -> String {
    let named = message
        .strip_prefix("permission denied for ")
        .map(str::to_owned);
    named
        .or_else(|| table.map(|table| format!("table {table}")))
        .unwrap_or_else(|| "an object of the statement".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_the_database_has_its_finding() {
        for (state, code) in [
            (SqlState::QUERY_CANCELED, Code::PostgresSilent),
            (SqlState::INVALID_PASSWORD, Code::PostgresAuth),
            (SqlState::INVALID_CATALOG_NAME, Code::PostgresDatabase),
            (SqlState::TOO_MANY_CONNECTIONS, Code::PostgresFull),
            (SqlState::CANNOT_CONNECT_NOW, Code::PostgresStarting),
            (SqlState::UNDEFINED_TABLE, Code::PostgresSchema),
            (SqlState::READ_ONLY_SQL_TRANSACTION, Code::PostgresReadOnly),
            (SqlState::from_code(REPLACED), Code::PostgresReplaced),
            (SqlState::DISK_FULL, Code::PostgresUnexpected),
        ] {
            assert_eq!(of_reply(&state, "", None).code, code);
        }
        let refused = "permission denied for table balance_ledger";
        let finding = of_reply(&SqlState::INSUFFICIENT_PRIVILEGE, refused, None);
        let sentence = finding.cause_text();
        assert!(sentence.contains("table balance_ledger"), "{sentence}");
        assert!(matches!(
            error_of_finding(&finding),
            LedgerError::Unavailable(_)
        ));
        let silent = finding_of(Code::PostgresSilent);
        assert!(matches!(error_of_finding(&silent), LedgerError::Timeout));
    }
}
