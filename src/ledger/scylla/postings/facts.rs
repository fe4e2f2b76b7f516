//! Reads what a group is judged by, and records by their ids.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use scylla::DeserializeRow;

use super::{
    super::{
        judge::{
            LedgerFacts, LedgerRequest, StandingKey, StandingRow, UserAsset, given_rows,
            judged_pairs,
        },
        prepared::Postings,
        statements::{BalanceColumnsRow, LiveSession, unreadable_row},
        write::StandingAmounts,
    },
    AT_ONCE, BUYER,
};
use crate::{
    domain::{
        Amount, BalanceHead, Receipt, Reference, SettleState, StoredTransaction, TradeId,
        TransactionId, UnixMillis, balances_from_text,
    },
    ledger::LedgerError,
};

#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct LedgerTransactionRow {
    content: Option<String>,
    balances: Option<String>,
    created_at: Option<i64>,
}

/// A row of `settled_trades`. Another program may have left columns out.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct SettledTradeRow {
    symbol_id: Option<i32>,
    price: Option<i64>,
    quantity: Option<i64>,
    cost: Option<i64>,
    settled_at: Option<i64>,
    buyer_user_id: Option<i64>,
    seller_user_id: Option<i64>,
    buyer_order_id: Option<i64>,
    seller_order_id: Option<i64>,
    content: Option<String>,
    balances: Option<String>,
}

impl SettledTradeRow {
    /// The content, made of the other columns where another program left it out: then it equals that of no request.
    fn content_or_columns(&self, id: TradeId) -> String {
        self.content.clone().unwrap_or_else(|| {
            let columns = [
                ("trade_id", Some(id.get())),
                ("symbol_id", self.symbol_id.map(i64::from)),
                ("price", self.price),
                ("quantity", self.quantity),
                ("cost", self.cost),
                ("settled_at", self.settled_at),
                ("buyer_user_id", self.buyer_user_id),
                ("seller_user_id", self.seller_user_id),
                ("buyer_order_id", self.buyer_order_id),
                ("seller_order_id", self.seller_order_id),
            ];
            let given = columns.into_iter();
            let given = given.filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
            serde_json::Value::Object(given.collect()).to_string()
        })
    }
}

impl Postings {
    /// Reads everything that these requests are judged by.
    pub(in crate::ledger::scylla) async fn read_facts(
        &self,
        live: &LiveSession,
        requests: impl Iterator<Item = &LedgerRequest> + Clone,
    ) -> Result<LedgerFacts, LedgerError> {
        let references: HashSet<Reference> =
            requests.clone().filter_map(request_reference).collect();
        let all_pairs: HashSet<UserAsset> = requests.clone().flat_map(judged_pairs).collect();
        let all_rows: HashSet<StandingKey> = requests.flat_map(given_rows).collect();
        let stored = read_all(references, |reference| self.find_stored(live, reference));
        let heads = read_all(all_pairs, |pair| self.read_head(live, pair));
        let rows = read_all(all_rows, |key| self.read_row(live, key));
        let (stored, heads, rows) = futures::try_join!(stored, heads, rows)?;
        Ok(LedgerFacts {
            stored,
            heads,
            rows,
        })
    }

    async fn read_head(
        &self,
        live: &LiveSession,
        (user, asset): UserAsset,
    ) -> Result<Option<BalanceHead>, LedgerError> {
        let rows = live
            .query_rows(&self.head, (user.get(), asset.get()))
            .await?;
        let newest = rows
            .maybe_first_row::<BalanceColumnsRow>()
            .map_err(unreadable_row)?;
        let Some(newest) = newest else {
            return Ok(None);
        };
        let balance = newest.to_balance(UnixMillis::default())?;
        Ok(Some(BalanceHead {
            seq: balance.seq,
            avail: balance.avail,
            frozen: balance.frozen,
        }))
    }

    async fn read_row(
        &self,
        live: &LiveSession,
        key: StandingKey,
    ) -> Result<Option<StandingRow>, LedgerError> {
        let (user, asset, seq) = key;
        let rows = live
            .query_rows(&self.row, (user.get(), asset.get(), seq.get()))
            .await?;
        let stored = rows
            .maybe_first_row::<StandingAmounts>()
            .map_err(unreadable_row)?;
        let amount = |stored: Option<i64>| Amount::from_raw(stored.unwrap_or_default());
        Ok(stored.map(|stored| StandingRow {
            avail: amount(stored.avail),
            frozen: amount(stored.frozen),
            created_at: stored.created_at.map(UnixMillis),
        }))
    }

    /// The record under an id, as far as it is written.
    pub(in crate::ledger::scylla) async fn find_stored(
        &self,
        live: &LiveSession,
        reference: Reference,
    ) -> Result<Option<StoredTransaction>, LedgerError> {
        match reference {
            Reference::Transaction(id) => self.find_transaction(live, id).await,
            Reference::Trade(id) => self.find_trade(live, id).await,
        }
    }

    async fn find_transaction(
        &self,
        live: &LiveSession,
        id: TransactionId,
    ) -> Result<Option<StoredTransaction>, LedgerError> {
        let rows = live.query_rows(&self.transaction, (id.get(),)).await?;
        let row = rows
            .maybe_first_row::<LedgerTransactionRow>()
            .map_err(unreadable_row)?;
        let stored = |row: LedgerTransactionRow| {
            let balances = balances_from_text(row.balances.as_deref().unwrap_or("[]"));
            Ok(StoredTransaction {
                state: SettleState::Done,
                content: row.content.unwrap_or_default(),
                receipt: Receipt {
                    balances: balances.map_err(unreadable_row)?,
                    created_at: UnixMillis(row.created_at.unwrap_or_default()),
                },
            })
        };
        row.map(stored).transpose()
    }

    async fn find_trade(
        &self,
        live: &LiveSession,
        id: TradeId,
    ) -> Result<Option<StoredTransaction>, LedgerError> {
        let rows = live.query_rows(&self.trade, (id.get(),)).await?;
        let Some(row) = rows
            .maybe_first_row::<SettledTradeRow>()
            .map_err(unreadable_row)?
        else {
            return Ok(None);
        };
        let settled_at = row.settled_at.unwrap_or_default();
        let last = (
            row.buyer_user_id.unwrap_or_default(),
            row.symbol_id.unwrap_or_default(),
            settled_at,
            id.get(),
            BUYER,
        );
        let is_done = live.query_rows(&self.side, last).await?.rows_num() > 0;
        let balances = balances_from_text(row.balances.as_deref().unwrap_or("[]"));
        Ok(Some(StoredTransaction {
            state: if is_done {
                SettleState::Done
            } else {
                SettleState::Pending
            },
            content: row.content_or_columns(id),
            receipt: Receipt {
                balances: balances.map_err(unreadable_row)?,
                created_at: UnixMillis(settled_at),
            },
        }))
    }
}

const fn request_reference(request: &LedgerRequest) -> Option<Reference> {
    match request {
        LedgerRequest::Transaction(transaction) => Some(transaction.reference),
        LedgerRequest::Entries(_) => None,
    }
}

/// The values of those keys that have one.
async fn read_all<K, V, F>(
    keys: HashSet<K>,
    read: impl Fn(K) -> F,
) -> Result<HashMap<K, V>, LedgerError>
where
    K: Copy + Eq + std::hash::Hash,
    F: Future<Output = Result<Option<V>, LedgerError>>,
{
    let reads: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let read = read(key);
            async move { Ok::<_, LedgerError>(read.await?.map(|value| (key, value))) }
        })
        .collect();
    let found = stream::iter(reads).buffer_unordered(AT_ONCE);
    let found: Vec<Option<(K, V)>> = found.try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}
