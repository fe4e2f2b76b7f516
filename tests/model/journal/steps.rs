//! The steps that can come next, and the properties that must hold.

use stateright::{Model, Property};

use super::state::{Action, Entry, Id, Phase, REACHED, Row, Rule, State, World};

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..state.instances.len() {
            self.actions_of(state, at, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Send(at, id) => self.send(&mut state, at, id),
            Action::ReadTail(at) => read_tail(&mut state, at),
            Action::Help(at, position) | Action::Recover(at, position) => {
                state.helped = true;
                apply(&mut state, at, position);
            }
            Action::ReadHead(at) => self.read_head(&mut state, at),
            Action::Append(at) => self.append(&mut state, at),
            Action::Write(at) => write(&mut state, at),
            Action::Answer(at) => self.answer(&mut state, at),
            Action::Remove(at) => remove(&mut state, at),
            Action::Crash(at) => {
                state.crashes -= 1;
                state.instances[at] = Default::default();
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("W1: what was told stands whole", |_, state: &State| {
                !state.lied
            }),
            Property::always("W1: written once", |world: &World, state: &State| {
                let once = state.written.iter().all(|count| *count <= 1);
                let legs = world.scope.transactions.iter().map(Vec::len);
                once && legs.enumerate().all(|(id, legs)| state.rows_of(id) <= legs)
            }),
            Property::always("W1: whole or not at all", |world: &World, state: &State| {
                let legs = world.scope.transactions.iter().map(Vec::len);
                let whole = |(id, legs)| {
                    let rows = state.rows_of(id);
                    rows == 0 || (rows == legs && state.ids.contains(&id))
                };
                !state.is_quiet() || legs.enumerate().all(whole)
            }),
            Property::always("W2: conservation", |world: &World, state: &State| {
                let opening: i8 = world.scope.opening.iter().sum();
                let stands = state.ids.iter().map(|id| &world.scope.transactions[*id]);
                let moved: i8 = stands.flatten().map(|(_, delta)| delta).sum();
                let now: i8 = (0..2).map(|account| state.head(account).1).sum();
                !state.is_quiet() || now == opening + moved
            }),
            Property::always("W3: nothing below zero", |_, state: &State| {
                state.ledger.values().all(|(balance, _)| *balance >= 0)
            }),
            Property::always("W5: no row is written over", |_, state: &State| {
                !state.clash
            }),
            Property::always("W5: no gaps", |_, state: &State| {
                let rows = |account| state.ledger.keys().filter(move |key| key.0 == account);
                let gapless = (0..2).all(|at| rows(at).count() == usize::from(state.head(at).0));
                !state.is_quiet() || gapless
            }),
            Property::sometimes(REACHED[0], |_, state: &State| !state.told.is_empty()),
            Property::sometimes(REACHED[1], |_, state: &State| state.refused),
            Property::sometimes(REACHED[2], |_, state: &State| state.helped),
        ]
    }
}

impl World {
    fn actions_of(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let instance = &state.instances[at];
        for (id, left) in state.sends.iter().enumerate() {
            if *left > 0 && instance.phase == Phase::Idle && !instance.queue.contains(&id) {
                actions.push(Action::Send(at, id));
            }
        }
        if state.crashes > 0 {
            actions.push(Action::Crash(at));
        }
        match &instance.phase {
            Phase::Idle => self.idle_actions(state, at, actions),
            Phase::Judging { heads } => {
                actions.push(if heads.len() < 2 {
                    Action::ReadHead(at)
                } else {
                    Action::Append(at)
                });
            }
            Phase::Applying {
                position,
                done,
                waiting,
                ..
            } => {
                let entry = &state.journal[position - 1];
                let whole = *done == statements(entry);
                if !whole {
                    actions.push(Action::Write(at));
                }
                if !waiting.is_empty() && (whole || !self.keeps(Rule::AnswerLast)) {
                    actions.push(Action::Answer(at));
                }
                if waiting.is_empty() && whole {
                    actions.push(Action::Remove(at));
                }
                if !whole && !entry.removed && !self.keeps(Rule::RemoveLast) {
                    actions.push(Action::Remove(at));
                }
            }
        }
    }

    fn idle_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let instance = &state.instances[at];
        for position in 1..=state.journal.len() {
            if !state.journal[position - 1].removed {
                actions.push(Action::Recover(at, position));
            }
        }
        if instance.queue.is_empty() {
            return;
        }
        if instance.tail.is_none() {
            actions.push(Action::ReadTail(at));
            return;
        }
        let shares = |position: &&usize| {
            let entry = &state.journal[**position - 1];
            let legs = instance.queue.iter();
            let mut accounts = legs.flat_map(|id| self.scope.transactions[*id].iter());
            let same = accounts.any(|(account, _)| entry.rows.iter().any(|r| r.account == *account));
            same || instance.queue.iter().any(|id| entry.ids.contains(id))
        };
        let first = instance.unapplied.iter().find(shares);
        match first {
            Some(position) if self.keeps(Rule::Help) => actions.push(Action::Help(at, *position)),
            _ => actions.push(Action::ReadHead(at)),
        }
    }

    fn send(&self, state: &mut State, at: usize, id: Id) {
        state.sends[id] -= 1;
        let stands = state.ids.contains(&id);
        let instance = &mut state.instances[at];
        instance.queue.insert(id);
        if !self.keeps(Rule::IdsAfterTail) {
            instance.early.insert(id, stands);
        }
    }

    fn read_head(&self, state: &mut State, at: usize) {
        let read = match &state.instances[at].phase {
            Phase::Judging { heads } => heads.len(),
            _ => 0,
        };
        let head = state.head(read);
        let instance = &mut state.instances[at];
        match &mut instance.phase {
            Phase::Judging { heads } => heads.push(head),
            phase => *phase = Phase::Judging { heads: vec![head] },
        }
    }

    /// The ids are read, everything is judged, and what stands is appended in one statement.
    fn append(&self, state: &mut State, at: usize) {
        let instance = &state.instances[at];
        let Phase::Judging { heads } = &instance.phase else {
            return;
        };
        let mut heads = heads.clone();
        let (mut entry, mut repeated, mut refused) = (empty(), Vec::new(), Vec::new());
        for id in &instance.queue {
            let stands = match instance.early.get(id) {
                Some(early) => *early,
                None => state.ids.contains(id),
            };
            if stands {
                repeated.push(*id);
                continue;
            }
            let legs = &self.scope.transactions[*id];
            if legs.iter().any(|(a, delta)| *delta < 0 && heads[*a].1 + delta < 0) {
                refused.push(*id);
                continue;
            }
            entry.ids.insert(*id);
            for (account, delta) in legs {
                let (seq, balance) = heads[*account];
                heads[*account] = (seq + 1, balance + delta);
                let row = (*account, seq + 1, balance + delta);
                entry.rows.push(Row { account: row.0, seq: row.1, balance: row.2, id: *id });
            }
        }
        let known = state.instances[at].tail;
        let is_tail = known == Some(state.journal.len());
        let nothing = entry.ids.is_empty();
        if !is_tail && (self.keeps(Rule::Condition) || nothing) {
            let tail = state.journal.len();
            let missed = (known.unwrap_or(0) + 1)..=tail;
            let instance = &mut state.instances[at];
            instance.unapplied.extend(missed);
            instance.tail = Some(tail);
            instance.phase = Phase::Idle;
            return;
        }
        state.refused |= !refused.is_empty();
        for id in &repeated {
            self.tell(state, *id);
        }
        let written = entry.ids.clone();
        let instance = &mut state.instances[at];
        instance.queue.clear();
        instance.early.clear();
        instance.phase = Phase::Idle;
        if !nothing {
            state.journal.push(entry);
            let position = state.journal.len();
            let instance = &mut state.instances[at];
            instance.tail = Some(position);
            instance.phase = Phase::Applying { position, done: 0, waiting: written, written: true };
        }
    }

    fn answer(&self, state: &mut State, at: usize) {
        let Phase::Applying { waiting, written, .. } = &mut state.instances[at].phase else {
            return;
        };
        let (ids, written) = (std::mem::take(waiting), *written);
        for id in ids {
            state.written[id] += u8::from(written);
            self.tell(state, id);
        }
    }

    fn tell(&self, state: &mut State, id: Id) {
        state.told.insert(id);
        let whole = state.rows_of(id) == self.scope.transactions[id].len();
        state.lied |= !whole || !state.ids.contains(&id);
    }
}

fn empty() -> Entry {
    Entry {
        ids: Default::default(),
        rows: Vec::new(),
        removed: false,
    }
}

fn statements(entry: &Entry) -> usize {
    entry.rows.len() + entry.ids.len()
}

fn read_tail(state: &mut State, at: usize) {
    let tail = state.journal.len();
    let left = (1..=tail).filter(|position| !state.journal[position - 1].removed);
    let left = left.collect();
    let instance = &mut state.instances[at];
    instance.tail = Some(tail);
    instance.unapplied = left;
}

fn apply(state: &mut State, at: usize, position: usize) {
    state.instances[at].phase = Phase::Applying {
        position,
        done: 0,
        waiting: Default::default(),
        written: false,
    };
}

/// The next statement: a row, or the record of an id.
fn write(state: &mut State, at: usize) {
    let Phase::Applying { position, done, .. } = &mut state.instances[at].phase else {
        return;
    };
    let entry = &state.journal[*position - 1];
    let (next, position) = (*done, *position);
    *done += 1;
    if let Some(row) = entry.rows.get(next) {
        let content = (row.balance, Some(row.id));
        let before = state.ledger.insert((row.account, row.seq), content);
        state.clash |= before.is_some_and(|before| before != content);
    } else if let Some(id) = entry.ids.iter().nth(next - entry.rows.len()) {
        state.ids.insert(*id);
    }
    if *done == statements(entry) {
        state.instances[at].unapplied.remove(&position);
    }
}

fn remove(state: &mut State, at: usize) {
    let Phase::Applying { position, done, .. } = &state.instances[at].phase else {
        return;
    };
    let entry = &mut state.journal[position - 1];
    entry.removed = true;
    if *done == statements(entry) {
        state.instances[at].phase = Phase::Idle;
    }
}
