//! Users who trade: the same ones again and again, by Zipf's law.

use std::{collections::HashMap, sync::Arc};

use balance_cache::domain::{Asset, Catalogue, Symbol, Trade, Transaction};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Users of the market.
pub const USERS: i64 = 10_000;
/// The account that takes the fees.
pub const HOUSE: i64 = 1_000_000;
/// Everybody has this much of both assets.
pub const FUNDS: i64 = 1_000_000_000_000;
const EXPONENT: f64 = 0.99;

/// A transaction under its id.
pub struct Deal {
    pub id: i64,
    pub transaction: Transaction,
}

/// The seats of a market, and the next trades.
pub struct Market {
    pub catalogue: Arc<Catalogue>,
    cumulative: Vec<f64>,
    random: StdRng,
    next_id: i64,
    /// The seqs that an external writer gave.
    seqs: HashMap<(i64, i32), i64>,
}

impl Market {
    pub fn new() -> Self {
        let symbol = Symbol::new(1, "BTC_USDT", "BTC", "USDT");
        let catalogue = Catalogue::new(
            &[Asset::new(1, "BTC", 8), Asset::new(2, "USDT", 8)],
            &[symbol],
        )
        .unwrap();
        let mut sum = 0.0;
        let shares = (1..=i32::try_from(USERS).unwrap()).map(|rank| {
            sum += f64::from(rank).powf(-EXPONENT);
            sum
        });
        Self {
            catalogue: Arc::new(catalogue),
            cumulative: shares.collect(),
            random: StdRng::seed_from_u64(1),
            next_id: 1,
            seqs: HashMap::new(),
        }
    }

    fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    fn user(&mut self) -> i64 {
        let share = self
            .random
            .random_range(0.0..*self.cumulative.last().unwrap());
        let seat = self.cumulative.partition_point(|sum| *sum <= share);
        1 + i64::try_from(seat).unwrap()
    }

    fn two_users(&mut self) -> (i64, i64) {
        let buyer = self.user();
        loop {
            let seller = self.user();
            if seller != buyer {
                return (buyer, seller);
            }
        }
    }

    fn parse(&self, id: i64, (buyer, seller): (i64, i64), rest: &str) -> Deal {
        let json = format!(
            r#"{{"trade_id":{id},"symbol":"BTC_USDT","buyer_user_id":{buyer},"seller_user_id":{seller},"price":200000000,"quantity":10,"settled_at":77{rest}}}"#
        );
        let transaction = Trade::parse_trade(&json, &self.catalogue).unwrap();
        Deal { id, transaction }
    }

    /// Trades whose seqs the service assigns; the buyer may pay a fee to the house.
    pub fn trades(&mut self, count: usize, with_fee: bool) -> Vec<Deal> {
        let trade = |_| {
            let (id, users) = (self.id(), self.two_users());
            let fee = format!(
                r#","fees":[{{"user_id":{},"asset_id":2,"amount":1,"to_user_id":{HOUSE}}}]"#,
                users.0
            );
            self.parse(id, users, if with_fee { &fee } else { "" })
        };
        (0..count).map(trade).collect()
    }

    /// Trades that bring their seqs.
    pub fn given_trades(&mut self, count: usize) -> Vec<Deal> {
        let trade = |_| {
            let (id, users) = (self.id(), self.two_users());
            let mut balances = Vec::new();
            for user in [users.0, users.1] {
                for asset in [1, 2] {
                    let seq = self.seqs.entry((user, asset)).or_default();
                    *seq += 1;
                    balances.push(format!(
                        r#"{{"user_id":{user},"asset_id":{asset},"seq":{seq},"avail":{FUNDS},"frozen":0}}"#
                    ));
                }
            }
            let rest = format!(r#","balances":[{}]"#, balances.join(","));
            self.parse(id, users, &rest)
        };
        (0..count).map(trade).collect()
    }

    /// A deposit of a user who does nothing else.
    pub fn deposit(&mut self) -> Deal {
        let id = self.id();
        Self::deposit_of(id, &[(HOUSE + id, 1)])
    }

    /// Deposits by which everybody can trade.
    pub fn funds(&mut self) -> Vec<Deal> {
        let users: Vec<i64> = (1..=USERS).chain([HOUSE]).collect();
        let deposit = |users: &[i64]| {
            let id = self.id();
            let of_both = users.iter().flat_map(|user| [(*user, 1), (*user, 2)]);
            Self::deposit_of(id, &of_both.collect::<Vec<_>>())
        };
        users.chunks(32).map(deposit).collect()
    }

    fn deposit_of(id: i64, to: &[(i64, i32)]) -> Deal {
        let entry = |(user, asset): &(i64, i32)| {
            format!(r#"{{"user_id":{user},"asset_id":{asset},"delta_avail":{FUNDS}}}"#)
        };
        let entries: Vec<String> = to.iter().map(entry).collect();
        let json = format!(
            r#"{{"transaction_id":{id},"event_type":"deposit","created_at":77,"entries":[{}]}}"#,
            entries.join(",")
        );
        let transaction = Transaction::parse_transaction(&json).unwrap();
        Deal { id, transaction }
    }
}
