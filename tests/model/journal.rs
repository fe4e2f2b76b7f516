//! The journal of the CQL ledger writer as a model: one ordered log, appended by a condition on its tail, applied by whoever has to.
//!
//! Two instances, two accounts of one asset, transactions with one or two legs, requests that are sent twice, crashes between any
//! two statements, another instance that applies what was left. Each action of [`World`] is one statement of the code.
//!
//! Simplified, and why that hides nothing: an append whose answer is lost is a crash with the queue forgotten, for the instance
//! learns of its entry from the journal in both cases. A group is all that waits. Statements that the code sends together are
//! sent one after the other in a fixed order, and a crash may come between any two of them.
//!
//! **Limits.** Caller's own seqs, several rows of one account in an entry, and the announcement to Redis are not in it.

mod state;
mod steps;

use stateright::{Checker, HasDiscoveries, Model};

pub use state::{Rule, Scope};

/// The result of exploring a scope.
#[derive(Debug)]
pub struct Found {
    /// The property that is violated, and a shortest way there.
    pub violated: Option<(&'static str, Vec<String>)>,
    /// Different states that were seen.
    pub states: usize,
    /// A transaction stood, one was refused, and one was applied by another instance than its writer.
    pub lively: bool,
}

/// Looks at all of a scope, with one rule taken out or none.
#[must_use]
pub fn check(scope: &Scope, without: Option<Rule>) -> Found {
    let world = state::World {
        scope: scope.clone(),
        without,
    };
    let checker = world
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut found = Found {
        violated: None,
        states: checker.unique_state_count(),
        lively: true,
    };
    let discoveries = checker.discoveries();
    for name in state::REACHED {
        found.lively &= discoveries.contains_key(name);
    }
    for (name, path) in discoveries {
        if !state::REACHED.contains(&name) {
            let actions = path.into_actions();
            let way = actions.iter().map(|action| format!("{action:?}"));
            found.violated = Some((name, way.collect()));
        }
    }
    found
}
