//! A ledger in PostgreSQL tables of another shape: its statements against Redis and a running service.
//!
//! **Invariants.** The statements are right. A user whose rows are no balances is a difference, and is not asked for elsewhere. What
//! Redis holds and no reader would be shown is not compared. The ledger is read first: what is written meanwhile makes the others look
//! ahead, never behind.
//!
//! **Limits.** A statement cannot list its users: they are named, or those that Redis holds are taken.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use balance_cache::{
    cache::redis::inspect::{KeyState, RedisInspector, RedisTrouble, SCANNED_MAX},
    config::Settings,
    domain::{Amount, AssetId, Balance, Catalogue, Seq, Snapshot, UnixMillis, UserId},
    ledger::{LedgerError, postgres::mapped::MappedLook},
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use super::{
    Progress, VerifyFindings,
    compare::Trio,
    comparison_failed,
    difference::{Difference, DifferenceKind, describe_rows},
    file::settings_catalogue,
    postgres::open_failure,
};
use crate::cli::{
    arguments::Verify,
    client::ServiceClient,
    output::Unable,
    service_view::{ShownBalance, ask_balances},
    users,
};

/// The users of a sample where none is asked for.
const SAMPLE: u32 = 1000;

const STATEMENTS: (&str, &str) = ("postgres.balance_sql", "postgres.balances_sql");

/// Everything that a comparison needs.
struct MappedVerification {
    look: MappedLook,
    redis: Option<RedisSide>,
    service: Option<ServiceClient>,
    catalogue: Arc<Catalogue>,
    grace: Duration,
    at_once: usize,
}

/// Redis, and its life.
struct RedisSide {
    look: RedisInspector,
    epoch: Option<String>,
}

/// The balances of one user: each with what is held of it, or differences that more of the same does not mend.
struct ReadUser {
    trios: Vec<Trio>,
    differences: Vec<Difference>,
}

pub(super) async fn compare(what: &Verify, settings: &Settings) -> Result<VerifyFindings> {
    if what.conservation {
        let reason = "--conservation reads histories, and postgres.balances_sql shows balances only: leave it out";
        anyhow::bail!(Unable(reason.to_owned()));
    }
    let asked = what
        .users
        .as_deref()
        .map(users::read_users_file)
        .transpose()?;
    let service = if what.no_service {
        None
    } else {
        Some(ServiceClient::of_service(&what.reach, settings)?)
    };
    let has_redis = !settings.redis.url.is_empty();
    if service.is_none() && !has_redis {
        let reason = "nothing to compare the ledger with: redis.url is empty, and --no-service leaves the service out";
        anyhow::bail!(Unable(reason.to_owned()));
    }
    if asked.is_none() && !has_redis {
        let reason = "postgres.balances_sql cannot list users, and redis.url is empty: name them with --users";
        anyhow::bail!(Unable(reason.to_owned()));
    }
    let catalogue = Arc::new(settings_catalogue(settings)?);
    let opened = MappedLook::open(&settings.postgres, &settings.source, &catalogue).await;
    let look = opened.map_err(open_failure)?;
    let redis = if has_redis {
        Some(RedisSide::open(settings, &look.identity).await?)
    } else {
        None
    };
    let at_once = usize::try_from(what.at_once).unwrap_or(1);
    let job = MappedVerification {
        look,
        redis,
        service,
        catalogue,
        grace: Duration::from_millis(what.grace_ms),
        at_once: at_once.min(settings.postgres.connections).max(1),
    };
    let is_named = asked.is_some();
    let users = match (asked, &job.redis) {
        (Some(users), _) => users,
        (None, Some(redis)) => redis.list_users(what).await?,
        (None, None) => Vec::new(),
    };
    let total = u64::try_from(users.len()).unwrap_or(u64::MAX);
    let mut findings = VerifyFindings::new(Progress::new("comparing", total), what.json);
    if !is_named {
        let note = format!(
            "postgres.balances_sql cannot list users: compared are those that Redis holds ({total}); name others with --users"
        );
        findings.add_note(note);
    }
    job.compare_users(&users, &mut findings).await?;
    Ok(findings)
}

fn redis_failure(trouble: RedisTrouble) -> anyhow::Error {
    match trouble {
        RedisTrouble::Setting(reason) => Unable(reason).into(),
        other => anyhow::anyhow!("redis: {other}"),
    }
}

impl RedisSide {
    async fn open(settings: &Settings, identity: &str) -> Result<Self> {
        let opened = RedisInspector::open_connection(&settings.redis).await;
        let look = opened.map_err(redis_failure)?;
        let owner = look.read_owner().await.map_err(redis_failure)?;
        if let Some(source) = owner.source.filter(|source| source != identity) {
            anyhow::bail!(
                "this Redis and namespace hold the balances of another source ({source}, here it is {identity})"
            );
        }
        Ok(Self {
            look,
            epoch: owner.epoch.map(|epoch| epoch.id),
        })
    }

    /// The users whose entries were asked for last, or all of them.
    async fn list_users(&self, what: &Verify) -> Result<Vec<UserId>> {
        let sample = usize::try_from(what.sample.unwrap_or(SAMPLE)).unwrap_or(SCANNED_MAX);
        let most = if what.all { SCANNED_MAX } else { sample };
        self.look
            .recent_users(most)
            .await
            .map_err(|trouble| match trouble {
                RedisTrouble::Unsupported(why) => Unable(format!(
                    "{why}, and postgres.balances_sql cannot list users: name them with --users"
                ))
                .into(),
                other => redis_failure(other),
            })
    }

    /// The balances that a reader would be shown, where the entry may be shown at all.
    async fn read_user(&self, user: UserId) -> Result<Option<Snapshot>> {
        let key = self.look.read_user(user).await.map_err(redis_failure)?;
        let KeyState::Entry(shown) = key.held else {
            return Ok(None);
        };
        let is_shown = shown.is_servable(self.epoch.as_deref(), key.now);
        Ok(is_shown.then(|| Snapshot::new(shown.balances)))
    }
}

impl MappedVerification {
    async fn compare_users(&self, users: &[UserId], findings: &mut VerifyFindings) -> Result<()> {
        for some in users.chunks(self.at_once.saturating_mul(8)) {
            let work: Vec<_> = some.iter().map(|user| self.read_user(*user)).collect();
            let read: Vec<ReadUser> = stream::iter(work)
                .buffer_unordered(self.at_once)
                .try_collect()
                .await?;
            let count = u64::try_from(some.len()).unwrap_or(0);
            findings.tally.users = findings.tally.users.saturating_add(count);
            findings.progress.add_done(count);
            let mut trios = Vec::new();
            for user in read {
                trios.extend(user.trios);
                for difference in user.differences {
                    findings.add_difference(difference)?;
                }
            }
            self.judge_trios(&trios, findings).await?;
        }
        Ok(())
    }

    /// Counts what was compared, and looks again at what differs.
    async fn judge_trios(&self, trios: &[Trio], findings: &mut VerifyFindings) -> Result<()> {
        let suspects = findings.count_trios(trios);
        if suspects.is_empty() {
            return Ok(());
        }
        sleep(self.grace).await;
        for (first, kind) in suspects {
            let again = self.read_user(first.user).await?;
            let mut trios = again.trios.into_iter();
            let later = trios.find(|trio| trio.asset == first.asset);
            let gone = Trio {
                ledger: None,
                redis: first.redis.map(|_| None),
                service: first.service.map(|_| None),
                ..first
            };
            findings.judge_again(&(first, kind), &later.unwrap_or(gone), &self.catalogue)?;
        }
        Ok(())
    }

    /// All balances of a user in the ledger, in Redis and in the service.
    async fn read_user(&self, user: UserId) -> Result<ReadUser> {
        let ledger = match self.look.read_balances(user).await {
            Ok(ledger) => ledger,
            Err(LedgerError::Corrupt(why)) => return Ok(unreadable_user(user, &why)),
            Err(error) => return Err(comparison_failed(error)),
        };
        let differences = match self.compare_statements(user, &ledger).await {
            Ok(differences) => differences,
            Err(LedgerError::Corrupt(why)) => return Ok(unreadable_user(user, &why)),
            Err(error) => return Err(comparison_failed(error)),
        };
        let redis = match &self.redis {
            Some(redis) => redis.read_user(user).await?,
            None => None,
        };
        let service = match &self.service {
            Some(client) => Some(self.ask_service(client, user).await?),
            None => None,
        };
        let held = [&redis, &service].into_iter().flatten();
        let mut assets: Vec<AssetId> = ledger.asset_ids().collect();
        assets.extend(held.flat_map(Snapshot::asset_ids));
        assets.sort_unstable();
        assets.dedup();
        let trio = |asset| Trio {
            redis: redis.as_ref().map(|held| held.get(asset).copied()),
            service: service.as_ref().map(|shown| shown.get(asset).copied()),
            ..Trio::of_ledger(user, asset, ledger.get(asset).copied())
        };
        Ok(ReadUser {
            trios: assets.into_iter().map(trio).collect(),
            differences,
        })
    }

    /// `postgres.balance_sql` against `postgres.balances_sql`. A deleted row looks like a difference once, and not twice.
    async fn compare_statements(
        &self,
        user: UserId,
        ledger: &Snapshot,
    ) -> Result<Vec<Difference>, LedgerError> {
        if self.look.find_unlike(user, ledger).await?.is_empty() {
            return Ok(Vec::new());
        }
        let again = self.look.read_balances(user).await?;
        let found = self.look.find_unlike(user, &again).await?;
        let describe = |(balance, one): (Balance, Option<Balance>)| {
            let kind = DifferenceKind::StatementsDiffer;
            let rows = (balance.asset, one, Some(balance));
            describe_rows(STATEMENTS, kind, user, rows, &self.catalogue)
        };
        Ok(found.into_iter().map(describe).collect())
    }

    async fn ask_service(&self, client: &ServiceClient, user: UserId) -> Result<Snapshot> {
        let told = ask_balances(client, user, None).await;
        let advice = "--no-service compares with Redis alone";
        let told = told.map_err(|unanswered| anyhow::anyhow!("{unanswered}; {advice}"))?;
        let failed = |why: String| anyhow::anyhow!("{}: user {user}: {why}", client.base_url());
        let shown = told
            .balances
            .map_err(|reason| failed(format!("{reason}; {advice}")))?;
        let shown = shown.iter().map(|shown| read_shown(shown, &self.catalogue));
        let balances: Option<Vec<Balance>> = shown.collect();
        let other = "it shows an asset or an amount that [[assets]] here does not have: use the settings that it runs with";
        let balances = balances.ok_or_else(|| failed(other.to_owned()))?;
        Ok(Snapshot::new(balances))
    }
}

/// A user whose rows are no balances.
fn unreadable_user(user: UserId, why: &str) -> ReadUser {
    let said = why.strip_prefix(&format!("user {user}: ")).unwrap_or(why);
    let difference = Difference {
        kind: DifferenceKind::LedgerUnreadable,
        user: user.get(),
        asset: String::new(),
        said: said.to_owned(),
    };
    ReadUser {
        trios: Vec::new(),
        differences: vec![difference],
    }
}

/// A balance as the service shows it; none where the catalogue here is another.
fn read_shown(shown: &ShownBalance, catalogue: &Catalogue) -> Option<Balance> {
    let asset = catalogue.resolve_asset(&shown.asset)?;
    let decimals = catalogue
        .get_asset(asset)
        .map_or(0, |(_, decimals)| decimals);
    Some(Balance {
        asset,
        seq: Seq::new(shown.seq).ok()?,
        avail: Amount::from_decimal(&shown.avail, decimals)?,
        frozen: Amount::from_decimal(&shown.frozen, decimals)?,
        updated_at: shown.updated_at.map(UnixMillis),
        said_at: UnixMillis::default(),
    })
}
