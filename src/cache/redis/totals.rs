//! Totals in Redis: a hash for each asset (`balance:total:<asset>`), and the state of the scans (`balance:totals`).
//!
//! The state names the scan whose totals are published, and the assets that it found; each asset's hash names the scan that wrote it.
//!
//! **Invariants.** One instance at a time has the right to scan (a lease of [`LEASE`]); each right has a higher fence than the one
//! before. What a scan found is written only over what has a lower fence. Totals are read whole: all of one scan, or none.
//!
//! **Cancellation.** A scan that is dropped leaves its lease, which ends by itself.
//!
//! **Limits.** [`WRITER_TIMEOUT`] for each question.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use redis::{RedisError, RedisResult, Value, from_redis_value};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    Redis,
    client::WRITER_TIMEOUT,
    connection::SharedConnection,
    script::{self, Call},
};
use crate::{
    domain::{AssetId, AssetSum, CatalogueTable, Totals, UnixMillis},
    telemetry::Fault,
};

/// How long the right to scan lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(5);
/// Renewals of the right within its time.
const RENEWALS: u32 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanLease {
    token: String,
    fence: i64,
    /// When it was asked for: it lasts for [`LEASE`] from then, or longer.
    asked: Instant,
}

/// The reply to a request for the scan lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanTurn {
    /// The right, if it was given.
    pub lease: Option<ScanLease>,
    /// The time after which the next request makes sense.
    pub wait: Duration,
    /// The scan whose totals are published: its fence. None before the first.
    pub published: Option<i64>,
}

/// How a scan ends for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanEnd {
    /// The right was this instance's until now.
    InTime,
    /// Another instance has got it meanwhile: nothing was published.
    Lost,
}

/// The answer of `totals.lua`.
type ScanReply = (String, i64, i64, i64);

impl ScanLease {
    /// Higher than that of every scan before.
    pub const fn fence(&self) -> i64 {
        self.fence
    }
}

impl Redis {
    /// Asks for the right to scan; `token` is this instance's own. With `now` a scan is due whatever the clock says.
    pub async fn lease_scan(&self, token: &str, now: bool) -> Result<ScanTurn, Fault> {
        let call = self
            .totals_call("lease", token)
            .with_arg(LEASE.as_millis().to_string())
            .with_arg(if now { "1" } else { "0" });
        let asked = Instant::now();
        let (what, wait_ms, fence, published) = self.ask_totals(call).await?;
        Ok(ScanTurn {
            lease: (what == "taken").then(|| ScanLease {
                token: token.to_owned(),
                fence,
                asked,
            }),
            wait: Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)),
            published: (published > 0).then_some(published),
        })
    }

    /// Makes the right to scan last for another [`LEASE`].
    /// Errors: the fault: the right may last all the same.
    pub async fn renew_scan(&self, lease: &ScanLease) -> Result<ScanEnd, Fault> {
        let call = self
            .lease_call("renew", lease)
            .with_arg(LEASE.as_millis().to_string());
        self.end_scan(call).await
    }

    /// Renews the right until another instance has it, or may have it because no renewal succeeded in its time.
    pub async fn renew_until_lost(&self, lease: &ScanLease) {
        lose_right(|| self.renew_scan(lease), lease.asked).await;
    }

    /// Gives the right back without totals; the next scan is due `after` that.
    /// Errors: the fault: the right ends by itself.
    pub async fn release_scan(&self, lease: &ScanLease, after: Duration) -> Result<ScanEnd, Fault> {
        let call = self
            .lease_call("release", lease)
            .with_arg(after.as_millis().to_string());
        self.end_scan(call).await
    }

    /// Publishes totals, and gives the right back. The next scan is due `after` that.
    /// Errors: the fault: parts may be written, and no instance reads them before all are.
    pub async fn publish_totals(
        &self,
        lease: &ScanLease,
        totals: &Totals,
        catalogue: &CatalogueTable,
        after: Duration,
    ) -> Result<ScanEnd, Fault> {
        // The right is looked at before anything is written; the fence of each hash closes the moment in between.
        if self.renew_scan(lease).await? == ScanEnd::Lost {
            return Ok(ScanEnd::Lost);
        }
        let mut names = Vec::with_capacity(totals.assets.len());
        let mut calls = Vec::with_capacity(totals.assets.len());
        for (asset, total) in &totals.assets {
            let name = asset_name(*asset, catalogue);
            calls.push(self.total_call(lease, &name, *asset, total, totals));
            names.push(name);
        }
        let conn = self.totals_connection()?;
        for reply in run_scripts(&conn, &calls).await? {
            let written: i64 = reply
                .and_then(|value| Ok(from_redis_value(value)?))
                .map_err(|error| self.totals_refused(&error))?;
            if written == 0 {
                return Ok(ScanEnd::Lost);
            }
        }
        let call = self
            .lease_call("publish", lease)
            .with_arg(after.as_millis().to_string())
            .with_arg(totals.began.0.to_string())
            .with_arg(totals.ended.0.to_string())
            .with_arg(names.join(","));
        self.end_scan(call).await
    }

    /// The totals that are published, and the fence of their scan. None before the first, and where they are not whole.
    pub async fn read_totals(&self) -> Result<Option<(i64, Totals)>, Fault> {
        let conn = self.totals_connection()?;
        let mut state = redis::cmd("HMGET");
        state
            .arg(self.link.keys.totals_key())
            .arg(&["published", "began", "ended", "assets"]);
        let state = send_one(&conn, state).await?;
        let state: (Option<i64>, Option<i64>, Option<i64>, Option<String>) =
            from_redis_value(state).map_err(|_| Fault::Corrupt)?;
        let (Some(fence), Some(began), Some(ended), Some(names)) = state else {
            return Ok(None);
        };
        let names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
        let commands = names.iter().map(|name| {
            let mut command = redis::cmd("HGETALL");
            command.arg(self.link.keys.total_key(name));
            command
        });
        let replies = send_commands(&conn, commands.collect()).await?;
        let read = replies.into_iter().map(|reply| {
            let fields: BTreeMap<String, String> = from_redis_value(reply.ok()?).ok()?;
            total_of(&fields, fence)
        });
        let assets: Option<BTreeMap<AssetId, AssetSum>> = read.collect();
        let whole = assets.filter(|assets| assets.len() == names.len());
        Ok(whole.map(|assets| {
            let totals = Totals {
                assets,
                began: UnixMillis(began),
                ended: UnixMillis(ended),
            };
            (fence, totals)
        }))
    }

    fn total_call(
        &self,
        lease: &ScanLease,
        name: &str,
        asset: AssetId,
        total: &AssetSum,
        totals: &Totals,
    ) -> Call {
        let fields = [
            ("asset_id", asset.to_string()),
            ("avail", total.avail.to_string()),
            ("frozen", total.frozen.to_string()),
            ("users", total.users.to_string()),
            ("began", totals.began.0.to_string()),
            ("ended", totals.ended.0.to_string()),
        ];
        let call = Call::new(&script::TOTAL)
            .with_key(self.link.keys.total_key(name))
            .with_arg(lease.fence.to_string());
        fields.into_iter().fold(call, |call, (field, value)| {
            call.with_arg(field).with_arg(value)
        })
    }

    fn totals_call(&self, what: &str, token: &str) -> Call {
        Call::new(&script::TOTALS)
            .with_key(self.link.keys.totals_key())
            .with_arg(what)
            .with_arg(token)
    }

    fn lease_call(&self, what: &str, lease: &ScanLease) -> Call {
        self.totals_call(what, &lease.token)
            .with_arg(lease.fence.to_string())
    }

    async fn end_scan(&self, call: Call) -> Result<ScanEnd, Fault> {
        let (what, ..) = self.ask_totals(call).await?;
        Ok(if what == "lost" {
            ScanEnd::Lost
        } else {
            ScanEnd::InTime
        })
    }

    async fn ask_totals(&self, call: Call) -> Result<ScanReply, Fault> {
        let conn = self.totals_connection()?;
        let reply = run_scripts(&conn, &[call])
            .await?
            .pop()
            .ok_or(Fault::Error)?;
        let reply = reply.map_err(|error| self.totals_refused(&error))?;
        let (what, wait_ms, fence, published): (String, String, String, String) =
            from_redis_value(reply).map_err(|_| Fault::Error)?;
        let number = |text: String| text.parse::<i64>().map_err(|_| Fault::Error);
        Ok((what, number(wait_ms)?, number(fence)?, number(published)?))
    }

    fn totals_refused(&self, error: &RedisError) -> Fault {
        if let Some(left_out) = self.log.permit_line() {
            let reason = self.link.finding_of(error);
            tracing::warn!(%reason, lines.left_out = left_out, "redis refused to keep totals");
        }
        Fault::Error
    }

    /// The writer's connection, without counting as a read or a settlement.
    fn totals_connection(&self) -> Result<Arc<SharedConnection>, Fault> {
        let session = self.link.open_session().ok_or(Fault::Open)?;
        Ok(session.writer.get())
    }
}

/// Renews a right that was asked for at this time, until it is lost.
async fn lose_right<R>(renew: impl Fn() -> R, mut asked: Instant)
where
    R: Future<Output = Result<ScanEnd, Fault>>,
{
    let pause = LEASE.checked_div(RENEWALS).unwrap_or_default();
    loop {
        let renewed = async {
            loop {
                sleep(pause).await;
                let asked = Instant::now();
                match renew().await {
                    Ok(ScanEnd::InTime) => return Some(asked),
                    Ok(ScanEnd::Lost) => return None,
                    Err(_) => {}
                }
            }
        };
        let end = asked.checked_add(LEASE).unwrap_or(asked);
        match timeout_at(end, renewed).await {
            Ok(Some(again)) => asked = again,
            Ok(None) | Err(_) => return,
        }
    }
}

/// Returns the asset's name in the catalogue, or its number.
fn asset_name(asset: AssetId, catalogue: &CatalogueTable) -> String {
    let known = catalogue.get_asset(asset);
    known.map_or_else(|| asset.to_string(), |(name, _)| name.to_owned())
}

/// None where it is another scan's, or cannot be read.
fn total_of(fields: &BTreeMap<String, String>, fence: i64) -> Option<(AssetId, AssetSum)> {
    let field = |name: &str| fields.get(name);
    let written: i64 = field("fence")?.parse().ok()?;
    let total = AssetSum {
        avail: field("avail")?.parse().ok()?,
        frozen: field("frozen")?.parse().ok()?,
        users: field("users")?.parse().ok()?,
    };
    let asset = field("asset_id")?.parse().ok()?;
    (written == fence).then_some((asset, total))
}

/// Scripts in one round trip; those that Redis does not know are sent once more, whole.
async fn run_scripts(
    conn: &SharedConnection,
    calls: &[Call],
) -> Result<Vec<RedisResult<Value>>, Fault> {
    let unknown = |reply: &RedisResult<Value>| matches!(reply, Err(error) if error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript));
    let replies = send_commands(conn, calls.iter().map(Call::by_digest).collect()).await?;
    if !replies.iter().any(unknown) {
        return Ok(replies);
    }
    send_commands(conn, calls.iter().map(Call::by_code).collect()).await
}

async fn send_one(conn: &SharedConnection, command: redis::Cmd) -> Result<Value, Fault> {
    let reply = send_commands(conn, vec![command]).await?.pop();
    reply.ok_or(Fault::Error)?.map_err(|_| Fault::Error)
}

async fn send_commands(
    conn: &SharedConnection,
    commands: Vec<redis::Cmd>,
) -> Result<Vec<RedisResult<Value>>, Fault> {
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Result<RedisResult<_>, _> =
        timeout(WRITER_TIMEOUT, conn.send_commands(commands)).await;
    asked
        .map_err(|_| Fault::Timeout)?
        .map_err(|error: RedisError| {
            if error.is_timeout() {
                Fault::Timeout
            } else {
                Fault::Error
            }
        })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// The time until a right is lost whose renewals are answered like this, the last answer again and again.
    async fn held_for(answers: &[Result<ScanEnd, Fault>]) -> Duration {
        let (began, next) = (Instant::now(), Cell::new(0));
        let renew = || {
            let at = next.replace(next.get() + 1);
            let answer = answers.get(at).or(answers.last()).copied().unwrap();
            async move { answer }
        };
        lose_right(renew, began).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_is_lost_when_redis_says_so_or_did_not_renew_it_in_its_time() {
        let (renewed, silent) = (Ok(ScanEnd::InTime), Err(Fault::Timeout));
        let pause = LEASE / RENEWALS;
        let cases = [
            (vec![Ok(ScanEnd::Lost)], pause),
            (vec![silent], LEASE),
            (vec![renewed, renewed, silent], pause * 2 + LEASE),
            (vec![silent, renewed, silent], pause * 2 + LEASE),
            (vec![silent, renewed, Ok(ScanEnd::Lost)], pause * 3),
        ];
        for (answers, expected) in cases {
            let held = held_for(&answers).await;
            let more = held.checked_sub(expected).unwrap();
            assert!(more < Duration::from_millis(100), "{answers:?}: {held:?}");
        }
    }
}
