//! Whatever a client sends: no panic, and an answer that blames the client or nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance_cache::{
    apply::{self, ApplyResult, WarmResult},
    cache_status::{CacheStatus, ForwardReason},
    config::{AuthMode, AuthSettings, LedgerSide},
    domain::{
        Asset, AssetId, Catalogue, DatedRate, Entry, HistoryPage, Notification, Rates, RatesTaken,
        Reference, SettleOutcome, Snapshot, StatementQuestion, StatementRow, StoredTransaction,
        Totals, TradesQuestion, Transaction, UnixMillis, UserId, UserTrade,
    },
    http::{Backend, HeldTotals, Hosts, Options, Service, auth::Authorization, openapi::Document},
    ledger::{self, WrittenCounts},
    read::{self, ReadAnswer, ReadOptions, RenderedSnapshot},
    settle,
    telemetry::Via,
};
use http::Request;
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use crate::runner::fuzz;

/// Nobody has anything, and every change is done. It counts the requests of notifications.
pub struct Nobody(pub Arc<AtomicUsize>);

fn nothing() -> ReadAnswer {
    let held = RenderedSnapshot::new(&Catalogue::default(), &Snapshot::default(), UnixMillis(0));
    ReadAnswer {
        held,
        cache_status: CacheStatus::memory_hit(1),
    }
}

impl Backend for Nobody {
    fn read_memory<T>(
        &self,
        _: UserId,
        _: &ReadOptions,
        _: Instant,
        mut show: impl FnMut(ReadAnswer<&[u8]>) -> T,
    ) -> Result<T, ForwardReason> {
        Ok(show(nothing().borrowed_view()))
    }

    async fn read_balances(
        &self,
        _: UserId,
        _: ReadOptions,
        _: Instant,
    ) -> Result<ReadAnswer, read::ReadError> {
        Ok(nothing())
    }

    async fn read_many(
        &self,
        users: Vec<UserId>,
        _: Instant,
    ) -> Result<Vec<ReadAnswer>, read::ReadError> {
        Ok(users.iter().map(|_| nothing()).collect())
    }

    async fn apply_notifications(
        &self,
        _: Vec<Notification>,
        _: Instant,
    ) -> Result<ApplyResult, apply::ApplyError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(ApplyResult::default())
    }

    fn count_malformed(&self, _: Via) {}

    async fn write_entries(
        &self,
        _: Vec<Entry>,
        _: Instant,
    ) -> Result<WrittenCounts, apply::EntriesError> {
        Ok(WrittenCounts::default())
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
        Ok(HistoryPage::default())
    }

    async fn statement_page(
        &self,
        _: StatementQuestion,
        _: Instant,
    ) -> Result<HistoryPage<StatementRow>, read::ReadError> {
        Ok(HistoryPage::default())
    }

    fn current_totals(&self) -> HeldTotals {
        HeldTotals::Held(Arc::new(Totals::default()))
    }

    async fn set_rates(
        &self,
        _: AssetId,
        _: Vec<(AssetId, DatedRate)>,
        _: Instant,
    ) -> Result<RatesTaken, apply::ApplyError> {
        Ok(RatesTaken::default())
    }

    async fn load_rates(
        &self,
        quote: AssetId,
        _: Instant,
    ) -> Result<Arc<Rates>, apply::ApplyError> {
        let mut rates = Rates::default();
        if let Ok(rate) = "1.5".parse() {
            let at = UnixMillis(0);
            rates.offer_rate(quote, DatedRate { rate, at });
        }
        Ok(Arc::new(rates))
    }

    async fn invalidate_users(
        &self,
        _: Vec<UserId>,
        _: bool,
        _: Instant,
    ) -> Result<u64, apply::ApplyError> {
        Ok(0)
    }

    async fn warm_users(&self, _: Vec<UserId>, _: Instant) -> WarmResult {
        WarmResult::default()
    }
}

/// The API over that backend.
pub fn service(backend: Nobody) -> Service<Nobody> {
    let catalogue =
        Catalogue::new(&[Asset::new(1, "BTC", 8), Asset::new(3, "ETH", 8)], &[]).unwrap();
    let open = AuthSettings {
        mode: AuthMode::None,
        tokens: vec![],
    };
    let options = Options {
        hosts: Hosts::Any,
        auth: Authorization::new(&open).unwrap(),
        catalogue: Arc::new(catalogue),
        deadline: Duration::from_secs(2),
        body_bytes: 1 << 20,
        body_wait: Duration::from_secs(20),
        id_prefix: 1,
        wall: || UnixMillis(0),
        openapi: Document::default(),
    };
    Service::new(backend, options)
}

/// The API, and a runtime to ask it on.
struct Asked {
    service: Service<Nobody>,
    runtime: Runtime,
}

impl Asked {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        Self {
            service: service(Nobody(Arc::default())),
            runtime,
        }
    }

    /// The status, after a look at the envelope.
    fn ask(&self, request: Request<Full<bytes::Bytes>>) -> Result<u16, TestCaseError> {
        let (status, body) = self.runtime.block_on(async {
            let response = self.service.answer_request(request).await;
            let status = response.status().as_u16();
            (
                status,
                response.into_body().collect().await.unwrap().to_bytes(),
            )
        });
        let envelope: Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(envelope["status"] == 0, status == 200);
        prop_assert_eq!(envelope["data"].is_null(), status != 200);
        prop_assert!(matches!(status, 200 | 400), "{status}");
        Ok(status)
    }

    fn post(&self, path: &str, body: Vec<u8>) -> Result<u16, TestCaseError> {
        self.ask(Request::post(path).body(Full::from(body)).unwrap())
    }
}

#[test]
fn fuzz_query_string() {
    let asked = Asked::new();
    let pair = "(user_id|asset|min_seq|us%65r_id|x|)=?(1001|[0-9+%:,A-Za-z-]{0,12}|BTC:17(,ETH:[0-9]{1,20}){0,3}|%[0-9a-fA-F]{1,2}|\\PC{0,6})";
    let inputs = prop_oneof![
        prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&")),
        prop::string::string_regex(".*").unwrap(),
    ];
    fuzz("fuzz_query_string", &inputs, |query| {
        match Request::get(format!("/api/user/balance?{query}")).body(Full::default()) {
            Ok(request) => asked.ask(request).map(drop),
            Err(_) => Ok(()),
        }
    });
}

/// Nearly right bodies: pieces of JSON in any order, and a good one with a byte changed.
fn bodies(good: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let pieces = "{ } [ ] , : \" null true 1 0 -1 1e9 1.0 9223372036854775807 9223372036854775808 \"user_ids\" \"floors\" \"user_id\" \"asset_id\" \"seq\" \"avail\" \"frozen\" \"\\u0000\" \\";
    let piece = prop_oneof![
        prop::sample::select(pieces.split(' ').collect::<Vec<_>>())
            .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop_oneof![
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat()),
        (any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(
            move |(at, byte, insert)| {
                let mut body = good.as_bytes().to_vec();
                let at = at.index(body.len());
                if insert {
                    body.insert(at, byte);
                } else {
                    body[at] = byte;
                }
                body
            }
        ),
        prop::collection::vec(any::<u8>(), 0..64),
    ]
}

#[test]
fn fuzz_batch_body() {
    let asked = Asked::new();
    fuzz(
        "fuzz_batch_body",
        &bodies(r#"{"user_ids":[1001,2,9223372036854775807]}"#),
        |body| asked.post("/api/v1/user/balances", body).map(drop),
    );
}

#[test]
fn fuzz_invalidate_body() {
    let asked = Asked::new();
    fuzz(
        "fuzz_invalidate_body",
        &bodies(r#"{"user_ids":[1001,2],"floors":true}"#),
        |body| asked.post("/api/v1/cache/invalidate", body).map(drop),
    );
}

#[test]
fn fuzz_settlement_body() {
    let asked = Asked::new();
    let good = r#"[{"user_id":1001,"asset_id":1,"seq":18,"avail":9,"frozen":0,"created_at":null},{"user_id":1}]"#;
    fuzz("fuzz_settlement_body", &bodies(good), |body| {
        asked.post("/api/v1/settlements", body).map(drop)
    });
}

#[test]
fn fuzz_entries_body() {
    let asked = Asked::new();
    let good =
        r#"[{"user_id":1,"asset_id":2,"seq":3,"avail":4,"frozen":5,"event_type":"x","ref_id":1}]"#;
    fuzz("fuzz_entries_body", &bodies(good), |body| {
        asked.post("/api/v1/ledger/entries", body).map(drop)
    });
}
