//! Turns of this service and of the bare driver, one after the other, and the lines of the table.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all, stream};
use rustix::time::{ClockId, clock_gettime};

const READERS: u64 = 4;

/// What a turn took.
#[derive(Default)]
pub struct Turn {
    times: Vec<Duration>,
    elapsed: Duration,
    cpu: Duration,
}

/// The time that all threads of this process were on a core.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap(), nanos.unwrap())
}

/// Does all of the work, so much of it at once.
pub async fn run_turn<F: Future<Output = ()>>(
    clients: usize,
    work: impl IntoIterator<Item = F>,
) -> Turn {
    let (begun, cpu_before) = (Instant::now(), cpu());
    let all = work.into_iter().map(|one| async {
        let begun = Instant::now();
        one.await;
        begun.elapsed()
    });
    let times = stream::iter(all).buffer_unordered(clients);
    Turn {
        times: times.collect().await,
        elapsed: begun.elapsed(),
        cpu: cpu().saturating_sub(cpu_before),
    }
}

impl Turn {
    pub fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
    }

    fn count(&self) -> f64 {
        f64::from(u32::try_from(self.times.len()).unwrap())
    }

    pub fn per_second(&self) -> f64 {
        self.count() / self.elapsed.as_secs_f64()
    }

    fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count()
    }

    /// In milliseconds: the time that so many percent do not exceed.
    fn quantile(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort();
        let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(at).unwrap().as_secs_f64() * 1_000.0
    }
}

pub fn print_header() {
    println!(
        "| what | clients | per second: bare driver | this service | ratio | p50 ms: bare driver | this service | ratio \
         | p99 ms: bare driver | this service | CPU µs: bare driver | this service |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
}

pub fn print_line(what: &str, clients: usize, bare: &Turn, ours: &Turn) {
    println!(
        "| {what} | {clients} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} |",
        bare.per_second(),
        ours.per_second(),
        ours.per_second() / bare.per_second(),
        bare.quantile(50),
        ours.quantile(50),
        ours.quantile(50) / bare.quantile(50),
        bare.quantile(99),
        ours.quantile(99),
        bare.cpu_micros(),
        ours.cpu_micros(),
    );
}

/// Reads in a second while this work is done, by [`READERS`] readers, each one read after the other.
pub async fn count_reads<F: Future<Output = ()>>(
    read: impl Fn(u64) -> F,
    work: impl Future<Output = ()>,
) -> f64 {
    let count = AtomicU64::new(0);
    let begun = Instant::now();
    let readers = (0..READERS).map(|_| async {
        loop {
            read(count.fetch_add(1, Ordering::Relaxed)).await;
        }
    });
    tokio::select! {
        () = work => {}
        _ = join_all(readers) => {}
    }
    let reads = u32::try_from(count.load(Ordering::Relaxed)).unwrap();
    f64::from(reads) / begun.elapsed().as_secs_f64()
}
