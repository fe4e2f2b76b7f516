//! Rows as arrays, one for each column: a statement takes any number of rows in one message.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;

use crate::{
    domain::{Amount, Entry, UnixMillis, balances_to_text},
    ledger::{
        item::{Claim, Item},
        judge::{StandingKey, UserAsset},
    },
};

/// Users and assets of pairs.
#[derive(Debug, Default)]
pub(super) struct PairColumns {
    pub(super) users: Vec<i64>,
    pub(super) assets: Vec<i32>,
}

impl FromIterator<UserAsset> for PairColumns {
    fn from_iter<I: IntoIterator<Item = UserAsset>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let (users, assets) = pairs.map(|(user, asset)| (user.get(), asset.get())).unzip();
        Self { users, assets }
    }
}

/// Keys of ledger rows.
#[derive(Debug, Default)]
pub(super) struct KeyColumns {
    pub(super) pairs: PairColumns,
    pub(super) seqs: Vec<i64>,
}

impl FromIterator<StandingKey> for KeyColumns {
    fn from_iter<I: IntoIterator<Item = StandingKey>>(keys: I) -> Self {
        let mut columns = Self::default();
        for (user, asset, seq) in keys {
            columns.pairs.users.push(user.get());
            columns.pairs.assets.push(asset.get());
            columns.seqs.push(seq.get());
        }
        columns
    }
}

/// Rows of `balance_ledger`.
#[derive(Debug, Default)]
pub(super) struct LedgerColumns<'r> {
    pub(super) keys: KeyColumns,
    pub(super) delta_avails: Vec<Option<i64>>,
    pub(super) delta_frozens: Vec<Option<i64>>,
    pub(super) avails: Vec<i64>,
    pub(super) frozens: Vec<i64>,
    pub(super) event_types: Vec<Option<&'r str>>,
    pub(super) ref_ids: Vec<Option<i64>>,
    pub(super) created_ats: Vec<Option<i64>>,
}

impl<'r> FromIterator<&'r Entry> for LedgerColumns<'r> {
    fn from_iter<I: IntoIterator<Item = &'r Entry>>(entries: I) -> Self {
        let mut columns = Self::default();
        for entry in entries {
            columns.keys.pairs.users.push(entry.user.get());
            columns.keys.pairs.assets.push(entry.asset.get());
            columns.keys.seqs.push(entry.seq.get());
            columns
                .delta_avails
                .push(entry.delta_avail.map(Amount::raw));
            columns
                .delta_frozens
                .push(entry.delta_frozen.map(Amount::raw));
            columns.avails.push(entry.avail.raw());
            columns.frozens.push(entry.frozen.raw());
            columns.event_types.push(entry.event_type.as_deref());
            columns.ref_ids.push(entry.ref_id);
            let created_at = entry.created_at.map(|UnixMillis(at)| at);
            columns.created_ats.push(created_at);
        }
        columns
    }
}

impl LedgerColumns<'_> {
    /// For `balance_ledger`.
    pub(super) fn ledger_values(&self) -> [&(dyn ToSql + Sync); 10] {
        [
            &self.keys.pairs.users,
            &self.keys.pairs.assets,
            &self.keys.seqs,
            &self.delta_avails,
            &self.delta_frozens,
            &self.avails,
            &self.frozens,
            &self.event_types,
            &self.ref_ids,
            &self.created_ats,
        ]
    }

    /// For `user_balances` and the outbox.
    pub(super) fn table_values(&self) -> [&(dyn ToSql + Sync); 6] {
        [
            &self.keys.pairs.users,
            &self.keys.pairs.assets,
            &self.keys.seqs,
            &self.avails,
            &self.frozens,
            &self.created_ats,
        ]
    }
}

/// The newest row of each (user, asset), in the order of their locks.
pub(super) fn newest_rows(items: &[Item]) -> BTreeMap<UserAsset, &Entry> {
    let mut newest: BTreeMap<UserAsset, &Entry> = BTreeMap::new();
    for row in items.iter().flat_map(|item| &item.rows) {
        let entry = &row.entry;
        let held = newest.entry((entry.user, entry.asset)).or_insert(entry);
        if held.seq < entry.seq {
            *held = entry;
        }
    }
    newest
}

/// Rows of `ledger_transactions`.
#[derive(Debug, Default)]
pub(super) struct ClaimColumns<'r> {
    pub(super) ids: Vec<i64>,
    pub(super) contents: Vec<&'r str>,
    pub(super) balances: Vec<String>,
    pub(super) created_ats: Vec<i64>,
}

impl<'r> ClaimColumns<'r> {
    pub(super) fn values(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.ids, &self.contents, &self.balances, &self.created_ats]
    }

    fn add(&mut self, item: &Item, claim: &'r Claim) {
        self.ids.push(claim.reference.id());
        self.contents.push(&claim.content);
        let balances = balances_to_text(&item.receipt_of(claim).balances);
        self.balances.push(balances);
        self.created_ats.push(claim.created_at.0);
    }
}

/// Rows of `settled_trades`, beside what [`ClaimColumns`] has of them. Those of `user_trades` are made of them.
#[derive(Debug, Default)]
pub(super) struct SettledTradeColumns<'r> {
    pub(super) claims: ClaimColumns<'r>,
    pub(super) symbols: Vec<i32>,
    pub(super) prices: Vec<i64>,
    pub(super) quantities: Vec<i64>,
    pub(super) costs: Vec<i64>,
    pub(super) buyers: Vec<i64>,
    pub(super) sellers: Vec<i64>,
    pub(super) buyer_orders: Vec<Option<i64>>,
    pub(super) seller_orders: Vec<Option<i64>>,
}

impl<'r> SettledTradeColumns<'r> {
    pub(super) fn values(&self) -> [&(dyn ToSql + Sync); 12] {
        [
            &self.claims.ids,
            &self.symbols,
            &self.prices,
            &self.quantities,
            &self.costs,
            &self.claims.created_ats,
            &self.buyers,
            &self.sellers,
            &self.buyer_orders,
            &self.seller_orders,
            &self.claims.contents,
            &self.claims.balances,
        ]
    }

    fn add(&mut self, item: &Item, claim: &'r Claim) {
        let Some(trade) = &claim.trade else { return };
        self.claims.add(item, claim);
        self.symbols.push(trade.symbol_id);
        self.prices.push(trade.price);
        self.quantities.push(trade.quantity);
        self.costs.push(trade.cost);
        self.buyers.push(trade.buyer.get());
        self.sellers.push(trade.seller.get());
        self.buyer_orders.push(trade.buyer_order);
        self.seller_orders.push(trade.seller_order);
    }
}

/// Ids of transactions and of trades, with what stands under them.
pub(super) fn claims_of(items: &[Item]) -> (ClaimColumns<'_>, SettledTradeColumns<'_>) {
    let (mut transactions, mut trades) = (ClaimColumns::default(), SettledTradeColumns::default());
    for item in items {
        match &item.claim {
            Some(claim) if claim.trade.is_some() => trades.add(item, claim),
            Some(claim) => transactions.add(item, claim),
            None => {}
        }
    }
    (transactions, trades)
}
