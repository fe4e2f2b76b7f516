//! Floors that are forgotten, because the row that they came from is no more. From then on the user's promises begin anew.
//!
//! | here | in the code |
//! |---|---|
//! | [`State::drop_user`] | `scripts/drop.lua` that forgets the floors |
//! | [`Inst::forget`], [`Inst::may_raise`] | `ChangeLog::forget_user`, `ChangeLog::may_raise` |

use crate::{
    forgetting_rules::{RaiseFacts, may_shown_raise_floors},
    instance::{Inst, Mark},
    load::Duty,
    redis::{Form, News},
    rules::{Rule, Rules},
    state::{Note, Scope, Seqs, State, Tick, meets},
};

impl Inst {
    /// Its answers until now bind nobody any more.
    pub fn forget(&mut self, now: Tick) {
        self.rereads += 1;
        self.mark = Mark {
            changed: true,
            reread: self.rereads,
            forgotten: self.rereads,
            touched: now,
            ..Mark::default()
        };
        self.showed = [0, 0];
        for reader in self.loads.iter_mut().flat_map(|load| &mut load.readers) {
            reader.duty.showed = [0, 0];
        }
    }

    /// Of a read that began after so many notifications without a seq.
    pub fn may_raise(&self, rules: Rules, now: Tick, rereads: u8) -> bool {
        let forgotten = self.mark(rules, now).forgotten;
        let facts = RaiseFacts {
            forgotten_since: forgotten > rereads && rules.holds(Rule::ForgottenRaisesNothing),
        };
        may_shown_raise_floors(&facts).is_ok()
    }
}

impl State {
    /// The row of the asset's second seq is no more.
    pub fn remove_row(&mut self) {
        (self.ledger[0], self.view[0], self.due[0]) = (1, 1, Tick::MAX);
        self.removed = true;
    }

    /// Acknowledgements until now bind nobody any more.
    pub fn drop_user(&mut self, news: News) {
        let id = self.redis.next_id(self.now);
        self.redis.data.post(id, Some(news));
        self.redis.data.entry = None;
        (self.acked, self.acked_before) = ([0, 0], [0, 0]);
        for inst in &mut self.insts {
            inst.acknowledged = [0, 0];
            for reader in inst.loads.iter_mut().flat_map(|load| &mut load.readers) {
                reader.duty = Duty {
                    here: [0, 0],
                    anywhere: [0, 0],
                    ..reader.duty
                };
            }
        }
    }

    /// At rest, nobody holds a floor or a balance that the ledger does not have.
    pub fn holds_nothing_forgotten(&self, rules: Rules, scope: &Scope) -> bool {
        let forgets = |(note, left): (&Note, &u8)| note.form == Form::Forget && *left > 0;
        if !self.removed || scope.notes.iter().zip(&self.notes).any(forgets) {
            return true;
        }
        let real = |seqs: Seqs| meets(self.ledger, seqs);
        let held = self.insts.iter().zip(scope.reads).all(|(inst, reads)| {
            let mark = inst.mark(rules, self.now);
            let memory = inst.get(self.now).map_or([0, 0], |kept| kept.snapshot);
            reads == 0 || (real(mark.floors) && real(mark.told) && real(memory))
        });
        let entry = self.redis.data.entry(self.now).unwrap_or_default();
        held && real(entry.balances) && real(entry.live_floors(self.now))
    }
}
