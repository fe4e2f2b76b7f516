//! What is known of one user's changes.

use std::{borrow::Cow, time::Duration};

use tokio::time::Instant;

use super::Mark;
use crate::domain::{AssetId, Floors, Seq, Snapshot};

/// Assets that one user's mark names for reading them again from the ledger. More are of no use: they are read by catalogue.
const REREAD_MAX: usize = 64;

/// What is remembered of one user. Most are only read: they have nothing but what was shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Memo {
    /// Floors by answers: real, and remembered as long as the user is.
    pub(super) shown: Floors,
    pub(super) news: Option<Box<News>>,
}

/// What notifications said of one user. It ends by itself, however often the user is read: a forged seq must not stay, and a
/// user is to be read from the view again.
#[derive(Debug, Clone, Default)]
pub(super) struct News {
    /// Floors, and when each was told.
    pub(super) notified: Vec<(AssetId, Seq, Instant)>,
    pub(super) told: Snapshot,
    pub(super) changed: Option<Instant>,
    pub(super) reread: u64,
    /// The last of them that a load from the ledger knew of.
    pub(super) read: u64,
    pub(super) reread_assets: Vec<AssetId>,
}

impl Memo {
    pub(super) fn news(&mut self) -> &mut News {
        self.news.get_or_insert_default()
    }

    /// A notification's floor. True if it rose.
    pub(super) fn notify(&mut self, asset: AssetId, seq: Seq, ttl: Duration, now: Instant) -> bool {
        let is_news = self.shown.get(asset).is_none_or(|shown| shown < seq);
        let notified = &mut self.news().notified;
        notified.retain(|(_, _, told)| lasts(*told, ttl, now));
        if let Some((_, floor, told)) = notified.iter_mut().find(|floor| floor.0 == asset) {
            let rises = *floor < seq;
            if *floor <= seq {
                (*floor, *told) = (seq, now);
            }
            rises && is_news
        } else {
            notified.push((asset, seq, now));
            is_news
        }
    }

    /// A notification without a seq, the `count`th of all users.
    pub(super) fn reread_later(&mut self, asset: Option<AssetId>, count: u64) {
        let news = self.news();
        news.reread = count;
        if let Some(asset) = asset
            && !news.reread_assets.contains(&asset)
            && news.reread_assets.len() < REREAD_MAX
        {
            news.reread_assets.push(asset);
        }
    }

    /// The floors by notifications that have not ended.
    fn notified(&self, ttl: Duration, now: Instant) -> impl Iterator<Item = (AssetId, Seq)> {
        let notified = self.news.iter().flat_map(|news| &news.notified);
        let lasting = notified.filter(move |(_, _, told)| lasts(*told, ttl, now));
        lasting.map(|(asset, seq, _)| (*asset, *seq))
    }

    /// All floors that still count.
    pub(super) fn floors(&self, ttl: Duration, now: Instant) -> Floors {
        let mut floors = self.shown.clone();
        for (asset, seq) in self.notified(ttl, now) {
            floors.raise(asset, seq);
        }
        floors
    }

    /// The snapshot is below none of them.
    pub(super) fn met_by(&self, snapshot: &Snapshot, ttl: Duration, now: Instant) -> bool {
        let met = |(asset, seq)| {
            snapshot
                .get(asset)
                .is_some_and(|balance| balance.seq >= seq)
        };
        self.shown.met_by(snapshot) && self.notified(ttl, now).all(met)
    }

    /// This snapshot with the newer balances that notifications said, if that may be shown: see [`super::Marks::take`].
    pub(super) fn brought_up<'a>(
        &self,
        rereads: u64,
        snapshot: &'a Snapshot,
        ttl: Duration,
        now: Instant,
    ) -> Option<Cow<'a, Snapshot>> {
        let newest = match &self.news {
            Some(news) if news.reread > news.read => return None,
            Some(news) if !snapshot.covers(&news.told) => Cow::Owned(snapshot.merge(&news.told)),
            Some(_) | None => Cow::Borrowed(snapshot),
        };
        let allowed = self.reread() == rereads && self.met_by(&newest, ttl, now);
        allowed.then_some(newest)
    }

    /// Counts notifications without a seq.
    pub(super) fn reread(&self) -> u64 {
        self.news.as_ref().map_or(0, |news| news.reread)
    }

    /// What of it still counts.
    pub(super) fn mark(&self, ttl: Duration, now: Instant) -> Mark {
        let floors = self.floors(ttl, now);
        let Some(news) = &self.news else {
            return Mark {
                floors,
                ..Mark::default()
            };
        };
        Mark {
            floors,
            told: news.told.clone(),
            changed: news.changed.is_some_and(|at| lasts(at, ttl, now)),
            reread: news.reread,
            reread_assets: news.reread_assets.clone(),
        }
    }
}

/// What was told then still counts.
fn lasts(told: Instant, ttl: Duration, now: Instant) -> bool {
    now.saturating_duration_since(told) < ttl
}
