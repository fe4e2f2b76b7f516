//! A reader over real tiers, and a source that does as it is told.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, TryFutureExt};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::read::*;
use crate::{
    config,
    domain::{Asset, AssetId, Balance, LedgerSlice, Seq, Snapshot, StatementRow, UserId},
    ledger::{Cost, SourceReadiness},
};

type StatementRows<'a> = BoxFuture<'a, Result<Vec<StatementRow>, ledger::LedgerError>>;

pub(in crate::read) const HOUR: Duration = Duration::from_hours(1);

pub(in crate::read) fn test_user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub(in crate::read) fn test_asset(id: i32) -> AssetId {
    AssetId::new(id).unwrap()
}

pub(in crate::read) fn test_seq(number: i64) -> Seq {
    Seq::new(number).unwrap()
}

/// Balances by asset and seq; the amount follows from the seq.
pub(in crate::read) fn test_balances(of: &[(i32, i64)]) -> Snapshot {
    let balance = |(id, number): &(i32, i64)| Balance::sample_of(*id, *number, *number);
    Snapshot::new(of.iter().map(balance).collect())
}

/// A ledger and its view, each with what it was given; every user has the same.
#[derive(Debug)]
pub(in crate::read) struct TestSource {
    pub(in crate::read) view: Mutex<Snapshot>,
    pub(in crate::read) ledger: Mutex<Snapshot>,
    pub(in crate::read) fails: AtomicBool,
    pub(in crate::read) views: AtomicUsize,
    pub(in crate::read) ledgers: AtomicUsize,
    /// Users whose view is not answered.
    pub(in crate::read) stuck: Mutex<HashSet<UserId>>,
    /// Loads of the view that may go on, where they are counted.
    pub(in crate::read) may_go_on: Mutex<HashMap<UserId, Arc<Semaphore>>>,
}

impl TestSource {
    fn answer_with(&self, of: &Mutex<Snapshot>) -> Result<Snapshot, ledger::LedgerError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(ledger::LedgerError::unavailable("told to fail"));
        }
        Ok(of.lock().clone())
    }
}

impl Source for TestSource {
    fn identity(&self) -> Option<Arc<str>> {
        Some("told".into())
    }

    fn readiness(&self) -> SourceReadiness {
        SourceReadiness::Ready
    }

    fn load_counting<'a>(
        &'a self,
        user: UserId,
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, ledger::LedgerError>> {
        async move {
            self.views.fetch_add(1, Ordering::SeqCst);
            if self.stuck.lock().contains(&user) {
                std::future::pending::<()>().await;
            }
            let answer = self.answer_with(&self.view);
            let gate = self.may_go_on.lock().get(&user).cloned();
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            answer
        }
        .boxed()
    }

    fn latest_counting<'a>(
        &'a self,
        _: UserId,
        assets: &'a [AssetId],
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, ledger::LedgerError>> {
        async move {
            self.ledgers.fetch_add(1, Ordering::SeqCst);
            let all = self.answer_with(&self.ledger)?;
            let named = all.balances().iter().copied();
            let named = named.filter(|balance| assets.contains(&balance.asset));
            Ok(Snapshot::new(named.collect()))
        }
        .boxed()
    }

    fn read_statement<'a>(&'a self, slice: LedgerSlice, cost: &'a Cost) -> StatementRows<'a> {
        let loaded = self.load_counting(slice.user, cost);
        loaded.map_ok(|_| Vec::new()).boxed()
    }
}

pub(in crate::read) struct House {
    pub(in crate::read) reader: Arc<Reader>,
    pub(in crate::read) source: Arc<TestSource>,
    pub(in crate::read) change_log: Arc<ChangeLog>,
    pub(in crate::read) memory: Arc<Memory>,
    pub(in crate::read) freshness: Arc<Freshness>,
}

/// A reader of BTC and USDT over a view, whose freshness is proven.
pub(in crate::read) fn test_house(more: &[(&str, &str)]) -> House {
    let mut environment = vec![
        ("BALANCE_CACHE__SOURCE__KIND", "scylla"),
        ("BALANCE_CACHE__STALE__ENABLED", "true"),
    ];
    environment.extend(more);
    let owned = environment
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let settings = config::load_settings(None, owned).unwrap();
    let catalogue = Arc::new(
        Catalogue::new(&[Asset::new(1, "BTC", 8), Asset::new(2, "USDT", 8)], &[]).unwrap(),
    );
    let meters = Meters::new();
    let memory = Arc::new(Memory::new(
        settings.memory.max_bytes,
        HOUR,
        Arc::clone(&catalogue),
        Arc::clone(&meters),
    ));
    let change_log = Arc::new(ChangeLog::new(HOUR, 16 << 20));
    let freshness = Arc::new(Freshness::by_proof(settings.settlement.max_staleness_ms.0));
    let source = Arc::new(TestSource {
        view: Mutex::new(test_balances(&[(1, 1), (2, 1)])),
        ledger: Mutex::new(test_balances(&[(1, 1), (2, 1)])),
        fails: AtomicBool::new(false),
        views: AtomicUsize::new(0),
        ledgers: AtomicUsize::new(0),
        stuck: Mutex::default(),
        may_go_on: Mutex::default(),
    });
    let parts = ReaderParts {
        catalogue,
        memory: Arc::clone(&memory),
        redis: None,
        source: Arc::clone(&source) as Arc<dyn Source>,
        change_log: Arc::clone(&change_log),
        freshness: Arc::clone(&freshness),
        meters,
        tasks: TaskTracker::new(),
        sampler: Sampler::new().0,
    };
    let house = House {
        reader: Reader::new(parts, &settings),
        source,
        change_log,
        memory,
        freshness,
    };
    house.prove_fresh();
    house
}

impl House {
    pub(in crate::read) fn prove_fresh(&self) {
        self.freshness
            .prove_fresh(self.freshness.current_term(), Instant::now());
    }

    pub(in crate::read) async fn ask_reader(
        &self,
        ask: ReadOptions,
    ) -> Result<ReadAnswer, ReadError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.reader.read_user(test_user(1), ask, deadline).await
    }

    pub(in crate::read) async fn read_user(&self) -> Result<ReadAnswer, ReadError> {
        self.ask_reader(ReadOptions::default()).await
    }

    pub(in crate::read) fn in_memory(&self) -> Option<Snapshot> {
        let kept = self
            .memory
            .get_entry(test_user(1), self.change_log.generation())?;
        (!kept.invalidated).then(|| kept.held.read_snapshot())
    }
}

#[track_caller]
pub(in crate::read) fn shown_seqs(answer: Result<ReadAnswer, ReadError>) -> Vec<(i32, i64)> {
    let snapshot = answer.unwrap().held.read_snapshot();
    let pairs = snapshot.balances().iter();
    pairs.map(|b| (b.asset.get(), b.seq.get())).collect()
}
