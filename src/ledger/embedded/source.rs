//! [`Embedded`] as a [`Source`].

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};

use super::{
    Embedded, OUTBOX_STEP, history,
    requests::{WriteAnswer, WriteRequest},
};
use crate::{
    clock,
    diagnosis::Finding,
    domain::{
        AssetId, Entry, LedgerSlice, Notification, Reference, Seq, SettleOutcome, Snapshot,
        StatementRow, StoredTransaction, TradeSlice, Transaction, UserId, UserTrade,
    },
    ledger::{
        CommitHook, Cost, LedgerError, RowAbove, ScannedTotals, Source, SourceReadiness,
        TotalsScan, WriteError, WrittenCounts, isolation::Isolation,
    },
};

impl Source for Embedded {
    fn identity(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.identity))
    }

    fn readiness(&self) -> SourceReadiness {
        match self.failing.load_full() {
            None => SourceReadiness::Ready,
            Some(error) => SourceReadiness::Failing(error.to_string().into()),
        }
    }

    fn write_trouble(&self) -> Option<Finding> {
        let failure = self.write_health().failing?;
        Some(failure.finding(self.path()))
    }

    fn load_counting<'a>(
        &'a self,
        user: UserId,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        let said_at = clock::wall_now();
        self.read_counted(cost, move |tables| tables.load_balances(user, said_at))
            .boxed()
    }

    fn latest_counting<'a>(
        &'a self,
        user: UserId,
        assets: &'a [AssetId],
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        let said_at = clock::wall_now();
        let assets = assets.to_vec();
        self.read_counted(cost, move |tables| {
            tables.load_latest(user, &assets, said_at)
        })
        .boxed()
    }

    fn row_above(
        &self,
        user: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<RowAbove>, LedgerError>> {
        self.read_tables(move |tables| tables.find_above(user, asset, seq))
            .boxed()
    }

    fn write_entries<'a>(
        &'a self,
        entries: &'a [Entry],
    ) -> BoxFuture<'a, Result<WrittenCounts, WriteError>> {
        async move {
            match self
                .write_request(WriteRequest::Entries(entries.to_vec()))
                .await?
            {
                WriteAnswer::Entries(answer) => answer,
                WriteAnswer::Transactions(_) => Err(unasked_error().into()),
            }
        }
        .boxed()
    }

    fn settle_transactions<'a>(
        &'a self,
        transactions: &'a [Transaction],
    ) -> BoxFuture<'a, Result<Vec<SettleOutcome>, LedgerError>> {
        async move {
            let request = WriteRequest::Transactions(transactions.to_vec());
            match self.write_request(request).await? {
                WriteAnswer::Transactions(outcomes) => Ok(outcomes),
                WriteAnswer::Entries(_) => Err(unasked_error()),
            }
        }
        .boxed()
    }

    fn find_transaction(
        &self,
        reference: Reference,
    ) -> BoxFuture<'_, Result<Option<StoredTransaction>, LedgerError>> {
        self.read_tables(move |tables| tables.find_transaction(reference))
            .boxed()
    }

    fn user_trades<'a>(
        &'a self,
        slice: TradeSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<UserTrade>, LedgerError>> {
        async move {
            let rows = self.read_tables(move |tables| history::user_trades(tables, &slice));
            rows.await.inspect(|rows| cost.add_statement(rows.len()))
        }
        .boxed()
    }

    fn read_statement<'a>(
        &'a self,
        slice: LedgerSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<StatementRow>, LedgerError>> {
        async move {
            let rows = self.read_tables(move |tables| history::read_statement(tables, &slice));
            rows.await.inspect(|rows| cost.add_statement(rows.len()))
        }
        .boxed()
    }

    fn scan_totals<'a>(
        &'a self,
        scan: &'a TotalsScan,
    ) -> BoxFuture<'a, Result<ScannedTotals, LedgerError>> {
        self.sum_snapshot(scan).boxed()
    }

    fn isolation(&self) -> Option<&Isolation> {
        Some(&self.isolation)
    }

    fn on_commit(&self, hook: CommitHook) {
        self.isolation.on_commit(hook);
    }

    fn note_announced(&self, balances: &[Notification]) {
        let rows = balances.iter().filter_map(|notification| {
            let (asset, seq) = notification.raised_floor()?;
            Some((notification.user.get(), asset.get(), seq.get()))
        });
        self.keeper.outbox.note_announced(rows);
    }

    fn list_unannounced(
        &self,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<Notification>, LedgerError>> {
        let after = after.map(UserId::get);
        self.read_tables(move |tables| tables.list_unannounced(after, OUTBOX_STEP))
            .boxed()
    }

    fn forget_announced(&self) -> BoxFuture<'_, Result<(), LedgerError>> {
        let keeper = Arc::clone(&self.keeper);
        async move {
            let work = tokio::task::spawn_blocking(move || {
                let result = keeper.write_requests(&[], &mut |_| {});
                drop(keeper);
                result.map(drop)
            });
            work.await.map_err(LedgerError::unavailable)?
        }
        .boxed()
    }
}

fn unasked_error() -> LedgerError {
    LedgerError::unavailable("the writer answered another request")
}
