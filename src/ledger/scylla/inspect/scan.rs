//! Walks through a relation by stretches of the token ring, page by page: all that there is, without a list of users.
//!
//! **Limits.** A page has as many partitions as the caller says. What is written while the walk is under way may be met or not.

use scylla::{
    response::{PagingState, PagingStateResponse},
    statement::prepared::PreparedStatement,
};

use super::{
    super::{
        statements::{rows_of, statement_error, unreadable_row},
        table_names::{LEDGER, TABLE, VIEW},
    },
    CqlInspector,
};
use crate::{
    domain::{AssetId, UserId},
    ledger::LedgerError,
};

/// Where balances stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `balance_ledger`
    Ledger,
    /// `user_balances_by_user`
    View,
    /// `user_balances`
    Table,
}

/// A partition: a user, and in the ledger one of the user's assets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedPartition {
    pub user: UserId,
    /// The asset; none in relations whose partition is the user.
    pub asset: Option<AssetId>,
}

/// A part of the token ring: above `from`, up to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRange {
    /// Not in it.
    pub from: i64,
    /// In it.
    pub to: i64,
}

impl TokenRange {
    /// The whole ring in `count` parts of about the same length.
    pub fn split_ring(count: u32) -> Vec<Self> {
        let count = count.max(1);
        let step = u64::MAX.checked_div(u64::from(count)).unwrap_or(u64::MAX);
        let mut parts = Vec::new();
        let mut from = i64::MIN;
        for at in 1..=count {
            let to = if at == count {
                i64::MAX
            } else {
                from.saturating_add_unsigned(step)
            };
            parts.push(Self { from, to });
            from = to;
        }
        parts
    }
}

/// A walk through stretches of one relation.
#[derive(Debug)]
pub struct RangeWalk<'a> {
    look: &'a CqlInspector,
    statement: PreparedStatement,
    relation: Relation,
}

impl CqlInspector {
    /// A walk through the partitions of a relation, so many to a page.
    /// Errors: a relation that is missing, or a database that does not answer.
    pub async fn walk_stretches(
        &self,
        relation: Relation,
        page: i32,
    ) -> Result<RangeWalk<'_>, LedgerError> {
        let (keys, name) = match relation {
            Relation::Ledger => ("user_id, asset_id", LEDGER),
            Relation::View => ("user_id", VIEW),
            Relation::Table => ("user_id", TABLE),
        };
        let mut statement = self
            .prepare_statement(&format!(
                "SELECT DISTINCT {keys} FROM {{ks}}.{name} WHERE token({keys}) > ? AND token({keys}) <= ?"
            ))
            .await?;
        statement.set_page_size(page);
        Ok(RangeWalk {
            look: self,
            statement,
            relation,
        })
    }
}

impl RangeWalk<'_> {
    /// A page of a stretch, and where the next one begins; `None` begins. Partitions that no user of ours can have are
    /// left out.
    pub async fn read_page(
        &self,
        stretch: TokenRange,
        at: Option<PagingState>,
    ) -> Result<(Vec<ScannedPartition>, Option<PagingState>), LedgerError> {
        let at = at.unwrap_or_else(PagingState::start);
        let ends = (stretch.from, stretch.to);
        let session = &self.look.session;
        let asked = session.execute_single_page(&self.statement, ends, at).await;
        let (result, next) = asked.map_err(|error| statement_error(&error))?;
        let rows = rows_of(result)?;
        let mut found = Vec::new();
        if self.relation == Relation::Ledger {
            for row in rows.rows::<(i64, i32)>().map_err(unreadable_row)? {
                let (user, asset) = row.map_err(unreadable_row)?;
                if let (Ok(user), Ok(asset)) = (UserId::new(user), AssetId::new(asset)) {
                    found.push(ScannedPartition {
                        user,
                        asset: Some(asset),
                    });
                }
            }
        } else {
            for row in rows.rows::<(i64,)>().map_err(unreadable_row)? {
                let (user,) = row.map_err(unreadable_row)?;
                found.extend(UserId::new(user).map(|user| ScannedPartition { user, asset: None }));
            }
        }
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((found, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_cut_without_gaps_and_ends_at_its_ends() {
        for count in [0, 1, 2, 3, 7, 256] {
            let parts = TokenRange::split_ring(count);
            assert_eq!(parts.first().map(|part| part.from), Some(i64::MIN));
            assert_eq!(parts.last().map(|part| part.to), Some(i64::MAX));
            for pair in parts.windows(2) {
                assert!(
                    pair[0].to == pair[1].from && pair[0].from < pair[0].to,
                    "{pair:?}"
                );
            }
        }
    }
}
