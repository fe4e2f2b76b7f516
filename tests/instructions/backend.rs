//! What is behind the counted hits: three balances for every user, and a backend that reads as the service does.

use std::sync::Arc;

use balance_cache::{
    apply::{self, ApplyResult, EntriesError, WarmResult},
    cache_status::ForwardReason,
    config::LedgerSide,
    domain::{
        Amount, AssetId, Balance, DatedRate, Entry, HistoryPage, Notification, Rates, RatesTaken,
        Reference, Seq, SettleOutcome, Snapshot, StatementQuestion, StatementRow,
        StoredTransaction, TradesQuestion, Transaction, UnixMillis, UserId, UserTrade,
    },
    http::{Backend, HeldTotals},
    ledger::{self, Cost, Source, SourceReadiness, WrittenCounts},
    read::{self, ReadAnswer, ReadOptions, Reader},
    settle,
    telemetry::Via,
};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::Instant;

use crate::hits::NOW;

/// Three balances, whoever asks.
#[derive(Debug)]
pub struct Three;

impl Three {
    fn balances() -> Snapshot {
        let balance = |asset, raw| Balance {
            asset: AssetId::new(asset).unwrap(),
            seq: Seq::new(17).unwrap(),
            avail: Amount::from_raw(raw),
            frozen: Amount::from_raw(0),
            updated_at: Some(UnixMillis(1_765_352_441_955)),
            said_at: UnixMillis(NOW.0 - 3_000),
        };
        let three = [(1, 910_000_000_000), (2, 12_345), (3, 250_000_000)];
        Snapshot::new(three.map(|(asset, raw)| balance(asset, raw)).to_vec())
    }
}

impl Source for Three {
    fn identity(&self) -> Option<Arc<str>> {
        Some("three".into())
    }

    fn readiness(&self) -> SourceReadiness {
        SourceReadiness::Ready
    }

    fn load_counting<'a>(
        &'a self,
        _: UserId,
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, ledger::LedgerError>> {
        async { Ok(Self::balances()) }.boxed()
    }

    fn latest_counting<'a>(
        &'a self,
        _: UserId,
        _: &'a [AssetId],
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, ledger::LedgerError>> {
        async { Ok(Self::balances()) }.boxed()
    }
}

/// Reads as the service does; nothing here changes anything.
pub struct Reads(pub Arc<Reader>);

impl Backend for Reads {
    fn read_memory<T>(
        &self,
        user: UserId,
        ask: &ReadOptions,
        now: Instant,
        show: impl FnMut(ReadAnswer<&[u8]>) -> T,
    ) -> Result<T, ForwardReason> {
        self.0.serve_from_memory(user, ask, now, show)
    }

    async fn read_balances(
        &self,
        user: UserId,
        ask: ReadOptions,
        deadline: Instant,
    ) -> Result<ReadAnswer, read::ReadError> {
        self.0.read_user(user, ask, deadline).await
    }

    async fn read_many(
        &self,
        _: Vec<UserId>,
        _: Instant,
    ) -> Result<Vec<ReadAnswer>, read::ReadError> {
        Err(read::ReadError::Shed)
    }

    async fn apply_notifications(
        &self,
        _: Vec<Notification>,
        _: Instant,
    ) -> Result<ApplyResult, apply::ApplyError> {
        Err(apply::ApplyError::Deadline)
    }

    fn count_malformed(&self, _: Via) {}

    async fn write_entries(
        &self,
        _: Vec<Entry>,
        _: Instant,
    ) -> Result<WrittenCounts, EntriesError> {
        Err(EntriesError::Apply(apply::ApplyError::Deadline))
    }

    fn seq_writer(&self) -> LedgerSide {
        LedgerSide::External
    }

    async fn settle_transactions(
        &self,
        _: Vec<Transaction>,
        _: Instant,
    ) -> Result<Vec<SettleOutcome>, settle::SettleError> {
        Ok(Vec::new())
    }

    async fn find_transaction(
        &self,
        _: Reference,
        _: Instant,
    ) -> Result<Option<StoredTransaction>, ledger::LedgerError> {
        Ok(None)
    }

    async fn trades_page(
        &self,
        _: TradesQuestion,
        _: Instant,
    ) -> Result<HistoryPage<UserTrade>, read::ReadError> {
        Err(read::ReadError::Shed)
    }

    async fn statement_page(
        &self,
        _: StatementQuestion,
        _: Instant,
    ) -> Result<HistoryPage<StatementRow>, read::ReadError> {
        Err(read::ReadError::Shed)
    }

    fn current_totals(&self) -> HeldTotals {
        HeldTotals::Off
    }

    async fn set_rates(
        &self,
        _: AssetId,
        _: Vec<(AssetId, DatedRate)>,
        _: Instant,
    ) -> Result<RatesTaken, apply::ApplyError> {
        Err(apply::ApplyError::Deadline)
    }

    async fn load_rates(&self, _: AssetId, _: Instant) -> Result<Arc<Rates>, apply::ApplyError> {
        Err(apply::ApplyError::Deadline)
    }

    async fn invalidate_users(
        &self,
        _: Vec<UserId>,
        _: bool,
        _: Instant,
    ) -> Result<u64, apply::ApplyError> {
        Err(apply::ApplyError::Deadline)
    }

    async fn warm_users(&self, _: Vec<UserId>, _: Instant) -> WarmResult {
        WarmResult {
            users: 0,
            loaded: 0,
            failed: 0,
        }
    }
}
