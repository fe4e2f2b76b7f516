//! One instance: what it knows, what it holds, and the feed that it follows.
//!
//! | here | in the code |
//! |---|---|
//! | [`Mark`], [`Inst::mark`], [`Inst::shown`], [`Inst::missed`] | `protocol::ChangeLog` |
//! | [`Inst::proven`] | `protocol::Freshness` |
//! | [`Inst::get`], [`Inst::keep`], [`Inst::tell`] | `cache::memory::Memory`, `Reader::keep` |
//! | [`Inst::ask_memory`] | `Reader::ask_memory` |

use crate::{
    load::{Load, Start},
    protocol::{
        MemoryFacts, RedisFacts, StaleFacts, StoreFacts, may_memory_serve, may_memory_store,
        may_redis_snapshot_be_accepted, may_stale_answer_be_shown,
    },
    redis::{Epoch, Form, Id, News, Post},
    rules::{Rule, Rules},
    state::{FLOOR_TTL, MEMORY_TTL, Seqs, Tick, meets, merge},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mark {
    pub floors: Seqs,
    pub told: Seqs,
    pub changed: bool,
    pub reread: u8,
    /// Up to which of those the ledger was read here since.
    pub read_since: u8,
    /// Of those, the last one that made the floors be forgotten.
    pub forgotten: u8,
    pub touched: Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kept {
    pub snapshot: Seqs,
    pub until: Tick,
    pub loaded: Tick,
    pub from_ledger: bool,
    pub generation: u8,
    pub invalidated: bool,
}

/// Where the follower is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    pub epoch: u8,
    pub cursor: Id,
    pub seen: bool,
}

/// A session, and the run id of the server that its connections lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    pub epoch: Epoch,
    pub run: u8,
}

/// The dedicated connection of the feed, for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tap {
    pub run: u8,
    pub epoch: u8,
}

/// The answer to one read of the feed, under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Page {
    pub sent: Tick,
    pub posts: Vec<Post>,
    pub last: Id,
    pub gone: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Inst {
    /// The network between it and Redis.
    pub cut: bool,
    /// `stale.enabled`: memory keeps what it may not show any more.
    pub stale: bool,
    pub mark: Mark,
    pub rereads: u8,
    pub generation: u8,
    pub blind_until: Tick,
    /// `ChangeLog::doubts_redis`
    pub doubtful_until: Tick,
    pub proof: Option<Tick>,
    pub memory: Option<Kept>,
    pub session: Option<Session>,
    pub tap: Option<Tap>,
    pub position: Option<Position>,
    pub page: Option<Page>,
    pub loads: Vec<Load>,
    /// For the properties: what it acknowledged and what it showed in this life.
    pub acknowledged: Seqs,
    pub showed: Seqs,
}

impl Inst {
    // === protocol::ChangeLog

    pub fn mark(&self, rules: Rules, now: Tick) -> Mark {
        let lives = now < self.mark.touched + floor_ttl(rules);
        if lives && rules.holds(Rule::LocalMarks) {
            self.mark
        } else {
            Mark::default()
        }
    }

    fn touch(&mut self, rules: Rules, now: Tick) -> &mut Mark {
        self.mark = Mark {
            touched: now,
            ..self.mark(rules, now)
        };
        &mut self.mark
    }

    /// `ChangeLog::change_asset` and `ChangeLog::require_reread`
    pub fn changed(&mut self, rules: Rules, now: Tick, news: News) {
        for part in news.parts() {
            self.changed_part(rules, now, part);
        }
    }

    fn changed_part(&mut self, rules: Rules, now: Tick, news: News) {
        if news.form == Form::Forget {
            return self.forget(now);
        }
        if news.form == Form::Asset {
            self.rereads += 1;
            let count = self.rereads;
            let mark = self.touch(rules, now);
            (mark.changed, mark.reread) = (true, count);
            return;
        }
        let mark = self.touch(rules, now);
        mark.changed = true;
        mark.floors[news.asset] = mark.floors[news.asset].max(news.seq);
        if news.form == Form::Values {
            mark.told[news.asset] = mark.told[news.asset].max(news.seq);
        }
    }

    /// `ChangeLog::note_shown`
    fn shown(&mut self, rules: Rules, now: Tick, rereads: u8, snapshot: Seqs) {
        let raises = rules.holds(Rule::ShownRaises) && self.may_raise(rules, now, rereads);
        if raises && snapshot != [0, 0] {
            let mark = self.touch(rules, now);
            mark.floors = merge(mark.floors, snapshot);
        }
    }

    /// The ledger was read by a load that began at `start`. See [`Rule::RereadForRedis`].
    pub fn read_ledger(&mut self, start: &Start) {
        self.mark.read_since = self.mark.read_since.max(start.reread);
    }

    /// What is shown and not kept raises the mark; what is held moves with it.
    pub fn show_only(&mut self, rules: Rules, now: Tick, rereads: u8, snapshot: Seqs) {
        self.shown(rules, now, rereads, snapshot);
        if rules.holds(Rule::ShownMovesMemory)
            && self.may_raise(rules, now, rereads)
            && let Some(kept) = &mut self.memory
        {
            kept.snapshot = merge(kept.snapshot, snapshot);
        }
    }

    /// `ChangeLog::note_missed`
    pub fn missed(&mut self, rules: Rules, now: Tick) {
        self.doubtful_until = self.doubtful_until.max(now + floor_ttl(rules));
        self.lost(rules, now);
    }

    /// `ChangeLog::note_lost`
    pub fn lost(&mut self, rules: Rules, now: Tick) {
        self.blind_until = self.blind_until.max(now + floor_ttl(rules));
        self.turn(rules);
    }

    pub fn turn(&mut self, rules: Rules) {
        if rules.holds(Rule::Generation) {
            self.generation += 1;
        } else {
            self.memory = None;
        }
    }

    pub fn blind(&self, now: Tick) -> bool {
        now < self.blind_until
    }

    // === protocol::Freshness: `max_staleness` is shorter than a tick, so that a proof is good within its own.

    pub fn proven(&self, now: Tick) -> bool {
        self.proof == Some(now)
    }

    // === Memory

    pub fn get(&self, now: Tick) -> Option<Kept> {
        let kept = self
            .memory
            .filter(|kept| kept.generation == self.generation)?;
        (kept.until > now).then_some(kept)
    }

    pub fn ask_memory(&self, rules: Rules, now: Tick) -> Option<Seqs> {
        let kept = self.get(now)?;
        let facts = MemoryFacts {
            ledger_requested: false,
            current_generation: kept.generation == self.generation,
            expired: kept.until <= now,
            freshness_proven: self.proven(now) || !rules.holds(Rule::ProofForMemory),
            from_ledger_lately: kept.from_ledger && kept.loaded == now,
            invalidated: kept.invalidated,
            min_seq_met: true,
        };
        may_memory_serve(&facts).ok().map(|()| kept.snapshot)
    }

    /// `Reader::stale_or`
    pub fn ask_stale(&self, rules: Rules, now: Tick) -> Option<Seqs> {
        let (kept, mark) = (self.memory?, self.mark(rules, now));
        let reread = rules.holds(Rule::RereadForStale);
        let facts = StaleFacts {
            ledger_requested: false,
            too_old: now >= kept.loaded + FLOOR_TTL,
            current_generation: kept.generation == self.generation,
            invalidated: kept.invalidated && reread,
            ledger_required: mark.reread > mark.read_since && reread,
            changes_given_up: false,
            floors_met: meets(kept.snapshot, mark.floors),
            min_seq_met: true,
        };
        may_stale_answer_be_shown(&facts)
            .ok()
            .map(|()| kept.snapshot)
    }

    /// `Reader::keep`: what is answered then.
    pub fn keep(
        &mut self,
        rules: Rules,
        now: Tick,
        start: &Start,
        snapshot: Seqs,
        redis_until: Option<Tick>,
        from_ledger: bool,
    ) -> Seqs {
        self.shown(rules, now, start.reread, snapshot);
        let until = redis_until.map_or(now + MEMORY_TTL, |until| until.min(now + MEMORY_TTL));
        let there = self
            .memory
            .filter(|there| there.generation == start.generation);
        let merged = there.map_or(snapshot, |there| merge(there.snapshot, snapshot));
        let mark = self.mark(rules, now);
        let facts = StoreFacts {
            same_generation: self.generation == start.generation,
            same_reread: mark.reread == start.reread || !rules.holds(Rule::RereadCompared),
            floors_met: meets(merged, mark.floors),
        };
        if may_memory_store(&facts).is_ok() || !rules.holds(Rule::GuardedKeep) {
            let generation = start.generation;
            self.memory = Some(Kept {
                snapshot: merged,
                until,
                loaded: start.at,
                from_ledger,
                generation,
                invalidated: false,
            });
            merged
        } else {
            self.show_only(rules, now, start.reread, snapshot);
            snapshot
        }
    }

    /// `Memory::forward`, `Memory::drop_below`, `Memory::forget_user`
    pub fn tell(&mut self, rules: Rules, now: Tick, news: News) {
        for part in news.parts() {
            self.tell_part(rules, now, part);
        }
    }

    fn tell_part(&mut self, rules: Rules, now: Tick, news: News) {
        if news.form == Form::Forget {
            self.memory = None;
            return;
        }
        let Some(kept) = &mut self.memory else {
            if !rules.holds(Rule::ValuesAreNoSnapshot) && news.form == Form::Values {
                let mut snapshot = [0, 0];
                snapshot[news.asset] = news.seq;
                let (until, generation) = (now + MEMORY_TTL, self.generation);
                self.memory = Some(Kept {
                    snapshot,
                    until,
                    loaded: now,
                    from_ledger: false,
                    generation,
                    invalidated: false,
                });
            }
            return;
        };
        let below = kept.snapshot[news.asset] < news.seq;
        if news.form == Form::Values {
            if below {
                kept.snapshot[news.asset] = news.seq;
            }
        } else if news.form == Form::Asset || below {
            kept.invalidated = true;
            if !self.stale {
                // Nothing asks for it any more.
                self.memory = None;
            }
        }
    }

    /// `Reader::accept`: what Redis holds, merged with what this instance was told, may be shown.
    pub fn accepts(&self, rules: Rules, now: Tick, start: &Start, merged: Seqs) -> bool {
        let mark = self.mark(rules, now);
        let compared = rules.holds(Rule::AcceptCompares);
        let facts = RedisFacts {
            proven_at_start: start.proven || !rules.holds(Rule::ProofForRedis),
            changes_missed: now < self.doubtful_until && rules.holds(Rule::SightForRedis),
            ledger_required: mark.reread > mark.read_since && rules.holds(Rule::RereadForRedis),
            same_reread: mark.reread == start.reread
                || !rules.holds(Rule::RereadCompared)
                || !compared,
            floors_met: meets(merged, mark.floors) || !compared,
        };
        may_redis_snapshot_be_accepted(&facts).is_ok()
    }

    /// What a load that begins now knows.
    pub fn start(&self, rules: Rules, now: Tick) -> Start {
        let (generation, reread) = (self.generation, self.mark(rules, now).reread);
        Start {
            at: now,
            generation,
            reread,
            proven: self.proven(now),
        }
    }
}

/// Rule 15 broken: floors and known changes end with the tick.
pub fn floor_ttl(rules: Rules) -> Tick {
    if rules.holds(Rule::FloorsOutlive) {
        FLOOR_TTL
    } else {
        1
    }
}
