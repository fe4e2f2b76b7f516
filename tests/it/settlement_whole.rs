//! Promise P10: reads beside settlements of two balances show both or none, on the instance told and on others.
//!
//! The long run: `BALANCE_CACHE_TEST_WHOLE_READS=1000000 cargo test --features failpoints --test it -- settlement_whole`.

#[cfg(feature = "failpoints")]
use std::sync::atomic::AtomicI64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    settlement_pair::Pair,
    settlement_support::{SETTLEMENTS, SOON, ask, seq_of, values, whole},
    support::{
        databases::on_each_database,
        eventually::eventually_async,
        redis::Redis,
        service::{Service, Setup},
        stage::Database,
    },
};

const USER: u64 = 3;
/// Reads that are sent on one connection before the first answer is looked at.
const PIPELINED: usize = 64;

/// Reads that look at settlements, of all tiers together.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment makes the run longer"
)]
fn reads_wanted(database: Database) -> u64 {
    let otherwise = match database {
        Database::Cassandra => 100_000,
        // The tiers before it are the same.
        Database::Postgres => 20_000,
    };
    let wanted = std::env::var("BALANCE_CACHE_TEST_WHOLE_READS");
    wanted.map_or(otherwise, |text| text.parse().unwrap())
}

/// What readers saw.
#[derive(Debug, Default)]
struct Seen {
    reads: AtomicU64,
    torn: AtomicU64,
    /// Of memory and of Redis.
    from: [AtomicU64; 2],
}

impl Seen {
    fn of(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::SeqCst)
    }
}

/// Reads until it is over.
async fn read(service: &Service, seen: &Seen, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let answer = ask(service, USER).await;
        let status = answer.cache_status();
        if status.contains("detail=") {
            continue;
        }
        let torn = seq_of(&answer, "BTC") != seq_of(&answer, "USDT");
        seen.reads.fetch_add(1, Ordering::SeqCst);
        seen.torn.fetch_add(u64::from(torn), Ordering::SeqCst);
        for (tier, from) in ["memory; hit", "redis; hit"].iter().zip(&seen.from) {
            from.fetch_add(u64::from(status.starts_with(tier)), Ordering::SeqCst);
        }
    }
}

/// The same with many reads at a time: what a reader costs is not to hide what a fast one sees.
async fn read_pipelined(service: &Service, seen: &Seen, over: &AtomicBool) {
    let address = service.http();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET /api/user/balance?user_id={USER} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let requests = request.repeat(PIPELINED);
    let mut bytes = Vec::new();
    while !over.load(Ordering::SeqCst) {
        stream.write_all(requests.as_bytes()).await.unwrap();
        for _ in 0..PIPELINED {
            let (head, body) = Box::pin(next_answer(&mut stream, &mut bytes)).await;
            // A busy machine may keep the ledger from answering in time: nothing is shown then.
            let is_late = head.starts_with("HTTP/1.1 503") || head.starts_with("HTTP/1.1 504");
            assert!(is_late || head.starts_with("HTTP/1.1 200"), "{head} {body}");
            if is_late || head.contains("detail=") {
                continue;
            }
            let seqs: Vec<&str> = body.split("\"seq\":").skip(1).collect();
            let number = |text: &str| text.split(',').next().unwrap().to_owned();
            let torn = seqs.len() != 2 || number(seqs[0]) != number(seqs[1]);
            seen.reads.fetch_add(1, Ordering::SeqCst);
            seen.torn.fetch_add(u64::from(torn), Ordering::SeqCst);
            for (tier, from) in ["memory; hit", "redis; hit"].iter().zip(&seen.from) {
                let answered = head.contains(&format!("cache-status: {tier}"));
                from.fetch_add(u64::from(answered), Ordering::SeqCst);
            }
        }
    }
}

/// The head, in small letters but for its first line, and the body of the next answer.
async fn next_answer(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> (String, String) {
    loop {
        let text = String::from_utf8_lossy(bytes);
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let (first, fields) = head.split_once("\r\n").unwrap();
            let fields = fields.to_lowercase();
            let length = fields.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if rest.len() >= length {
                let answer = (format!("{first}\r\n{fields}"), rest[..length].to_owned());
                let used = head.len() + 4 + length;
                bytes.drain(..used);
                return answer;
            }
        }
        let mut more = [0; 16 * 1024];
        let count = stream.read(&mut more).await.unwrap();
        assert!(count > 0, "the connection was closed");
        bytes.extend_from_slice(&more[..count]);
    }
}

async fn settle(service: &Service, seq: i64) {
    let both = json!([values(USER, 1, seq, seq), values(USER, 2, seq, seq)]);
    // On a busy machine its promise may fail: it is sent again.
    eventually_async(SOON, "it takes effect", async || {
        let answer = service.post(SETTLEMENTS, &both).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// One that is told, one that follows, and one whose memory keeps nothing.
async fn three(pair: &Pair, adapt: impl Fn(Setup) -> Setup) -> Vec<Service> {
    let setups = [
        pair.setup(0),
        pair.setup(1),
        pair.setup(1).with("memory.ttl_ms", 1),
    ];
    let mut services = Vec::new();
    for setup in setups {
        let service = Service::start_ready(adapt(setup)).await;
        whole(&service).await;
        services.push(service);
    }
    services
}

async fn no_read_shows_half_of_a_settlement(database: Database) {
    let pair = Pair::without_services(database.shared_server(), Redis::start(), 5).await;
    let services = three(&pair, |setup| setup).await;
    let (seen, over) = ([0; 3].map(|_| Seen::default()), AtomicBool::new(false));
    settle(&services[0], 2).await;
    let readers = services
        .iter()
        .zip(&seen)
        .flat_map(|(service, seen)| (0..2).map(move |_| (service, seen)))
        .map(|(service, seen)| read(service, seen, &over));
    let fast = services.iter().zip(&seen);
    let fast = fast.map(|(service, seen)| read_pipelined(service, seen, &over));
    let wanted = reads_wanted(database);
    let settling = async {
        for seq in 3.. {
            settle(&services[0], seq).await;
            let reads: u64 = seen.iter().map(|seen| Seen::of(&seen.reads)).sum();
            if reads >= wanted && Seen::of(&seen[2].from[1]) >= wanted / 100 {
                break;
            }
        }
        over.store(true, Ordering::SeqCst);
    };
    let (readers, fast) = (
        futures::future::join_all(readers),
        futures::future::join_all(fast),
    );
    tokio::join!(readers, fast, settling);
    for seen in &seen {
        eprintln!("{seen:?}");
        assert_eq!(Seen::of(&seen.torn), 0, "{seen:?}");
    }
    assert!(Seen::of(&seen[0].from[0]) > 0, "of memory: {:?}", seen[0]);
    assert!(Seen::of(&seen[2].from[1]) > 0, "of Redis: {:?}", seen[2]);
}

/// With the rule taken out, this test sees what the one above must not.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_taken_one_by_one_are_seen_torn() {
    let server = Database::Cassandra.shared_server();
    let pair = Pair::without_services(server, Redis::start(), 5).await;
    let without = |setup: Setup| setup.raw("FAILPOINTS", "one-by-one=return;marked=yield".into());
    let services = three(&pair, without).await;
    let (seen, over) = ([0; 2].map(|_| Seen::default()), AtomicBool::new(false));
    settle(&services[0], 2).await;
    let readers = services
        .iter()
        .zip(&seen)
        .map(|(service, seen)| read(service, seen, &over));
    let settling = async {
        let next = AtomicI64::new(3);
        eventually_async(3 * SOON, "both show half of one", async || {
            settle(&services[0], next.fetch_add(1, Ordering::SeqCst)).await;
            seen.iter()
                .all(|seen| Seen::of(&seen.torn) > 0)
                .then_some(())
        })
        .await;
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(futures::future::join_all(readers), settling);
}

on_each_database! {
    no_read_shows_half_of_a_settlement,
}
