//! What Redis holds for the one user, and the scripts on it. Each script is one step, as it is in Redis.
//!
//! | here | in `src/cache/redis` |
//! |---|---|
//! | [`Entry`], [`Entry::servable`] | `entry.rs` |
//! | [`Data::lease`], [`Data::fill`], [`Data::apply`] | `scripts/lease.lua`, `fill.lua`, `apply.lua` |
//! | [`Redis::open`] | `scripts/epoch.lua` and the first entry of the feed, `RedisLink::check_in` |

use crate::{
    rules::{Rule, Rules},
    state::{ASSETS, Asset, LEASE, SNAPSHOT_TTL, Seqs, Tick, merge},
};

/// The place of an entry in the feed: the tick, then a number that only rises.
pub type Id = u16;

/// The first place of a tick.
pub fn at_tick(tick: Tick) -> Id {
    Id::from(tick) << 6
}

/// How a notification speaks of its asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    Values,
    Seq,
    Asset,
    /// The user's floors are forgotten.
    Forget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct News {
    pub asset: Asset,
    pub seq: u8,
    pub form: Form,
    /// The seq of the other asset, which comes with its values in the same request; 0 is none.
    pub with: u8,
}

impl News {
    /// What it says of each asset, one at a time.
    pub fn parts(self) -> impl Iterator<Item = Self> {
        let first = Self { with: 0, ..self };
        let second = Self {
            asset: 1 - self.asset,
            seq: self.with,
            form: Form::Values,
            with: 0,
        };
        [first, second]
            .into_iter()
            .take(if self.with > 0 { 2 } else { 1 })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Post {
    pub id: Id,
    /// `p`
    pub before: Id,
    pub news: Option<News>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Feed {
    pub posts: Vec<Post>,
    pub last: Id,
}

/// The key `balance:epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    pub id: u8,
    pub birth: Tick,
    pub servers: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Entry {
    pub epoch: u8,
    pub whole: bool,
    pub until: Tick,
    /// Token, and its end.
    pub lease: Option<(u8, Tick)>,
    /// `b:`, 0 is absent.
    pub balances: Seqs,
    /// `f:` with its end.
    pub floors: [(u8, Tick); 2],
    /// `d:`, its end.
    pub reread: [Tick; 2],
    /// The seq in `f:` that was announced last.
    pub told: Seqs,
    /// Of the key.
    pub expires: Tick,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Data {
    pub epoch: Option<Epoch>,
    pub entry: Option<Entry>,
    pub feed: Option<Feed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Redis {
    pub up: bool,
    /// Run id.
    pub run: u8,
    pub data: Data,
    /// A master that was demoted and goes on answering reads: its run id, and what it had then.
    pub demoted: Option<(u8, Box<Data>)>,
    /// How far its clock was set forward.
    pub ahead: Tick,
    /// What is on its disk: what a restart may bring back.
    pub dump: Option<Box<Data>>,
    /// Epochs, tokens and ids that there ever were.
    pub epochs: u8,
    pub tokens: u8,
    pub ids: u8,
}

/// What a lease says. See `Lease` and `LeaseGrant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leased {
    Hit { snapshot: Seqs, until: Tick },
    Busy,
    Granted(LeaseGrant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseGrant {
    pub token: u8,
    pub epoch: u8,
    pub known: Seqs,
    pub floors: Seqs,
    pub ledger: bool,
}

impl Entry {
    pub fn live_floors(&self, now: Tick) -> Seqs {
        self.floors
            .map(|(seq, until)| if until > now { seq } else { 0 })
    }

    /// `Entry::may_serve`
    pub fn servable(&self, rules: Rules, epoch: u8, now: Tick) -> bool {
        let floors = self.live_floors(now);
        (self.whole || (!rules.holds(Rule::Whole) && self.balances != [0, 0]))
            && (self.epoch == epoch || !rules.holds(Rule::EpochCompared))
            && self.until > now
            && (0..ASSETS).all(|asset| self.balances[asset] >= floors[asset])
    }

    /// One change of `apply.lua`: whether it was known, and whether it was announced.
    fn apply_part(
        &mut self,
        rules: Rules,
        now: Tick,
        expires: Tick,
        absent: bool,
        part: News,
    ) -> (bool, bool) {
        let News {
            asset, seq, form, ..
        } = part;
        if form == Form::Asset {
            (self.whole, self.reread[asset]) = (false, expires);
            return (false, false);
        }
        let floor = self.floors[asset].0;
        let old = floor >= seq || self.balances[asset] >= seq;
        if floor <= seq && rules.holds(Rule::RedisFloors) {
            self.floors[asset] = (seq, expires);
        }
        if form == Form::Values && self.balances[asset] < seq {
            self.balances[asset] = seq;
            if !rules.holds(Rule::ValuesAreNoSnapshot) && absent {
                (self.whole, self.until) = (true, now + SNAPSHOT_TTL);
            }
            if self.until == 0 && !rules.holds(Rule::Whole) {
                self.until = now + SNAPSHOT_TTL;
            }
        }
        if self.balances[asset] < seq {
            self.whole = false;
            if !rules.holds(Rule::Whole) {
                self.until = 0;
            }
        }
        (old, self.told[asset] >= seq)
    }
}

impl Data {
    /// The entry, if its key has not ended.
    pub fn entry(&self, now: Tick) -> Option<Entry> {
        self.entry.filter(|entry| entry.expires > now)
    }

    /// `lease.lua` and `Redis::ask_lease`.
    pub fn lease(&mut self, rules: Rules, asked: &Ask, token: u8, force: bool) -> Leased {
        let Ask {
            now,
            epoch,
            evicts,
            young,
        } = *asked;
        let there = self.entry(now);
        let mut entry = there.unwrap_or_default();
        if there.is_some() {
            if entry.epoch != epoch && rules.holds(Rule::EpochCompared) {
                (entry.whole, entry.until, entry.lease) = (false, 0, None);
            }
            if !force {
                if entry.whole && entry.until > now {
                    self.entry = Some(entry);
                    return if entry.servable(rules, epoch, now) {
                        Leased::Hit {
                            snapshot: entry.balances,
                            until: entry.until,
                        }
                    } else {
                        Leased::Busy
                    };
                }
                if entry.lease.is_some_and(|(_, end)| end > now) {
                    self.entry = Some(entry);
                    return Leased::Busy;
                }
            }
        }
        entry.epoch = epoch;
        entry.lease = Some((token, now + LEASE));
        entry.expires = entry.expires.max(now + LEASE);
        self.entry = Some(entry);
        let unknown = evicts && there.is_none() && rules.holds(Rule::AbsentIsUnknown);
        Leased::Granted(LeaseGrant {
            token,
            epoch,
            known: entry.balances,
            floors: entry.live_floors(now),
            ledger: entry.reread.iter().any(|until| *until > now) || unknown || young,
        })
    }

    /// `fill.lua`: whether it was kept.
    pub fn fill(
        &mut self,
        rules: Rules,
        now: Tick,
        grant: &LeaseGrant,
        snapshot: Seqs,
        ledger: bool,
    ) -> bool {
        let lease = rules.holds(Rule::Lease);
        let Some(mut entry) = self.entry(now).or_else(|| (!lease).then(Entry::default)) else {
            return false;
        };
        if lease && entry.lease.is_none_or(|(token, _)| token != grant.token) {
            return false;
        }
        if entry.epoch != grant.epoch && rules.holds(Rule::EpochCompared) && lease {
            return false;
        }
        entry.epoch = grant.epoch;
        let seqs = merge(entry.balances, snapshot);
        let mut expires = now + SNAPSHOT_TTL;
        let floors = entry.live_floors(now);
        for asset in 0..ASSETS {
            if (entry.reread[asset] > now && !ledger) || seqs[asset] < floors[asset] {
                return false;
            }
            if entry.floors[asset].1 <= now {
                entry.floors[asset] = (0, 0);
            }
            if entry.reread[asset] <= now {
                entry.reread[asset] = 0;
            }
            expires = expires.max(entry.floors[asset].1).max(entry.reread[asset]);
        }
        entry.lease = None;
        entry.balances = seqs;
        (entry.whole, entry.until, entry.expires) = (true, now + SNAPSHOT_TTL, expires);
        self.entry = Some(entry);
        true
    }

    /// `apply.lua`
    pub fn apply(
        &mut self,
        rules: Rules,
        now: Tick,
        epoch: u8,
        floor_ttl: Tick,
        news: News,
        id: Id,
    ) {
        let there = self.entry(now);
        let mut entry = there.unwrap_or_default();
        if entry.epoch != epoch && rules.holds(Rule::EpochCompared) {
            (entry.whole, entry.until, entry.lease) = (false, 0, None);
        }
        entry.epoch = epoch;
        let expires = now + floor_ttl;
        let mut untold: Option<News> = None;
        for part in news.parts() {
            let (old, told) = entry.apply_part(rules, now, expires, there.is_none(), part);
            let announce = if rules.holds(Rule::AnnouncedBySeq) {
                !told
            } else {
                !old
            };
            if announce {
                if part.form != Form::Asset {
                    entry.told[part.asset] = part.seq;
                }
                untold = untold.map_or(Some(part), |_| Some(news));
            }
        }
        if rules.holds(Rule::Lease) {
            entry.lease = None;
        }
        entry.expires = entry.expires.max(expires);
        if untold.is_some() {
            self.post(id, untold);
        }
        self.entry = Some(entry);
    }

    pub fn post(&mut self, id: Id, news: Option<News>) {
        let feed = self.feed.get_or_insert_default();
        feed.posts.push(Post {
            id,
            before: feed.last_post(),
            news,
        });
        feed.last = id;
    }

    /// `release.lua`
    pub fn release(&mut self, token: u8) {
        if let Some(entry) = &mut self.entry
            && entry.lease.is_some_and(|(held, _)| held == token)
        {
            entry.lease = None;
        }
    }
}

impl Feed {
    /// What `XREVRANGE + - COUNT 1` says: the last entry that is still there.
    fn last_post(&self) -> Id {
        self.posts.last().map_or(0, |post| post.id)
    }
}

/// What every command brings along: the session's epoch, and what was read when it was opened.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub now: Tick,
    pub epoch: u8,
    pub evicts: bool,
    pub young: bool,
}

impl Redis {
    pub fn next_id(&mut self, now: Tick) -> Id {
        self.ids += 1;
        at_tick(now + self.ahead) + Id::from(self.ids)
    }

    /// What the server of this run id has, and whether it is a master.
    pub fn server(&self, run: u8) -> Option<(&Data, bool)> {
        if run == self.run {
            return Some((&self.data, true));
        }
        let demoted = self.demoted.as_ref().filter(|(id, _)| *id == run);
        demoted.map(|(_, data)| (&**data, false))
    }

    /// `epoch.lua`, then the entry that opens its feed.
    pub fn open(&mut self, rules: Rules, now: Tick) -> Epoch {
        if let Some(epoch) = self.data.epoch
            && (epoch.servers == self.run || !rules.holds(Rule::EpochCompared))
        {
            return epoch;
        }
        self.epochs += 1;
        let epoch = Epoch {
            id: self.epochs,
            birth: now,
            servers: self.run,
        };
        self.data.epoch = Some(epoch);
        let id = self.next_id(now);
        self.data.post(id, None);
        epoch
    }
}
