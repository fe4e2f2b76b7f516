//! [`Scylla`] as a [`Source`].

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

use super::{
    Scylla, history, ledger, recovery,
    statements::{LiveSession, Load},
    table::{self, TableWriter},
    view,
};
use crate::{
    clock,
    domain::{
        AssetId, Entry, LedgerSlice, Notification, Reference, Seq, SettleOutcome, Snapshot,
        StatementRow, StoredTransaction, TradeSlice, Transaction, UserId, UserTrade,
    },
    ledger::{
        CommitHook, Cost, LedgerError, Recovered, RowAbove, ScannedTotals, Source, SourceReadiness,
        TotalsScan, WriteError, WrittenCounts,
    },
};

impl Scylla {
    async fn load_balances(&self, user: UserId, cost: &Cost) -> Result<Snapshot, LedgerError> {
        let live = self.live_connection()?;
        if let SourceReadiness::NotReady(reason) = &self.state.load().readiness {
            return Err(LedgerError::Unavailable(Arc::clone(reason)));
        }
        let said_at = clock::wall_now();
        let read = match &live.load {
            Load::View { page, jump } => {
                let guesses = (&self.remembered, &*self.catalogue);
                view::load_snapshot((&live, cost), (page, jump), user, guesses, said_at).await?
            }
            Load::Table(statement) => {
                return table::load_snapshot((&live, cost), statement, user, said_at).await;
            }
            Load::Ledger => {
                let mut assets: Vec<_> = self.catalogue.asset_ids().collect();
                assets.sort_unstable();
                return self.read_ledger((&live, cost), user, &assets).await;
            }
        };
        self.make_whole((&live, cost), user, read, |_| true).await
    }

    /// Completes a read of view or ledger where transactions are written through the journal.
    async fn make_whole(
        &self,
        from: (&LiveSession, &Cost),
        user: UserId,
        read: Snapshot,
        is_asked: impl Fn(AssetId) -> bool,
    ) -> Result<Snapshot, LedgerError> {
        let writer = if self.assigns_seqs {
            TableWriter::Service
        } else if self.appends.is_journal_used() {
            TableWriter::Others
        } else {
            return Ok(read);
        };
        table::make_whole(from, user, read, writer, is_asked).await
    }

    /// The newest ledger row of each of these assets, sorted.
    async fn read_ledger(
        &self,
        (live, cost): (&LiveSession, &Cost),
        user: UserId,
        assets: &[AssetId],
    ) -> Result<Snapshot, LedgerError> {
        let read = ledger::load_latest((live, cost), user, assets).await?;
        let is_asked = |asset| assets.binary_search(&asset).is_ok();
        self.make_whole((live, cost), user, read, is_asked).await
    }
}

impl Source for Scylla {
    fn identity(&self) -> Option<Arc<str>> {
        self.identity.get().cloned()
    }

    fn readiness(&self) -> SourceReadiness {
        let readiness = self.state.load().readiness.clone();
        let writing = self.writing.lock();
        match (&readiness, &writing.refusal) {
            (SourceReadiness::Ready, Some(refusal)) if writing.wanted => {
                SourceReadiness::Failing(Arc::clone(refusal))
            }
            _ => readiness,
        }
    }

    fn load_counting<'a>(
        &'a self,
        user: UserId,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        Box::pin(async move { self.notice_failure(self.load_balances(user, cost).await) })
    }

    fn latest_counting<'a>(
        &'a self,
        user: UserId,
        assets: &'a [AssetId],
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        Box::pin(async move {
            let live = self.live_connection()?;
            self.notice_failure(self.read_ledger((&live, cost), user, assets).await)
        })
    }

    fn row_above(
        &self,
        user: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<RowAbove>, LedgerError>> {
        Box::pin(async move {
            let live = self.live_connection()?;
            self.notice_failure(ledger::find_above(&live, user, asset, seq).await)
        })
    }

    fn write_entries<'a>(
        &'a self,
        entries: &'a [Entry],
    ) -> BoxFuture<'a, Result<WrittenCounts, WriteError>> {
        Box::pin(async move {
            let result = self.append_entries(entries).await;
            if let Err(WriteError::Source(LedgerError::Unavailable(_) | LedgerError::Timeout)) =
                &result
            {
                self.writing.lock().wanted = true;
                self.nudge.notify_one();
            }
            result
        })
    }

    fn settle_transactions<'a>(
        &'a self,
        transactions: &'a [Transaction],
    ) -> BoxFuture<'a, Result<Vec<SettleOutcome>, LedgerError>> {
        Box::pin(async move { self.notice_failure(self.settle_all(transactions).await) })
    }

    fn find_transaction(
        &self,
        reference: Reference,
    ) -> BoxFuture<'_, Result<Option<StoredTransaction>, LedgerError>> {
        Box::pin(
            async move { self.notice_failure(recovery::find_transaction(self, reference).await) },
        )
    }

    fn on_commit(&self, hook: CommitHook) {
        let _ = self.hook.set(hook);
    }

    fn can_recover(&self) -> bool {
        true
    }

    fn recover_unfinished(&self, age: Duration) -> BoxFuture<'_, Result<Recovered, LedgerError>> {
        Box::pin(async move { recovery::recover_unfinished(self, age).await })
    }

    fn announced_with(&self, balances: &[Notification]) -> Vec<Notification> {
        self.appends.announced_with(balances)
    }

    fn note_announced(&self, balances: &[Notification]) {
        self.appends.note_announced(balances);
    }

    fn lost_races(&self) -> u64 {
        self.appends.lost_races()
    }

    fn user_trades<'a>(
        &'a self,
        slice: TradeSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<UserTrade>, LedgerError>> {
        Box::pin(async move {
            let live = self.live_connection()?;
            let of = (&self.connector.names, self.reach);
            self.notice_failure(history::user_trades((&live, cost), of, &slice).await)
        })
    }

    fn read_statement<'a>(
        &'a self,
        slice: LedgerSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<StatementRow>, LedgerError>> {
        Box::pin(async move {
            let live = self.live_connection()?;
            let of = (&self.connector.names, self.reach);
            self.notice_failure(history::read_statement((&live, cost), of, &slice).await)
        })
    }

    fn scan_totals<'a>(
        &'a self,
        scan: &'a TotalsScan,
    ) -> BoxFuture<'a, Result<ScannedTotals, LedgerError>> {
        Box::pin(async move { self.notice_failure(Self::scan_totals(self, scan).await) })
    }
}
