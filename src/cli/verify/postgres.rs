//! The current state in PostgreSQL against its ledger, at one moment.
//!
//! **Invariants.** A difference is looked at again after the grace time, in tables that went on meanwhile: another writer may fill
//! `user_balances` a moment after the ledger.
//!
//! **Limits.** Everything is read through one transaction, during which the server keeps old rows.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use anyhow::Result;
use balance_cache::{
    config::{ReadFrom, Settings},
    domain::{Catalogue, UserId},
    ledger::{
        LedgerError,
        postgres::inspect::{PgLook, PgSnapshot, PgTrouble},
        records::{HistoryRow, RowKey, SettledRecord},
    },
};
use tokio::time::sleep;

use super::{
    Progress, VerifyFindings,
    compare::{REPEATED_PLACES_MAX, Trio},
    comparison_failed,
    conservation::{Conservation, compare_recorded, describe_stray},
    file::settings_catalogue,
};
use crate::cli::{arguments::Verify, output::Unable, users};

/// Rows of one step.
const STEP: usize = 1000;

/// The users of a sample where none is asked for.
const SAMPLE: u32 = 1000;

/// Everything that a comparison needs.
struct PgJob<'a> {
    look: &'a PgLook,
    catalogue: Catalogue,
    grace: Duration,
}

pub(super) async fn compare(what: &Verify, settings: &Settings) -> Result<VerifyFindings> {
    let asked = what
        .users
        .as_deref()
        .map(users::read_users_file)
        .transpose()?;
    let opened = PgLook::open_schema(&settings.postgres, &settings.source).await;
    let look = opened.map_err(open_failure)?;
    if let Some(reason) = look.found.reading_problem(ReadFrom::View) {
        anyhow::bail!("{reason}");
    }
    let job = PgJob {
        look: &look,
        catalogue: settings_catalogue(settings)?,
        grace: Duration::from_millis(what.grace_ms),
    };
    let unable = comparison_failed::<LedgerError>;
    let all = asked.is_none() && (what.all || what.conservation);
    let chosen = match asked {
        Some(users) => users,
        None if all => Vec::new(),
        None => {
            let most = what.sample.unwrap_or(SAMPLE);
            job.choose_sample(most).await.map_err(unable)?
        }
    };
    let total = if all {
        look.find_extent().await.map_err(unable)?.2
    } else {
        u64::try_from(chosen.len()).unwrap_or(u64::MAX)
    };
    let mut findings = VerifyFindings::new(Progress::new("comparing", total), what.json);
    if all {
        let mut snapshot = look.begin_snapshot().await.map_err(unable)?;
        let mut sums = Conservation::default();
        job.compare_all(&mut snapshot, &mut sums, &mut findings)
            .await?;
        if what.conservation {
            job.conserve_rows(&mut snapshot, &mut sums, &mut findings)
                .await?;
            job.conserve_records(&mut snapshot, &mut sums, &mut findings)
                .await?;
            findings.conservation = Some((sums, true));
        }
    } else {
        job.compare_users(&chosen, &mut findings).await?;
    }
    Ok(findings)
}

/// Nothing could be seen: a setting is wrong, or the database does not answer.
pub(super) fn open_failure(trouble: PgTrouble) -> anyhow::Error {
    match trouble {
        PgTrouble::Setting(bad) => Unable(bad.to_string()).into(),
        PgTrouble::Source(error) => comparison_failed(error),
    }
}

impl PgJob<'_> {
    /// Users from random places between the lowest and the highest; all of them where there are no more.
    async fn choose_sample(&self, most: u32) -> Result<Vec<UserId>, LedgerError> {
        let most = usize::try_from(most).unwrap_or(1);
        let (lowest, highest, _) = self.look.find_extent().await?;
        let (mut users, mut seen, mut without) = (Vec::new(), HashSet::new(), 0_u32);
        while users.len() < most && without < REPEATED_PLACES_MAX {
            let place = rand::random_range(lowest..=highest);
            let found = self.look.find_user_from(place).await?;
            without = match found.filter(|user| seen.insert(*user)) {
                Some(user) => {
                    users.push(user);
                    0
                }
                None => without.saturating_add(1),
            };
        }
        // A small ledger: the rest of the sample is read in order, so that no user is missed.
        let mut place = Some(lowest);
        while users.len() < most
            && let Some(from) = place
            && let Some(user) = self.look.find_user_from(from).await?
        {
            if seen.insert(user) {
                users.push(user);
            }
            place = user.get().checked_add(1);
        }
        Ok(users)
    }

    async fn compare_users(&self, users: &[UserId], findings: &mut VerifyFindings) -> Result<()> {
        for user in users {
            let trios = self.read_trios(*user).await.map_err(comparison_failed)?;
            findings.tally.users = findings.tally.users.saturating_add(1);
            findings.progress.add_done(1);
            self.judge(&trios, findings).await?;
        }
        Ok(())
    }

    /// All assets of a user in both tables. The ledger first: what is written meanwhile makes the table look ahead, never behind.
    async fn read_trios(&self, user: UserId) -> Result<Vec<Trio>, LedgerError> {
        let ledger = self.look.read_ledger(user).await?;
        let table = self.look.read_table(user).await?;
        let mut assets: Vec<_> = ledger.asset_ids().chain(table.asset_ids()).collect();
        assets.sort_unstable();
        assets.dedup();
        let trio = |asset| Trio {
            table: Some(table.get(asset).copied()),
            ..Trio::of_ledger(user, asset, ledger.get(asset).copied())
        };
        Ok(assets.into_iter().map(trio).collect())
    }

    async fn compare_all(
        &self,
        snapshot: &mut PgSnapshot,
        sums: &mut Conservation,
        findings: &mut VerifyFindings,
    ) -> Result<()> {
        let (mut below, mut last) = (None, None);
        loop {
            let page = snapshot.read_pairs_below(below, STEP).await;
            let (pairs, next) = page.map_err(comparison_failed)?;
            let mut trios = Vec::with_capacity(pairs.len());
            for pair in &pairs {
                if last != Some(pair.user) {
                    last = Some(pair.user);
                    findings.tally.users = findings.tally.users.saturating_add(1);
                }
                if let Some(held) = pair.table {
                    sums.add_held(pair.asset.get(), held.avail.raw(), held.frozen.raw());
                }
                trios.push(Trio {
                    table: Some(pair.table),
                    ..Trio::of_ledger(pair.user, pair.asset, pair.ledger)
                });
            }
            findings
                .progress
                .add_done(u64::try_from(trios.len()).unwrap_or(0));
            self.judge(&trios, findings).await?;
            below = next;
            if below.is_none() {
                return Ok(());
            }
        }
    }

    /// Counts what was compared, and looks again at what differs.
    async fn judge(&self, trios: &[Trio], findings: &mut VerifyFindings) -> Result<()> {
        let suspects = findings.count_trios(trios);
        if suspects.is_empty() {
            return Ok(());
        }
        sleep(self.grace).await;
        for (first, kind) in suspects {
            let again = self
                .read_trios(first.user)
                .await
                .map_err(comparison_failed)?;
            let later = again.into_iter().find(|trio| trio.asset == first.asset);
            let later = later.unwrap_or(Trio {
                ledger: None,
                table: Some(None),
                ..first
            });
            findings.judge_again(&(first, kind), &later, &self.catalogue)?;
        }
        Ok(())
    }

    /// Every row of the ledger with the row before it, and whether the record of its trade has it.
    async fn conserve_rows(
        &self,
        snapshot: &mut PgSnapshot,
        sums: &mut Conservation,
        findings: &mut VerifyFindings,
    ) -> Result<()> {
        let mut below: Option<RowKey> = None;
        loop {
            let page = snapshot.read_rows_below(below, STEP).await;
            let rows = page.map_err(comparison_failed)?;
            let Some(last) = rows.last() else { break };
            below = Some(last.key);
            let named = rows.iter().filter(|row| row.is_trade);
            let mut ids: Vec<i64> = named.filter_map(|row| row.ref_id).collect();
            ids.sort_unstable();
            ids.dedup();
            let trades = snapshot
                .read_trades(&ids)
                .await
                .map_err(comparison_failed)?;
            let keys: BTreeMap<i64, Vec<RowKey>> = trades
                .iter()
                .filter_map(|record| Some((record.id, record.row_keys()?)))
                .collect();
            for row in rows {
                let of_trade = row.ref_id.filter(|_| row.is_trade);
                let recorded_keys = of_trade.and_then(|id| keys.get(&id));
                let is_recorded = recorded_keys.map(|keys| keys.contains(&row.key));
                if is_recorded == Some(false) {
                    findings.add_difference(describe_stray(&row, &self.catalogue))?;
                }
                if let Some(broken) = sums.add_row(row, is_recorded == Some(true)) {
                    findings.add_difference(broken.describe_difference(&self.catalogue))?;
                }
            }
        }
        sums.end_rows();
        Ok(())
    }

    /// Every record, and the rows that stand under its keys.
    async fn conserve_records(
        &self,
        snapshot: &mut PgSnapshot,
        sums: &mut Conservation,
        findings: &mut VerifyFindings,
    ) -> Result<()> {
        for is_trade in [false, true] {
            let mut above = 0;
            loop {
                let page = snapshot.read_records_above(is_trade, above, STEP).await;
                let records = page.map_err(comparison_failed)?;
                let Some(last) = records.last() else { break };
                above = last.id;
                let keys = records.iter().filter_map(SettledRecord::row_keys).flatten();
                let keys: Vec<RowKey> = keys.collect();
                let stands = snapshot.read_rows(&keys).await.map_err(comparison_failed)?;
                let stands: BTreeMap<RowKey, HistoryRow> =
                    stands.into_iter().map(|row| (row.key, row)).collect();
                for record in &records {
                    sums.records = sums.records.saturating_add(1);
                    let Some(rows) = record.recorded_rows(&self.catalogue) else {
                        sums.unreadable_records = sums.unreadable_records.saturating_add(1);
                        continue;
                    };
                    sums.add_record(record, &self.catalogue);
                    for row in &rows {
                        let found = stands.get(&row.row_key());
                        if let Some(difference) =
                            compare_recorded(record, row, found, &self.catalogue)
                        {
                            findings.add_difference(difference)?;
                        }
                    }
                }
            }
        }
        if sums.unreadable_records > 0 {
            findings.add_note(format!(
                "{} records are of another program: their rows were not looked for",
                sums.unreadable_records
            ));
        }
        Ok(())
    }
}
