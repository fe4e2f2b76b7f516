//! `shadow`: compares the answers of another gateway with those of a running service.
//!
//! **Invariants.** Both are only read. A difference counts if it is still there when both are asked again after the grace time.
//!
//! **Limits.** `--at-once` users, `--rate` of them in a second; [`SHOWN_MAX`] differences are shown, all are counted. Plain HTTP.

mod balances;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use balance_cache::{config::Settings, domain::UserId};
use futures::{StreamExt, stream};
use serde::Serialize;
use tokio::time::sleep;
use url::Url;

use self::balances::Balances;
use super::{
    arguments::Shadow,
    client::Client,
    output::{BAD, GOOD, Unable, complain, painted, say, say_json},
    pace::Pace,
    progress::Progress,
    runtime, service_view, users,
};

const SHOWN_MAX: usize = 1_000;
/// Stands for the id of a user.
const PLACE: &str = "{user}";

/// The comparison of all users.
#[derive(Debug, Default, Serialize)]
struct Summary {
    same: bool,
    users: u64,
    /// Users with at least one difference.
    different: u64,
    /// Users whose differences were gone after the grace time.
    settled: u64,
    /// Users that one of the two did not answer for.
    unanswered: u64,
    shown: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    user: i64,
    said: String,
}

/// One user.
enum Verdict {
    Same,
    Settled,
    Different(Vec<String>),
    Unanswered(String),
}

/// Both gateways.
struct Pair<'a> {
    what: &'a Shadow,
    old: Client,
    /// Path and query of the other gateway.
    path: String,
    new: Client,
    pace: Pace,
}

/// Compares.
pub(crate) fn run(what: &Shadow, settings: &Settings) -> Result<ExitCode> {
    let new = Client::new(
        what.reach.url.as_deref(),
        settings.http.listen,
        what.reach.token.as_deref(),
    )?;
    let (base, path) = split(&what.old)?;
    let old = Client::new(Some(&base), settings.http.listen, what.old_token.as_deref())
        .map_err(|Unable(why)| Unable(why.replace("--url", "--old")))?;
    let users = users::listed(&what.users)?;
    let pair = Pair {
        what,
        old,
        path,
        new,
        pace: Pace::new(what.rate),
    };
    let summary = runtime()?.block_on(pair.compare_all(&users));
    if what.json {
        say_json(&summary)?;
    } else {
        for shown in &summary.shown {
            say(&format!("user {}: {}", shown.user, shown.said))?;
        }
        let word = if summary.same {
            painted(GOOD, "the same")
        } else {
            painted(BAD, "DIFFERENT")
        };
        say(&format!(
            "{word}: {} users, {} different, {} settled (lag), {} unanswered",
            summary.users, summary.different, summary.settled, summary.unanswered
        ))?;
    }
    Ok(if summary.same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Origin, and path with query, of the address with a place for the user.
fn split(template: &str) -> Result<(String, String), Unable> {
    let wrong = |why: &str| Unable(format!("--old {template}: {why}"));
    if !template.contains(PLACE) {
        return Err(wrong("has no {user} in the place of the id"));
    }
    let url =
        Url::parse(&template.replace(PLACE, "1")).map_err(|error| wrong(&error.to_string()))?;
    if url.scheme() != "http" {
        return Err(wrong(
            "must begin with http:// (ask the gateway itself, not a proxy with TLS before it)",
        ));
    }
    let begin = template.find("://").and_then(|at| at.checked_add(3));
    let rest = begin.and_then(|at| Some((at, template.get(at..)?)));
    let (at, rest) = rest.ok_or_else(|| wrong("is no address"))?;
    let slash = rest.find('/').and_then(|slash| at.checked_add(slash));
    let split = slash.and_then(|slash| template.split_at_checked(slash));
    match split {
        Some((base, path)) if !base.contains(PLACE) => Ok((base.to_owned(), path.to_owned())),
        _ => Err(wrong("has {user} outside of the path")),
    }
}

impl Pair<'_> {
    async fn compare_all(&self, users: &[UserId]) -> Summary {
        let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let progress = Progress::new("comparing", count);
        let at_once = usize::try_from(self.what.at_once).unwrap_or(1).max(1);
        let looks: Vec<_> = users.iter().map(|user| self.compare(*user)).collect();
        let mut looks = stream::iter(looks).buffered(at_once);
        let mut summary = Summary::default();
        let mut left = users.iter();
        while let (Some(verdict), Some(user)) = (looks.next().await, left.next()) {
            progress.add(1);
            if let (Verdict::Unanswered(why), false) = (&verdict, self.what.json) {
                progress.aside(|| complain(&format!("user {user}: {why}")));
            }
            summary.add(*user, verdict);
        }
        progress.done();
        summary.same = summary.different == 0 && summary.unanswered == 0;
        summary
    }

    async fn compare(&self, user: UserId) -> Verdict {
        self.pace.take().await;
        match self.look(user).await {
            Err(why) => return Verdict::Unanswered(why),
            Ok(found) if found.is_empty() => return Verdict::Same,
            Ok(_) => {}
        }
        sleep(Duration::from_millis(self.what.grace_ms)).await;
        match self.look(user).await {
            Err(why) => Verdict::Unanswered(why),
            Ok(found) if found.is_empty() => Verdict::Settled,
            Ok(found) => Verdict::Different(found),
        }
    }

    /// The differences now.
    async fn look(&self, user: UserId) -> Result<Vec<String>, String> {
        let path = self.path.replace(PLACE, &user.to_string());
        let (old, new) = futures::join!(
            self.old.get(&path),
            service_view::balances(&self.new, user, None)
        );
        let old = old.map_err(|error| format!("old: {error}"))?;
        if old.status != 200 {
            return Err(format!("old: HTTP {}", old.status));
        }
        let old = Balances::of_other(&old.body, self.what).map_err(|why| format!("old: {why}"))?;
        let new = new.map_err(|error| format!("new: {error}"))?;
        let new = new.balances.and_then(|list| Balances::of_service(&list));
        let new = new.map_err(|why| format!("new: {why}"))?;
        Ok(new.differences(&old))
    }
}

impl Summary {
    fn add(&mut self, user: UserId, verdict: Verdict) {
        self.users = self.users.saturating_add(1);
        let (counter, lines) = match verdict {
            Verdict::Same => return,
            Verdict::Settled => (&mut self.settled, Vec::new()),
            Verdict::Different(lines) => (&mut self.different, lines),
            Verdict::Unanswered(why) => (&mut self.unanswered, vec![why]),
        };
        *counter = counter.saturating_add(1);
        for said in lines {
            if self.shown.len() < SHOWN_MAX {
                let user = user.get();
                self.shown.push(Shown { user, said });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_into_origin_and_path() {
        let good = split("http://old:8080/api/balance?user_id={user}").unwrap();
        assert_eq!(
            good,
            (
                "http://old:8080".to_owned(),
                "/api/balance?user_id={user}".to_owned()
            )
        );
        for bad in [
            "http://old/api",
            "https://old/{user}",
            "old/{user}",
            "http://{user}.old/x",
            "http://{user}",
        ] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
