//! The balances that a simulation should lead to, and its postings as JSON. Pure.
//!
//! **Invariants.** Each posting gives each (user, asset) that it moves the next seq: the seqs of a simulation's users have no gaps.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::plan::{MarketSide, Move, Plan, Posting};

/// One balance. Raw units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BookBalance {
    pub(super) seq: i64,
    pub(super) avail: i64,
    pub(super) frozen: i64,
}

/// All balances by seat and side, and what came in and went out.
#[derive(Debug)]
pub(super) struct Books {
    held: Vec<[BookBalance; 2]>,
    deposited: [i128; 2],
    withdrawn: [i128; 2],
}

#[derive(Debug, Clone, Copy)]
struct BookRow {
    moved: Move,
    held: BookBalance,
}

const fn side_index(side: MarketSide) -> usize {
    match side {
        MarketSide::Base => 0,
        MarketSide::Quote => 1,
    }
}

impl Books {
    pub(super) fn new(plan: &Plan) -> Self {
        // The house is the last.
        let seats = usize::try_from(plan.house_seat())
            .unwrap_or(0)
            .saturating_add(1);
        Self {
            held: vec![[BookBalance::default(); 2]; seats],
            deposited: [0, 0],
            withdrawn: [0, 0],
        }
    }

    pub(super) fn seat_balance(&self, seat: u32, side: MarketSide) -> BookBalance {
        let seat = usize::try_from(seat).unwrap_or(usize::MAX);
        let both = self.held.get(seat);
        both.and_then(|both| both.get(side_index(side)))
            .copied()
            .unwrap_or_default()
    }

    /// Raw units that were deposited and withdrawn.
    pub(super) fn in_and_out(&self, side: MarketSide) -> (i128, i128) {
        let of = |sums: &[i128; 2]| sums.get(side_index(side)).copied().unwrap_or_default();
        (of(&self.deposited), of(&self.withdrawn))
    }

    /// Moves what the posting moves, and returns the rows by seat and side.
    fn apply_posting(&mut self, posting: &Posting) -> Vec<BookRow> {
        let mut sums: BTreeMap<(u32, MarketSide), (i64, i64)> = BTreeMap::new();
        for one in &posting.moves {
            let sum = sums.entry((one.seat, one.side)).or_default();
            sum.0 = sum.0.saturating_add(one.avail);
            sum.1 = sum.1.saturating_add(one.frozen);
        }
        let mut rows = Vec::with_capacity(sums.len());
        for ((seat, side), (avail, frozen)) in sums {
            self.count_external(posting, side, avail);
            let index = usize::try_from(seat).unwrap_or(usize::MAX);
            let both = self.held.get_mut(index);
            if let Some(held) = both.and_then(|both| both.get_mut(side_index(side))) {
                held.seq = held.seq.saturating_add(1);
                held.avail = held.avail.saturating_add(avail);
                held.frozen = held.frozen.saturating_add(frozen);
                let moved = Move {
                    seat,
                    side,
                    avail,
                    frozen,
                };
                rows.push(BookRow { moved, held: *held });
            }
        }
        rows
    }

    fn count_external(&mut self, posting: &Posting, side: MarketSide, avail: i64) {
        let sums = match posting.event_type {
            "deposit" => &mut self.deposited,
            "withdrawal" => &mut self.withdrawn,
            _ => return,
        };
        if let Some(sum) = sums.get_mut(side_index(side)) {
            *sum = sum.saturating_add(i128::from(avail).abs());
        }
    }

    /// The posting as the service assigns its seqs: a transaction or a trade.
    pub(super) fn assigned_there(&mut self, plan: &Plan, posting: &Posting) -> Value {
        self.apply_posting(posting);
        if posting.trade.is_some() {
            return trade_json(plan, posting);
        }
        let entry = |one: &Move| {
            json!({"user_id": plan.seat_user_id(one.seat), "asset_id": plan.market.side_asset(one.side).get(),
                "delta_avail": one.avail, "delta_frozen": one.frozen})
        };
        let entries: Vec<Value> = posting.moves.iter().map(entry).collect();
        json!({"transaction_id": posting.id, "entries": entries, "event_type": posting.event_type,
            "created_at": posting.at_millis})
    }

    /// The posting with seqs of these books: a trade with its balances, or entries.
    pub(super) fn assigned_here(&mut self, plan: &Plan, posting: &Posting) -> Vec<Value> {
        let rows = self.apply_posting(posting);
        let key = |row: &BookRow| {
            json!({"user_id": plan.seat_user_id(row.moved.seat), "asset_id": plan.market.side_asset(row.moved.side).get(),
                "seq": row.held.seq, "avail": row.held.avail, "frozen": row.held.frozen})
        };
        if posting.trade.is_some() {
            let mut trade = trade_json(plan, posting);
            let balances: Vec<Value> = rows.iter().map(key).collect();
            if let Some(fields) = trade.as_object_mut() {
                fields.insert("balances".to_owned(), balances.into());
            }
            return vec![trade];
        }
        let entry = |row: &BookRow| {
            let mut entry = key(row);
            let more = json!({"delta_avail": row.moved.avail, "delta_frozen": row.moved.frozen,
                "event_type": posting.event_type, "ref_id": posting.id, "created_at": posting.at_millis});
            if let (Some(fields), Value::Object(more)) = (entry.as_object_mut(), more) {
                fields.extend(more);
            }
            entry
        };
        rows.iter().map(entry).collect()
    }
}

/// A trade without balances.
fn trade_json(plan: &Plan, posting: &Posting) -> Value {
    let Some(terms) = &posting.trade else {
        return Value::Null;
    };
    let fee = |seat, side, amount: i64| {
        json!({"user_id": plan.seat_user_id(seat), "asset_id": plan.market.side_asset(side).get(), "amount": amount,
            "to_user_id": plan.seat_user_id(plan.house_seat())})
    };
    json!({"trade_id": posting.id, "symbol": plan.market.symbol, "buyer_user_id": plan.seat_user_id(terms.buyer),
        "seller_user_id": plan.seat_user_id(terms.seller), "price": terms.price, "quantity": terms.quantity,
        "settled_at": posting.at_millis, "buyer_pays_from": terms.buyer_pays_from,
        "seller_pays_from": terms.seller_pays_from,
        "fees": [fee(terms.buyer, MarketSide::Quote, terms.buyer_fee), fee(terms.seller, MarketSide::Base, terms.seller_fee)]})
}

#[cfg(test)]
mod tests {
    use balance_cache::domain::{Entry, Trade, Transaction};

    use super::{super::plan::tests::sample_plan, *};

    #[test]
    fn what_is_sent_is_what_the_service_takes_and_nobody_falls_below_zero() {
        let plan = sample_plan(6, 300, 5);
        let (mut there, mut here) = (Books::new(&plan), Books::new(&plan));
        let flows = (0..plan.trades).flat_map(|number| plan.trade_flow(number));
        for posting in plan.opening_deposits().into_iter().chain(flows) {
            let sent = there.assigned_there(&plan, &posting).to_string();
            let rows = here.assigned_here(&plan, &posting);
            if posting.trade.is_some() {
                Trade::parse_trade(&sent, &plan.market.catalogue).unwrap();
                let with_balances = rows[0].to_string();
                let parsed = Trade::parse_trade(&with_balances, &plan.market.catalogue).unwrap();
                assert!(parsed.balances.is_some());
            } else {
                let transaction = Transaction::parse_transaction(&sent).unwrap();
                assert_eq!(transaction.changes.len(), rows.len());
                for row in rows {
                    Entry::parse_entry(&row.to_string()).unwrap();
                }
            }
            for seat in 0..=plan.house_seat() {
                for side in [MarketSide::Base, MarketSide::Quote] {
                    let held = here.seat_balance(seat, side);
                    assert!(
                        held.avail >= 0 && held.frozen >= 0,
                        "{seat} {side:?} {held:?}"
                    );
                    assert_eq!(held, there.seat_balance(seat, side));
                }
            }
        }
        for side in [MarketSide::Base, MarketSide::Quote] {
            let all = (0..=plan.house_seat()).map(|seat| here.seat_balance(seat, side));
            let sum: i128 = all
                .map(|held| i128::from(held.avail) + i128::from(held.frozen))
                .sum();
            let (deposited, withdrawn) = here.in_and_out(side);
            assert_eq!(sum, deposited - withdrawn);
        }
    }
}
