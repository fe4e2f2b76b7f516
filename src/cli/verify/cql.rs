//! View and current state of a CQL database against its ledger.
//!
//! A user is compared by all assets that view, table or catalogue know. Everything (`--all`) is compared by the partitions of
//! the ledger, and then the view's and the table's users are looked at for what the ledger does not have.
//!
//! **Limits.** [`USERS_COUNTED`] users are told apart when everything is compared.

mod relations;

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use anyhow::Result;
use balance_cache::{
    config::Settings,
    domain::{AssetId, Balance, Catalogue, UserId},
    ledger::{
        LedgerError,
        scylla::inspect::{CqlInspector, InspectError, Relation, ScannedPartition, TokenRange},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use self::relations::choose_relations;
use super::{
    Progress, VerifyFindings,
    compare::{REPEATED_PLACES_MAX, STRETCHES, Trio},
    comparison_failed,
    cql_conservation::Scan,
    file::settings_catalogue,
};
use crate::cli::{arguments::Verify, output::Unable, users};

const PAGE: i32 = 1000;

/// Partitions that are taken from one random place of the ring.
const OF_A_PLACE: i32 = 4;

/// Users that are told apart in a comparison of everything.
const USERS_COUNTED: usize = 20_000_000;

/// The users of a sample where none is asked for.
const SAMPLE: u32 = 1000;

/// Everything that a comparison needs.
struct CqlVerification<'a> {
    look: &'a CqlInspector,
    catalogue: Catalogue,
    view: bool,
    table: bool,
    at_once: usize,
    grace: Duration,
}

pub(super) async fn compare_cql(what: &Verify, settings: &Settings) -> Result<VerifyFindings> {
    let asked = what
        .users
        .as_deref()
        .map(users::read_users_file)
        .transpose()?;
    let opened = CqlInspector::open_session(&settings.scylla, &settings.source).await;
    let look = opened.map_err(|trouble| match trouble {
        InspectError::Setting(reason) => Unable(reason).into(),
        InspectError::Source(error) => comparison_failed(error),
    })?;
    let total = match &asked {
        Some(users) => u64::try_from(users.len()).unwrap_or(u64::MAX),
        None if what.all || what.conservation => u64::from(STRETCHES),
        None => u64::from(what.sample.unwrap_or(SAMPLE)),
    };
    let mut findings = VerifyFindings::new(Progress::new("comparing", total), what.json);
    let (view, table) = choose_relations(&look, settings, &mut findings)?;
    let job = CqlVerification {
        look: &look,
        catalogue: settings_catalogue(settings)?,
        view,
        table,
        at_once: usize::try_from(what.at_once).unwrap_or(1).max(1),
        grace: Duration::from_millis(what.grace_ms),
    };
    let unable = comparison_failed::<LedgerError>;
    match asked {
        Some(users) => job.compare_users(&users, &mut findings).await?,
        None if what.all || what.conservation => job.compare_everything(&mut findings).await?,
        None => {
            let sample = job
                .sample_users(what.sample.unwrap_or(SAMPLE))
                .await
                .map_err(unable)?;
            job.compare_users(&sample, &mut findings).await?;
        }
    }
    if what.conservation {
        let (histories, catalogue) = (
            job.look.open_histories(PAGE).await.map_err(unable)?,
            &job.catalogue,
        );
        let scan = Scan {
            histories: &histories,
            catalogue,
            at_once: job.at_once,
            grace: job.grace,
            table,
        };
        scan.check_conservation(&mut findings).await?;
    }
    Ok(findings)
}

impl CqlVerification<'_> {
    async fn compare_users(&self, users: &[UserId], findings: &mut VerifyFindings) -> Result<()> {
        for some in users.chunks(self.at_once.saturating_mul(8)) {
            let work: Vec<_> = some.iter().map(|user| self.read_user(*user)).collect();
            let trios: Vec<Vec<Trio>> = stream::iter(work)
                .buffer_unordered(self.at_once)
                .try_collect()
                .await
                .map_err(comparison_failed)?;
            let count = u64::try_from(some.len()).unwrap_or(0);
            findings.tally.users = findings.tally.users.saturating_add(count);
            findings.progress.add_done(count);
            let trios: Vec<Trio> = trios.into_iter().flatten().collect();
            self.judge_trios(&trios, findings).await?;
        }
        Ok(())
    }

    /// Everything that can be found of a user.
    async fn read_user(&self, user: UserId) -> Result<Vec<Trio>, LedgerError> {
        self.read_user_trios(user)
            .await
            .map_err(|error| name_user(user, error))
    }

    async fn read_user_trios(&self, user: UserId) -> Result<Vec<Trio>, LedgerError> {
        let view = if self.view {
            Some(self.look.read_view(user).await?)
        } else {
            None
        };
        let table = if self.table {
            Some(self.look.read_table(user).await?)
        } else {
            None
        };
        let mut assets: BTreeSet<AssetId> = self.catalogue.asset_ids().collect();
        for found in [&view, &table].into_iter().flatten() {
            assets.extend(found.asset_ids());
        }
        let assets: Vec<AssetId> = assets.into_iter().collect();
        let ledger = self.look.read_ledger(user, &assets).await?;
        let mut trios = Vec::new();
        for asset in assets {
            let trio = Trio {
                view: view.as_ref().map(|view| view.get(asset).copied()),
                table: table.as_ref().map(|table| table.get(asset).copied()),
                ..Trio::of_ledger(user, asset, ledger.get(asset).copied())
            };
            let anywhere = [Some(trio.ledger), trio.view, trio.table];
            if anywhere.into_iter().flatten().any(|row| row.is_some()) {
                trios.push(trio);
            }
        }
        Ok(trios)
    }

    /// One asset of a user.
    async fn read_pair(&self, user: UserId, asset: AssetId) -> Result<Trio, LedgerError> {
        let trio = self.read_trio(user, asset).await;
        trio.map_err(|error| name_user(user, error))
    }

    async fn read_trio(&self, user: UserId, asset: AssetId) -> Result<Trio, LedgerError> {
        let newest =
            async |wanted: bool, relation| -> Result<Option<Option<Balance>>, LedgerError> {
                if wanted {
                    self.look.read_newest(relation, user, asset).await.map(Some)
                } else {
                    Ok(None)
                }
            };
        // The ledger first: what is written meanwhile makes the others look ahead, never behind.
        let ledger = self.look.read_newest(Relation::Ledger, user, asset).await?;
        let (view, table) = futures::try_join!(
            newest(self.view, Relation::View),
            newest(self.table, Relation::Table)
        )?;
        Ok(Trio {
            view,
            table,
            ..Trio::of_ledger(user, asset, ledger)
        })
    }

    /// Counts what was compared, and looks again at what differs.
    async fn judge_trios(&self, trios: &[Trio], findings: &mut VerifyFindings) -> Result<()> {
        let suspects = findings.count_trios(trios);
        if suspects.is_empty() {
            return Ok(());
        }
        sleep(self.grace).await;
        let work: Vec<_> = suspects
            .iter()
            .map(|(trio, _)| self.read_pair(trio.user, trio.asset))
            .collect();
        let again: Vec<Trio> = stream::iter(work)
            .buffered(self.at_once)
            .try_collect()
            .await
            .map_err(comparison_failed)?;
        for (suspect, later) in suspects.iter().zip(&again) {
            findings.judge_again(suspect, later, &self.catalogue)?;
        }
        Ok(())
    }

    /// Users from random places of the token ring; all of them where there are no more.
    async fn sample_users(&self, most: u32) -> Result<Vec<UserId>, LedgerError> {
        let most = usize::try_from(most).unwrap_or(1);
        let walk = self
            .look
            .walk_stretches(Relation::Ledger, OF_A_PLACE)
            .await?;
        let (mut users, mut seen) = (Vec::new(), HashSet::new());
        let mut keep = |found: Vec<ScannedPartition>| {
            let before = users.len();
            for partition in found {
                if users.len() < most && seen.insert(partition.user) {
                    users.push(partition.user);
                }
            }
            (users.len() > before, users.len() >= most)
        };
        let (mut full, mut without) = (most == 0, 0_u32);
        while !full && without < REPEATED_PLACES_MAX {
            let place = TokenRange {
                from: rand::random(),
                to: i64::MAX,
            };
            let added;
            (added, full) = keep(walk.read_page(place, None).await?.0);
            without = if added { 0 } else { without.saturating_add(1) };
        }
        // A small ledger: the rest of the sample is read in order, so that no user is missed.
        let ring = TokenRange {
            from: i64::MIN,
            to: i64::MAX,
        };
        let mut at = None;
        while !full {
            let (found, next) = walk.read_page(ring, at).await?;
            (_, full) = keep(found);
            at = next;
            full |= at.is_none();
        }
        Ok(users)
    }

    async fn compare_everything(&self, findings: &mut VerifyFindings) -> Result<()> {
        let unable = comparison_failed::<LedgerError>;
        let ledger = self
            .look
            .walk_stretches(Relation::Ledger, PAGE)
            .await
            .map_err(unable)?;
        let mut others = Vec::new();
        for (wanted, relation) in [(self.view, Relation::View), (self.table, Relation::Table)] {
            if wanted {
                let walk = self
                    .look
                    .walk_stretches(relation, PAGE)
                    .await
                    .map_err(unable)?;
                others.push((relation, walk));
            }
        }
        let mut users = HashSet::new();
        for stretch in TokenRange::split_ring(STRETCHES) {
            let mut at = None;
            loop {
                let (found, next) = ledger.read_page(stretch, at).await.map_err(unable)?;
                let pairs = found
                    .iter()
                    .filter_map(|part| Some((part.user, part.asset?)));
                let work: Vec<_> = pairs
                    .map(|(user, asset)| self.read_pair(user, asset))
                    .collect();
                let trios: Vec<Trio> = stream::iter(work)
                    .buffer_unordered(self.at_once)
                    .try_collect()
                    .await
                    .map_err(unable)?;
                self.judge_trios(&trios, findings).await?;
                note_users(&mut users, found.iter().map(|part| part.user));
                at = next;
                if at.is_none() {
                    break;
                }
            }
            for (relation, other) in &others {
                let mut at = None;
                loop {
                    let (found, next) = other.read_page(stretch, at).await.map_err(unable)?;
                    note_users(&mut users, found.iter().map(|part| part.user));
                    let some: Vec<UserId> = found.iter().map(|part| part.user).collect();
                    self.compare_strays(&some, *relation, findings).await?;
                    at = next;
                    if at.is_none() {
                        break;
                    }
                }
            }
            findings.tally.users = u64::try_from(users.len()).unwrap_or(u64::MAX);
            findings.progress.add_done(1);
            findings
                .progress
                .set_message(format!("{} assets", findings.tally.assets));
        }
        if users.len() >= USERS_COUNTED {
            findings.add_note(format!(
                "more than {USERS_COUNTED} users: they were not counted further"
            ));
        }
        Ok(())
    }

    /// The rows that view or table show of these users and the ledger does not have at all. The rest was compared by the ledger.
    async fn compare_strays(
        &self,
        users: &[UserId],
        relation: Relation,
        findings: &mut VerifyFindings,
    ) -> Result<()> {
        let work: Vec<_> = users.iter().map(|user| self.read_user(*user)).collect();
        let trios: Vec<Vec<Trio>> = stream::iter(work)
            .buffer_unordered(self.at_once)
            .try_collect()
            .await
            .map_err(comparison_failed)?;
        // Each place has its turn: what both show is not counted twice.
        let of_it = |trio: Trio| match relation {
            Relation::View => Trio {
                table: None,
                ..trio
            },
            Relation::Table | Relation::Ledger => Trio { view: None, ..trio },
        };
        let strays = trios
            .into_iter()
            .flatten()
            .filter(|trio| trio.ledger.is_none());
        let strays: Vec<Trio> = strays.map(of_it).collect();
        self.judge_trios(&strays, findings).await
    }
}

/// A row that cannot be a balance, with its user.
fn name_user(user: UserId, error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Corrupt(what) => LedgerError::Corrupt(format!("user {user}: {what}").into()),
        other @ (LedgerError::Unavailable(_) | LedgerError::Timeout) => other,
    }
}

fn note_users(users: &mut HashSet<UserId>, more: impl Iterator<Item = UserId>) {
    for user in more {
        if users.len() < USERS_COUNTED {
            users.insert(user);
        }
    }
}
