//! Redis takes what changed: notifications, what readers observed in the ledger, and invalidations.
//!
//! **Invariants.** Notifications are atomic with what the feed tells of them, but for a cluster, where the entry comes first and
//! the feed second, and a crash in between is repaired by the repeated notification.
//!
//! **Limits.** [`BATCH`] notifications in one pipeline, [`TOGETHER`] of them in one script: nobody else is served by Redis while
//! one runs (about 5 µs for each).

use std::sync::Arc;

use futures::future::try_join_all;

use super::{
    Redis, Session, entry,
    script::{self, Call},
};
use crate::{
    domain::{Balance, Notification, Said, UnixMillis, UserId},
    telemetry::{Fault, Op},
};

/// Notifications (or users) per pipeline.
const BATCH: usize = 512;
/// Notifications per script, and per entry of the feed.
const TOGETHER: usize = 32;

/// What applying one notification did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// It was known already.
    pub old: bool,
}

impl Redis {
    /// Notifications take effect, in their order: floors rise, what is held moves or may not be shown any more, leases are
    /// revoked, the feed tells the others. Each notification is atomic (in a cluster: entry first, feed second).
    ///
    /// # Errors
    /// The fault: some of them may have taken effect, and all of them may be repeated.
    pub async fn apply(
        &self,
        notifications: &[Notification],
        heard_at: UnixMillis,
    ) -> Result<Vec<Effect>, Fault> {
        let session = self.session(Op::Apply)?;
        // The entries of a cluster live apart.
        let together = if self.cluster { 1 } else { TOGETHER };
        let mut effects = Vec::with_capacity(notifications.len());
        for batch in notifications.chunks(BATCH) {
            let calls: Vec<_> = batch
                .chunks(together)
                .map(|some| self.apply_call(&session, some, heard_at))
                .collect();
            let replies = self.link.run_scripts(&session, Op::Apply, &calls).await?;
            let mut untold = Vec::new();
            for (reply, some) in replies.into_iter().zip(batch.chunks(together)) {
                let done: Vec<u8> = self.read(reply, Op::Apply)?;
                for (done, notification) in done.into_iter().zip(some) {
                    effects.push(Effect { old: done & 1 == 1 });
                    if done & 2 == 2 {
                        untold.push(self.announce(&session, notification, heard_at));
                    }
                }
            }
            try_join_all(untold).await?;
        }
        Ok(effects)
    }

    fn apply_call(
        &self,
        session: &Session,
        notifications: &[Notification],
        heard_at: UnixMillis,
    ) -> Call {
        let mut call = Call::new(&script::APPLY);
        if !self.cluster {
            call = call.key(self.link.keys.feed());
        }
        for notification in notifications {
            call = call.key(self.link.keys.user(notification.user));
        }
        let call = call
            .arg(entry::VERSION)
            .arg(session.epoch.id.as_str())
            .arg(self.floor_ttl.as_millis().to_string())
            .arg("0");
        notifications.iter().fold(call, |call, notification| {
            let (asset, seq, rest) = told(notification, heard_at);
            call.arg(notification.user.to_string())
                .arg(asset)
                .arg(seq)
                .arg(rest)
        })
    }

    /// The feed and the user's entry are apart: entry first, feed second, and last that it was told.
    async fn announce(
        &self,
        session: &Arc<Session>,
        notification: &Notification,
        heard_at: UnixMillis,
    ) -> Result<(), Fault> {
        let (asset, seq, rest) = told(notification, heard_at);
        let tell = Call::new(&script::ANNOUNCE)
            .key(self.link.keys.feed())
            .arg("c")
            .arg(format!("{} {asset} {seq} {rest}", notification.user));
        let _: String = self.read(self.one(session, Op::Apply, tell).await?, Op::Apply)?;
        if !seq.is_empty() {
            let done = Call::new(&script::ANNOUNCED)
                .key(self.link.keys.user(notification.user))
                .arg(asset)
                .arg(seq);
            let _: i64 = self.read(self.one(session, Op::Apply, done).await?, Op::Apply)?;
        }
        Ok(())
    }

    /// Balances that a reader found in the ledger: what is held moves forward. Nothing else happens, and a fault is only
    /// counted.
    pub async fn observed(&self, user: UserId, balances: &[Balance]) {
        let Ok(session) = self.session(Op::Fill) else {
            return;
        };
        let mut call = Call::new(&script::APPLY);
        for _ in balances {
            call = call.key(self.link.keys.user(user));
        }
        let call = call
            .arg(entry::VERSION)
            .arg(session.epoch.id.as_str())
            .arg("0")
            .arg("1");
        let call = balances.iter().fold(call, |call, balance| {
            call.arg(user.to_string())
                .arg(balance.asset.to_string())
                .arg(balance.seq.to_string())
                .arg(entry::rest_text(balance))
        });
        let _ = self.link.run_scripts(&session, Op::Fill, &[call]).await;
    }

    /// Snapshots are dropped, here and by the feed everywhere; floors too if they are to be forgotten.
    ///
    /// # Errors
    /// The fault: some may be dropped.
    pub async fn drop_users(&self, users: &[UserId], floors: bool) -> Result<(), Fault> {
        let session = self.session(Op::Apply)?;
        for batch in users.chunks(BATCH) {
            let calls: Vec<_> = batch
                .iter()
                .map(|user| {
                    let call = Call::new(&script::DROP).key(self.link.keys.user(*user));
                    let call = if self.cluster {
                        call
                    } else {
                        call.key(self.link.keys.feed())
                    };
                    call.arg(entry::VERSION)
                        .arg(user.to_string())
                        .arg(if floors { "1" } else { "0" })
                })
                .collect();
            for reply in self.link.run_scripts(&session, Op::Apply, &calls).await? {
                let _: i64 = self.read(reply, Op::Apply)?;
            }
            if self.cluster {
                let tell = batch.iter().map(|user| {
                    let call = Call::new(&script::ANNOUNCE)
                        .key(self.link.keys.feed())
                        .arg(if floors { "x" } else { "d" })
                        .arg(user.to_string());
                    self.one(&session, Op::Apply, call)
                });
                try_join_all(tell).await?;
            }
        }
        Ok(())
    }
}

/// Asset, seq and the rest of a notification, as the scripts and the feed have them.
fn told(notification: &Notification, heard_at: UnixMillis) -> (String, String, String) {
    match notification.said {
        Said::Values { asset, seq, .. } => {
            let rest = notification
                .balance(heard_at)
                .map(|balance| entry::rest_text(&balance))
                .unwrap_or_default();
            (asset.to_string(), seq.to_string(), rest)
        }
        Said::Seq { asset, seq } => (asset.to_string(), seq.to_string(), String::new()),
        Said::Asset { asset } => (asset.to_string(), String::new(), String::new()),
        Said::User => ("*".to_owned(), String::new(), String::new()),
    }
}
