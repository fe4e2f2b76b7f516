//! Following `balance:invalidations` with a cursor of our own.
//!
//! **Invariants.** Lag, gap and reconnect mean "I know nothing": freshness is proven only by a read of the feed to its end,
//! dated when it was asked for, and only if Redis was the same master with the same data after it. A break in the chain of entries, another epoch, or
//! an epoch younger than `floor_ttl` puts the view out of use for `floor_ttl`. A short loss is replayed from the cursor.
//!
//! **Limits.** Pages of [`PageSize`] entries; the feed is trimmed to twice `floor_ttl`.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::Applier,
    cache::redis::{
        Redis, RedisSession, jittered_wait,
        stream::{BlockingConnection, FeedNews, FeedPage, PageSize, StreamId},
    },
    clock,
    diagnosis::{Code, Finding, FindingPart},
    fail_points,
    protocol::{ChangeLog, Freshness},
    telemetry::{Meters, RateLimitedLog},
};

/// How long to wait before another try to connect.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// How long a read waits for entries before freshness is proven.
const SHORTEST: Duration = Duration::from_millis(1);
/// How often the feed is trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Follower {
    redis: Arc<Redis>,
    applier: Arc<Applier>,
    change_log: Arc<ChangeLog>,
    freshness: Arc<Freshness>,
    meters: Arc<Meters>,
    floor_ttl: Duration,
    block: Duration,
    /// Redis lost its data, and was not told again yet.
    redis_is_new: Notify,
    /// For lines about trimming.
    log: RateLimitedLog,
    /// Why the feed cannot be followed, though Redis answers.
    trouble: Mutex<Option<Finding>>,
    gap_log: RateLimitedLog,
}

#[derive(Debug, Clone)]
struct FeedCursor {
    epoch: String,
    cursor: StreamId,
    /// The cursor is an entry that was seen, not only a moment in the past.
    seen: bool,
    /// The last entry that took effect before Redis lost its data: entries up to it are read for the second time.
    taken_before: StreamId,
}

/// Why a connection is given up.
enum FollowEnd {
    /// It broke, or Redis is another.
    Lost,
    /// The chain broke: something was missed.
    Gap,
}

impl Follower {
    /// Not started yet. `max_staleness` decides how often freshness is proven.
    pub fn new(
        redis: Arc<Redis>,
        applier: Arc<Applier>,
        change_log: Arc<ChangeLog>,
        freshness: Arc<Freshness>,
        meters: Arc<Meters>,
        floor_ttl: Duration,
        max_staleness: Duration,
    ) -> Self {
        let block = max_staleness
            .checked_div(5)
            .unwrap_or_default()
            .max(Duration::from_millis(5));
        Self {
            redis,
            applier,
            change_log,
            freshness,
            meters,
            floor_ttl,
            block,
            redis_is_new: Notify::new(),
            log: RateLimitedLog::default(),
            trouble: Mutex::default(),
            gap_log: RateLimitedLog::default(),
        }
    }

    /// Why the feed cannot be followed, though Redis answers.
    pub fn feed_trouble(&self) -> Option<Finding> {
        self.trouble.lock().clone()
    }

    /// Follows until shutdown.
    pub async fn run_follower(&self, shutdown: CancellationToken) {
        let follow = async {
            let mut position: Option<FeedCursor> = None;
            let mut pages = PageSize::default();
            loop {
                // The term first: a session that ends after this ends the term too.
                let term = self.freshness.current_term();
                if let Some(session) = self.redis.link.open_session()
                    && let Ok(tap) = self.redis.open_blocking().await
                {
                    let from = self.begin_position(position.take(), &session);
                    let followed = self.follow_feed(&tap, &session, term, from, &mut pages);
                    position = Some(followed.await);
                }
                tokio::time::sleep(jittered_wait(RETRY_EVERY)).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follow => {}
            () = self.tell_again() => {}
        }
    }

    /// Tells each Redis that lost its data what this instance knows. The feed is followed meanwhile.
    async fn tell_again(&self) {
        loop {
            tokio::select! {
                () = self.redis_is_new.notified() => self.applier.tell_again().await,
                () = self.applier.wait_for_forgotten() => {}
            }
            self.applier.drop_forgotten().await;
        }
    }

    /// Goes on at the cursor where it is the same Redis; else reads the feed back over the last `floor_ttl`.
    fn begin_position(&self, position: Option<FeedCursor>, session: &RedisSession) -> FeedCursor {
        self.change_log.blind_for(session.young_for(self.floor_ttl));
        match position {
            Some(position) if position.epoch == session.epoch.id => position,
            other => {
                let taken_before = other.as_ref().map(|position| position.cursor);
                if taken_before.is_some() {
                    tracing::warn!(
                        redis.epoch = session.epoch.id,
                        "another redis: everything held counts for nothing"
                    );
                    self.applier.note_lost();
                    self.redis_is_new.notify_one();
                } else {
                    self.applier.start_over();
                }
                let back = i64::try_from(self.floor_ttl.as_millis()).unwrap_or(i64::MAX);
                let cursor = StreamId::at_ms(session.now().earliest.saturating_sub(back));
                FeedCursor {
                    epoch: session.epoch.id.clone(),
                    cursor,
                    seen: false,
                    taken_before: taken_before.unwrap_or_default(),
                }
            }
        }
    }

    /// Reads entries until the connection is lost; returns its last position.
    async fn follow_feed(
        &self,
        tap: &BlockingConnection,
        session: &Arc<RedisSession>,
        term: u64,
        from: FeedCursor,
        pages: &mut PageSize,
    ) -> FeedCursor {
        let mut position = from;
        let mut trimmed = Instant::now();
        match tap.is_of(session).await {
            Ok(true) => {}
            Ok(false) => {
                self.redis.link.end_changed(session);
                return position;
            }
            Err(_) => return position,
        }
        let mut gaps = 0_u32;
        loop {
            if self.freshness.current_term() != term {
                return position;
            }
            let read = self.read_on(tap, session, term, &mut position, pages).await;
            match read {
                Ok(()) => gaps = 0,
                Err(FollowEnd::Lost) => return position,
                Err(FollowEnd::Gap) => {
                    if let Some(left_out) = self.gap_log.permit_line() {
                        tracing::warn!(
                            lines.left_out = left_out,
                            "the feed has a gap: everything held counts for nothing"
                        );
                    }
                    self.applier.note_missed();
                    gaps = gaps.saturating_add(1);
                    if gaps > 1 {
                        // Every gap may write an entry: a feed that is broken again and again must not be filled by this.
                        tokio::time::sleep(RETRY_EVERY).await;
                    }
                }
            }
            if trimmed.elapsed() >= TRIM_EVERY {
                trimmed = Instant::now();
                self.trim_feed(tap, session, &position).await;
            }
        }
    }

    /// Trims entries that no instance reads any more. The entry that was seen last stays: the next one names it, and in an
    /// empty feed that would be a break of the chain.
    async fn trim_feed(
        &self,
        tap: &BlockingConnection,
        session: &RedisSession,
        position: &FeedCursor,
    ) {
        if !position.seen {
            return;
        }
        let before = trim_before(session.now().earliest, self.floor_ttl, position.cursor);
        let trimmed = tap
            .trim_feed(&self.redis.link.keys.feed_key(), before)
            .await;
        if let Err(error) = trimmed
            && let Some(left_out) = self.log.permit_line()
        {
            let finding = self
                .redis
                .link
                .finding_of(&error)
                .with_part(FindingPart::Feed);
            tracing::warn!(
                reason = %finding,
                lines.left_out = left_out,
                "the feed was not trimmed"
            );
        }
    }

    /// One read: entries take effect, then freshness is proven if that was all and Redis is the one that it was.
    async fn read_on(
        &self,
        tap: &BlockingConnection,
        session: &Arc<RedisSession>,
        term: u64,
        position: &mut FeedCursor,
        pages: &mut PageSize,
    ) -> Result<(), FollowEnd> {
        let keys = &self.redis.link.keys;
        let feed = keys.feed_key();
        // The first proof of a term is waited for by readers: what is there is read at once.
        let proven = self.freshness.is_proven(Instant::now());
        let block = if proven { self.block } else { SHORTEST };
        let page = tap.read_feed(&feed, position.cursor, block, pages).await;
        let page =
            page.map_err(|error| self.note_lost(self.redis.page_finding(&error, &feed, pages)))?;
        fail_points::reach("feed-read");
        // A gap counts before anything else may fail: the cursor has passed it.
        match page.last {
            Some(last) if self.take_page(&page, last, position) => {}
            Some(_) => return Err(FollowEnd::Gap),
            None => {
                // It was there when the epoch began. Whatever it told since the last read is lost. If it cannot be begun
                // again now, the next read finds that it is gone.
                let begun = tap.begin_feed(&feed, &session.epoch.id).await;
                if let Err(error) = begun {
                    let _: FollowEnd = self.note_lost(self.redis.link.finding_of(&error));
                }
                (position.cursor, position.seen) = (StreamId::default(), true);
                return Err(FollowEnd::Gap);
            }
        }
        // Asked after the feed: it was the master with these data when the feed was read.
        let vouched = tap.vouches_for(session, &keys.epoch_key()).await;
        let vouched =
            vouched.map_err(|error| self.note_lost(self.redis.link.finding_of(&error)))?;
        if !vouched {
            self.redis.link.end_changed(session);
            return Err(FollowEnd::Lost);
        }
        *self.trouble.lock() = None;
        if !page.full {
            self.freshness.prove_fresh(term, page.sent);
        }
        Ok(())
    }

    /// The feed could not be read: logged once where Redis refuses a command, so that another connection helps nothing, and where
    /// it is too slow again and again.
    fn note_lost(&self, finding: Finding) -> FollowEnd {
        let is_told = finding.code.is_refusal() || finding.code == Code::StreamSilent;
        if self.redis.link.open_session().is_some() && is_told {
            let finding = finding.with_part(FindingPart::Feed);
            let mut trouble = self.trouble.lock();
            if trouble.as_ref() != Some(&finding) {
                tracing::warn!(reason = %finding, "the feed cannot be followed");
                *trouble = Some(finding);
            }
        }
        FollowEnd::Lost
    }

    /// Entries take effect, in order. False if one of them, or one that was there before, was missed.
    fn take_page(&self, page: &FeedPage, last: StreamId, position: &mut FeedCursor) -> bool {
        // A stream whose last entry is before one that was seen is another stream.
        let mut whole = !position.seen || last >= position.cursor;
        for post in &page.posts {
            whole &= post.before.is_some_and(|before| {
                if position.seen {
                    before == position.cursor
                } else {
                    before <= position.cursor
                }
            });
            position.cursor = post.id;
            position.seen = true;
            for news in &post.news {
                self.applier.take_news(news);
                if let FeedNews::Dropped { user, floors: true } = news
                    && post.id > position.taken_before
                {
                    self.applier.note_forgotten(*user);
                }
            }
            let sent_at = i64::try_from(post.id.ms).unwrap_or(i64::MAX);
            let millis = u64::try_from(clock::wall_now().0.saturating_sub(sent_at)).unwrap_or(0);
            self.meters.bus_delay(Duration::from_millis(millis));
        }
        // Whatever was there before the read was asked for must have come with it.
        whole &= page.full || last <= position.cursor;
        if !whole {
            // Whatever was missed counts for nothing from here on: what comes next follows what is last there now.
            position.cursor = page.posts.last().map_or(last, |post| post.id.max(last));
            position.seen = true;
        }
        whole
    }
}

/// The first entry that stays when the feed is trimmed at `now_ms`, where this one was seen last.
fn trim_before(now_ms: i64, floor_ttl: Duration, seen: StreamId) -> StreamId {
    let horizon = i64::try_from(floor_ttl.as_millis())
        .unwrap_or(i64::MAX)
        .saturating_mul(2);
    StreamId::at_ms(now_ms.saturating_sub(horizon)).min(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_feed_keeps_its_last_entry() {
        let seen = |ms| StreamId { ms, seq: 3 };
        let before = |ms| trim_before(100_000, Duration::from_secs(10), seen(ms));
        assert_eq!(before(90_000), StreamId::at_ms(80_000));
        assert_eq!(before(79_000), seen(79_000), "nothing came for long");
    }
}
