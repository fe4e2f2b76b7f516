//! Rows of the past, and places among them: a user's trades, and the statement of one balance.
//!
//! **Invariants.** A row's place never changes, so a page that begins behind a place shows no row twice and leaves none out.

use std::cmp::Reverse;

use super::{Amount, AssetId, Seq, TradeId, UnixMillis, UserId};

/// Rows of one page at most.
pub const PAGE_MAX: usize = 1_000;
/// Rows of one page where the reader does not say.
pub const PAGE_DEFAULT: usize = 100;

/// The direction in which pages go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// From the newest row down.
    #[default]
    NewestFirst,
    /// From the oldest row up.
    OldestFirst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TradeSideRole {
    /// Received base.
    Buyer,
    /// Received quote.
    Seller,
}

impl TradeSideRole {
    /// The number in the key of `user_trades`.
    pub const fn key_number(self) -> u8 {
        match self {
            Self::Buyer => 0,
            Self::Seller => 1,
        }
    }

    /// The role with this number; none for another number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Buyer),
            1 => Some(Self::Seller),
            _ => None,
        }
    }
}

/// The place of a trade's side among those of one user and symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TradePlace {
    pub settled_at: UnixMillis,
    pub trade_id: TradeId,
    pub role: TradeSideRole,
}

impl TradePlace {
    /// Ascends with the oldest first. Of a trade with oneself the buyer's side counts as the newer one, as in the table.
    pub fn sort_rank(&self) -> (UnixMillis, TradeId, Reverse<u8>) {
        let role = Reverse(self.role.key_number());
        (self.settled_at, self.trade_id, role)
    }

    /// Whether a page in this order comes to `self` after `other`.
    pub fn comes_after(&self, other: &Self, order: Order) -> bool {
        match order {
            Order::NewestFirst => self.sort_rank() < other.sort_rank(),
            Order::OldestFirst => self.sort_rank() > other.sort_rank(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTrade {
    pub place: TradePlace,
    /// Raw quote units for one whole base unit, where the writer says it.
    pub price: Option<Amount>,
    /// Raw base units, where the writer says it.
    pub quantity: Option<Amount>,
    /// Raw quote units, where the writer says it.
    pub cost: Option<Amount>,
    /// The side's order, where the writer says it.
    pub order_id: Option<i64>,
}

/// A row of the ledger as a statement shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementRow {
    /// The version.
    pub seq: Seq,
    /// The balance after the event.
    pub avail: Amount,
    /// The hold after the event.
    pub frozen: Amount,
    /// The change of `avail`, where the writer says it.
    pub delta_avail: Option<Amount>,
    /// The change of `frozen`, where the writer says it.
    pub delta_frozen: Option<Amount>,
    /// The event, where the writer says it.
    pub event_type: Option<String>,
    /// The id that it refers to, where the writer says it.
    pub ref_id: Option<i64>,
    /// When it happened, where the writer says it.
    pub created_at: Option<UnixMillis>,
}

/// A page of trades that a reader asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TradesQuestion {
    /// The user whose rows are asked for.
    pub user: UserId,
    /// The symbol's number in the catalogue.
    pub symbol_id: i32,
    /// Not settled earlier.
    pub from: Option<UnixMillis>,
    /// Settled earlier than this.
    pub to: Option<UnixMillis>,
    /// The direction.
    pub order: Order,
    /// 1 … [`PAGE_MAX`] rows.
    pub limit: usize,
    /// The last place of the page before.
    pub after: Option<TradePlace>,
}

/// A page of a statement that a reader asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementQuestion {
    /// The user whose rows are asked for.
    pub user: UserId,
    pub asset: AssetId,
    /// The statement begins with the row that stood then.
    pub at: Option<UnixMillis>,
    /// The direction.
    pub order: Order,
    /// 1 … [`PAGE_MAX`] rows.
    pub limit: usize,
    /// The last seq of the page before.
    pub after: Option<Seq>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage<T> {
    /// In the order that was asked for, at most as many as the limit.
    pub rows: Vec<T>,
    /// Whether rows follow.
    pub more: bool,
}

impl<T> Default for HistoryPage<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            more: false,
        }
    }
}

/// The sides of trades to be read from a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TradeSlice {
    /// The user whose rows are asked for.
    pub user: UserId,
    pub symbol_id: i32,
    /// The lowest (`settled_at`, `trade_id`), itself in it.
    pub lowest: (i64, i64),
    /// The highest (`settled_at`, `trade_id`), itself in it.
    pub highest: (i64, i64),
    /// The direction.
    pub order: Order,
    /// Rows at most. The last ones may be both sides of one trade in either order.
    pub rows_max: usize,
}

/// The rows of one (user, asset) to be read from a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerSlice {
    /// The user whose rows are asked for.
    pub user: UserId,
    pub asset: AssetId,
    /// The lowest seq, itself in it.
    pub lowest: i64,
    /// The highest seq, itself in it.
    pub highest: i64,
    /// The direction.
    pub order: Order,
    /// Rows at most.
    pub rows_max: usize,
}

/// Sides of one trade that may stand at the place where a page begins, and were shown by the page before.
const SIDES: usize = 2;

impl TradesQuestion {
    /// The rows to read: one more than are shown, and those at the place of the page before, which [`TradesQuestion::cut_page`] takes
    /// out. None: nothing lies between `from` and `to`.
    pub fn trade_slice(&self) -> Option<TradeSlice> {
        let place = |at: &TradePlace| (at.settled_at.0, at.trade_id.get());
        let mut lowest = (self.from.map_or(i64::MIN, |from| from.0), i64::MIN);
        let mut highest = match self.to {
            Some(to) => (to.0.checked_sub(1)?, i64::MAX),
            None => (i64::MAX, i64::MAX),
        };
        match (&self.after, self.order) {
            (Some(after), Order::NewestFirst) => highest = highest.min(place(after)),
            (Some(after), Order::OldestFirst) => lowest = lowest.max(place(after)),
            (None, _) => {}
        }
        (lowest <= highest).then_some(TradeSlice {
            user: self.user,
            symbol_id: self.symbol_id,
            lowest,
            highest,
            order: self.order,
            rows_max: self.limit.saturating_add(SIDES).saturating_add(1),
        })
    }

    /// The page from the rows of [`TradesQuestion::trade_slice`].
    pub fn cut_page(&self, mut rows: Vec<UserTrade>) -> HistoryPage<UserTrade> {
        if let Some(after) = &self.after {
            rows.retain(|row| row.place.comes_after(after, self.order));
        }
        cut_rows(rows, self.limit)
    }
}

impl StatementQuestion {
    /// The rows to read: one more than are shown. `start` is the seq of the row that stood at `at`, where the reader names a time
    /// and no row stood then that is None. None: there are no such rows.
    pub fn ledger_slice(&self, start: Option<Seq>) -> Option<LedgerSlice> {
        let (mut lowest, mut highest) = (i64::MIN, i64::MAX);
        match (self.after, self.order) {
            (Some(after), Order::NewestFirst) => highest = after.get().checked_sub(1)?,
            (Some(after), Order::OldestFirst) => lowest = after.get().checked_add(1)?,
            (None, Order::NewestFirst) if self.at.is_some() => highest = start?.get(),
            // Nothing stood then: what came later begins with the first row of all.
            (None, Order::OldestFirst) if self.at.is_some() => {
                lowest = start.map_or(i64::MIN, Seq::get);
            }
            (None, _) => {}
        }
        Some(LedgerSlice {
            user: self.user,
            asset: self.asset,
            lowest,
            highest,
            order: self.order,
            rows_max: self.limit.saturating_add(1),
        })
    }

    /// The page from the rows of [`StatementQuestion::ledger_slice`].
    pub fn cut_page(&self, rows: Vec<StatementRow>) -> HistoryPage<StatementRow> {
        cut_rows(rows, self.limit)
    }
}

fn cut_rows<T>(mut rows: Vec<T>, limit: usize) -> HistoryPage<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    HistoryPage { rows, more }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn test_question(order: Order, limit: usize) -> TradesQuestion {
        TradesQuestion {
            user: UserId::MAX,
            symbol_id: 1,
            from: None,
            to: None,
            order,
            limit,
            after: None,
        }
    }

    fn test_trade((at, id, seller): (i64, i64, bool)) -> UserTrade {
        let role = if seller {
            TradeSideRole::Seller
        } else {
            TradeSideRole::Buyer
        };
        UserTrade {
            place: TradePlace {
                settled_at: UnixMillis(at),
                trade_id: TradeId::new(id).unwrap(),
                role,
            },
            price: None,
            quantity: None,
            cost: None,
            order_id: None,
        }
    }

    /// As a table answers: in its order, sides of one trade as they come, cut off at the end.
    fn read_slice(all: &[UserTrade], slice: &TradeSlice) -> Vec<UserTrade> {
        let place = |row: &UserTrade| (row.place.settled_at.0, row.place.trade_id.get());
        let mut rows: Vec<_> = all.to_vec();
        rows.retain(|row| (slice.lowest..=slice.highest).contains(&place(row)));
        rows.sort_by_key(|row| row.place.sort_rank());
        if slice.order == Order::NewestFirst {
            rows.reverse();
        }
        rows.truncate(slice.rows_max);
        rows
    }

    proptest! {
        #[test]
        fn pages_of_any_length_show_every_row_once_and_in_order(
            keys in proptest::collection::btree_set((-3_i64..6, 1_i64..4, any::<bool>()), 0..40),
            limits in proptest::collection::vec(1_usize..5, 60),
            from in proptest::option::of(-4_i64..7), to in proptest::option::of(-4_i64..7),
            newest in any::<bool>(),
        ) {
            let all: Vec<_> = keys.into_iter().map(test_trade).collect();
            let order = if newest { Order::NewestFirst } else { Order::OldestFirst };
            let mut asked = test_question(order, 1);
            (asked.from, asked.to) = (from.map(UnixMillis), to.map(UnixMillis));
            let mut shown = Vec::new();
            for limit in limits {
                asked.limit = limit;
                let Some(slice) = asked.trade_slice() else { break };
                let page = asked.cut_page(read_slice(&all, &slice));
                prop_assert!(page.rows.len() <= limit);
                prop_assert_eq!(page.more && page.rows.is_empty(), false);
                shown.extend(page.rows);
                if !page.more { break }
                asked.after = shown.last().map(|row| row.place);
            }
            let mut expected = all;
            expected.retain(|row| {
                let at = row.place.settled_at.0;
                from.is_none_or(|from| from <= at) && to.is_none_or(|to| at < to)
            });
            expected.sort_by_key(|row| row.place.sort_rank());
            if newest { expected.reverse() }
            prop_assert_eq!(shown, expected);
        }
    }

    #[test]
    fn no_page_lies_beyond_the_ends_of_time_and_seqs() {
        let mut asked = test_question(Order::NewestFirst, 1);
        asked.to = Some(UnixMillis(i64::MIN));
        assert_eq!(asked.trade_slice(), None);
        (asked.from, asked.to) = (Some(UnixMillis(5)), Some(UnixMillis(5)));
        assert_eq!(asked.trade_slice(), None);
        let mut asked = StatementQuestion {
            user: UserId::MAX,
            asset: AssetId::MAX,
            at: None,
            order: Order::OldestFirst,
            limit: 1,
            after: Some(Seq::MAX),
        };
        assert_eq!(asked.ledger_slice(None), None);
        (asked.after, asked.at) = (None, Some(UnixMillis(1)));
        assert_eq!(asked.ledger_slice(None).unwrap().lowest, i64::MIN);
        asked.order = Order::NewestFirst;
        assert_eq!(asked.ledger_slice(None), None, "nothing stood then");
    }
}
