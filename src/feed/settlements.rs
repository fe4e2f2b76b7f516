//! Taking notifications from the settlement stream, as one of its consumers.
//!
//! **Invariants.** An entry is acknowledged after it took effect, never before. One that cannot be read goes to the dead stream with
//! the reason, and the stream goes on. What a consumer that died had taken is claimed after `claim_idle`.
//!
//! **Limits.** One page of entries at a time.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    apply::Applier,
    telemetry::{Applied, Meters, Sparing, Via},
    tiers::redis::{
        Redis,
        stream::{Event, Tap},
    },
};

/// How long one read waits for entries.
const BLOCK: Duration = Duration::from_millis(500);
/// How long to wait before another try.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long applying one page may take.
const APPLY_MAX: Duration = Duration::from_secs(5);
/// Characters of a reason in the log: it may quote what a producer sent.
const REASON_MAX_CHARS: usize = 200;
/// Consumers that have had nothing for this many `claim_idle` are removed.
const FORGET_AFTER: u32 = 20;

/// The connection is of no use any more, or Redis cannot take it now.
#[derive(Debug)]
struct Lost;

/// Takes notifications from the stream.
#[derive(Debug)]
pub struct Consumer {
    redis: Arc<Redis>,
    applier: Arc<Applier>,
    meters: Arc<Meters>,
    stream: String,
    name: String,
    claim_idle: Duration,
    trouble: Mutex<Option<&'static str>>,
    unreadable_log: Sparing,
}

impl Consumer {
    /// Not started yet. `name` tells this consumer from all others.
    #[must_use]
    pub fn new(
        redis: Arc<Redis>,
        applier: Arc<Applier>,
        meters: Arc<Meters>,
        stream: String,
        name: String,
        claim_idle: Duration,
    ) -> Self {
        Self {
            redis,
            applier,
            meters,
            stream,
            name,
            claim_idle,
            trouble: Mutex::new(None),
            unreadable_log: Sparing::default(),
        }
    }

    /// Takes until shutdown.
    pub async fn run(&self, shutdown: CancellationToken) {
        let take = async {
            loop {
                if self.redis.link.session().is_some()
                    && let Ok(tap) = self.redis.tap().await
                {
                    let Lost = self.take_all(&tap).await;
                }
                tokio::time::sleep(RETRY_EVERY).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = take => {}
        }
        if let Ok(tap) = self.redis.tap().await {
            // A consumer that is left behind is removed by another one later.
            let _ = tap
                .tidy(&self.stream, Some(&self.name), self.idle_max())
                .await;
        }
    }

    /// What is the matter with the stream, if something is beside Redis itself.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        *self.trouble.lock()
    }

    fn idle_max(&self) -> Duration {
        self.claim_idle.saturating_mul(FORGET_AFTER)
    }

    async fn take_all(&self, tap: &Tap) -> Lost {
        let made = tap.make_group(&self.stream).await;
        let trouble = made.err().map(|error| match error.code() {
            Some("WRONGTYPE") => "its key holds something that is no stream",
            Some(_) | None => "it cannot be read",
        });
        let before = std::mem::replace(&mut *self.trouble.lock(), trouble);
        if let Some(reason) = trouble {
            if before != trouble {
                tracing::warn!(
                    stream.name = self.stream,
                    reason,
                    "the settlement stream cannot be followed"
                );
            }
            return Lost;
        }
        // What this consumer had taken when a connection was lost is its own still.
        loop {
            let Ok(events) = tap.events(&self.stream, &self.name, false, BLOCK).await else {
                return Lost;
            };
            if events.is_empty() {
                break;
            }
            let Ok(()) = self.take(tap, events).await else {
                return Lost;
            };
        }
        let mut claimed = None;
        loop {
            let due = claimed.is_none_or(|at: Instant| {
                at.elapsed() >= self.claim_idle.min(Duration::from_secs(1))
            });
            if due {
                claimed = Some(Instant::now());
                loop {
                    let Ok(events) = tap.claim(&self.stream, &self.name, self.claim_idle).await
                    else {
                        return Lost;
                    };
                    if events.is_empty() {
                        break;
                    }
                    let Ok(()) = self.take(tap, events).await else {
                        return Lost;
                    };
                }
                let Ok(()) = tap.tidy(&self.stream, None, self.idle_max()).await else {
                    return Lost;
                };
                let Ok(waiting) = tap.waiting(&self.stream).await else {
                    return Lost;
                };
                self.meters.stream_lag(waiting);
            }
            let Ok(events) = tap.events(&self.stream, &self.name, true, BLOCK).await else {
                return Lost;
            };
            let Ok(()) = self.take(tap, events).await else {
                return Lost;
            };
        }
    }

    /// These take effect, or are put aside, and are acknowledged.
    async fn take(&self, tap: &Tap, events: Vec<Event>) -> Result<(), Lost> {
        let mut ids = Vec::with_capacity(events.len());
        let mut notifications = Vec::with_capacity(events.len());
        for event in events {
            match event.read() {
                Ok(notification) => notifications.push(notification),
                Err(reason) => {
                    if let Some(left_out) = self.unreadable_log.line() {
                        let reason: String = reason.chars().take(REASON_MAX_CHARS).collect();
                        tracing::warn!(
                            stream.id = event.id,
                            reason,
                            lines.left_out = left_out,
                            "a settlement event cannot be read"
                        );
                    }
                    self.meters.notifications(Via::Stream, Applied::Invalid, 1);
                    tap.bury(&self.redis.link.keys.dead(), &event, &reason)
                        .await
                        .map_err(|_| Lost)?;
                }
            }
            ids.push(event.id);
        }
        while !notifications.is_empty() {
            let deadline = Instant::now()
                .checked_add(APPLY_MAX)
                .unwrap_or_else(Instant::now);
            match self
                .applier
                .apply(&notifications, Via::Stream, deadline)
                .await
            {
                Ok(_) => break,
                Err(_) => tokio::time::sleep(RETRY_EVERY).await,
            }
        }
        fail::fail_point!("not-acknowledged");
        tap.acknowledge(&self.stream, &ids).await.map_err(|_| Lost)
    }
}
