//! The protocol as a model that can be executed: exactly the scripts and rules of the code, at a small scale.
//!
//! Two instances, one user with two assets, a view that lags, evictions and deletions in each tier, duplicates, reordering,
//! notifications with values, with a seq and with an asset only, a trimmed and a lost feed, Redis flushed and restarted with
//! older data, floors that are forgotten, a master demoted, Redis' clock set forward, an instance cut off alone, an instance restarted, time. See `docs/MODEL.md` for what was found.
//!
//! Each module says which function of the code its parts stand for. Simplified, and why that hides nothing:
//! * a balance is its seq (one assigner: the amounts follow from it);
//! * both assets are in the catalogue; pages of the feed are never full;
//! * a reader that may not be shown what landed boards again: that is another read of the model;
//! * the answer of the source and the comparison with floors known by then are one step: a later comparison only knows more;
//! * where no reader is, the steps of an application are one.
//!
//! What each tier may answer and keep is decided by the rules of the code itself ([`protocol`], [`forgetting_rules`]): a weakened
//! variant lies about a fact.
//!
//! **Limits.** `min_seq`, `no-cache`, `invalidate` that keeps the floors, and clusters are not in it. A source that fails stays away, and a load that had
//! its first answer before ends as behind.

mod begin;
mod faults;
mod follower;
mod forgetting;
#[path = "../../src/protocol/forgetting.rs"]
pub mod forgetting_rules;
mod instance;
pub mod journal;
mod load;
#[path = "../../src/protocol/rules.rs"]
pub mod protocol;
mod redis;
pub mod rules;
pub mod scopes;
mod state;
mod world;

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

pub use crate::{
    rules::{Rule, Rules},
    state::Scope,
};

/// What looking at a scope brought.
#[derive(Debug)]
pub struct Outcome {
    /// The property that is violated, and a shortest way there.
    pub violated: Option<(&'static str, Vec<String>)>,
    /// Different states that were seen.
    pub states: usize,
    /// All that there are.
    pub exhausted: bool,
    /// A fresh value reached memory somewhere.
    pub fresh: bool,
    /// How long it took.
    pub took: Duration,
}

/// Looks at a scope under these rules, breadth first, up to about `transitions`.
#[must_use]
pub fn check(scope: &Scope, rules: Rules, transitions: usize) -> Outcome {
    let begun = Instant::now();
    let world = world::World {
        scope: scope.clone(),
        rules,
    };
    let checker = world
        .checker()
        .target_state_count(transitions)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut outcome = Outcome {
        violated: None,
        states: checker.unique_state_count(),
        exhausted: checker.state_count() < transitions,
        fresh: false,
        took: begun.elapsed(),
    };
    for (name, path) in checker.discoveries() {
        if name == world::FRESH {
            outcome.fresh = true;
        } else {
            let actions = path.into_actions();
            outcome.violated = Some((
                name,
                actions.iter().map(|action| format!("{action:?}")).collect(),
            ));
        }
    }
    outcome
}
