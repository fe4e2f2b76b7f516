//! The assembled parts as the routes and the operators' page see them.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{assembled::Assembled, readiness};
use crate::{
    apply::{self, ApplyResult, EntriesError, WarmResult},
    cache_status::ForwardReason,
    clock,
    config::LedgerSide,
    domain::{
        AssetId, DatedRate, Entry, HistoryPage, Notification, Rates, RatesTaken, Reference,
        SettleOutcome, StatementQuestion, StatementRow, StoredTransaction, TradesQuestion,
        Transaction, UserId, UserTrade,
    },
    http::{Backend, HeldTotals},
    ledger::{self, WrittenCounts},
    ops,
    protocol::Uses,
    read::{self, ReadAnswer, ReadOptions},
    settle,
    telemetry::{self, HttpStatus, Meters, Remembered, Route, Via, traces},
};

impl Assembled {
    pub(super) fn keep_up(&self) {
        let (entries, bytes) = self.memory.measure_size();
        self.meters.set_memory_use(entries, bytes);
        self.reader.update_gauges();
        self.meters.set_blind(self.change_log.distrusts_view());
        let Uses { changes, shown } = self.change_log.use_of_memory();
        for (kind, of) in [(Remembered::Changes, changes), (Remembered::Reads, shown)] {
            self.meters
                .set_remembered(kind, of.users, of.bytes, of.given_up);
        }
        self.look_after_ledger();
        self.meters.ledger_append_retries(self.source.lost_races());
        self.totals.show_gauges(clock::wall_now());
        self.show_backfills();
        let found = readiness::collect_findings(self);
        let ready = found.words.not_ready.is_empty();
        self.meters.set_health(ready, &found.degraded, &found.codes);
        self.meters.run_upkeep();
    }

    /// Runs it to its end even if the client hangs up: a change must not stop half-way.
    pub(super) async fn run_to_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let change = change.instrument(Span::current());
        self.tasks.spawn(change).await.ok()
    }
}

impl Backend for Arc<Assembled> {
    fn read_memory<T>(
        &self,
        user: UserId,
        ask: &ReadOptions,
        now: Instant,
        show: impl FnMut(ReadAnswer<&[u8]>) -> T,
    ) -> Result<T, ForwardReason> {
        self.reader.serve_from_memory(user, ask, now, show)
    }

    async fn read_balances(
        &self,
        user: UserId,
        ask: ReadOptions,
        deadline: Instant,
    ) -> Result<ReadAnswer, read::ReadError> {
        self.reader
            .read_user(user, ask, deadline)
            .instrument(traces::read(user))
            .await
    }

    async fn read_many(
        &self,
        users: Vec<UserId>,
        deadline: Instant,
    ) -> Result<Vec<ReadAnswer>, read::ReadError> {
        self.reader.read_users(&users, deadline).await
    }

    async fn apply_notifications(
        &self,
        notifications: Vec<Notification>,
        deadline: Instant,
    ) -> Result<ApplyResult, apply::ApplyError> {
        let applier = Arc::clone(&self.applier);
        let span = traces::apply(notifications.len());
        let change = async move {
            applier
                .apply_notifications(&notifications, Via::Http, deadline)
                .await
        };
        self.run_to_end(change.instrument(span))
            .await
            .unwrap_or(Err(apply::ApplyError::Deadline))
    }

    fn current_totals(&self) -> HeldTotals {
        self.held_totals()
    }

    async fn set_rates(
        &self,
        quote: AssetId,
        all: Vec<(AssetId, DatedRate)>,
        deadline: Instant,
    ) -> Result<RatesTaken, apply::ApplyError> {
        self.take_rates(quote, all, deadline).await
    }

    async fn load_rates(
        &self,
        quote: AssetId,
        deadline: Instant,
    ) -> Result<Arc<Rates>, apply::ApplyError> {
        self.known_rates(quote, deadline).await
    }

    fn count_malformed(&self, via: Via) {
        self.meters
            .count_notifications(via, telemetry::AppliedLabel::Invalid, 1);
    }

    fn record_response(&self, route: Route, status: HttpStatus, took: Duration) {
        self.meters.http_request(route, status, took);
    }

    fn unchanged_hit(&self) {
        self.meters.unchanged_hit();
    }

    async fn write_entries(
        &self,
        entries: Vec<Entry>,
        deadline: Instant,
    ) -> Result<WrittenCounts, EntriesError> {
        let applier = Arc::clone(&self.applier);
        let span = traces::apply(entries.len());
        let change = async move { applier.write_entries(&entries, deadline).await };
        self.run_to_end(change.instrument(span))
            .await
            .unwrap_or(Err(EntriesError::Apply(apply::ApplyError::Deadline)))
    }

    fn seq_writer(&self) -> LedgerSide {
        self.writer
    }

    fn shows_balances_only(&self) -> bool {
        self.fixed.balances_only
    }

    async fn settle_transactions(
        &self,
        transactions: Vec<Transaction>,
        deadline: Instant,
    ) -> Result<Vec<SettleOutcome>, settle::SettleError> {
        let settler = Arc::clone(&self.settler);
        let span = traces::apply(transactions.len());
        let change = async move { settler.settle_transactions(&transactions, deadline).await };
        self.run_to_end(change.instrument(span))
            .await
            .unwrap_or(Err(settle::SettleError::Apply(apply::ApplyError::Deadline)))
    }

    async fn find_transaction(
        &self,
        reference: Reference,
        deadline: Instant,
    ) -> Result<Option<StoredTransaction>, ledger::LedgerError> {
        self.settler.find_transaction(reference, deadline).await
    }

    async fn trades_page(
        &self,
        question: TradesQuestion,
        deadline: Instant,
    ) -> Result<HistoryPage<UserTrade>, read::ReadError> {
        self.histories.trades_page(&question, deadline).await
    }

    async fn statement_page(
        &self,
        question: StatementQuestion,
        deadline: Instant,
    ) -> Result<HistoryPage<StatementRow>, read::ReadError> {
        self.histories.statement_page(&question, deadline).await
    }

    async fn invalidate_users(
        &self,
        users: Vec<UserId>,
        floors: bool,
        deadline: Instant,
    ) -> Result<u64, apply::ApplyError> {
        let applier = Arc::clone(&self.applier);
        let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let change = async move { applier.invalidate_users(&users, floors, deadline).await };
        self.run_to_end(change)
            .await
            .unwrap_or(Err(apply::ApplyError::Deadline))
            .map(|()| count)
    }

    async fn warm_users(&self, users: Vec<UserId>, deadline: Instant) -> WarmResult {
        let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let (loaded, failed) = self.reader.warm_users(&users, deadline).await;
        WarmResult {
            users: count,
            loaded,
            failed,
        }
    }
}

impl ops::OperatorFacts for Assembled {
    fn current_readiness(&self) -> ops::ReadinessReasons {
        readiness::collect_findings(self).words
    }

    fn prometheus_text(&self) -> String {
        self.keep_up();
        self.meters.prometheus_page()
    }

    fn shared_meters(&self) -> &Meters {
        &self.meters
    }

    fn parts_state(&self) -> ops::dashboard::DashboardParts {
        Self::describe_parts(self)
    }

    fn lookup_user(&self, user: UserId) -> BoxFuture<'_, Option<serde_json::Value>> {
        Box::pin(self.look_up_user(user))
    }
}
