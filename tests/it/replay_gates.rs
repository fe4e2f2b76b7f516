//! Places in the code where an instance in this process can be stopped, and let go on.
//!
//! The fail points are those of the whole process; who stops is told apart by the names of its threads.
//!
//! **Limits.** Who stops blocks a thread of its runtime; another takes over what it had to do.

use std::{
    collections::HashMap,
    sync::{LazyLock, Once},
    thread,
};

use parking_lot::{Condvar, Mutex};

use crate::{settlement_support::SOON, support::eventually::eventually_async};

/// The places, in the order in which a load, an application, a follower and the keeper come to them.
const PLACES: [&str; 8] = [
    "boarded",
    "looked",
    "reached",
    "filled",
    "redis-took",
    "marked",
    "feed-read",
    "keeper-looks",
];

/// One place of one instance.
#[derive(Debug, Default)]
struct BackendGate {
    shut: bool,
    /// How many may pass though it is shut.
    passes: usize,
    waiting: usize,
    arrived: usize,
}

static GATES: LazyLock<Mutex<HashMap<(String, &'static str), BackendGate>>> =
    LazyLock::new(Mutex::default);
static OPENED: Condvar = Condvar::new();

fn arrive(place: &'static str) {
    let me = thread::current().name().unwrap_or_default().to_owned();
    let mut gates = GATES.lock();
    let key = (me, place);
    let Some(gate) = gates.get_mut(&key) else {
        return;
    };
    gate.arrived += 1;
    if !gate.shut {
        return;
    }
    gate.waiting += 1;
    drop(gates);
    // Else nobody would look at the runtime's sockets and timers.
    tokio::task::block_in_place(|| wait(&key));
}

fn wait(key: &(String, &'static str)) {
    let mut gates = GATES.lock();
    while let Some(gate) = gates.get_mut(key) {
        if !gate.shut || gate.passes > 0 {
            gate.passes = gate.passes.saturating_sub(1);
            gate.waiting -= 1;
            return;
        }
        OPENED.wait(&mut gates);
    }
}

/// The gates of one instance, all open at first and when this is dropped.
#[derive(Debug)]
pub struct Gates {
    /// Of the instance's threads.
    pub name: String,
}

impl Gates {
    pub fn new(name: String) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            for place in PLACES {
                fail::cfg_callback(place, move || arrive(place)).unwrap();
            }
        });
        let mut gates = GATES.lock();
        for place in PLACES {
            gates.insert((name.clone(), place), BackendGate::default());
        }
        Self { name }
    }

    fn with<R>(&self, place: &'static str, then: impl FnOnce(&mut BackendGate) -> R) -> R {
        then(GATES.lock().get_mut(&(self.name.clone(), place)).unwrap())
    }

    /// Whoever comes there stops.
    pub fn shut(&self, place: &'static str) {
        self.with(place, |gate| (gate.shut, gate.passes) = (true, 0));
    }

    /// All go on.
    pub fn open(&self, place: &'static str) {
        self.with(place, |gate| gate.shut = false);
        OPENED.notify_all();
    }

    /// Somebody has stopped there.
    pub async fn stopped(&self, place: &'static str) {
        eventually_async(SOON, place, async || {
            self.with(place, |gate| gate.waiting > 0).then_some(())
        })
        .await;
    }

    /// Who has stopped there goes on, and stops there the next time.
    pub async fn pass(&self, place: &'static str) {
        let before = self.with(place, |gate| {
            gate.passes = 1;
            gate.arrived
        });
        OPENED.notify_all();
        eventually_async(SOON, place, async || {
            self.with(place, |gate| gate.arrived > before && gate.passes == 0)
                .then_some(())
        })
        .await;
    }

    /// How many ever came there.
    pub fn arrived(&self, place: &'static str) -> usize {
        self.with(place, |gate| gate.arrived)
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        GATES.lock().retain(|(name, _), _| *name != self.name);
        OPENED.notify_all();
    }
}
