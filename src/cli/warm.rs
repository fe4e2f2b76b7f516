//! `warm`: loads users into a running service before they ask.
//!
//! **Limits.** `--at-once` requests of `--batch` users each; a batch that was not loaded whole is asked for [`TRIES`] times.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use balance_cache::{
    cache::redis::inspect::{RedisInspector, RedisTrouble},
    config::Settings,
    domain::UserId,
};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    arguments::WarmArguments,
    client::ServiceClient,
    exit_code,
    output::{Unable, print_error, print_line, say_json},
    progress::Progress,
    service_view::ServiceEnvelope,
    start_runtime, users,
};

const TRIES: u32 = 3;

/// Before a batch is asked for again, where the service does not say how long to wait.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest that a service may make us wait.
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct WarmedAnswer {
    loaded: u64,
}

/// The results of all users.
#[derive(Debug, Default, Serialize)]
struct WarmSummary {
    users: u64,
    loaded: u64,
    failed: u64,
    /// Why some failed: each reason once.
    reasons: Vec<String>,
}

/// Loads the users.
pub(crate) fn run_warm(what: &WarmArguments, settings: &Settings) -> Result<ExitCode> {
    let client = ServiceClient::of_service(&what.reach, settings)?;
    let from_file = what
        .users
        .as_deref()
        .map(users::read_users_file)
        .transpose()?;
    start_runtime()?.block_on(async {
        let users = match from_file {
            Some(users) => users,
            None => recent_users(settings, what.top.unwrap_or(1)).await?,
        };
        let summary = load_users(what, &client, &users).await;
        for reason in &summary.reasons {
            print_error(&format!("balance-cache: {reason}"));
        }
        if what.json {
            say_json(&summary)?;
        } else {
            print_line(&format!(
                "{}: {} users, {} loaded, {} failed",
                client.base_url(),
                summary.users,
                summary.loaded,
                summary.failed
            ))?;
        }
        Ok(exit_code(summary.failed == 0))
    })
}

/// Whose entries in Redis were asked for last.
async fn recent_users(settings: &Settings, most: u32) -> Result<Vec<UserId>> {
    if settings.redis.url.is_empty() {
        let reason = "--top takes its users from Redis, and redis.url is empty: a ledger has no list of users. \
                      Name them with --users";
        anyhow::bail!(Unable(reason.to_owned()));
    }
    let told = |trouble| match trouble {
        RedisTrouble::Setting(reason) => Unable(reason).into(),
        other => anyhow::anyhow!("redis: {other}"),
    };
    let look = RedisInspector::open_connection(&settings.redis)
        .await
        .map_err(told)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    look.recent_users(most).await.map_err(told)
}

async fn load_users(what: &WarmArguments, client: &ServiceClient, users: &[UserId]) -> WarmSummary {
    let count = |users: &[UserId]| u64::try_from(users.len()).unwrap_or(u64::MAX);
    let progress = Progress::new("warming", count(users));
    let size = usize::try_from(what.batch).unwrap_or(1).max(1);
    let at_once = usize::try_from(what.at_once).unwrap_or(1).max(1);
    let mut summary = WarmSummary {
        users: count(users),
        ..WarmSummary::default()
    };
    let batches: Vec<_> = users
        .chunks(size)
        .map(|batch| async { (count(batch), load_batch(client, batch).await) })
        .collect();
    let mut done = stream::iter(batches).buffer_unordered(at_once);
    while let Some((users, (loaded, reason))) = done.next().await {
        summary.loaded = summary.loaded.saturating_add(loaded.min(users));
        summary.failed = summary.users.saturating_sub(summary.loaded);
        progress.add_done(users);
        if let Some(reason) = reason
            && !summary.reasons.contains(&reason)
        {
            summary.reasons.push(reason);
        }
    }
    progress.clear_bar();
    summary.failed = summary.users.saturating_sub(summary.loaded);
    summary
}

/// One batch: how many are loaded at the end, and why not all.
async fn load_batch(client: &ServiceClient, batch: &[UserId]) -> (u64, Option<String>) {
    let all = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    let ids: Vec<i64> = batch.iter().map(|user| user.get()).collect();
    let body = serde_json::json!({ "user_ids": ids }).to_string();
    let (mut most, mut reason) = (0, None);
    for attempt in 1..=TRIES {
        let mut pause = PAUSE;
        match client.post_json("/api/v1/cache/warm", body.clone()).await {
            Err(unanswered) => reason = Some(unanswered.to_string()),
            Ok(answer) => {
                let envelope: ServiceEnvelope<WarmedAnswer> = ServiceEnvelope::from_answer(&answer);
                match envelope.data {
                    Some(WarmedAnswer { loaded }) if answer.status == 200 => {
                        most = loaded.max(most);
                        let why = "some users could not be loaded: the source failed, or they did not fit in \
                                   limits.deadline_ms (try a smaller --batch)";
                        reason = (loaded < all).then(|| why.to_owned());
                    }
                    Some(_) | None => {
                        let (status, msg) = (envelope.status, envelope.msg);
                        reason = Some(format!("HTTP {}, status {status}: {msg}", answer.status));
                        if answer.status < 429 {
                            return (most, reason);
                        }
                        let wait = answer
                            .header_text("retry-after")
                            .parse()
                            .map(Duration::from_secs);
                        pause = wait.unwrap_or(PAUSE).min(PAUSE_MAX);
                    }
                }
            }
        }
        if reason.is_none() {
            return (all, None);
        }
        if attempt < TRIES {
            sleep(pause).await;
        }
    }
    (most, reason)
}
