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

use self::balances::ShadowBalances;
use super::{
    arguments::Shadow,
    client::ServiceClient,
    exit_code,
    output::{BAD, GOOD, Unable, paint_text, print_error, print_line, say_json},
    pace::Pace,
    progress::Progress,
    service_view, start_runtime, users,
};

const SHOWN_MAX: usize = 1_000;
/// Stands for the id of a user.
const PLACE: &str = "{user}";

/// The comparison of all users.
#[derive(Debug, Default, Serialize)]
struct ShadowSummary {
    same: bool,
    users: u64,
    /// Users with at least one difference.
    different: u64,
    /// Users whose differences were gone after the grace time.
    settled: u64,
    /// Users that one of the two did not answer for.
    unanswered: u64,
    shown: Vec<ShownDifference>,
}

#[derive(Debug, Serialize)]
struct ShownDifference {
    user: i64,
    said: String,
}

enum UserVerdict {
    Same,
    Settled,
    Different(Vec<String>),
    Unanswered(String),
}

/// Both gateways.
struct Gateways<'a> {
    what: &'a Shadow,
    old: ServiceClient,
    /// Path and query of the other gateway.
    path: String,
    new: ServiceClient,
    pace: Pace,
}

/// Compares.
pub(crate) fn run_shadow(what: &Shadow, settings: &Settings) -> Result<ExitCode> {
    let new = ServiceClient::of_service(&what.reach, settings)?;
    let (base, path) = split_template(&what.old)?;
    let old = ServiceClient::new(Some(&base), settings.http.listen, what.old_token.as_deref())
        .map_err(|Unable(why)| Unable(why.replace("--url", "--old")))?;
    let users = users::read_users_file(&what.users)?;
    let pair = Gateways {
        what,
        old,
        path,
        new,
        pace: Pace::new(what.rate),
    };
    let summary = start_runtime()?.block_on(pair.compare_all(&users));
    if what.json {
        say_json(&summary)?;
    } else {
        for shown in &summary.shown {
            print_line(&format!("user {}: {}", shown.user, shown.said))?;
        }
        let word = if summary.same {
            paint_text(GOOD, "the same")
        } else {
            paint_text(BAD, "DIFFERENT")
        };
        print_line(&format!(
            "{word}: {} users, {} different, {} settled (lag), {} unanswered",
            summary.users, summary.different, summary.settled, summary.unanswered
        ))?;
    }
    Ok(exit_code(summary.same))
}

/// Origin, and path with query, of the address with a place for the user.
fn split_template(template: &str) -> Result<(String, String), Unable> {
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

impl Gateways<'_> {
    async fn compare_all(&self, users: &[UserId]) -> ShadowSummary {
        let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let progress = Progress::new("comparing", count);
        let at_once = usize::try_from(self.what.at_once).unwrap_or(1).max(1);
        let looks: Vec<_> = users.iter().map(|user| self.compare_user(*user)).collect();
        let mut looks = stream::iter(looks).buffered(at_once);
        let mut summary = ShadowSummary::default();
        let mut left = users.iter();
        while let (Some(verdict), Some(user)) = (looks.next().await, left.next()) {
            progress.add_done(1);
            if let (UserVerdict::Unanswered(why), false) = (&verdict, self.what.json) {
                progress.suspend_for(|| print_error(&format!("user {user}: {why}")));
            }
            summary.add_verdict(*user, verdict);
        }
        progress.clear_bar();
        summary.same = summary.different == 0 && summary.unanswered == 0;
        summary
    }

    async fn compare_user(&self, user: UserId) -> UserVerdict {
        self.pace.wait_turn().await;
        match self.find_differences(user).await {
            Err(why) => return UserVerdict::Unanswered(why),
            Ok(found) if found.is_empty() => return UserVerdict::Same,
            Ok(_) => {}
        }
        sleep(Duration::from_millis(self.what.grace_ms)).await;
        match self.find_differences(user).await {
            Err(why) => UserVerdict::Unanswered(why),
            Ok(found) if found.is_empty() => UserVerdict::Settled,
            Ok(found) => UserVerdict::Different(found),
        }
    }

    /// The differences now.
    async fn find_differences(&self, user: UserId) -> Result<Vec<String>, String> {
        let path = self.path.replace(PLACE, &user.to_string());
        let (old, new) = futures::join!(
            self.old.get(&path),
            service_view::ask_balances(&self.new, user, None)
        );
        let old = old.map_err(|error| format!("old: {error}"))?;
        if old.status != 200 {
            return Err(format!("old: HTTP {}", old.status));
        }
        let old =
            ShadowBalances::of_other(&old.body, self.what).map_err(|why| format!("old: {why}"))?;
        let new = new.map_err(|error| format!("new: {error}"))?;
        let new = new
            .balances
            .and_then(|list| ShadowBalances::of_service(&list));
        let new = new.map_err(|why| format!("new: {why}"))?;
        Ok(new.list_differences(&old))
    }
}

impl ShadowSummary {
    fn add_verdict(&mut self, user: UserId, verdict: UserVerdict) {
        self.users = self.users.saturating_add(1);
        let (counter, lines) = match verdict {
            UserVerdict::Same => return,
            UserVerdict::Settled => (&mut self.settled, Vec::new()),
            UserVerdict::Different(lines) => (&mut self.different, lines),
            UserVerdict::Unanswered(why) => (&mut self.unanswered, vec![why]),
        };
        *counter = counter.saturating_add(1);
        for said in lines {
            if self.shown.len() < SHOWN_MAX {
                let user = user.get();
                self.shown.push(ShownDifference { user, said });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_into_origin_and_path() {
        let good = split_template("http://old:8080/api/balance?user_id={user}").unwrap();
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
            assert!(split_template(bad).is_err(), "{bad}");
        }
    }
}
