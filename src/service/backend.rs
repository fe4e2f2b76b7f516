//! The assembled parts as the routes and the operators' page see them.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{assembled::Assembled, readiness};
use crate::{
    apply::{self, Applied, Warmed, WriteError},
    cache_status::Forward,
    clock,
    config::Writer,
    domain::{
        AssetId, DatedRate, Entry, Notification, Outcome, Page, Rates, RatesTaken, Reference,
        StatementQuestion, StatementRow, StoredTransaction, TradesQuestion, Transaction, UserId,
        UserTrade,
    },
    http::{Backend, HeldTotals},
    ledger::{self, Written},
    ops,
    protocol::Uses,
    read::{self, Answer, Ask},
    settle,
    telemetry::{self, HttpStatus, Meters, Remembered, Route, Via, traces},
};

impl Assembled {
    pub(super) fn keep_up(&self) {
        let (entries, bytes) = self.memory.size();
        self.meters.memory(entries, bytes);
        self.reader.update_gauges();
        self.meters.blind(self.marks.blind());
        let Uses { changes, shown } = self.marks.use_of_memory();
        for (kind, of) in [(Remembered::Changes, changes), (Remembered::Reads, shown)] {
            self.meters
                .remembered(kind, of.users, of.bytes, of.given_up);
        }
        self.look_after_ledger();
        self.meters.ledger_append_retries(self.source.lost_races());
        self.totals.show(clock::wall());
        let found = readiness::of(self);
        let ready = found.words.not_ready.is_empty();
        self.meters.health(ready, &found.degraded, &found.codes);
        self.meters.upkeep();
    }

    /// Runs it to its end even if the client hangs up: a change must not stop half-way.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let change = change.instrument(Span::current());
        self.tasks.spawn(change).await.ok()
    }
}

impl Backend for Arc<Assembled> {
    fn held<T>(
        &self,
        user: UserId,
        ask: &Ask,
        now: Instant,
        show: impl FnMut(Answer<&[u8]>) -> T,
    ) -> Result<T, Forward> {
        self.reader.serve_from_memory(user, ask, now, show)
    }

    async fn read(&self, user: UserId, ask: Ask, deadline: Instant) -> Result<Answer, read::Error> {
        self.reader
            .read_user(user, ask, deadline)
            .instrument(traces::read(user))
            .await
    }

    async fn read_many(
        &self,
        users: Vec<UserId>,
        deadline: Instant,
    ) -> Result<Vec<Answer>, read::Error> {
        self.reader.read_users(&users, deadline).await
    }

    async fn settle(
        &self,
        notifications: Vec<Notification>,
        deadline: Instant,
    ) -> Result<Applied, apply::Error> {
        let applier = Arc::clone(&self.applier);
        let span = traces::apply(notifications.len());
        let change = async move { applier.apply(&notifications, Via::Http, deadline).await };
        self.finish(change.instrument(span))
            .await
            .unwrap_or(Err(apply::Error::Deadline))
    }

    fn totals(&self) -> HeldTotals {
        self.held_totals()
    }

    async fn set_rates(
        &self,
        quote: AssetId,
        all: Vec<(AssetId, DatedRate)>,
        deadline: Instant,
    ) -> Result<RatesTaken, apply::Error> {
        self.take_rates(quote, all, deadline).await
    }

    async fn rates(&self, quote: AssetId, deadline: Instant) -> Result<Arc<Rates>, apply::Error> {
        self.known_rates(quote, deadline).await
    }

    fn malformed(&self, via: Via) {
        self.meters
            .notifications(via, telemetry::Applied::Invalid, 1);
    }

    fn answered(&self, route: Route, status: HttpStatus, took: Duration) {
        self.meters.http_request(route, status, took);
    }

    fn unchanged_hit(&self) {
        self.meters.unchanged_hit();
    }

    async fn write_entries(
        &self,
        entries: Vec<Entry>,
        deadline: Instant,
    ) -> Result<Written, WriteError> {
        let applier = Arc::clone(&self.applier);
        let span = traces::apply(entries.len());
        let change = async move { applier.write(&entries, deadline).await };
        self.finish(change.instrument(span))
            .await
            .unwrap_or(Err(WriteError::Apply(apply::Error::Deadline)))
    }

    fn writer(&self) -> Writer {
        self.writer
    }

    async fn settle_transactions(
        &self,
        transactions: Vec<Transaction>,
        deadline: Instant,
    ) -> Result<Vec<Outcome>, settle::Error> {
        let settler = Arc::clone(&self.settler);
        let span = traces::apply(transactions.len());
        let change = async move { settler.settle(&transactions, deadline).await };
        self.finish(change.instrument(span))
            .await
            .unwrap_or(Err(settle::Error::Apply(apply::Error::Deadline)))
    }

    async fn find_transaction(
        &self,
        reference: Reference,
        deadline: Instant,
    ) -> Result<Option<StoredTransaction>, ledger::Error> {
        self.settler.find(reference, deadline).await
    }

    async fn trades_page(
        &self,
        question: TradesQuestion,
        deadline: Instant,
    ) -> Result<Page<UserTrade>, read::Error> {
        self.histories.trades_page(&question, deadline).await
    }

    async fn statement_page(
        &self,
        question: StatementQuestion,
        deadline: Instant,
    ) -> Result<Page<StatementRow>, read::Error> {
        self.histories.statement_page(&question, deadline).await
    }

    async fn invalidate(
        &self,
        users: Vec<UserId>,
        floors: bool,
        deadline: Instant,
    ) -> Result<u64, apply::Error> {
        let applier = Arc::clone(&self.applier);
        let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let change = async move { applier.invalidate(&users, floors, deadline).await };
        self.finish(change)
            .await
            .unwrap_or(Err(apply::Error::Deadline))
            .map(|()| count)
    }

    async fn warm(&self, users: Vec<UserId>, deadline: Instant) -> Warmed {
        let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let (loaded, failed) = self.reader.warm_users(&users, deadline).await;
        Warmed {
            users: count,
            loaded,
            failed,
        }
    }
}

impl ops::Facts for Assembled {
    fn readiness(&self) -> ops::Readiness {
        readiness::of(self).words
    }

    fn metrics(&self) -> String {
        self.keep_up();
        self.meters.page()
    }

    fn meters(&self) -> &Meters {
        &self.meters
    }

    fn parts(&self) -> ops::dashboard::Parts {
        Self::parts(self)
    }

    fn user(&self, user: UserId) -> BoxFuture<'_, Option<serde_json::Value>> {
        Box::pin(self.look_up_user(user))
    }
}
