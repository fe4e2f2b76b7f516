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
    inspect::Stretch,
    names::Names,
    statements::{failed, rows_of},
};
use crate::ledger::Error;

/// Rows of a page of a scan.
const PAGE: i32 = 1_000;

/// How long a page of a scan may take.
const SCAN_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the next page of a scan begins; none at its end.
pub type Next = Option<PagingState>;

/// A page of a part of the token ring.
#[derive(Debug)]
pub(super) struct At {
    pub(super) stretch: Stretch,
    pub(super) state: Next,
}

/// The session.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) session: Session,
    pub(super) names: Names,
}

impl Pages {
    pub(super) async fn connect(connector: Connector) -> Result<Self, Error> {
        Ok(Self {
            session: connector.session().await?,
            names: connector.names,
        })
    }

    pub(super) async fn prepare(&self, text: &str) -> Result<PreparedStatement, Error> {
        let prepared = self.session.prepare(self.names.fill(text)).await;
        let mut statement = prepared.map_err(|error| not_prepared(&error))?;
        statement.set_is_idempotent(true);
        Ok(statement)
    }

    pub(super) async fn prepare_scan(&self, text: &str) -> Result<PreparedStatement, Error> {
        let mut statement = self.prepare(text).await?;
        statement.set_page_size(PAGE);
        statement.set_request_timeout(Some(SCAN_TIMEOUT));
        Ok(statement)
    }

    pub(super) async fn read(
        &self,
        statement: &PreparedStatement,
        at: At,
    ) -> Result<(QueryRowsResult, Next), Error> {
        let ends = (at.stretch.from, at.stretch.to);
        let state = at.state.unwrap_or_else(PagingState::start);
        let page = self.session.execute_single_page(statement, ends, state);
        let (result, next) = page.await.map_err(|error| failed(&error))?;
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((rows_of(result)?, next))
    }

    pub(super) async fn rows(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, Error> {
        let result = self.session.execute_unpaged(statement, values).await;
        rows_of(result.map_err(|error| failed(&error))?)
    }

    pub(super) async fn run(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), Error> {
        let result = self.session.execute_unpaged(statement, values).await;
        result.map(drop).map_err(|error| failed(&error))
    }
}
