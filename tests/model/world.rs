//! What may happen next, and what must always hold.

mod action;

use stateright::{Model, Property};

pub use self::action::Action;

use crate::{
    faults,
    instance::Session,
    load::{self, Forward, Load, Stage, Waiting},
    redis::{Form, News},
    rules::{Rule, Rules},
    state::{Applying, BEGIN, Broken, FLOOR_TTL, Note, Scope, State, Tick, merge},
};

/// What must happen somewhere.
pub const FRESH: &str = "a fresh value reaches memory";

#[derive(Debug, Clone)]
pub struct World {
    pub scope: Scope,
    pub rules: Rules,
}

#[derive(Clone, Copy)]
enum Step {
    Script,
    Mark,
    Tell,
}

impl World {
    /// Each step, with the changes that it takes.
    fn steps(&self, news: News) -> Vec<(Step, News)> {
        let here = if self.rules.holds(Rule::MarkBeforeMemory) {
            [Step::Mark, Step::Tell]
        } else {
            [Step::Tell, Step::Mark]
        };
        let parts = |together: bool| -> Vec<News> {
            if together {
                vec![news]
            } else {
                news.parts().collect()
            }
        };
        let scripts = parts(self.rules.holds(Rule::OneScript));
        let scripts = scripts.into_iter().map(|some| (Step::Script, some));
        let here = parts(self.rules.holds(Rule::OneStep))
            .into_iter()
            .flat_map(|some| here.map(|step| (step, some)));
        if self.rules.holds(Rule::RedisFirst) {
            scripts.chain(here).collect()
        } else {
            here.chain(scripts).collect()
        }
    }

    fn next_is_a_script(&self, applying: &Applying) -> bool {
        let steps = self.steps(applying.news);
        let next = steps.get(usize::from(applying.steps));
        next.is_some_and(|(step, _)| matches!(step, Step::Script))
    }

    pub fn write(&self, state: &mut State) {
        let (asset, seq) = self.scope.writes[usize::from(state.written)];
        state.written += 1;
        state.ledger[asset] = seq;
        state.due[asset] = state.due[asset].min(state.now + FLOOR_TTL);
    }

    fn apply_on(&self, state: &mut State) {
        let Some(mut applying) = state.applying else {
            return;
        };
        let (at, now) = (applying.at, state.now);
        let steps = self.steps(applying.news);
        let (step, news) = steps[usize::from(applying.steps)];
        match step {
            Step::Script => {
                let Some(session) = state.reach_redis(at) else {
                    state.applying = None;
                    return;
                };
                if news.form == Form::Forget {
                    state.drop_user(news);
                } else {
                    self.apply_in_redis(state, session.epoch.id, news);
                }
            }
            Step::Mark => state.insts[at].changed(self.rules, now, news),
            Step::Tell => state.insts[at].tell(self.rules, now, news),
        }
        applying.steps += 1;
        state.applying = Some(applying);
        if usize::from(applying.steps) == steps.len() {
            let mut says = [applying.news.with; 2];
            says[applying.news.asset] = applying.says;
            state.insts[at].acknowledged = merge(state.insts[at].acknowledged, says);
            state.acked = merge(state.acked, says);
            state.applying = None;
        }
    }

    fn apply_in_redis(&self, state: &mut State, epoch: u8, news: News) {
        let now = state.now;
        let id = state.redis.next_id(now);
        let ttl = crate::instance::floor_ttl(self.rules);
        let data = &mut state.redis.data;
        data.apply(self.rules, now, epoch, ttl, news, id);
        for part in news.parts().filter(|part| part.form != Form::Asset) {
            if state.view[part.asset] < part.seq {
                state.due[part.asset] = state.due[part.asset].min(now + FLOOR_TTL);
            }
        }
    }

    fn apply(&self, state: &mut State, at: usize, note: usize) {
        let Note {
            asset,
            seq,
            form,
            with,
            ..
        } = self.scope.notes[note];
        state.notes[note] -= 1;
        let (seq, says) = match form {
            Form::Asset => (0, state.ledger[asset]),
            Form::Forget => (0, 0),
            Form::Values | Form::Seq => (seq, seq),
        };
        let news = News {
            asset,
            seq,
            form,
            with,
        };
        state.applying = Some(Applying {
            at,
            news,
            says,
            steps: 0,
            begun: state.now,
        });
        self.apply_on(state);
        // Where nobody reads, nobody sees a difference between the steps but for those in Redis.
        while self.scope.reads[at] == 0
            && state
                .applying
                .is_some_and(|applying| !self.next_is_a_script(&applying))
        {
            self.apply_on(state);
        }
    }

    /// `Reader::answer` up to where it waits: memory, then a flight.
    fn read(&self, state: &mut State, at: usize) {
        let (now, duty) = (state.now, state.duty(at));
        state.reads[at] -= 1;
        let inst = &mut state.insts[at];
        if let Some(snapshot) = inst.ask_memory(self.rules, now) {
            return load::show(self, state, at, snapshot, duty, false);
        }
        let mark = inst.mark(self.rules, now);
        let waiting = Waiting {
            floors: mark.floors,
            duty,
        };
        let start = inst.start(self.rules, now);
        for load in &mut inst.loads {
            if load.current && load.start.may_be_followed(self, &start) {
                load.readers.push(waiting);
                return;
            }
            load.current = false;
        }
        let (stage, forward, readers) = (Stage::Get, Forward::Miss, vec![waiting]);
        inst.loads.push(Load {
            start,
            current: true,
            forward,
            known: load::Known::default(),
            stage,
            readers,
        });
    }

    fn tick(state: &mut State) {
        state.now += 1;
        state.acked_before = state.acked;
        let now = state.now;
        state.redis.data.entry = state.redis.data.entry(now);
        if state.due.iter().any(|due| now >= *due) {
            state.view_catches_up();
        }
        for inst in &mut state.insts {
            inst.proof = None;
            let stale = inst.stale;
            inst.memory = inst.memory.filter(|kept| stale || kept.until > now);
        }
    }

    fn may_tick(&self, state: &State) -> bool {
        let young = |begun: Tick| begun == state.now;
        state.now < BEGIN + self.scope.ticks
            && state
                .insts
                .iter()
                .flat_map(|inst| &inst.loads)
                .all(|load| young(load.start.at))
            && state.applying.is_none_or(|applying| young(applying.begun))
    }

    fn instance_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let inst = &state.insts[at];
        if state.reads[at] > 0 && inst.loads.len() < 2 {
            actions.push(Action::Read { at });
        }
        for (index, load) in inst.loads.iter().enumerate() {
            let entry = state.redis.data.entry(state.now);
            let taken = entry
                .and_then(|entry| entry.lease)
                .is_some_and(|(_, end)| end > state.now);
            let asks = load.stage == Stage::Leasing && load.forward == Forward::Miss;
            actions.push(if asks && taken && state.reach_redis(at).is_some() {
                Action::ForceLease { at, load: index }
            } else {
                Action::Load { at, load: index }
            });
            if let Stage::Asking(grant) = &load.stage
                && state.view != state.ledger
                && load::trusts_view(self, state, at, load, grant.as_ref())
            {
                actions.push(Action::LoadCaughtUp { at, load: index });
            }
            if asks && taken && entry.is_some_and(|entry| entry.whole) {
                actions.push(Action::Load { at, load: index });
            }
        }
        let epoch = state.redis.data.epoch;
        if let Some(session) = inst.session {
            let other = epoch.map(|epoch| epoch.id) != Some(session.epoch.id);
            if other || state.reach_redis(at).is_none() {
                actions.push(Action::EndSession { at });
            }
            let follows = inst.tap.is_some_and(|tap| tap.epoch == session.epoch.id);
            let whole = state.tap_is_whole(at);
            if self.scope.reads[at] == 0 {
                return;
            }
            let there = state.redis.up && !inst.cut;
            let bound = state.redis.run == session.run || !self.rules.holds(Rule::TapIsTheSessions);
            if inst.page.is_none() && there && bound && (!follows || !whole) {
                actions.push(Action::BeginFollowing { at });
            }
            let last = state.redis.data.feed.as_ref().map(|feed| feed.last);
            let news = inst.position.map(|position| position.cursor) != last
                || !inst.proven(state.now)
                || other;
            if inst.page.is_none() && follows && whole && news {
                actions.push(Action::ReadFeed { at });
            }
        } else if state.redis.up && !inst.cut {
            actions.push(Action::OpenSession { at });
        }
        if inst.page.is_some() {
            actions.push(Action::TakeFeed { at });
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        if usize::from(state.written) < self.scope.writes.len() {
            actions.push(Action::Write);
        }
        if state.applying.is_some() {
            actions.push(Action::ApplyOn);
        } else {
            for (note, of) in self.scope.notes.iter().enumerate() {
                let due = if of.form == Form::Forget {
                    state.removed
                } else {
                    self.scope.ahead || state.ledger[of.asset] >= of.seq
                };
                if due && state.notes[note] > 0 {
                    let able = |at: &usize| state.reach_redis(*at).is_some();
                    let appliers = self.scope.appliers.iter().copied().filter(able);
                    actions.extend(appliers.map(|at| Action::Apply { at, note }));
                }
            }
        }
        for at in 0..2 {
            self.instance_actions(state, at, actions);
        }
        if self.may_tick(state) {
            actions.push(Action::Tick);
        }
        faults::actions(&self.scope, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let now = state.now;
        match action {
            Action::Write => self.write(&mut state),
            Action::Apply { at, note } => self.apply(&mut state, at, note),
            Action::ApplyOn => self.apply_on(&mut state),
            Action::Read { at } => self.read(&mut state, at),
            Action::Load { at, load } => load::step(self, &mut state, at, load, false, false),
            Action::ForceLease { at, load } => load::step(self, &mut state, at, load, true, false),
            Action::LoadCaughtUp { at, load } => {
                load::step(self, &mut state, at, load, false, true)
            }
            Action::ReadFeed { at } => {
                let feed = state.tap_feed(at).cloned();
                state.insts[at].read_feed(now, feed.as_ref());
            }
            Action::TakeFeed { at } => {
                let said = state.tap_vouches(self.rules, at);
                let gone = state.insts[at].page.as_ref().is_some_and(|page| page.gone);
                if gone && self.rules.holds(Rule::FeedGoneIsAGap) && state.reach_redis(at).is_some()
                {
                    let id = state.redis.next_id(now);
                    state.redis.data.post(id, None);
                }
                state.insts[at].take(self.rules, now, said);
            }
            Action::EndSession { at } => state.insts[at].session = None,
            Action::OpenSession { at } => {
                let epoch = state.redis.open(self.rules, now);
                state.insts[at].session = Some(Session {
                    epoch,
                    run: state.redis.run,
                });
            }
            Action::BeginFollowing { at } => {
                let (run, ahead) = (state.redis.run, state.redis.ahead);
                state.insts[at].begin(self.rules, now, run, ahead);
            }
            Action::Tick => Self::tick(&mut state),
            Action::Fault(fault, index) => faults::strike(&mut state, self.rules, fault, index),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn kept(state: &State, broken: Broken) -> bool {
            state.broken != Some(broken)
        }
        vec![
            Property::always("P1 read after settlement", |_, state| {
                kept(state, Broken::SettledHere)
            }),
            Property::always("P2 on every other instance", |_, state| {
                kept(state, Broken::SettledElsewhere)
            }),
            Property::always("P3 never backwards", |_, state| {
                kept(state, Broken::Backwards)
            }),
            Property::always("P4 no stale value stays", |world: &Self, state: &State| {
                state.holds_nothing_old(world)
            }),
            Property::always("what was forgotten stays so", |world: &Self, state: &State| {
                !state.at_rest(world) || state.holds_nothing_forgotten(world.rules, &world.scope)
            }),
            Property::always("P6 whole snapshots", |_, state| kept(state, Broken::Part)),
            Property::always("P10 a settlement shows whole", |_, state| {
                kept(state, Broken::Torn)
            }),
            Property::sometimes(FRESH, |world: &Self, state: &State| {
                let newest = world.scope.notes.iter().any(|note| note.seq > 1);
                newest
                    && state.insts.iter().any(|inst| {
                        let fresh = |note: &Note| {
                            inst.get(state.now)
                                .is_some_and(|kept| kept.snapshot[note.asset] >= note.seq)
                        };
                        world.scope.notes.iter().all(fresh)
                    })
            }),
        ]
    }
}
