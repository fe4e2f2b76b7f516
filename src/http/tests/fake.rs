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
    apply::{self, Applied, Warmed},
    cache_status::{Detail, Forward, Trail},
    config::Writer,
    domain::{
        Amount, Asset, AssetId, Balance, Catalogue, DatedRate, Entry, Notification, Outcome, Page,
        Rates, RatesTaken, Receipt, Reference, Seq, SettleState, Snapshot, StatementQuestion,
        StatementRow, StoredTransaction, Symbol, TradesQuestion, Transaction, UnixMillis, UserId,
        UserTrade,
    },
    http::{Backend, HeldTotals},
    ledger::{Error as SourceError, Written},
    read::{self, Answer, Ask, Held},
    settle,
    telemetry::Via,
};

/// The fake's behaviour instead of answering.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    Read(read::Error),
    Apply(apply::Error),
    Write(apply::WriteError),
    Settle(Result<Outcome, settle::Error>),
    Silence,
    FewerAnswers,
}

/// User 1001 has BTC, ETH and the raw asset 9; everybody else has nothing.
pub(super) struct Fake {
    catalogue: Arc<Catalogue>,
    pub trouble: Mutex<Option<Trouble>>,
    pub detail: Mutex<Option<Detail>>,
    /// Every change that was asked for, in words.
    pub asked: Mutex<Vec<String>>,
    pub last: Mutex<Option<Ask>>,
    pub memory: AtomicBool,
    /// Reads of user 7 wait for it, and say that they do.
    /// Transactions that stand, by what they are known by.
    pub stands: Mutex<HashMap<Reference, StoredTransaction>>,
    pub writer: Mutex<Writer>,
    /// Rows of pages, newest first.
    pub sides: Mutex<Vec<UserTrade>>,
    pub rows: Mutex<Vec<StatementRow>>,
    pub totals: Mutex<HeldTotals>,
    pub rates: Mutex<Rates>,
    pub gate: Notify,
    pub entered: Notify,
}

pub(super) fn catalogue() -> Arc<Catalogue> {
    let asset = |id, name: &str| Asset {
        id,
        name: name.to_owned(),
        decimals: 8,
    };
    let symbol = Symbol {
        id: 1,
        name: "BTC_USDT".to_owned(),
        base: "BTC".to_owned(),
        quote: "USDT".to_owned(),
    };
    let assets = [asset(1, "BTC"), asset(2, "USDT"), asset(3, "ETH")];
    Arc::new(Catalogue::new(&assets, &[symbol]).unwrap())
}

fn snapshot() -> Snapshot {
    let balance = |asset, seq, avail, said_before| Balance {
        asset: AssetId::new(asset).unwrap(),
        seq: Seq::new(seq).unwrap(),
        avail: Amount::from_raw(avail),
        frozen: Amount::from_raw(0),
        updated_at: Some(UnixMillis(1_765_352_441_955)),
        said_at: UnixMillis(NOW - said_before),
    };
    Snapshot::new(vec![
        balance(1, 17, 910_000_000_000, 4_999),
        balance(3, 5, -1, 1_000),
        balance(9, 2, 77, 12_000),
    ])
}

impl Fake {
    pub fn new() -> Self {
        Self {
            catalogue: catalogue(),
            trouble: Mutex::new(None),
            detail: Mutex::new(None),
            asked: Mutex::new(vec![]),
            last: Mutex::new(None),
            memory: AtomicBool::new(true),
            stands: Mutex::new(HashMap::new()),
            writer: Mutex::new(Writer::Service),
            sides: Mutex::default(),
            rows: Mutex::default(),
            totals: Mutex::new(HeldTotals::Pending),
            rates: Mutex::default(),
            gate: Notify::new(),
            entered: Notify::new(),
        }
    }

    fn answer(&self, user: UserId) -> Answer {
        let snapshot = if user.get() == 1001 {
            snapshot()
        } else {
            Snapshot::default()
        };
        Answer {
            held: Held::new(&self.catalogue, &snapshot, UnixMillis(NOW - 7_000)),
            trail: Trail {
                detail: *self.detail.lock(),
                ..Trail::memory(9)
            },
        }
    }

    async fn troubled<T, E>(&self, pick: impl Fn(&Trouble) -> Option<E>, good: T) -> Result<T, E> {
        let trouble = self.trouble.lock().clone();
        if matches!(trouble, Some(Trouble::Silence)) {
            std::future::pending::<()>().await;
        }
        trouble.as_ref().and_then(pick).map_or(Ok(good), Err)
    }

    fn note(&self, what: String) {
        self.asked.lock().push(what);
    }
}

fn read_trouble(trouble: &Trouble) -> Option<read::Error> {
    match trouble {
        Trouble::Read(error) => Some(error.clone()),
        _ => None,
    }
}

fn apply_trouble(trouble: &Trouble) -> Option<apply::Error> {
    match trouble {
        Trouble::Apply(error) => Some(error.clone()),
        _ => None,
    }
}

fn counted(all: usize) -> u64 {
    u64::try_from(all).unwrap()
}

impl Backend for Arc<Fake> {
    fn malformed(&self, _: Via) {}

    fn totals(&self) -> HeldTotals {
        self.totals.lock().clone()
    }

    async fn set_rates(
        &self,
        quote: AssetId,
        all: Vec<(AssetId, DatedRate)>,
        _: Instant,
    ) -> Result<RatesTaken, apply::Error> {
        self.note(format!("rates {quote} {}", all.len()));
        let mut taken = RatesTaken::default();
        for (asset, rate) in all {
            if self.rates.lock().offer(asset, rate) {
                taken.applied += 1;
            } else {
                taken.old += 1;
            }
        }
        self.troubled(apply_trouble, taken).await
    }

    async fn rates(&self, _: AssetId, _: Instant) -> Result<Arc<Rates>, apply::Error> {
        let rates = Arc::new(self.rates.lock().clone());
        self.troubled(apply_trouble, rates).await
    }

    fn held<T>(
        &self,
        user: UserId,
        ask: &Ask,
        _: Instant,
        mut show: impl FnMut(Answer<&[u8]>) -> T,
    ) -> Result<T, Forward> {
        let answer = self.answer(user);
        (self.memory.load(Ordering::Relaxed)
            && self.trouble.lock().is_none()
            && ask.min_seq.met_by(&answer.held.snapshot()))
        .then(|| show(answer.view()))
        .ok_or(Forward::Miss)
    }

    async fn read(&self, user: UserId, ask: Ask, deadline: Instant) -> Result<Answer, read::Error> {
        *self.last.lock() = Some(ask.clone());
        let answer = self.troubled(read_trouble, self.answer(user));
        let in_time = timeout_at(deadline, answer).await;
        let answer = in_time.unwrap_or(Err(read::Error::Deadline))?;
        if user.get() == 7 {
            self.entered.notify_one();
            self.gate.notified().await;
        }
        if !ask.min_seq.met_by(&answer.held.snapshot()) {
            return Err(read::Error::NotReached);
        }
        Ok(answer)
    }

    async fn read_many(&self, users: Vec<UserId>, _: Instant) -> Result<Vec<Answer>, read::Error> {
        if matches!(*self.trouble.lock(), Some(Trouble::FewerAnswers)) {
            return Ok(vec![]);
        }
        let answers = users.into_iter().map(|user| self.answer(user)).collect();
        self.troubled(read_trouble, answers).await
    }

    async fn settle(&self, all: Vec<Notification>, _: Instant) -> Result<Applied, apply::Error> {
        self.note(format!("settle {}", all.len()));
        let applied = counted(all.len());
        self.troubled(apply_trouble, Applied { applied, old: 0 })
            .await
    }

    async fn write_entries(
        &self,
        all: Vec<Entry>,
        _: Instant,
    ) -> Result<Written, apply::WriteError> {
        self.note(format!("write {}", all.len()));
        let written = Written {
            written: counted(all.len()),
            repeated: 0,
        };
        let pick = |trouble: &Trouble| match trouble {
            Trouble::Write(error) => Some(error.clone()),
            _ => None,
        };
        self.troubled(pick, written).await
    }

    fn writer(&self) -> Writer {
        *self.writer.lock()
    }

    async fn settle_transactions(
        &self,
        all: Vec<Transaction>,
        _: Instant,
    ) -> Result<Vec<Outcome>, settle::Error> {
        self.note(format!("settle transactions {}", all.len()));
        if let Some(Trouble::Settle(result)) = self.trouble.lock().clone() {
            return result.map(|outcome| all.iter().map(|_| outcome.clone()).collect());
        }
        let mut stands = self.stands.lock();
        let outcomes = all.into_iter().map(|transaction| {
            let rows = Transaction {
                overdraft: true,
                ..transaction.clone()
            }
            .rows(&[], UnixMillis(NOW));
            let receipt = transaction.balances.clone().map_or_else(
                || Receipt::of(&rows.unwrap(), UnixMillis(NOW)),
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
                None => Outcome::Written(receipt),
                Some(_) => Outcome::Repeated(receipt),
            }
        });
        Ok(outcomes.collect())
    }

    async fn find_transaction(
        &self,
        reference: Reference,
        _: Instant,
    ) -> Result<Option<StoredTransaction>, SourceError> {
        Ok(self.stands.lock().get(&reference).cloned())
    }

    async fn trades_page(
        &self,
        question: TradesQuestion,
        deadline: Instant,
    ) -> Result<Page<UserTrade>, read::Error> {
        let page = question.page(self.sides.lock().clone());
        let page = self.troubled(read_trouble, page);
        let in_time = timeout_at(deadline, page).await;
        in_time.unwrap_or(Err(read::Error::Deadline))
    }

    async fn statement_page(
        &self,
        question: StatementQuestion,
        deadline: Instant,
    ) -> Result<Page<StatementRow>, read::Error> {
        let mut rows = self.rows.lock().clone();
        rows.retain(|row| question.after.is_none_or(|after| row.seq < after));
        let page = self.troubled(read_trouble, question.page(rows));
        let in_time = timeout_at(deadline, page).await;
        in_time.unwrap_or(Err(read::Error::Deadline))
    }

    async fn invalidate(
        &self,
        users: Vec<UserId>,
        floors: bool,
        _: Instant,
    ) -> Result<u64, apply::Error> {
        self.note(format!("invalidate {} {floors}", users.len()));
        self.troubled(apply_trouble, counted(users.len())).await
    }

    async fn warm(&self, all: Vec<UserId>, _: Instant) -> Warmed {
        self.note(format!("warm {}", all.len()));
        let users = counted(all.len());
        Warmed {
            users,
            loaded: users,
            failed: 0,
        }
    }
}
