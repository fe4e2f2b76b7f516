//! The protocol holds in its model, and no longer does when a rule of it is taken out. What was found: `docs/MODEL.md`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "all of it is a test, and its lines are what it is for"
)]

use std::sync::atomic::{AtomicUsize, Ordering};

use balance_cache_model::{Outcome, Rule, Rules, Scope, check, journal, scopes::SCOPES};
use parking_lot::Mutex;

/// Transitions looked at in one scope, about. Most have fewer.
const TRANSITIONS: usize = 2_000_000;

/// A rule, and the scope in which it is missed.
const NEEDED: &[(Rule, &str)] = &[
    (Rule::RedisFloors, "notified before its row, feed trimmed"),
    (Rule::FloorsOutlive, "floors end"),
    (Rule::LocalMarks, "one instance, two readers"),
    (Rule::ShownRaises, "no notification, three readers"),
    (Rule::ShownMovesMemory, "no notification, three readers"),
    (Rule::FollowersCompare, "one instance, two readers"),
    (Rule::RereadCompared, "asset only"),
    (Rule::Generation, "feed trimmed"),
    (Rule::Chain, "cut off, feed trimmed"),
    (Rule::GapFirst, "cut off, feed trimmed"),
    (Rule::FeedGoneIsAGap, "Redis evicts entry and feed"),
    (Rule::ProofForMemory, "cut off, feed trimmed"),
    (Rule::ProofDatedWhenSent, "a tick between"),
    (Rule::ProofForView, "key deleted, cut off"),
    (Rule::ProofForRedis, "key deleted, cut off"),
    (Rule::NotBlind, "new instance, feed trimmed, key deleted"),
    (Rule::NotChangedLately, "asset only, key deleted"),
    (Rule::RereadForRedis, "asset only, key deleted"),
    (Rule::SightForRedis, "key deleted, feed trimmed"),
    (
        Rule::RereadForStale,
        "asset only, source down, stale answers",
    ),
    (
        Rule::ValuesAreNoSnapshot,
        "values, duplicate, memory evicts",
    ),
    (Rule::Whole, "values, duplicate, memory evicts"),
    (Rule::EpochCompared, "Redis back, older or empty"),
    (Rule::TapIsTheSessions, "Redis back, older or empty"),
    (Rule::MasterVouches, "master demoted"),
    (
        Rule::ClockStepEndsEpoch,
        "Redis' clock set forward, instance restarted",
    ),
    (Rule::YoungSession, "FLUSHALL"),
    (Rule::FirstSessionTurns, "new instance cut off, FLUSHALL"),
    (Rule::AnnouncedBySeq, "warm memory, memory evicts"),
    (Rule::MarkBeforeMemory, "one instance, two readers"),
    (Rule::GuardedKeep, "one instance, two readers"),
    (
        Rule::OneScript,
        "two assets in one request, two readers elsewhere",
    ),
    (Rule::OneStep, "two assets in one request, two readers here"),
    (
        Rule::ForgottenRaisesNothing,
        "row removed and forgotten, two readers here",
    ),
    (
        Rule::FillKnownElsewhere,
        "row removed and forgotten, two readers elsewhere",
    ),
];

/// Rules that [`Rule::RereadForRedis`] stands behind: what each lets through is seen without both.
const NEEDED_WITHOUT_REREAD: &[(Rule, &str)] = &[
    (Rule::Lease, "asset only twice, row between"),
    (Rule::AbsentIsUnknown, "Redis evicts, asset only"),
    (Rule::RedisFirst, "one instance, asset only, Redis warm"),
];

/// Rules that stand behind others: without one of them nothing is violated in any scope.
const SECOND_LOCKS: &[Rule] = &[Rule::RefusedIsNotKept, Rule::AcceptCompares];

struct Job {
    title: String,
    scope: &'static Scope,
    rules: Rules,
}

/// Runs all on two threads and prints a line for each, with the way to what is violated.
fn run(jobs: Vec<Job>) -> Vec<(Job, Outcome)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = check(job.scope, job.rules, TRANSITIONS);
                    print(job, &outcome);
                    done.lock().push((job.title.clone(), outcome));
                }
            });
        }
    });
    let mut done = done.into_inner();
    jobs.into_iter()
        .map(|job| {
            let at = done
                .iter()
                .position(|(title, _)| *title == job.title)
                .unwrap();
            (job, done.swap_remove(at).1)
        })
        .collect()
}

fn print(job: &Job, outcome: &Outcome) {
    let seconds = outcome.took.as_secs_f64();
    let (states, title) = (outcome.states, &job.title);
    match &outcome.violated {
        None => {
            let all = if outcome.exhausted {
                "exhausted"
            } else {
                "not exhausted"
            };
            println!("| {title} | holds, {all} | {states} | {seconds:.1} |");
        }
        Some((property, path)) => {
            let steps = path.len();
            println!(
                "| {title} | {property}: violated in {steps} | {states} | {seconds:.1} |\n    {}",
                path.join("\n    ")
            );
        }
    }
}

fn scope(name: &str) -> &'static Scope {
    SCOPES.iter().find(|scope| scope.name == name).expect(name)
}

#[test]
fn the_protocol_holds_in_every_scope() {
    let jobs = SCOPES.iter().map(|scope| Job {
        title: scope.name.to_owned(),
        scope,
        rules: Rules::CODE,
    });
    let done = run(jobs.collect());
    let failed: Vec<_> = done
        .iter()
        .filter(|(_, outcome)| outcome.violated.is_some())
        .map(|(job, _)| &job.title)
        .collect();
    assert!(failed.is_empty(), "violated: {failed:?}");
    assert!(
        done.iter().any(|(_, outcome)| outcome.fresh),
        "a fresh value reaches memory"
    );
}

#[test]
fn every_rule_is_needed() {
    let alone = NEEDED.iter().map(|(rule, name)| Job {
        title: format!("without {rule:?}: {name}"),
        scope: scope(name),
        rules: Rules::CODE.without(*rule),
    });
    let pairs = NEEDED_WITHOUT_REREAD.iter().map(|(rule, name)| Job {
        title: format!("without {rule:?} and RereadForRedis: {name}"),
        scope: scope(name),
        rules: Rules::CODE.without(*rule).without(Rule::RereadForRedis),
    });
    let done = run(alone.chain(pairs).collect());
    let survived: Vec<_> = done
        .iter()
        .filter(|(_, outcome)| outcome.violated.is_none())
        .map(|(job, _)| &job.title)
        .collect();
    assert!(survived.is_empty(), "not violated: {survived:?}");
}

#[test]
fn a_second_lock_is_one() {
    let names = [
        "key deleted, cut off",
        "one instance, two readers",
        "seq only",
    ];
    let pairs = SECOND_LOCKS
        .iter()
        .flat_map(|rule| names.iter().map(move |name| (*rule, *name)));
    let jobs = pairs.map(|(rule, name)| {
        let scope = scope(name);
        Job {
            title: format!("without {rule:?}: {name}"),
            scope,
            rules: Rules::CODE.without(rule),
        }
    });
    let done = run(jobs.collect());
    assert!(
        done.iter().all(|(_, outcome)| outcome.violated.is_none()),
        "not only a second lock"
    );
}

fn journal_scopes() -> [journal::Scope; 3] {
    [
        journal::Scope {
            name: "a transfer sent twice and a withdrawal, one unit for both, one crash",
            transactions: vec![vec![(0, -1), (1, 1)], vec![(0, -1)]],
            opening: [1, 0],
            sends: 2,
            crashes: 1,
        },
        journal::Scope {
            name: "a transfer there, one back, a withdrawal that needs it, two crashes",
            transactions: vec![vec![(0, -1), (1, 1)], vec![(0, 1), (1, -1)], vec![(1, -1)]],
            opening: [1, 0],
            sends: 1,
            crashes: 2,
        },
        journal::Scope {
            name: "a deposit sent twice, a withdrawal, two crashes",
            transactions: vec![vec![(0, 1)], vec![(0, -2)]],
            opening: [1, 0],
            sends: 2,
            crashes: 2,
        },
    ]
}

#[test]
fn the_journal_of_the_ledger_keeps_what_is_promised() {
    for scope in journal_scopes() {
        let found = journal::check(&scope, None);
        println!("| journal: {} | {} states |", scope.name, found.states);
        assert!(
            found.violated.is_none(),
            "{}: {:?}",
            scope.name,
            found.violated
        );
        assert!(found.lively, "{}: something never happens", scope.name);
    }
}

#[test]
fn every_rule_of_the_journal_is_needed() {
    let [one, _, repeated] = journal_scopes();
    for rule in [
        journal::Rule::Condition,
        journal::Rule::Help,
        journal::Rule::IdsAfterTail,
        journal::Rule::RemoveLast,
        journal::Rule::AnswerLast,
    ] {
        let scope = if rule == journal::Rule::IdsAfterTail {
            &repeated
        } else {
            &one
        };
        let found = journal::check(scope, Some(rule));
        println!("| journal without {rule:?} | {:?} |", found.violated);
        assert!(found.violated.is_some(), "not violated without {rule:?}");
    }
}
