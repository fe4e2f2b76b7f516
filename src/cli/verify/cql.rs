//! View and current state of a CQL database against its ledger.
//!
//! A user is compared by all assets that view, table or catalogue know. Everything (`--all`) is compared by the partitions of
//! the ledger, and then the view's and the table's users are looked at for what the ledger does not have.
//!
//! **Limits.** [`USERS_COUNTED`] users are told apart when everything is compared.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use anyhow::Result;
use balance_cache::{
    config::{ReadFrom, Settings},
    domain::{AssetId, Balance, Catalogue, UserId},
    ledger::{
        Error,
        scylla::inspect::{Look, Relation, Stretch, Trouble},
        scylla::schema::Standing,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use super::{
    Findings, Progress,
    compare::{Kind, STRETCHES, Trio},
    cql_conservation::Scan,
    failed,
    file::catalogue,
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
struct Job<'a> {
    look: &'a Look,
    catalogue: Catalogue,
    view: bool,
    table: bool,
    at_once: usize,
    grace: Duration,
}

pub(super) async fn compare(what: &Verify, settings: &Settings) -> Result<Findings> {
    let asked = what.users.as_deref().map(users::listed).transpose()?;
    let opened = Look::open(&settings.scylla, &settings.source).await;
    let look = opened.map_err(|trouble| match trouble {
        Trouble::Setting(reason) => Unable(reason).into(),
        Trouble::Source(error) => failed(error),
    })?;
    let total = match &asked {
        Some(users) => u64::try_from(users.len()).unwrap_or(u64::MAX),
        None if what.all || what.conservation => u64::from(STRETCHES),
        None => u64::from(what.sample.unwrap_or(SAMPLE)),
    };
    let mut findings = Findings::new(Progress::new("comparing", total), what.json);
    let (view, table) = places(&look, settings, &mut findings)?;
    let job = Job {
        look: &look,
        catalogue: catalogue(settings)?,
        view,
        table,
        at_once: usize::try_from(what.at_once).unwrap_or(1).max(1),
        grace: Duration::from_millis(what.grace_ms),
    };
    let unable = failed::<Error>;
    match asked {
        Some(users) => job.users(&users, &mut findings).await?,
        None if what.all || what.conservation => job.everything(&mut findings).await?,
        None => {
            let sample = job
                .sample(what.sample.unwrap_or(SAMPLE))
                .await
                .map_err(unable)?;
            job.users(&sample, &mut findings).await?;
        }
    }
    if what.conservation {
        let (histories, catalogue) = (
            job.look.histories(PAGE).await.map_err(unable)?,
            &job.catalogue,
        );
        let scan = Scan {
            histories: &histories,
            catalogue,
            at_once: job.at_once,
            grace: job.grace,
            table,
        };
        scan.conserve(&mut findings).await?;
    }
    Ok(findings)
}

/// The relations that can be compared, and a note for those that cannot.
fn places(look: &Look, settings: &Settings, findings: &mut Findings) -> Result<(bool, bool)> {
    let found = &look.found;
    let keyspace = &found.keyspace;
    let stands = |standing: &Standing| matches!(standing, Standing::Table | Standing::View);
    if !found.exists {
        anyhow::bail!("there is no keyspace {keyspace}: see scylla.keyspace");
    }
    if !stands(&found.ledger) {
        anyhow::bail!("balance_ledger of keyspace {keyspace} is missing, or not as it should be");
    }
    let view = stands(&found.view);
    if !view {
        findings.note("user_balances_by_user is not there, or not as it should be: not compared");
    }
    // A service that reads from the view need not fill the table.
    let table = stands(&found.table)
        && (!found.table_is_empty || settings.source.read_from == ReadFrom::Table);
    if !table {
        findings.note(
            "user_balances is empty, or not as it should be, and is not what is read: not compared",
        );
    }
    if !view && !table {
        anyhow::bail!("there is nothing to compare the ledger with");
    }
    Ok((view, table))
}

impl Job<'_> {
    async fn users(&self, users: &[UserId], findings: &mut Findings) -> Result<()> {
        for some in users.chunks(self.at_once.saturating_mul(8)) {
            let work: Vec<_> = some.iter().map(|user| self.user(*user)).collect();
            let trios: Vec<Vec<Trio>> = stream::iter(work)
                .buffer_unordered(self.at_once)
                .try_collect()
                .await
                .map_err(failed)?;
            let count = u64::try_from(some.len()).unwrap_or(0);
            findings.tally.users = findings.tally.users.saturating_add(count);
            findings.progress.add(count);
            let trios: Vec<Trio> = trios.into_iter().flatten().collect();
            self.judge(&trios, findings).await?;
        }
        Ok(())
    }

    /// Everything that can be found of a user.
    async fn user(&self, user: UserId) -> Result<Vec<Trio>, Error> {
        self.whole(user).await.map_err(|error| of(user, error))
    }

    async fn whole(&self, user: UserId) -> Result<Vec<Trio>, Error> {
        let view = if self.view {
            Some(self.look.view(user).await?)
        } else {
            None
        };
        let table = if self.table {
            Some(self.look.table(user).await?)
        } else {
            None
        };
        let mut assets: BTreeSet<AssetId> = self.catalogue.ids().collect();
        for found in [&view, &table].into_iter().flatten() {
            assets.extend(found.assets());
        }
        let assets: Vec<AssetId> = assets.into_iter().collect();
        let ledger = self.look.ledger(user, &assets).await?;
        let mut trios = Vec::new();
        for asset in assets {
            let trio = Trio {
                user,
                asset,
                ledger: ledger.get(asset).copied(),
                view: view.as_ref().map(|view| view.get(asset).copied()),
                table: table.as_ref().map(|table| table.get(asset).copied()),
            };
            let anywhere = [Some(trio.ledger), trio.view, trio.table];
            if anywhere.into_iter().flatten().any(|row| row.is_some()) {
                trios.push(trio);
            }
        }
        Ok(trios)
    }

    /// One asset of a user.
    async fn pair(&self, user: UserId, asset: AssetId) -> Result<Trio, Error> {
        let trio = self.trio(user, asset).await;
        trio.map_err(|error| of(user, error))
    }

    async fn trio(&self, user: UserId, asset: AssetId) -> Result<Trio, Error> {
        let newest = async |wanted: bool, relation| -> Result<Option<Option<Balance>>, Error> {
            if wanted {
                self.look.newest(relation, user, asset).await.map(Some)
            } else {
                Ok(None)
            }
        };
        // The ledger first: what is written meanwhile makes the others look ahead, never behind.
        let ledger = self.look.newest(Relation::Ledger, user, asset).await?;
        let (view, table) = futures::try_join!(
            newest(self.view, Relation::View),
            newest(self.table, Relation::Table)
        )?;
        Ok(Trio {
            user,
            asset,
            ledger,
            view,
            table,
        })
    }

    /// Counts what was compared, and looks again at what differs.
    async fn judge(&self, trios: &[Trio], findings: &mut Findings) -> Result<()> {
        let mut suspects: Vec<(&Trio, Kind)> = Vec::new();
        for trio in trios {
            findings.tally.compared(trio);
            suspects.extend(trio.kinds().into_iter().map(|kind| (trio, kind)));
        }
        if suspects.is_empty() {
            return Ok(());
        }
        sleep(self.grace).await;
        let work: Vec<_> = suspects
            .iter()
            .map(|(trio, _)| self.pair(trio.user, trio.asset))
            .collect();
        let again: Vec<Trio> = stream::iter(work)
            .buffered(self.at_once)
            .try_collect()
            .await
            .map_err(failed)?;
        for ((first, kind), later) in suspects.into_iter().zip(again) {
            if first.settled(kind, &later) {
                findings.tally.lag = findings.tally.lag.saturating_add(1);
            } else {
                // The entry as it is by now: a view that was behind may have come, with other amounts.
                let kinds = later.kinds();
                let now = if kinds.contains(&kind) {
                    kind
                } else {
                    kinds.first().copied().unwrap_or(kind)
                };
                findings.add(later.difference(now, &self.catalogue))?;
            }
        }
        Ok(())
    }

    /// Users from random places of the token ring; fewer where there are no more.
    async fn sample(&self, most: u32) -> Result<Vec<UserId>, Error> {
        let most = usize::try_from(most).unwrap_or(1);
        let walk = self.look.stretches(Relation::Ledger, OF_A_PLACE).await?;
        let (mut users, mut seen, mut without) = (Vec::new(), HashSet::new(), 0_u32);
        // A small ledger is found whole sooner or later; many places that bring nobody new mean that it was.
        while users.len() < most && without < 64 {
            let place = Stretch {
                from: rand::random(),
                to: i64::MAX,
            };
            let (found, _) = walk.page(place, None).await?;
            let before = users.len();
            for partition in found {
                if users.len() < most && seen.insert(partition.user) {
                    users.push(partition.user);
                }
            }
            without = if users.len() > before {
                0
            } else {
                without.saturating_add(1)
            };
        }
        Ok(users)
    }

    async fn everything(&self, findings: &mut Findings) -> Result<()> {
        let unable = failed::<Error>;
        let ledger = self
            .look
            .stretches(Relation::Ledger, PAGE)
            .await
            .map_err(unable)?;
        let mut others = Vec::new();
        for (wanted, relation) in [(self.view, Relation::View), (self.table, Relation::Table)] {
            if wanted {
                let walk = self.look.stretches(relation, PAGE).await.map_err(unable)?;
                others.push((relation, walk));
            }
        }
        let mut users = HashSet::new();
        for stretch in Stretch::ring(STRETCHES) {
            let mut at = None;
            loop {
                let (found, next) = ledger.page(stretch, at).await.map_err(unable)?;
                let pairs = found
                    .iter()
                    .filter_map(|part| Some((part.user, part.asset?)));
                let work: Vec<_> = pairs.map(|(user, asset)| self.pair(user, asset)).collect();
                let trios: Vec<Trio> = stream::iter(work)
                    .buffer_unordered(self.at_once)
                    .try_collect()
                    .await
                    .map_err(unable)?;
                self.judge(&trios, findings).await?;
                note_users(&mut users, found.iter().map(|part| part.user));
                at = next;
                if at.is_none() {
                    break;
                }
            }
            for (relation, other) in &others {
                let mut at = None;
                loop {
                    let (found, next) = other.page(stretch, at).await.map_err(unable)?;
                    note_users(&mut users, found.iter().map(|part| part.user));
                    let some: Vec<UserId> = found.iter().map(|part| part.user).collect();
                    self.strays(&some, *relation, findings).await?;
                    at = next;
                    if at.is_none() {
                        break;
                    }
                }
            }
            findings.tally.users = u64::try_from(users.len()).unwrap_or(u64::MAX);
            findings.progress.add(1);
            findings
                .progress
                .beside(format!("{} assets", findings.tally.assets));
        }
        if users.len() >= USERS_COUNTED {
            findings.note(format!(
                "more than {USERS_COUNTED} users: they were not counted further"
            ));
        }
        Ok(())
    }

    /// The rows that view or table show of these users and the ledger does not have at all. The rest was compared by the ledger.
    async fn strays(
        &self,
        users: &[UserId],
        relation: Relation,
        findings: &mut Findings,
    ) -> Result<()> {
        let work: Vec<_> = users.iter().map(|user| self.user(*user)).collect();
        let trios: Vec<Vec<Trio>> = stream::iter(work)
            .buffer_unordered(self.at_once)
            .try_collect()
            .await
            .map_err(failed)?;
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
        self.judge(&strays, findings).await
    }
}

/// A row that cannot be a balance, with its user.
fn of(user: UserId, error: Error) -> Error {
    match error {
        Error::Corrupt(what) => Error::Corrupt(format!("user {user}: {what}").into()),
        other @ (Error::Unavailable(_) | Error::Timeout) => other,
    }
}

fn note_users(users: &mut HashSet<UserId>, more: impl Iterator<Item = UserId>) {
    for user in more {
        if users.len() < USERS_COUNTED {
            users.insert(user);
        }
    }
}
