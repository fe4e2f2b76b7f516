//! Redis takes what changed: notifications, what readers observed in the ledger, and invalidations.
//!
//! **Invariants.** All changes of one user that come in one request take effect in one script, and stand in one entry of the
//! feed. They are atomic with that entry, but for a cluster, where the user's entry comes first and the feed second, and a crash
//! in between is repaired by the repeated notification.
//!
//! **Limits.** [`BATCH`] changes in one pipeline, [`TOGETHER`] of them in one script, and more only where one user has more:
//! Redis serves no other client while a script runs (about 5 µs for each change).

use std::sync::Arc;

use futures::future::try_join_all;

use super::{
    Redis, RedisSession, entry,
    script::{self, Call},
};
use crate::{
    domain::{Balance, BalanceChange, Floors, Notification, UnixMillis, UserId},
    telemetry::{Fault, Op},
};

/// Changes (or users) per pipeline.
const BATCH: usize = 512;
/// Changes per script, and per entry of the feed, of users that have few.
const TOGETHER: usize = 32;
/// Values per entry of the feed, which is the longest list that a script hands on.
const VALUES_MAX: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// It was known already.
    pub old: bool,
}

/// A change, and whose balance changed.
type UserChange = (UserId, BalanceChange);

/// Asset, seq and the rest of a change, as the scripts and the feed have them.
type ScriptChange = (String, String, String);

/// How a script treats the feed: the fourth argument of `apply.lua`.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Feed,
    Apart,
    Observed,
}

impl Mode {
    const fn mode_word(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Apart => "apart",
            Self::Observed => "observed",
        }
    }
}

impl Redis {
    /// Notifications take effect that were heard at that moment: see [`Self::apply_changes`].
    pub async fn apply_notifications(
        &self,
        notifications: &[Notification],
        heard_at: UnixMillis,
    ) -> Result<Vec<Effect>, Fault> {
        let changes = notifications.iter();
        let changes: Vec<_> = changes
            .map(|one| (one.user, BalanceChange::of_notification(one, heard_at)))
            .collect();
        self.apply_changes(&changes).await
    }

    /// Changes take effect: floors rise, what is held moves or may not be shown any more, leases are revoked, the feed tells
    /// the others. Those of one user must stand together, and take effect together. Returns what each did.
    /// Errors: the fault: some users' may have taken effect, and all of them may be repeated.
    pub async fn apply_changes(&self, changes: &[UserChange]) -> Result<Vec<Effect>, Fault> {
        let session = self.session_for(Op::Apply)?;
        let mut effects = Vec::with_capacity(changes.len());
        let mut calls = pack_slices(changes, self.cluster).peekable();
        while calls.peek().is_some() {
            let mut size = 0_usize;
            let batch: Vec<_> = std::iter::from_fn(|| {
                let next =
                    calls.next_if(|call| size == 0 || size.saturating_add(call.len()) <= BATCH)?;
                size = size.saturating_add(next.len());
                Some(next)
            })
            .collect();
            self.apply_batch(&session, &batch, &mut effects).await?;
        }
        Ok(effects)
    }

    /// One pipeline: a script for each slice.
    async fn apply_batch(
        &self,
        session: &Arc<RedisSession>,
        batch: &[&[UserChange]],
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let calls: Vec<_> = batch
            .iter()
            .map(|some| self.apply_call(session, some))
            .collect();
        let replies = self.link.run_scripts(session, Op::Apply, &calls).await?;
        let mut untold = Vec::new();
        for (reply, some) in replies.into_iter().zip(batch) {
            let done: Vec<u8> = self.read_reply(reply, Op::Apply)?;
            effects.extend(done.iter().map(|done| Effect { old: done & 1 == 1 }));
            let to_announce: Vec<_> = done
                .iter()
                .zip(*some)
                .filter(|(done, _)| *done & 2 == 2)
                .map(|(_, change)| *change)
                .collect();
            if !to_announce.is_empty() {
                untold.push(self.announce_changes(session, to_announce));
            }
        }
        try_join_all(untold).await.map(drop)
    }

    fn apply_call(&self, session: &RedisSession, changes: &[UserChange]) -> Call {
        let mode = if self.cluster {
            Mode::Apart
        } else {
            Mode::Feed
        };
        let users: Vec<(UserId, Vec<ScriptChange>)> = changes
            .chunk_by(|one, other| one.0 == other.0)
            .filter_map(|some| Some((some.first()?.0, script_changes(some))))
            .collect();
        self.change_call(session, mode, self.floor_ttl.as_millis(), users)
    }

    /// A call of `apply.lua`.
    fn change_call(
        &self,
        session: &RedisSession,
        mode: Mode,
        floor_ttl_ms: u128,
        users: Vec<(UserId, Vec<ScriptChange>)>,
    ) -> Call {
        let mut call = Call::new(&script::APPLY);
        if matches!(mode, Mode::Feed) {
            call = call.with_key(self.link.keys.feed_key());
        }
        for (user, _) in &users {
            call = call.with_key(self.link.keys.user_key(*user));
        }
        call = call
            .with_arg(entry::VERSION)
            .with_arg(session.epoch.id.as_str())
            .with_arg(floor_ttl_ms.to_string())
            .with_arg(mode.mode_word());
        for (user, changes) in users {
            call = call
                .with_arg(user.to_string())
                .with_arg(changes.len().to_string());
            for (asset, seq, rest) in changes {
                call = call.with_arg(asset).with_arg(seq).with_arg(rest);
            }
        }
        call
    }

    /// The feed and the user's entry are apart: entry first, feed second, and last that it was told. These are of one user.
    async fn announce_changes(
        &self,
        session: &Arc<RedisSession>,
        changes: Vec<UserChange>,
    ) -> Result<(), Fault> {
        let Some(user) = changes.first().map(|first| first.0) else {
            return Ok(());
        };
        let changes = script_changes(&changes);
        let mut tell = Call::new(&script::ANNOUNCE).with_key(self.link.keys.feed_key());
        for value in feed_values(user, &changes) {
            tell = tell.with_arg("c").with_arg(value);
        }
        let _: String =
            self.read_reply(self.call_one(session, Op::Apply, tell).await?, Op::Apply)?;
        let mut done = Call::new(&script::ANNOUNCED).with_key(self.link.keys.user_key(user));
        let with_seq = changes.iter().filter(|(_, seq, _)| !seq.is_empty());
        let mut any = false;
        for (asset, seq, _) in with_seq {
            done = done.with_arg(asset.as_str()).with_arg(seq.as_str());
            any = true;
        }
        if any {
            let _: i64 =
                self.read_reply(self.call_one(session, Op::Apply, done).await?, Op::Apply)?;
        }
        Ok(())
    }

    /// Balances that a reader found in the ledger: what is held moves forward, all of them together. Nothing else happens, and a
    /// fault is only counted.
    pub async fn note_observed(&self, user: UserId, balances: &[Balance]) {
        let Ok(session) = self.session_for(Op::Fill) else {
            return;
        };
        let changes = balances.iter().map(|balance| {
            let (asset, seq) = (balance.asset.to_string(), balance.seq.to_string());
            (asset, seq, entry::rest_text(balance))
        });
        let users = vec![(user, changes.collect())];
        let call = self.change_call(&session, Mode::Observed, 0, users);
        if let Ok(reply) = self.call_one(&session, Op::Fill, call).await {
            let _: Result<Vec<u8>, Fault> = self.read_reply(reply, Op::Fill);
        }
    }

    /// Snapshots are dropped, here and by the feed everywhere; floors too if they are to be forgotten.
    /// Errors: the fault: some may be dropped.
    pub async fn drop_users(&self, users: &[UserId], floors: bool) -> Result<(), Fault> {
        let session = self.session_for(Op::Apply)?;
        for batch in users.chunks(BATCH) {
            let calls: Vec<_> = batch
                .iter()
                .map(|user| {
                    let call = Call::new(&script::DROP).with_key(self.link.keys.user_key(*user));
                    let call = if self.cluster {
                        call
                    } else {
                        call.with_key(self.link.keys.feed_key())
                    };
                    call.with_arg(entry::VERSION)
                        .with_arg(user.to_string())
                        .with_arg(if floors { "1" } else { "0" })
                })
                .collect();
            for reply in self.link.run_scripts(&session, Op::Apply, &calls).await? {
                let _: i64 = self.read_reply(reply, Op::Apply)?;
            }
            if self.cluster {
                let tell = batch.iter().map(|user| {
                    let call = Call::new(&script::ANNOUNCE)
                        .with_key(self.link.keys.feed_key())
                        .with_arg(if floors { "x" } else { "d" })
                        .with_arg(user.to_string());
                    self.call_one(&session, Op::Apply, call)
                });
                for reply in try_join_all(tell).await? {
                    let _: String = self.read_reply(reply, Op::Apply)?;
                }
            }
        }
        Ok(())
    }

    /// Forgets the floors that were told of these users, in Redis and by the feed everywhere. A newer floor stays.
    /// Errors: the fault: some may be forgotten.
    pub async fn forget_told(&self, users: &[(UserId, Floors)]) -> Result<(), Fault> {
        let session = self.session_for(Op::Apply)?;
        for batch in users.chunks(BATCH) {
            let calls: Vec<_> = batch
                .iter()
                .map(|(user, told)| self.forget_call(*user, told))
                .collect();
            let replies = self.link.run_scripts(&session, Op::Apply, &calls).await?;
            for ((user, _), reply) in batch.iter().zip(replies) {
                let stays: String = self.read_reply(reply, Op::Apply)?;
                if self.cluster {
                    let mut tell = Call::new(&script::ANNOUNCE)
                        .with_key(self.link.keys.feed_key())
                        .with_arg("x")
                        .with_arg(user.to_string());
                    if !stays.is_empty() {
                        tell = tell.with_arg("c").with_arg(format!("{user} {stays}"));
                    }
                    let told = self.call_one(&session, Op::Apply, tell).await?;
                    let _: String = self.read_reply(told, Op::Apply)?;
                }
            }
        }
        Ok(())
    }

    fn forget_call(&self, user: UserId, told: &Floors) -> Call {
        let mut call = Call::new(&script::FORGET).with_key(self.link.keys.user_key(user));
        if !self.cluster {
            call = call.with_key(self.link.keys.feed_key());
        }
        call = call.with_arg(entry::VERSION).with_arg(user.to_string());
        for (asset, seq) in told.iter() {
            call = call.with_arg(asset.to_string()).with_arg(seq.to_string());
        }
        call
    }
}

/// Changes in slices, each for one script: up to [`TOGETHER`] of them, and never a part of one user's. In a cluster, where
/// entries live apart, one user's each.
fn pack_slices(changes: &[UserChange], cluster: bool) -> impl Iterator<Item = &[UserChange]> {
    let mut rest = changes;
    std::iter::from_fn(move || {
        let mut len = 0_usize;
        for user in rest.chunk_by(|one, other| one.0 == other.0) {
            let with = len.saturating_add(user.len());
            if len > 0 && (cluster || with > TOGETHER) {
                break;
            }
            len = with;
        }
        let (some, more) = rest.split_at_checked(len)?;
        rest = more;
        (!some.is_empty()).then_some(some)
    })
}

/// One user's changes as the values of an entry of the feed: one for each, or several in one where there would be too many.
fn feed_values(user: UserId, changes: &[ScriptChange]) -> impl Iterator<Item = String> {
    let run = changes.len().div_ceil(VALUES_MAX).max(1);
    changes.chunks(run).map(move |some| {
        let texts: Vec<_> = some
            .iter()
            .map(|(asset, seq, rest)| format!("{asset} {seq} {rest}"))
            .collect();
        format!("{user} {}", texts.join(","))
    })
}

fn script_changes(changes: &[UserChange]) -> Vec<ScriptChange> {
    let changes = changes.iter().map(|(_, change)| match change {
        BalanceChange::Moved {
            asset,
            seq,
            balance,
        } => {
            let rest = balance.as_ref().map(entry::rest_text);
            (asset.to_string(), seq.to_string(), rest.unwrap_or_default())
        }
        BalanceChange::Unknown { asset } => {
            let asset = asset.map_or_else(|| "*".to_owned(), |asset| asset.to_string());
            (asset, String::new(), String::new())
        }
    });
    changes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_change(user: i64) -> UserChange {
        let unknown = BalanceChange::Unknown { asset: None };
        (UserId::new(user).unwrap(), unknown)
    }

    fn slice_sizes(users: &[(i64, usize)], cluster: bool) -> Vec<usize> {
        let all: Vec<_> = users
            .iter()
            .flat_map(|(user, count)| std::iter::repeat_n(test_change(*user), *count))
            .collect();
        let packed: Vec<_> = pack_slices(&all, cluster).collect();
        assert_eq!(packed.concat(), all, "all of them, in their order");
        packed.iter().map(|some| some.len()).collect()
    }

    #[test]
    fn a_script_takes_users_whole() {
        assert_eq!(slice_sizes(&[], false), [0; 0]);
        assert_eq!(slice_sizes(&[(1, 1)], false), [1]);
        assert_eq!(slice_sizes(&[(1, 20), (2, 12), (3, 1)], false), [32, 1]);
        assert_eq!(slice_sizes(&[(1, 20), (2, 13), (3, 1)], false), [20, 14]);
        assert_eq!(slice_sizes(&[(1, 1), (2, 64), (3, 1)], false), [1, 64, 1]);
        assert_eq!(slice_sizes(&[(1, 10_000)], false), [10_000]);
        assert_eq!(slice_sizes(&[(1, 2), (2, 1), (3, 1)], true), [2, 1, 1]);
    }

    #[test]
    fn an_entry_of_the_feed_has_a_bounded_number_of_values() {
        let user = UserId::new(7).unwrap();
        let change = |asset: usize| (asset.to_string(), "5".to_owned(), "1 2 - 3".to_owned());
        for (changes, values) in [
            (1, 1),
            (2, 2),
            (1_000, 1_000),
            (1_001, 501),
            (10_000, 1_000),
        ] {
            let all: Vec<_> = (1..=changes).map(change).collect();
            assert_eq!(feed_values(user, &all).count(), values, "{changes}");
        }
        let both: Vec<_> = (1..=2).map(change).collect();
        let told: Vec<_> = feed_values(user, &both).collect();
        assert_eq!(told, ["7 1 5 1 2 - 3", "7 2 5 1 2 - 3"]);
    }
}
