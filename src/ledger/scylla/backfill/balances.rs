//! `user_balances` from the newest ledger row of each (user, asset).
//!
//! **Invariants.** A row is written with its seq as the timestamp of all its cells, as every writer does: a newer live row stays.

use scylla::{DeserializeRow, statement::prepared::PreparedStatement, value::MaybeUnset};

use super::{
    super::statements::unreadable_row,
    Backfill, BackfillKey, BackfillRow, ComparedRow, Planned, SourcePage, UnusableRow, Wrote,
    paging::{PagePosition, Pages},
};
use crate::{
    domain::{AssetId, Seq, UserId},
    ledger::LedgerError,
};

const SCAN: &str = "SELECT user_id, asset_id, seq, avail, frozen, created_at FROM {ks}.balance_ledger \
     WHERE token(user_id, asset_id) > ? AND token(user_id, asset_id) <= ? PER PARTITION LIMIT 1";
const TARGET: &str = "SELECT user_id, asset_id, version, avail, frozen, updated_at FROM {ks}.user_balances \
     WHERE token(user_id) > ? AND token(user_id) <= ?";
const NEWEST: &str = "SELECT user_id, asset_id, seq, avail, frozen, created_at FROM {ks}.balance_ledger \
     WHERE user_id = ? AND asset_id = ? LIMIT 1";
const STANDING: &str = "SELECT user_id, asset_id, version, avail, frozen, updated_at FROM {ks}.user_balances \
     WHERE user_id = ? AND asset_id = ?";
pub(super) const INSERT: &str = "INSERT INTO {ks}.user_balances \
     (user_id, asset_id, avail, frozen, version, updated_at) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

/// A row of the ledger or of `user_balances`.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct StoredBalanceRow {
    user: i64,
    asset: i32,
    seq: Option<i64>,
    avail: Option<i64>,
    frozen: Option<i64>,
    created_at: Option<i64>,
}

impl StoredBalanceRow {
    /// A missing amount is 0, as for readers.
    fn target_row(&self) -> BackfillRow {
        BackfillRow {
            key: BackfillKey::Balance {
                user: self.user,
                asset: self.asset,
            },
            content: [
                self.seq,
                Some(self.avail.unwrap_or_default()),
                Some(self.frozen.unwrap_or_default()),
                self.created_at,
            ],
        }
    }

    fn plan_row(&self) -> Result<Planned, UnusableRow> {
        let seq = self.seq.unwrap_or_default();
        let row = self.target_row();
        let usable = UserId::new(self.user).is_ok()
            && AssetId::new(self.asset).is_ok()
            && Seq::new(seq).is_ok();
        if usable {
            Ok(Planned {
                rows: vec![row],
                timestamp: seq,
                claimed: None,
            })
        } else {
            Err(UnusableRow(format!(
                "balance_ledger, {}: seq {seq} or an id is out of range",
                row.key
            )))
        }
    }
}

/// The statements of this backfill.
#[derive(Debug)]
pub(super) struct BalanceStatements {
    scan: PreparedStatement,
    target: PreparedStatement,
    newest: PreparedStatement,
    standing: PreparedStatement,
    insert: PreparedStatement,
}

impl BalanceStatements {
    pub(super) async fn prepare_all(of: &Pages) -> Result<Self, LedgerError> {
        Ok(Self {
            scan: of.prepare_scan(SCAN).await?,
            target: of.prepare_scan(TARGET).await?,
            newest: of.prepare_statement(NEWEST).await?,
            standing: of.prepare_statement(STANDING).await?,
            insert: of.prepare_statement(INSERT).await?,
        })
    }

    pub(super) async fn read_source_page(
        &self,
        of: &Backfill,
        at: PagePosition,
    ) -> Result<SourcePage, LedgerError> {
        let (rows, next) = of.pages.read_page(&self.scan, at).await?;
        let mut page = SourcePage::new(next);
        for row in rows.rows::<StoredBalanceRow>().map_err(unreadable_row)? {
            page.add_plan(row.map_err(unreadable_row)?.plan_row());
        }
        Ok(page)
    }

    pub(super) async fn read_target_page(
        &self,
        of: &Backfill,
        at: PagePosition,
    ) -> Result<(Vec<BackfillRow>, super::NextPage), LedgerError> {
        let (rows, next) = of.pages.read_page(&self.target, at).await?;
        let rows = rows.rows::<StoredBalanceRow>().map_err(unreadable_row)?;
        let rows: Result<Vec<BackfillRow>, _> =
            rows.map(|row| row.map(|row| row.target_row())).collect();
        Ok((rows.map_err(unreadable_row)?, next))
    }

    /// Reads one row in both tables.
    pub(super) async fn compare_row(
        &self,
        of: &Backfill,
        (user, asset): (i64, i32),
    ) -> Result<ComparedRow, LedgerError> {
        let first =
            async |statement: &PreparedStatement| -> Result<Option<BackfillRow>, LedgerError> {
                let rows = of.pages.query_rows(statement, (user, asset)).await?;
                let row = rows
                    .maybe_first_row::<StoredBalanceRow>()
                    .map_err(unreadable_row)?;
                Ok(row.map(|row| row.target_row()))
            };
        // The ledger first: a live row that is written meanwhile makes the table look ahead, never behind.
        let expected = first(&self.newest).await?;
        Ok(ComparedRow {
            expected,
            standing: first(&self.standing).await?,
            claimed: false,
        })
    }

    pub(super) async fn write_planned(
        &self,
        of: &Backfill,
        planned: &Planned,
    ) -> Result<Wrote, LedgerError> {
        for row in &planned.rows {
            insert_row(of, &self.insert, row).await?;
        }
        Ok(Wrote::Rows)
    }
}

/// Writes one row of `user_balances` by [`INSERT`].
pub(super) async fn insert_row(
    of: &Backfill,
    statement: &PreparedStatement,
    row: &BackfillRow,
) -> Result<(), LedgerError> {
    let BackfillKey::Balance { user, asset } = row.key else {
        return Ok(());
    };
    let [version, avail, frozen, updated_at] = row.content;
    // An absent time stays unset: a null would be a tombstone, and would win over a time with the same timestamp.
    let updated_at = updated_at.map_or(MaybeUnset::Unset, MaybeUnset::Set);
    let values = (user, asset, avail, frozen, version, updated_at, version);
    of.pages.run_statement(statement, values).await
}
