//! The feed that an instance follows: [`Inst::begin`], [`Inst::take`] are `feed::invalidations::Follower` in the code.

use crate::{
    instance::{Inst, Page, Position, Tap, floor_ttl},
    redis::{Feed, at_tick},
    rules::{Rule, Rules},
    state::Tick,
};

impl Inst {
    /// `Follower::begin_position`, on a tap that was just opened.
    /// `ahead` is how far Redis' clock is before this one.
    pub fn begin(&mut self, rules: Rules, now: Tick, run: u8, ahead: Tick) {
        let Some(session) = self.session else { return };
        let epoch = session.epoch;
        self.tap = Some(Tap {
            run,
            epoch: epoch.id,
        });
        self.page = None;
        self.blind_until = self.blind_until.max(epoch.birth + floor_ttl(rules));
        let compared = rules.holds(Rule::EpochCompared);
        if self
            .position
            .is_some_and(|position| position.epoch == epoch.id || !compared)
        {
            return;
        }
        if self.position.is_some() {
            self.proof = None;
            self.lost(rules, now);
        } else if rules.holds(Rule::FirstSessionTurns) {
            self.turn(rules);
        }
        let cursor = at_tick((now + ahead).saturating_sub(floor_ttl(rules)));
        self.position = Some(Position {
            epoch: epoch.id,
            cursor,
            seen: false,
        });
    }

    /// `BlockingConnection::read_feed`
    pub fn read_feed(&mut self, now: Tick, feed: Option<&Feed>) {
        let Some(position) = self.position else {
            return;
        };
        let nothing = Feed::default();
        let there = feed.unwrap_or(&nothing);
        let posts = there
            .posts
            .iter()
            .filter(|post| post.id > position.cursor)
            .cloned()
            .collect();
        self.page = Some(Page {
            sent: now,
            posts,
            last: there.last,
            gone: feed.is_none(),
        });
    }

    /// `Follower::read_on` after the answer; `epoch` is what the tap then says: none if it is broken.
    pub fn take(&mut self, rules: Rules, now: Tick, epoch: Option<Option<u8>>) {
        let (Some(page), Some(tap)) = (self.page.take(), self.tap) else {
            return;
        };
        let whole = self.take_page(rules, now, &page);
        let gap_first = rules.holds(Rule::GapFirst);
        if !whole && gap_first {
            self.proof = None;
            self.missed(rules, now);
        }
        match epoch {
            None => {
                self.tap = None;
                return;
            }
            Some(id) if id != Some(tap.epoch) && rules.holds(Rule::EpochCompared) => {
                self.tap = None;
                if self
                    .session
                    .is_some_and(|session| session.epoch.id == tap.epoch)
                {
                    self.session = None;
                }
                return;
            }
            Some(_) => {}
        }
        if whole {
            let dated = if rules.holds(Rule::ProofDatedWhenSent) {
                page.sent
            } else {
                now
            };
            self.proof = self.proof.max(Some(dated));
        } else if !gap_first {
            self.proof = None;
            self.missed(rules, now);
        }
    }

    /// `Follower::take_page`
    fn take_page(&mut self, rules: Rules, now: Tick, page: &Page) -> bool {
        let Some(mut position) = self.position else {
            return true;
        };
        let mut whole = true;
        if rules.holds(Rule::FeedGoneIsAGap) {
            whole &= !page.gone && (!position.seen || page.last >= position.cursor);
        }
        for post in &page.posts {
            let follows = if position.seen {
                post.before == position.cursor
            } else {
                post.before <= position.cursor
            };
            whole &= follows;
            (position.cursor, position.seen) = (post.id, true);
            if let Some(news) = post.news {
                self.changed(rules, now, news);
                self.tell(rules, now, news);
            }
        }
        whole &= page.last <= position.cursor;
        if !whole {
            position.cursor = page
                .posts
                .last()
                .map_or(page.last, |post| post.id.max(page.last));
            position.seen = true;
        }
        self.position = Some(position);
        whole || !rules.holds(Rule::Chain)
    }
}
