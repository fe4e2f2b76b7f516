//! Statements of a backfill: prepared, run, and read page by page.

use std::time::Duration;

use scylla::{
    client::session::Session,
    response::{PagingState, PagingStateResponse, query_result::QueryRowsResult},
    serialize::row::SerializeRow,
    statement::prepared::PreparedStatement,
};

use super::super::{
    connect::Connector,
    faults::not_prepared,
    inspect::TokenRange,
    names::Names,
    statements::{rows_of, statement_error},
};
use crate::ledger::LedgerError;

/// Rows of a page of a scan.
const PAGE: i32 = 1_000;

/// How long a page of a scan may take.
const SCAN_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the next page of a scan begins; none at its end.
pub type NextPage = Option<PagingState>;

/// A page of a part of the token ring.
#[derive(Debug)]
pub(super) struct PagePosition {
    pub(super) stretch: TokenRange,
    pub(super) state: NextPage,
}

/// The session.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) session: Session,
    pub(super) names: Names,
}

impl Pages {
    pub(super) async fn connect_session(connector: Connector) -> Result<Self, LedgerError> {
        Ok(Self {
            session: connector.open_session().await?,
            names: connector.names,
        })
    }

    pub(super) async fn prepare_statement(
        &self,
        text: &str,
    ) -> Result<PreparedStatement, LedgerError> {
        let prepared = self.session.prepare(self.names.fill_in(text)).await;
        let mut statement = prepared.map_err(|error| not_prepared(&error))?;
        statement.set_is_idempotent(true);
        Ok(statement)
    }

    pub(super) async fn prepare_scan(&self, text: &str) -> Result<PreparedStatement, LedgerError> {
        let mut statement = self.prepare_statement(text).await?;
        statement.set_page_size(PAGE);
        statement.set_request_timeout(Some(SCAN_TIMEOUT));
        Ok(statement)
    }

    pub(super) async fn read_page(
        &self,
        statement: &PreparedStatement,
        at: PagePosition,
    ) -> Result<(QueryRowsResult, NextPage), LedgerError> {
        let ends = (at.stretch.from, at.stretch.to);
        let state = at.state.unwrap_or_else(PagingState::start);
        let page = self.session.execute_single_page(statement, ends, state);
        let (result, next) = page.await.map_err(|error| statement_error(&error))?;
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((rows_of(result)?, next))
    }

    pub(super) async fn query_rows(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, LedgerError> {
        let result = self.session.execute_unpaged(statement, values).await;
        rows_of(result.map_err(|error| statement_error(&error))?)
    }

    pub(super) async fn run_statement(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), LedgerError> {
        let result = self.session.execute_unpaged(statement, values).await;
        result.map(drop).map_err(|error| statement_error(&error))
    }
}
