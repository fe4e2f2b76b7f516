//! The knowledge of one user's changes.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{UserMark, generations::HeapBytes};
use crate::{
    domain::{AssetId, BalanceChange, Floors, Seq, Snapshot},
    protocol::{
        forgetting::{RaiseFacts, may_shown_raise_floors},
        rules::{RedisFacts, may_redis_snapshot_be_accepted},
    },
};

/// The most assets of one user that are read again from the ledger by name; beyond that the whole catalogue is read.
const REREAD_MAX: usize = 64;

/// Announced changes of one user. They end by themselves, however often the user is read: a forged seq must not stay, and a
/// user is to be read from the view again.
#[derive(Debug, Default)]
pub(super) struct AnnouncedChanges {
    /// Floors, and when each was notified. Sorted by asset, no asset twice.
    pub(super) notified: Vec<(AssetId, Seq, Instant)>,
    /// The newest balances that notifications carried.
    pub(super) told: Snapshot,
    pub(super) changed: Option<Instant>,
    pub(super) reread: Option<Box<Reread>>,
}

/// Notifications without a seq of one user.
#[derive(Debug, Default)]
pub(super) struct Reread {
    /// The number of the last one.
    pub(super) last: u64,
    /// The last one that a load from the ledger knew of.
    pub(super) read: u64,
    /// The last one that made the user's floors be forgotten.
    pub(super) forgotten: u64,
    pub(super) assets: Vec<AssetId>,
}

impl HeapBytes for Box<AnnouncedChanges> {
    fn heap_bytes(&self) -> usize {
        let notified = self
            .notified
            .capacity()
            .saturating_mul(size_of::<(AssetId, Seq, Instant)>());
        let told = size_of_val(self.told.balances());
        let reread = self.reread.as_ref().map_or(0, |reread| {
            let assets = reread
                .assets
                .capacity()
                .saturating_mul(size_of::<AssetId>());
            size_of::<Reread>().saturating_add(assets)
        });
        size_of::<AnnouncedChanges>()
            .saturating_add(notified)
            .saturating_add(told)
            .saturating_add(reread)
    }
}

impl HeapBytes for Floors {
    fn heap_bytes(&self) -> usize {
        self.iter()
            .count()
            .saturating_mul(size_of::<(AssetId, Seq)>())
    }
}

impl AnnouncedChanges {
    /// Notifications came; those without a seq are the `count`th of all users. Returns for each whether its floor rose or is not
    /// known. Readers wait meanwhile: what takes a step for each floor is done once for all of them.
    pub(super) fn take_changes(
        &mut self,
        changes: &[BalanceChange],
        count: u64,
        ttl: Duration,
        now: Instant,
    ) -> Vec<bool> {
        self.notified
            .retain(|(_, _, told)| lasts_until(*told, ttl, now));
        let (mut first, mut carried) = (BTreeMap::new(), Vec::new());
        let news = changes.iter().map(|change| match *change {
            BalanceChange::Moved {
                asset,
                seq,
                balance,
            } => {
                carried.extend(balance);
                self.raise_floor(asset, seq, now, &mut first)
            }
            BalanceChange::Unknown { asset } => {
                self.require_ledger(asset, count);
                true
            }
        });
        let news = news.collect();
        if !first.is_empty() {
            // Most users have a change in one or two assets: no room is kept for others.
            self.notified.reserve_exact(first.len());
            let first = first.into_iter();
            self.notified
                .extend(first.map(|(asset, seq)| (asset, seq, now)));
            self.notified.sort_by_key(|floor| floor.0);
        }
        if !carried.is_empty() {
            self.told = self.told.merge_with(&Snapshot::new(carried));
        }
        news
    }

    /// A notification without a seq came, the `count`th of all users.
    fn require_ledger(&mut self, asset: Option<AssetId>, count: u64) {
        let reread = self.reread.get_or_insert_default();
        reread.last = count.max(reread.last);
        if let Some(asset) = asset
            && !reread.assets.contains(&asset)
            && reread.assets.len() < REREAD_MAX
        {
            reread.assets.push(asset);
        }
    }

    /// The user's floors were forgotten: that counts as a notification without a seq, the `count`th of all users.
    pub(super) fn note_forgotten(&mut self, count: u64) {
        self.require_ledger(None, count);
        self.reread.get_or_insert_default().forgotten = count;
    }

    /// Raises the floor of a notification, among the `first` ones where its asset had none; true if it rose.
    fn raise_floor(
        &mut self,
        asset: AssetId,
        seq: Seq,
        now: Instant,
        first: &mut BTreeMap<AssetId, Seq>,
    ) -> bool {
        let known = self.notified.binary_search_by_key(&asset, |floor| floor.0);
        let known = known.ok().and_then(|at| self.notified.get_mut(at));
        if let Some((_, floor, told)) = known {
            let rises = *floor < seq;
            if *floor <= seq {
                (*floor, *told) = (seq, now);
            }
            return rises;
        }
        let rises = first.get(&asset).is_none_or(|floor| *floor < seq);
        if rises {
            first.insert(asset, seq);
        }
        rises
    }
}

/// The knowledge of one user, changes and answers together.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownUser<'a> {
    /// Floors by answers: remembered as long as the user is.
    pub(super) shown: Option<&'a Floors>,
    pub(super) change: Option<&'a AnnouncedChanges>,
}

impl KnownUser<'_> {
    /// The floors by notifications that have not ended.
    fn notified_floors(&self, ttl: Duration, now: Instant) -> impl Iterator<Item = (AssetId, Seq)> {
        let notified = self.change.into_iter().flat_map(|change| &change.notified);
        let lasting = notified.filter(move |(_, _, told)| lasts_until(*told, ttl, now));
        lasting.map(|(asset, seq, _)| (*asset, *seq))
    }

    /// All floors that still count.
    pub(super) fn all_floors(&self, ttl: Duration, now: Instant) -> Floors {
        let mut floors = self.shown.cloned().unwrap_or_default();
        for (asset, seq) in self.notified_floors(ttl, now) {
            floors.raise_floor(asset, seq);
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
        self.shown.is_none_or(|shown| shown.met_by(snapshot))
            && self.notified_floors(ttl, now).all(met)
    }

    /// This snapshot with the newer balances that notifications carried, if that may be shown: see [`super::ChangeLog::take_redis`].
    /// `facts` are those that are not of this user.
    pub(super) fn brought_up<'a>(
        &self,
        facts: RedisFacts,
        rereads: u64,
        snapshot: &'a Snapshot,
        ttl: Duration,
        now: Instant,
    ) -> Option<Cow<'a, Snapshot>> {
        let newest = match self.change {
            Some(change) if !snapshot.covers_all(&change.told) => {
                Cow::Owned(snapshot.merge_with(&change.told))
            }
            Some(_) | None => Cow::Borrowed(snapshot),
        };
        let facts = RedisFacts {
            ledger_required: self.ledger_required(),
            same_reread: facts.same_reread && self.reread_number() == rereads,
            floors_met: self.met_by(&newest, ttl, now),
            ..facts
        };
        may_redis_snapshot_be_accepted(&facts).ok()?;
        Some(newest)
    }

    /// The balances that a read shows may become floors; it began after so many notifications without a seq.
    pub(super) fn may_be_raised(&self, rereads: u64) -> bool {
        let forgotten = self.last_reread().map_or(0, |reread| reread.forgotten);
        let facts = RaiseFacts {
            forgotten_since: forgotten > rereads,
        };
        may_shown_raise_floors(&facts).is_ok()
    }

    /// The number of the last notification without a seq.
    pub(super) fn reread_number(&self) -> u64 {
        self.last_reread().map_or(0, |reread| reread.last)
    }

    fn last_reread(&self) -> Option<&Reread> {
        self.change?.reread.as_deref()
    }

    /// A notification without a seq came, and the ledger was not read since.
    pub(super) fn ledger_required(&self) -> bool {
        self.last_reread()
            .is_some_and(|reread| reread.last > reread.read)
    }

    /// The part that still counts.
    pub(super) fn valid_changes(&self, ttl: Duration, now: Instant) -> UserMark {
        let floors = self.all_floors(ttl, now);
        let Some(change) = self.change else {
            return UserMark {
                floors,
                ..UserMark::default()
            };
        };
        UserMark {
            floors,
            told: change.told.clone(),
            changed: change.changed.is_some_and(|at| lasts_until(at, ttl, now)),
            reread: self.reread_number(),
            reread_assets: self
                .last_reread()
                .map_or_else(Vec::new, |reread| reread.assets.clone()),
            ledger_required: self.ledger_required(),
        }
    }
}

/// A notification of that time still counts.
fn lasts_until(told: Instant, ttl: Duration, now: Instant) -> bool {
    now.saturating_duration_since(told) < ttl
}
