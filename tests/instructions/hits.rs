//! What is counted: hits in memory, of a real reader over the real memory tier, by one thread.

use std::{hint::black_box, sync::Arc, time::Duration};

use balance_cache::{
    audit::Sampler,
    cache::memory::Memory,
    cache_status::Tier,
    config::{self, AuthMode, Millis, Scope, Settings, TokenSettings},
    domain::{Catalogue, UnixMillis, UserId},
    http::{
        Hosts, Options, Service,
        auth::Authorization,
        fast_path::{FastPath, FastPathOutcome},
        openapi::Document,
        request_head::{self, Framing, Parsed},
    },
    protocol::{ChangeLog, Freshness},
    read::{ReadOptions, Reader, ReaderParts},
    telemetry::Meters,
};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::backend::{Reads, Three};

/// Longer than any run.
const LONG: Duration = Duration::from_hours(1);

/// The wall clock stands still, so that each run spells its date once.
pub const NOW: UnixMillis = UnixMillis(1_765_352_450_000);

const TOKEN: &str = "instructions-are-counted-not-timed";
const TOKEN_SHA256: &str = "13a35305a2e3ccdcc4730bc5876d6bedb02dc0c24cd15c46e4d5cd526394f606";

/// Beside `Host`, what a browser sends.
const BROWSER: &str = "Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"142\", \"Not?A_Brand\";v=\"99\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
    Accept: application/json, text/plain, */*\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Referer: http://127.0.0.1:3001/wallet\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n";

/// What is asked in each hit of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As load generators ask: nothing but `Host`.
    Usual,
    /// With all that a browser sends.
    Browser,
    /// By the bearer of a token.
    Token,
    /// By who has the answer already: 304.
    Unchanged,
    /// For one asset of three.
    OneAsset,
    /// As the first, and each hit also does what no hit should: to see that it would be seen.
    UsualAndMore,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Usual,
        Self::Browser,
        Self::Token,
        Self::Unchanged,
        Self::OneAsset,
        Self::UsualAndMore,
    ];
}

fn settings(kind: Kind) -> Settings {
    let mut settings = config::load_settings(None, std::iter::empty::<(String, String)>()).unwrap();
    settings.memory.ttl_ms = Millis(LONG);
    if kind == Kind::Token {
        settings.auth = config::AuthSettings {
            mode: AuthMode::Token,
            tokens: vec![TokenSettings {
                name: "reader".to_owned(),
                sha256: TOKEN_SHA256.to_owned(),
                scopes: vec![Scope::Read],
            }],
        };
    }
    settings
}

fn reader(settings: &Settings, catalogue: &Arc<Catalogue>) -> Arc<Reader> {
    let meters = Meters::new();
    let memory = Memory::new(
        settings.memory.max_bytes,
        settings.memory.ttl_ms.0,
        Arc::clone(catalogue),
        Arc::clone(&meters),
    );
    let parts = ReaderParts {
        catalogue: Arc::clone(catalogue),
        memory: Arc::new(memory),
        redis: None,
        source: Arc::new(Three),
        change_log: Arc::new(ChangeLog::new(settings.settlement.floor_ttl_ms.0, 1 << 20)),
        freshness: Arc::new(Freshness::always_fresh()),
        meters,
        tasks: TaskTracker::new(),
        sampler: Sampler::new().0,
    };
    Reader::new(parts, settings)
}

type Api = Arc<Service<Reads>>;

fn api(settings: &Settings, catalogue: Arc<Catalogue>, reader: Arc<Reader>) -> Api {
    let options = Options {
        hosts: Hosts::Any,
        auth: Authorization::new(&settings.auth).unwrap(),
        catalogue,
        deadline: settings.limits.deadline_ms.0,
        body_bytes: settings.limits.body_bytes,
        body_wait: settings.limits.header_timeout_ms.0,
        id_prefix: 0xabc,
        wall: || NOW,
        openapi: Document::default(),
    };
    Arc::new(Service::new(Reads(reader), options))
}

/// The bytes of a request.
fn request(kind: Kind, etag: &str) -> String {
    let asset = if kind == Kind::OneAsset {
        "&asset=BTC"
    } else {
        ""
    };
    let fields = match kind {
        Kind::Usual | Kind::OneAsset | Kind::UsualAndMore => String::new(),
        Kind::Browser => BROWSER.to_owned(),
        Kind::Token => format!("Authorization: Bearer {TOKEN}\r\n"),
        Kind::Unchanged => format!("If-None-Match: {etag}\r\n"),
    };
    format!(
        "GET /api/user/balance?user_id=1001{asset} HTTP/1.1\r\nHost: 127.0.0.1:3001\r\n{fields}\r\n"
    )
}

/// One request, from its bytes to the bytes of its answer.
fn hit(api: &Api, request: &[u8], out: &mut Vec<u8>) {
    let mut room = request_head::empty_fields();
    let Parsed::Head(head) = request_head::parse_head(request, &mut room) else {
        panic!("it is no head");
    };
    assert!(head.framing == Framing::None && head.len == request.len());
    out.clear();
    assert!(matches!(
        api.try_answer(&head, Instant::now(), false, out),
        FastPathOutcome::Written
    ));
}

fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let mut fields = answer.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(of, _)| *of == name).unwrap().1
}

/// The answer to a request of that kind.
fn is_right(kind: Kind, answer: &[u8]) {
    let answer = str::from_utf8(answer).unwrap();
    let status = field(answer, "cache-status");
    assert!(status.starts_with("memory; hit; ttl="), "{answer}");
    assert_eq!(field(answer, "age"), "3", "{answer}");
    let (status, balances) = match kind {
        Kind::Unchanged => ("304 Not Modified", 0),
        Kind::OneAsset => ("200 OK", 1),
        Kind::Usual | Kind::Browser | Kind::Token | Kind::UsualAndMore => ("200 OK", 3),
    };
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
        "{answer}"
    );
    assert_eq!(answer.matches("\"avail\"").count(), balances, "{answer}");
}

/// What is counted: found by its name, so it stays a function of its own.
#[inline(never)]
fn repeated(api: &Api, request: &[u8], kind: Kind, hits: u64, out: &mut Vec<u8>) {
    for number in 0..hits {
        hit(api, request, out);
        if kind == Kind::UsualAndMore {
            black_box(format!("memory; hit; ttl={number}"));
        }
    }
}

/// Answers so many requests of that kind. The first and the last answer are looked at.
pub fn answer(kind: Kind, hits: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let settings = settings(kind);
    let catalogue = Catalogue::new(&settings.assets, &settings.symbols).unwrap();
    let catalogue = Arc::new(catalogue);
    let reader = reader(&settings, &catalogue);
    let cold = runtime.block_on(async {
        let user = UserId::new(1001).unwrap();
        let read = reader.read_user(user, ReadOptions::default(), Instant::now() + LONG);
        read.await.unwrap()
    });
    assert_eq!(cold.cache_status.answered, Tier::Source);
    let etag = std::str::from_utf8(cold.held.entity_tag());
    let etag = etag.unwrap();
    let request = request(kind, etag);
    let api = api(&settings, catalogue, reader);
    let mut out = Vec::new();
    hit(&api, request.as_bytes(), &mut out);
    is_right(kind, &out);
    repeated(&api, request.as_bytes(), kind, hits, &mut out);
    is_right(kind, &out);
}
