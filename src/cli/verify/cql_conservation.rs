//! Conservation in a CQL database: every row of the ledger, every record of a trade or transaction.
//!
//! **Invariants.** What looks wrong is read again after the grace time: a trade may be on its way, and a page of a history may
//! end where a row is being added.
//!
//! **Limits.** `--at-once` reads of single rows. Histories are read page by page, so memory does not grow with them. Sums are of no one
//! moment: where the service writes meanwhile, `user_balances` and the ledger may differ by what was written.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Result;
use balance_cache::{
    domain::Catalogue,
    ledger::{
        LedgerError,
        records::{HistoryRow, SettledRecord},
        scylla::inspect::{HistoryScan, RecordTable, TokenRange},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use super::{
    VerifyFindings,
    compare::STRETCHES,
    comparison_failed,
    conservation::{BrokenRow, Conservation, check_step, compare_recorded, describe_stray},
    difference::Difference,
};

/// Everything that the scan needs.
pub(super) struct Scan<'a> {
    pub(super) histories: &'a HistoryScan<'a>,
    pub(super) catalogue: &'a Catalogue,
    pub(super) at_once: usize,
    pub(super) grace: Duration,
    /// `user_balances` is filled.
    pub(super) table: bool,
}

impl Scan<'_> {
    pub(super) async fn check_conservation(&self, findings: &mut VerifyFindings) -> Result<()> {
        let mut sums = Conservation::default();
        for stretch in TokenRange::split_ring(STRETCHES) {
            self.scan_rows(stretch, &mut sums, findings).await?;
            for table in [RecordTable::Trades, RecordTable::Transactions] {
                self.scan_records(table, stretch, &mut sums, findings)
                    .await?;
            }
            if self.table {
                self.sum_held(stretch, &mut sums)
                    .await
                    .map_err(comparison_failed)?;
            }
        }
        if sums.pending > 0 {
            findings.add_note(format!(
                "{} trades are pending: their rows were not looked for",
                sums.pending
            ));
        }
        if sums.unreadable_records > 0 {
            findings.add_note(format!(
                "{} records are of another program: their rows were not looked for",
                sums.unreadable_records
            ));
        }
        findings.conservation = Some((sums, self.table));
        Ok(())
    }

    async fn sum_held(
        &self,
        stretch: TokenRange,
        sums: &mut Conservation,
    ) -> Result<(), LedgerError> {
        let mut at = None;
        loop {
            let (found, next) = self.histories.read_held(stretch, at).await?;
            for (asset, avail, frozen) in found {
                sums.add_held(asset, avail, frozen);
            }
            at = next;
            if at.is_none() {
                return Ok(());
            }
        }
    }

    async fn scan_rows(
        &self,
        stretch: TokenRange,
        sums: &mut Conservation,
        findings: &mut VerifyFindings,
    ) -> Result<()> {
        let mut at = None;
        loop {
            let (rows, next) = self
                .histories
                .read_rows(stretch, at)
                .await
                .map_err(comparison_failed)?;
            let trades = self.trades_of(&rows).await.map_err(comparison_failed)?;
            let mut suspects = Vec::new();
            for row in rows {
                let record = row.ref_id.and_then(|id| trades.get(&id));
                let keys = record
                    .filter(|_| row.is_trade)
                    .and_then(SettledRecord::row_keys);
                let is_recorded = keys.map(|keys| keys.contains(&row.key));
                if is_recorded == Some(false) {
                    findings.add_difference(describe_stray(&row, self.catalogue))?;
                }
                suspects.extend(sums.add_row(row, is_recorded == Some(true)));
            }
            self.judge_suspects(&suspects, findings).await?;
            at = next;
            if at.is_none() {
                break;
            }
        }
        // A partition is in one stretch.
        sums.end_rows();
        Ok(())
    }

    /// Rows that did not add up are looked at again: seqs of one history may arrive in any order.
    async fn judge_suspects(
        &self,
        suspects: &[BrokenRow],
        findings: &mut VerifyFindings,
    ) -> Result<()> {
        if suspects.is_empty() {
            return Ok(());
        }
        sleep(self.grace).await;
        for suspect in suspects {
            let key = suspect.newer.key;
            let newer = self
                .histories
                .read_row(key)
                .await
                .map_err(comparison_failed)?;
            let older = self
                .histories
                .row_below(key)
                .await
                .map_err(comparison_failed)?;
            match newer
                .zip(older)
                .and_then(|(newer, older)| check_step(newer, older))
            {
                Some(broken) => {
                    findings.add_difference(broken.describe_difference(self.catalogue))?;
                }
                None => findings.tally.lag = findings.tally.lag.saturating_add(1),
            }
        }
        Ok(())
    }

    /// The records of the trades that these rows name.
    async fn trades_of(
        &self,
        rows: &[HistoryRow],
    ) -> Result<BTreeMap<i64, SettledRecord>, LedgerError> {
        let named = rows.iter().filter(|row| row.is_trade);
        let ids: BTreeSet<i64> = named.filter_map(|row| row.ref_id).collect();
        let reads: Vec<_> =
            ids.into_iter()
                .map(|id| async move {
                    Ok::<_, LedgerError>((id, self.histories.read_record(id).await?))
                })
                .collect();
        let found: Vec<(i64, Option<SettledRecord>)> = stream::iter(reads)
            .buffer_unordered(self.at_once)
            .try_collect()
            .await?;
        let records = found.into_iter();
        Ok(records
            .filter_map(|(id, record)| Some((id, record?)))
            .collect())
    }

    async fn scan_records(
        &self,
        table: RecordTable,
        stretch: TokenRange,
        sums: &mut Conservation,
        findings: &mut VerifyFindings,
    ) -> Result<()> {
        let mut at = None;
        loop {
            let page = self.histories.read_records(table, stretch, at).await;
            let (records, next) = page.map_err(comparison_failed)?;
            let mut done = Vec::with_capacity(records.len());
            for record in records {
                sums.records = sums.records.saturating_add(1);
                if !record.is_done {
                    sums.pending = sums.pending.saturating_add(1);
                } else if record.row_keys().is_none() {
                    sums.unreadable_records = sums.unreadable_records.saturating_add(1);
                } else {
                    sums.add_record(&record, self.catalogue);
                    done.push(record);
                }
            }
            let suspects = self
                .differing_records(&done)
                .await
                .map_err(comparison_failed)?;
            if !suspects.is_empty() {
                sleep(self.grace).await;
                let suspects: Vec<SettledRecord> =
                    suspects.into_iter().map(|(record, _)| record).collect();
                for (_, differences) in self
                    .differing_records(&suspects)
                    .await
                    .map_err(comparison_failed)?
                {
                    for difference in differences {
                        findings.add_difference(difference)?;
                    }
                }
            }
            at = next;
            if at.is_none() {
                return Ok(());
            }
        }
    }

    /// The records whose rows are not as they say, and how.
    async fn differing_records(
        &self,
        records: &[SettledRecord],
    ) -> Result<Vec<(SettledRecord, Vec<Difference>)>, LedgerError> {
        let looks: Vec<_> = records
            .iter()
            .map(|record| async move {
                let mut differences = Vec::new();
                for row in record.recorded_rows(self.catalogue).unwrap_or_default() {
                    let stands = self.histories.read_row(row.row_key()).await?;
                    differences.extend(compare_recorded(
                        record,
                        &row,
                        stands.as_ref(),
                        self.catalogue,
                    ));
                }
                Ok::<_, LedgerError>((record.clone(), differences))
            })
            .collect();
        let found: Vec<(SettledRecord, Vec<Difference>)> = stream::iter(looks)
            .buffer_unordered(self.at_once)
            .try_collect()
            .await?;
        let unlike = found.into_iter();
        Ok(unlike
            .filter(|(_, differences)| !differences.is_empty())
            .collect())
    }
}
