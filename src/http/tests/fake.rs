//! A backend that holds three balances and fails on demand.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::NOW;
use crate::{
    apply::{self, ApplyResult, WarmResult},
    cache_status::{CacheStatus, Detail, ForwardReason},
    config::LedgerSide,
    domain::{
        Asset, AssetId, Balance, Catalogue, DatedRate, Entry, HistoryPage, Notification, Rates,
        RatesTaken, Receipt, Reference, SettleOutcome, SettleState, Snapshot, StatementQuestion,
        StatementRow, StoredTransaction, Symbol, TradesQuestion, Transaction, UnixMillis, UserId,
        UserTrade,
    },
    http::{Backend, HeldTotals},
    ledger::{LedgerError, WrittenCounts},
    read::{self, ReadAnswer, ReadOptions, RenderedSnapshot},
    settle,
    telemetry::Via,
};

/// The fake's behaviour instead of answering.
#[derive(Debug, Clone)]
pub(super) enum FakeTrouble {
    Read(read::ReadError),
    Apply(apply::ApplyError),
    Write(apply::EntriesError),
    Settle(Result<SettleOutcome, settle::SettleError>),
    Silence,
    FewerAnswers,
}

/// User 1001 has BTC, ETH and the raw asset 9; everybody else has nothing.
pub(super) struct FakeBackend {
    catalogue: Arc<Catalogue>,
    pub trouble: Mutex<Option<FakeTrouble>>,
    pub detail: Mutex<Option<Detail>>,
    /// Every change that was asked for, in words.
    pub asked: Mutex<Vec<String>>,
    pub last: Mutex<Option<ReadOptions>>,
    pub memory: AtomicBool,
    /// Reads of user 7 wait for it, and say that they do.
    /// Transactions that stand, by what they are known by.
    pub stands: Mutex<HashMap<Reference, StoredTransaction>>,
    pub writer: Mutex<LedgerSide>,
    /// Rows of pages, newest first.
    pub sides: Mutex<Vec<UserTrade>>,
    pub rows: Mutex<Vec<StatementRow>>,
    pub totals: Mutex<HeldTotals>,
    pub rates: Mutex<Rates>,
    pub gate: Notify,
    pub entered: Notify,
}

pub(super) fn sample_catalogue() -> Arc<Catalogue> {
    let symbol = Symbol::new(1, "BTC_USDT", "BTC", "USDT");
    let assets = [
        Asset::new(1, "BTC", 8),
        Asset::new(2, "USDT", 8),
        Asset::new(3, "ETH", 8),
    ];
    Arc::new(Catalogue::new(&assets, &[symbol]).unwrap())
}

fn sample_snapshot() -> Snapshot {
    let balance = |asset, seq, avail, said_before| Balance {
        updated_at: Some(UnixMillis(1_765_352_441_955)),
        said_at: UnixMillis(NOW - said_before),
        ..Balance::sample_of(asset, seq, avail)
    };
    Snapshot::new(vec![
        balance(1, 17, 910_000_000_000, 4_999),
        balance(3, 5, -1, 1_000),
        balance(9, 2, 77, 12_000),
    ])
}

impl FakeBackend {
    pub fn new() -> Self {
        Self {
            catalogue: sample_catalogue(),
            trouble: Mutex::new(None),
            detail: Mutex::new(None),
            asked: Mutex::new(vec![]),
            last: Mutex::new(None),
            memory: AtomicBool::new(true),
            stands: Mutex::new(HashMap::new()),
            writer: Mutex::new(LedgerSide::Service),
            sides: Mutex::default(),
            rows: Mutex::default(),
            totals: Mutex::new(HeldTotals::Pending),
            rates: Mutex::default(),
            gate: Notify::new(),
            entered: Notify::new(),
        }
    }

    fn sample_answer(&self, user: UserId) -> ReadAnswer {
        let snapshot = if user.get() == 1001 {
            sample_snapshot()
        } else {
            Snapshot::default()
        };
        ReadAnswer {
            held: RenderedSnapshot::new(&self.catalogue, &snapshot, UnixMillis(NOW - 7_000)),
            cache_status: CacheStatus {
                detail: *self.detail.lock(),
                ..CacheStatus::memory_hit(9)
            },
        }
    }

    async fn fail_if_troubled<T, E>(
        &self,
        pick: impl Fn(&FakeTrouble) -> Option<E>,
        good: T,
    ) -> Result<T, E> {
        let trouble = self.trouble.lock().clone();
        if matches!(trouble, Some(FakeTrouble::Silence)) {
            std::future::pending::<()>().await;
        }
        trouble.as_ref().and_then(pick).map_or(Ok(good), Err)
    }

    fn note_call(&self, what: String) {
        self.asked.lock().push(what);
    }
}

fn read_trouble(trouble: &FakeTrouble) -> Option<read::ReadError> {
    match trouble {
        FakeTrouble::Read(error) => Some(error.clone()),
        _ => None,
    }
}

fn apply_trouble(trouble: &FakeTrouble) -> Option<apply::ApplyError> {
    match trouble {
        FakeTrouble::Apply(error) => Some(error.clone()),
        _ => None,
    }
}

fn count_u64(all: usize) -> u64 {
    u64::try_from(all).unwrap()
}

impl Backend for Arc<FakeBackend> {
    fn count_malformed(&self, _: Via) {}

    fn current_totals(&self) -> HeldTotals {
        self.totals.lock().clone()
    }

    async fn set_rates(
        &self,
        quote: AssetId,
        all: Vec<(AssetId, DatedRate)>,
        _: Instant,
    ) -> Result<RatesTaken, apply::ApplyError> {
        self.note_call(format!("rates {quote} {}", all.len()));
        let mut taken = RatesTaken::default();
        for (asset, rate) in all {
            if self.rates.lock().offer_rate(asset, rate) {
                taken.applied += 1;
            } else {
                taken.old += 1;
            }
        }
        self.fail_if_troubled(apply_trouble, taken).await
    }

    async fn load_rates(&self, _: AssetId, _: Instant) -> Result<Arc<Rates>, apply::ApplyError> {
        let rates = Arc::new(self.rates.lock().clone());
        self.fail_if_troubled(apply_trouble, rates).await
    }

    fn read_memory<T>(
        &self,
        user: UserId,
        ask: &ReadOptions,
        _: Instant,
        mut show: impl FnMut(ReadAnswer<&[u8]>) -> T,
    ) -> Result<T, ForwardReason> {
        let answer = self.sample_answer(user);
        (self.memory.load(Ordering::Relaxed)
            && self.trouble.lock().is_none()
            && ask.min_seq.met_by(&answer.held.read_snapshot()))
        .then(|| show(answer.borrowed_view()))
        .ok_or(ForwardReason::Miss)
    }

    async fn read_balances(
        &self,
        user: UserId,
        ask: ReadOptions,
        deadline: Instant,
    ) -> Result<ReadAnswer, read::ReadError> {
        *self.last.lock() = Some(ask.clone());
        let answer = self.fail_if_troubled(read_trouble, self.sample_answer(user));
        let in_time = timeout_at(deadline, answer).await;
        let answer = in_time.unwrap_or(Err(read::ReadError::Deadline))?;
        if user.get() == 7 {
            self.entered.notify_one();
            self.gate.notified().await;
        }
        if !ask.min_seq.met_by(&answer.held.read_snapshot()) {
            return Err(read::ReadError::NotReached);
        }
        Ok(answer)
    }

    async fn read_many(
        &self,
        users: Vec<UserId>,
        _: Instant,
    ) -> Result<Vec<ReadAnswer>, read::ReadError> {
        if matches!(*self.trouble.lock(), Some(FakeTrouble::FewerAnswers)) {
            return Ok(vec![]);
        }
        let answers = users
            .into_iter()
            .map(|user| self.sample_answer(user))
            .collect();
        self.fail_if_troubled(read_trouble, answers).await
    }

    async fn apply_notifications(
        &self,
        all: Vec<Notification>,
        _: Instant,
    ) -> Result<ApplyResult, apply::ApplyError> {
        self.note_call(format!("settle {}", all.len()));
        let applied = count_u64(all.len());
        self.fail_if_troubled(apply_trouble, ApplyResult { applied, old: 0 })
            .await
    }

    async fn write_entries(
        &self,
        all: Vec<Entry>,
        _: Instant,
    ) -> Result<WrittenCounts, apply::EntriesError> {
        self.note_call(format!("write {}", all.len()));
        let written = WrittenCounts {
            written: count_u64(all.len()),
            repeated: 0,
        };
        let pick = |trouble: &FakeTrouble| match trouble {
            FakeTrouble::Write(error) => Some(error.clone()),
            _ => None,
        };
        self.fail_if_troubled(pick, written).await
    }

    fn seq_writer(&self) -> LedgerSide {
        *self.writer.lock()
    }

    async fn settle_transactions(
        &self,
        all: Vec<Transaction>,
        _: Instant,
    ) -> Result<Vec<SettleOutcome>, settle::SettleError> {
        self.note_call(format!("settle transactions {}", all.len()));
        if let Some(FakeTrouble::Settle(result)) = self.trouble.lock().clone() {
            return result.map(|outcome| all.iter().map(|_| outcome.clone()).collect());
        }
        let mut stands = self.stands.lock();
        let outcomes = all.into_iter().map(|transaction| {
            let rows = Transaction {
                overdraft: true,
                ..transaction.clone()
            }
            .rows_above(&[], UnixMillis(NOW));
            let receipt = transaction.balances.clone().map_or_else(
                || Receipt::of_rows(&rows.unwrap(), UnixMillis(NOW)),
                |balances| Receipt {
                    balances,
                    created_at: UnixMillis(NOW),
                },
            );
            let stored = StoredTransaction {
                state: SettleState::Done,
                content: transaction.content,
                receipt: receipt.clone(),
            };
            match stands.insert(transaction.reference, stored) {
                None => SettleOutcome::Written(receipt),
                Some(_) => SettleOutcome::Repeated(receipt),
            }
        });
        Ok(outcomes.collect())
    }

    async fn find_transaction(
        &self,
        reference: Reference,
        _: Instant,
    ) -> Result<Option<StoredTransaction>, LedgerError> {
        Ok(self.stands.lock().get(&reference).cloned())
    }

    async fn trades_page(
        &self,
        question: TradesQuestion,
        deadline: Instant,
    ) -> Result<HistoryPage<UserTrade>, read::ReadError> {
        let page = question.cut_page(self.sides.lock().clone());
        let page = self.fail_if_troubled(read_trouble, page);
        let in_time = timeout_at(deadline, page).await;
        in_time.unwrap_or(Err(read::ReadError::Deadline))
    }

    async fn statement_page(
        &self,
        question: StatementQuestion,
        deadline: Instant,
    ) -> Result<HistoryPage<StatementRow>, read::ReadError> {
        let mut rows = self.rows.lock().clone();
        rows.retain(|row| question.after.is_none_or(|after| row.seq < after));
        let page = self.fail_if_troubled(read_trouble, question.cut_page(rows));
        let in_time = timeout_at(deadline, page).await;
        in_time.unwrap_or(Err(read::ReadError::Deadline))
    }

    async fn invalidate_users(
        &self,
        users: Vec<UserId>,
        floors: bool,
        _: Instant,
    ) -> Result<u64, apply::ApplyError> {
        self.note_call(format!("invalidate {} {floors}", users.len()));
        self.fail_if_troubled(apply_trouble, count_u64(users.len()))
            .await
    }

    async fn warm_users(&self, all: Vec<UserId>, _: Instant) -> WarmResult {
        self.note_call(format!("warm {}", all.len()));
        let users = count_u64(all.len());
        WarmResult {
            users,
            loaded: users,
            failed: 0,
        }
    }
}
