//! The plan of a simulation: every deposit, hold, trade and withdrawal, from a seed. Pure.
//!
//! **Invariants.** The same numbers give the same plan, with the same ids: a simulation that is run again repeats itself. What a user
//! spends in the whole plan is deposited first, so nothing is refused, in whatever order the rest arrives.
//!
//! **Limits.** A million users, and a million seeds. Memory grows with users, not with trades.

use balance_cache::domain::{Amount, AssetId, Catalogue};

use super::random::{Random, Zipf};

/// Ids of one seed: fewer than 10^12.
const IDS: i64 = 1_000_000_000_000;
/// Users of one seed: fewer than 10^9.
const USERS: i64 = 1_000_000_000;
/// The first id of a flow's transactions, behind those of deposits.
const FLOWS: i64 = 10_000_000;
const IDS_OF_FLOW: i64 = 4;
/// `settled_at` of the first trade: milliseconds since 1970.
const BEGIN_MILLIS: i64 = 1_765_000_000_000;

/// The two assets of the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MarketSide {
    Base,
    Quote,
}

/// The change of one (user, asset). Raw units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) seat: u32,
    pub(super) side: MarketSide,
    pub(super) avail: i64,
    pub(super) frozen: i64,
}

/// The terms of a trade, beside its moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) buyer: u32,
    pub(super) seller: u32,
    pub(super) price: i64,
    pub(super) quantity: i64,
    pub(super) buyer_pays_from: &'static str,
    pub(super) seller_pays_from: &'static str,
    pub(super) buyer_fee: i64,
    pub(super) seller_fee: i64,
}

/// One transaction or trade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Posting {
    pub(super) id: i64,
    pub(super) at_millis: i64,
    pub(super) event_type: &'static str,
    pub(super) moves: Vec<Move>,
    pub(super) trade: Option<Terms>,
}

/// The market that is traded.
#[derive(Debug, Clone)]
pub(super) struct SimulatedMarket {
    pub(super) catalogue: Catalogue,
    pub(super) symbol: String,
    pub(super) base: AssetId,
    pub(super) quote: AssetId,
    /// Raw units of a whole base unit.
    base_scale: i128,
}

impl SimulatedMarket {
    /// None for a symbol that is not in the catalogue.
    pub(super) fn new(catalogue: Catalogue, symbol: &str) -> Option<Self> {
        let (_, base, quote) = catalogue.find_symbol(symbol)?;
        let (_, decimals) = catalogue.get_asset(base)?;
        let base_scale = 10_i128.checked_pow(u32::from(decimals))?;
        Some(Self {
            symbol: symbol.to_owned(),
            base,
            quote,
            base_scale,
            catalogue,
        })
    }

    pub(super) const fn side_asset(&self, side: MarketSide) -> AssetId {
        match side {
            MarketSide::Base => self.base,
            MarketSide::Quote => self.quote,
        }
    }

    /// A price at which the quantity costs about so much, and what it costs.
    fn price_for(&self, quantity: i64, about: i64) -> Option<(i64, i64)> {
        let whole = i128::from(about).checked_mul(self.base_scale)?;
        let price = whole.checked_div(i128::from(quantity))?.max(1);
        let price = i64::try_from(price).unwrap_or(i64::MAX);
        let amount = Amount::from_raw;
        let cost = self
            .catalogue
            .trade_cost(&self.symbol, amount(price), amount(quantity))?;
        (cost.raw() >= 1).then_some((price, cost.raw()))
    }
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) market: SimulatedMarket,
    pub(super) users: u32,
    pub(super) trades: u64,
    seed: u32,
    zipf: Zipf,
}

impl Plan {
    /// `users` from 2 to a million, `seed` below a million.
    pub(super) fn new(
        market: SimulatedMarket,
        users: u32,
        trades: u64,
        exponent: f64,
        seed: u32,
    ) -> Self {
        Self {
            market,
            users,
            trades,
            seed,
            zipf: Zipf::new(users, exponent),
        }
    }

    /// The seat of the house, which takes the fees.
    pub(super) const fn house_seat(&self) -> u32 {
        self.users
    }

    /// Each seed has users of its own.
    pub(super) fn seat_user_id(&self, seat: u32) -> i64 {
        let first = i64::from(self.seed).saturating_add(1).saturating_mul(USERS);
        first.saturating_add(i64::from(seat)).saturating_add(1)
    }

    fn posting_id(&self, number: i64) -> i64 {
        let first = i64::from(self.seed).saturating_add(1).saturating_mul(IDS);
        first.saturating_add(number)
    }

    /// The postings of one trade in their order: a hold, the trade, and now and then a withdrawal or a deposit.
    pub(super) fn trade_flow(&self, number: u64) -> Vec<Posting> {
        let mixed = u64::from(self.seed).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mut random = Random(mixed ^ number);
        random.next_u64();
        let buyer = self.zipf.draw_seat(&mut random);
        let mut seller = self.zipf.draw_seat(&mut random);
        if seller == buyer && random.next_below(50) > 0 {
            seller = buyer.saturating_add(1).checked_rem(self.users).unwrap_or(0);
        }
        let mut quantity = random.next_between(1_000, 100_000);
        let about = random.next_between(1_000, 50_000);
        let (price, cost) = self.market.price_for(quantity, about).unwrap_or_else(|| {
            // With so many decimals only whole raw units can be priced.
            quantity = 1_000_000_000_000_000_000;
            (1, 1)
        });
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let first_id = number.saturating_mul(IDS_OF_FLOW).saturating_add(FLOWS);
        let posting = |at: i64, event_type, moves, trade| Posting {
            id: self.posting_id(first_id.saturating_add(at)),
            at_millis: BEGIN_MILLIS.saturating_add(number),
            event_type,
            moves,
            trade,
        };
        let (holds_quote, holds_base) = (random.next_below(3) > 0, random.next_below(2) > 0);
        let mut flow = Vec::with_capacity(3);
        let mut held = Vec::new();
        if holds_quote {
            held.push(hold_amount(buyer, MarketSide::Quote, cost));
        }
        if holds_base {
            held.push(hold_amount(seller, MarketSide::Base, quantity));
        }
        if !held.is_empty() {
            flow.push(posting(0, "hold", held, None));
        }
        let word = |held| if held { "frozen" } else { "avail" };
        let terms = Terms {
            buyer,
            seller,
            price,
            quantity,
            buyer_pays_from: word(holds_quote),
            seller_pays_from: word(holds_base),
            buyer_fee: cost.checked_div(1_000).unwrap_or(0).saturating_add(1),
            seller_fee: quantity.checked_div(1_000).unwrap_or(0).saturating_add(1),
        };
        let moves = self.trade_moves(&terms, cost, holds_quote, holds_base);
        flow.push(posting(1, "trade", moves, Some(terms)));
        let amount = random.next_between(1, 1_000);
        if random.next_below(10) == 0 {
            let taken = change_avail(seller, MarketSide::Quote, amount.saturating_neg());
            flow.push(posting(2, "withdrawal", vec![taken], None));
        }
        if random.next_below(7) == 0 {
            let given = change_avail(buyer, MarketSide::Base, amount);
            flow.push(posting(3, "deposit", vec![given], None));
        }
        flow
    }

    fn trade_moves(
        &self,
        terms: &Terms,
        cost: i64,
        from_quote: bool,
        from_base: bool,
    ) -> Vec<Move> {
        let pay = |seat, side, amount: i64, frozen: bool| {
            let taken = amount.saturating_neg();
            if frozen {
                Move {
                    seat,
                    side,
                    avail: 0,
                    frozen: taken,
                }
            } else {
                change_avail(seat, side, taken)
            }
        };
        vec![
            change_avail(terms.buyer, MarketSide::Base, terms.quantity),
            pay(terms.buyer, MarketSide::Quote, cost, from_quote),
            pay(terms.seller, MarketSide::Base, terms.quantity, from_base),
            change_avail(terms.seller, MarketSide::Quote, cost),
            change_avail(
                terms.buyer,
                MarketSide::Quote,
                terms.buyer_fee.saturating_neg(),
            ),
            change_avail(self.house_seat(), MarketSide::Quote, terms.buyer_fee),
            change_avail(
                terms.seller,
                MarketSide::Base,
                terms.seller_fee.saturating_neg(),
            ),
            change_avail(self.house_seat(), MarketSide::Base, terms.seller_fee),
        ]
    }

    /// The deposits that come first: what each user spends in the whole plan.
    pub(super) fn opening_deposits(&self) -> Vec<Posting> {
        let seats = usize::try_from(self.users).unwrap_or(usize::MAX);
        let mut spent: Vec<[i64; 2]> = vec![[0, 0]; seats];
        for number in 0..self.trades {
            for posting in self.trade_flow(number) {
                for moved in posting.moves {
                    let at = usize::try_from(moved.seat).unwrap_or(usize::MAX);
                    if let Some([base, quote]) = spent.get_mut(at) {
                        let sum = match moved.side {
                            MarketSide::Base => base,
                            MarketSide::Quote => quote,
                        };
                        // A hold is spent once: what it freezes is paid later.
                        let out = moved.avail.min(0).saturating_neg();
                        *sum = sum.saturating_add(out);
                    }
                }
            }
        }
        let deposit = |(seat, [base, quote]): (u32, [i64; 2])| {
            let both = [(MarketSide::Base, base), (MarketSide::Quote, quote)];
            let moves = both.into_iter().filter(|(_, amount)| *amount > 0);
            Posting {
                id: self.posting_id(i64::from(seat)).saturating_add(1),
                at_millis: BEGIN_MILLIS,
                event_type: "deposit",
                moves: moves
                    .map(|(side, amount)| change_avail(seat, side, amount))
                    .collect(),
                trade: None,
            }
        };
        let all = (0_u32..).zip(spent).map(deposit);
        all.filter(|posting| !posting.moves.is_empty()).collect()
    }
}

const fn change_avail(seat: u32, side: MarketSide, avail: i64) -> Move {
    Move {
        seat,
        side,
        avail,
        frozen: 0,
    }
}

const fn hold_amount(seat: u32, side: MarketSide, amount: i64) -> Move {
    Move {
        seat,
        side,
        avail: amount.saturating_neg(),
        frozen: amount,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use balance_cache::domain::{Asset, Symbol};

    use super::*;

    pub(in super::super) fn sample_plan(users: u32, trades: u64, seed: u32) -> Plan {
        of_decimals(8, users, trades, seed)
    }

    fn of_decimals(decimals: u8, users: u32, trades: u64, seed: u32) -> Plan {
        let symbol = Symbol::new(1, "BTC_USDT", "BTC", "USDT");
        let catalogue = Catalogue::new(
            &[
                Asset::new(1, "BTC", decimals),
                Asset::new(2, "USDT", decimals),
            ],
            &[symbol],
        )
        .unwrap();
        let market = SimulatedMarket::new(catalogue, "BTC_USDT").unwrap();
        Plan::new(market, users, trades, 0.99, seed)
    }

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_other_users_and_ids() {
        let (one, same, other) = (
            sample_plan(10, 50, 7),
            sample_plan(10, 50, 7),
            sample_plan(10, 50, 8),
        );
        for number in 0..50 {
            assert_eq!(one.trade_flow(number), same.trade_flow(number));
            let ids = |plan: &Plan| {
                plan.trade_flow(number)
                    .iter()
                    .map(|one| one.id)
                    .collect::<Vec<_>>()
            };
            assert!(ids(&one).iter().all(|id| !ids(&other).contains(id)));
        }
        assert_eq!(one.opening_deposits(), same.opening_deposits());
        assert_ne!(one.seat_user_id(0), other.seat_user_id(0));
    }

    #[test]
    fn every_trade_conserves_and_every_flow_frees_what_it_held() {
        for decimals in [0, 2, 8, 18] {
            let plan = of_decimals(decimals, 5, 200, 1);
            for number in 0..200 {
                let flow = plan.trade_flow(number);
                let trade = flow.iter().find(|posting| posting.trade.is_some()).unwrap();
                for side in [MarketSide::Base, MarketSide::Quote] {
                    let of = |posting: &Posting| -> (i64, i64) {
                        let moves = posting.moves.iter().filter(|one| one.side == side);
                        moves.fold((0, 0), |sum, one| (sum.0 + one.avail, sum.1 + one.frozen))
                    };
                    assert_eq!(of(trade).0 + of(trade).1, 0, "{decimals} {number}");
                    let frozen: i64 = flow.iter().map(|posting| of(posting).1).sum();
                    assert_eq!(frozen, 0, "{decimals} {number}");
                }
            }
        }
    }

    #[test]
    fn the_first_seats_trade_most() {
        let plan = sample_plan(1_000, 2_000, 3);
        let mut first = 0;
        for number in 0..2_000 {
            let flow = plan.trade_flow(number);
            let terms = flow
                .iter()
                .find_map(|posting| posting.trade.clone())
                .unwrap();
            assert!(terms.buyer < 1_000 && terms.seller < 1_000);
            first += u32::from(terms.buyer < 10);
        }
        // The share of the first ten of a thousand by Zipf(0.99) is 0.38.
        assert!((600..=920).contains(&first), "{first}");
    }
}
