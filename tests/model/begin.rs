//! How it begins.

use crate::{
    instance::{Inst, Kept, Position, Session, Tap},
    redis::{Data, Entry, Epoch, Redis, at_tick},
    state::{BEGIN, MEMORY_TTL, SNAPSHOT_TTL, State, Tick},
    world::World,
};

impl World {
    pub fn begin(&self) -> State {
        let epoch = Epoch {
            id: 1,
            birth: 0,
            servers: 1,
        };
        let opened = at_tick(0) + 1;
        let inst = Inst {
            proof: self.scope.proven.then_some(BEGIN),
            session: Some(Session { epoch, run: 1 }),
            tap: Some(Tap { run: 1, epoch: 1 }),
            position: Some(Position {
                epoch: 1,
                cursor: opened,
                seen: true,
            }),
            stale: self.scope.stale,
            ..Inst::default()
        };
        let mut data = Data {
            epoch: Some(epoch),
            ..Data::default()
        };
        data.post(opened, None);
        let redis = Redis {
            up: true,
            run: 1,
            data,
            demoted: None,
            ahead: 0,
            dump: None,
            epochs: 1,
            tokens: 0,
            ids: 1,
        };
        let mut state = State {
            now: BEGIN,
            ledger: [1, 1],
            view: [1, 1],
            due: [Tick::MAX; 2],
            written: 0,
            notes: self.scope.notes.iter().map(|note| note.times).collect(),
            reads: self.scope.reads,
            faults: self.scope.faults.iter().map(|fault| fault.1).collect(),
            redis,
            source_down: false,
            removed: false,
            insts: [
                inst.clone(),
                if self.scope.newborn {
                    Inst {
                        cut: true,
                        stale: self.scope.stale,
                        ..Inst::default()
                    }
                } else {
                    inst
                },
            ],
            applying: None,
            acked: [0, 0],
            acked_before: [0, 0],
            broken: None,
        };
        self.warm(&mut state);
        for _ in 0..self.scope.written {
            self.write(&mut state);
        }
        state
    }

    fn warm(&self, state: &mut State) {
        let (until, generation) = (BEGIN + MEMORY_TTL, 0);
        if self.scope.warm_memory {
            let kept = Kept {
                snapshot: [1, 1],
                until,
                loaded: BEGIN - 1,
                from_ledger: false,
                generation,
                invalidated: false,
            };
            for inst in &mut state.insts {
                inst.memory = Some(kept);
            }
        }
        if self.scope.warm_redis {
            let until = BEGIN + SNAPSHOT_TTL;
            state.redis.data.entry = Some(Entry {
                epoch: 1,
                whole: true,
                until,
                balances: [1, 1],
                expires: until,
                ..Entry::default()
            });
        }
    }
}
