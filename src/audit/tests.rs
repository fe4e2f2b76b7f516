//! The auditor over a ledger of the test's own, with time that the test moves.

mod view_lag;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{AuditSample, Auditor, AuditorParts, Sampler};
use crate::{
    cache_status::Tier,
    clock,
    config::{self, AuditSettings},
    domain::{Asset, AssetId, Balance, Catalogue, Seq, Snapshot, UnixMillis, UserId},
    ledger::{Cost, LedgerError, RowAbove, Source, SourceReadiness},
    protocol::ChangeLog,
    telemetry::Meters,
};

const MINUTE: Duration = Duration::from_mins(1);

fn sample_user() -> UserId {
    UserId::new(7).unwrap()
}

fn asset_id(id: i32) -> AssetId {
    AssetId::new(id).unwrap()
}

fn seq_of(number: i64) -> Seq {
    Seq::new(number).unwrap()
}

fn sample_balance(id: i32, number: i64) -> Balance {
    Balance::sample_of(id, number, 1)
}

/// Rows of the one user, with their age in milliseconds when they were put; what the view shows of them.
#[derive(Debug, Default)]
struct TestLedger {
    rows: Mutex<BTreeMap<(AssetId, Seq), Option<UnixMillis>>>,
    viewed: Mutex<Snapshot>,
    down: AtomicBool,
    statements: AtomicU64,
}

impl TestLedger {
    fn put_row(&self, id: i32, number: i64, age: Option<i64>) {
        let at = age.map(|age| UnixMillis(clock::wall_now().0 - age));
        self.rows.lock().insert((asset_id(id), seq_of(number)), at);
    }

    fn count_statement<T>(&self, answer: T) -> Result<T, LedgerError> {
        self.statements.fetch_add(1, Relaxed);
        if self.down.load(Relaxed) {
            return Err(LedgerError::Timeout);
        }
        Ok(answer)
    }
}

impl Source for TestLedger {
    fn identity(&self) -> Option<Arc<str>> {
        None
    }

    fn readiness(&self) -> SourceReadiness {
        SourceReadiness::Ready
    }

    fn load_counting<'a>(
        &'a self,
        _: UserId,
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        let viewed = self.viewed.lock().clone();
        async move { self.count_statement(viewed) }.boxed()
    }

    fn latest_counting<'a>(
        &'a self,
        _: UserId,
        assets: &'a [AssetId],
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        let rows = self.rows.lock();
        let all = rows.keys().filter(|(asset, _)| assets.contains(asset));
        let all = all.map(|(asset, seq)| sample_balance(asset.get(), seq.get()));
        let newest = Snapshot::new(all.collect());
        async move { self.count_statement(newest) }.boxed()
    }

    fn row_above(
        &self,
        _: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<RowAbove>, LedgerError>> {
        let rows = self.rows.lock();
        let mut above = rows
            .iter()
            .filter(|((at, number), _)| *at == asset && Some(*number) > seq);
        let row = above.next().map(|((_, seq), at)| RowAbove {
            seq: *seq,
            created_at: None,
            written_at: *at,
        });
        async move { self.count_statement(row) }.boxed()
    }
}

struct Stage {
    ledger: Arc<TestLedger>,
    sampler: Arc<Sampler>,
    meters: Arc<Meters>,
    room: Arc<AtomicBool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    fn new(change: impl FnOnce(&mut AuditSettings)) -> Self {
        let mut settings = config::default_settings().unwrap();
        change(&mut settings.audit);
        let (sampler, inbox) = Sampler::new();
        let (ledger, meters) = (Arc::new(TestLedger::default()), Meters::new());
        let room = Arc::new(AtomicBool::new(true));
        let assets = [1, 2].map(|id| Asset::new(id, format!("A{id}"), 0));
        let has_room = Arc::clone(&room);
        let parts = AuditorParts {
            sampler: Arc::clone(&sampler),
            inbox,
            source: ledger.clone(),
            catalogue: Arc::new(Catalogue::new(&assets, &[]).unwrap()),
            change_log: Arc::new(ChangeLog::new(MINUTE, 1 << 20)),
            meters: Arc::clone(&meters),
            has_room: Arc::new(move || has_room.load(Relaxed)),
            source_lags: true,
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let staleness = settings.settlement.max_staleness_ms.0;
        if let Some(auditor) = Auditor::new(parts, &settings.audit, staleness, MINUTE) {
            tasks.spawn(auditor.run_audit(stop.clone()));
        }
        Self {
            ledger,
            sampler,
            meters,
            room,
            stop,
            tasks,
        }
    }

    /// An answer that shows this seq of asset 1, to a read that begins now.
    fn serve_answer(&self, tier: Tier, number: i64) {
        let shown = Snapshot::new(vec![sample_balance(1, number)]);
        self.sampler.note_answer(AuditSample::from_answer(
            sample_user(),
            tier,
            &shown,
            Instant::now(),
        ));
    }

    /// Lets that much time pass, for whoever waits, in small steps.
    async fn pass_time(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let left = end - Instant::now();
            tokio::time::advance(left.min(Duration::from_millis(10))).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn read_count(&self, name: &str, tier: Tier, window: &str) -> u64 {
        let tier = tier.word();
        let series = format!("balance_cache_{name}{{tier=\"{tier}\",window=\"{window}\"}} ");
        let page = self.meters.prometheus_page();
        let line = page.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap().parse().unwrap()
    }

    /// Checked and stale, by window.
    fn found_by_window(&self, tier: Tier) -> [(u64, u64); 4] {
        ["0.1", "1", "10", "300"].map(|window| {
            (
                self.read_count("audit_checked_total", tier, window),
                self.read_count("audit_stale_total", tier, window),
            )
        })
    }

    /// How many notifications were followed to their end, and the sum of their lags.
    fn read_lags(&self) -> (u64, f64) {
        let page = self.meters.prometheus_page();
        let value = |name: &str| {
            let mut lines = page.lines();
            let line = lines.find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap().to_owned()
        };
        (
            value("balance_cache_view_lag_seconds_count")
                .parse()
                .unwrap(),
            value("balance_cache_view_lag_seconds_sum").parse().unwrap(),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_checked_four_times_and_counted_for_its_tier() {
    let stage = Stage::new(|_| {});
    stage.ledger.put_row(1, 5, Some(60_000));
    stage.serve_answer(Tier::Redis, 5);
    stage.pass_time(Duration::from_millis(90)).await;
    assert_eq!(stage.found_by_window(Tier::Redis), [(0, 0); 4]);
    stage.pass_time(Duration::from_millis(60)).await;
    assert_eq!(
        stage.found_by_window(Tier::Redis),
        [(1, 0), (0, 0), (0, 0), (0, 0)]
    );
    stage.pass_time(Duration::from_secs(11)).await;
    assert_eq!(
        stage.found_by_window(Tier::Redis),
        [(1, 0), (1, 0), (1, 0), (0, 0)]
    );
    stage.pass_time(Duration::from_secs(290)).await;
    assert_eq!(stage.found_by_window(Tier::Redis), [(1, 0); 4]);
    assert_eq!(stage.found_by_window(Tier::Memory), [(0, 0); 4]);
    let asked = stage.ledger.statements.load(Relaxed);
    assert_eq!(asked, 4, "one statement a check");
    stage.pass_time(MINUTE).await;
    assert_eq!(
        stage.ledger.statements.load(Relaxed),
        asked,
        "it is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_first_decides_and_not_what_is_newest() {
    let stage = Stage::new(|_| {});
    // Seq 6 stood there for long; 7 comes behind the reads, and must not hide it.
    stage.ledger.put_row(1, 5, Some(60_000));
    stage.ledger.put_row(1, 6, Some(30_000));
    stage.serve_answer(Tier::Memory, 5);
    stage.serve_answer(Tier::Redis, 6);
    stage.ledger.put_row(1, 7, Some(0));
    stage.pass_time(Duration::from_secs(2)).await;
    assert_eq!(stage.found_by_window(Tier::Memory)[..2], [(1, 1), (1, 1)]);
    assert_eq!(stage.found_by_window(Tier::Redis)[..2], [(1, 0), (1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_comes_to_light_late_is_found_by_the_longer_windows() {
    let stage = Stage::new(|_| {});
    stage.ledger.put_row(1, 5, Some(60_000));
    stage.serve_answer(Tier::Source, 5);
    stage.pass_time(Duration::from_secs(2)).await;
    stage.ledger.put_row(1, 6, Some(30_000));
    stage.pass_time(Duration::from_secs(10)).await;
    assert_eq!(
        stage.found_by_window(Tier::Source)[..3],
        [(1, 0), (1, 0), (1, 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn an_asset_that_was_not_shown_at_all_is_missed_too() {
    let stage = Stage::new(|_| {});
    stage.ledger.put_row(1, 5, Some(60_000));
    stage.ledger.put_row(2, 1, Some(30_000));
    stage.ledger.put_row(3, 1, Some(30_000));
    stage.serve_answer(Tier::Memory, 5);
    stage.pass_time(Duration::from_millis(300)).await;
    assert_eq!(
        stage.found_by_window(Tier::Memory)[0],
        (1, 1),
        "2 is in the catalogue"
    );
}

#[tokio::test(start_paused = true)]
async fn a_row_without_a_time_proves_nothing_and_is_not_counted() {
    let stage = Stage::new(|_| {});
    stage.ledger.put_row(1, 6, None);
    stage.serve_answer(Tier::Memory, 5);
    stage.pass_time(Duration::from_secs(2)).await;
    assert_eq!(stage.found_by_window(Tier::Memory), [(0, 0); 4]);
}

mod bounds;
