//! Each rule alone: facts against which nothing speaks, then each fact turned.

use super::*;

/// Facts that allow, changed in one way.
macro_rules! but {
    ($good:expr, $($field:ident = $value:expr),+) => {{
        let mut facts = $good;
        $(facts.$field = $value;)+
        facts
    }};
}

const MEMORY: MemoryFacts = MemoryFacts {
    ledger_requested: false,
    current_generation: true,
    expired: false,
    freshness_proven: true,
    from_ledger_lately: false,
    invalidated: false,
    min_seq_met: true,
};

#[test]
fn memory_serves_what_is_current_proven_and_not_outdone() {
    use MemoryRefusal as No;
    let may = |facts: MemoryFacts| may_memory_serve(&facts);
    assert_eq!(may(MEMORY), Ok(()));
    let without_proof = but!(MEMORY, freshness_proven = false);
    assert_eq!(may(without_proof), Err(No::Unproven));
    assert_eq!(may(but!(without_proof, from_ledger_lately = true)), Ok(()));
    for (facts, reason) in [
        (but!(MEMORY, ledger_requested = true), No::LedgerRequested),
        (
            but!(MEMORY, current_generation = false),
            No::OtherGeneration,
        ),
        (but!(MEMORY, expired = true), No::Expired),
        (but!(MEMORY, invalidated = true), No::Invalidated),
        (but!(MEMORY, min_seq_met = false), No::BelowMinSeq),
    ] {
        assert_eq!(may(facts), Err(reason), "{facts:?}");
        let young = but!(facts, freshness_proven = false, from_ledger_lately = true);
        assert_eq!(may(young), Err(reason), "{young:?}");
    }
}

const VIEW: ViewFacts = ViewFacts {
    ledger_requested: false,
    proven_at_start: true,
    proven_now: true,
    redis_bypassed: false,
    changes_unknown: false,
    changed_lately: false,
    redis_wants_ledger: false,
};

#[test]
fn the_view_is_trusted_only_where_every_change_is_known_and_none_is_of_the_user() {
    use ViewRefusal as No;
    assert_eq!(may_view_be_trusted(&VIEW), Ok(()));
    for (facts, reason) in [
        (but!(VIEW, ledger_requested = true), No::LedgerRequested),
        (but!(VIEW, proven_at_start = false), No::UnprovenAtStart),
        (but!(VIEW, proven_now = false), No::UnprovenNow),
        (but!(VIEW, redis_bypassed = true), No::RedisBypassed),
        (but!(VIEW, changes_unknown = true), No::ChangesUnknown),
        (but!(VIEW, changed_lately = true), No::ChangedLately),
        (but!(VIEW, redis_wants_ledger = true), No::RedisWantsLedger),
    ] {
        assert_eq!(may_view_be_trusted(&facts), Err(reason), "{facts:?}");
    }
}

const JOIN: JoinFacts = JoinFacts {
    same_generation: true,
    same_reread: true,
    reader_proven: true,
    load_proven: true,
    load_young: false,
    batch_load_single_reader: false,
};

#[test]
fn a_load_is_joined_only_by_readers_whose_knowledge_it_covers() {
    use JoinRefusal as No;
    let may = |facts: JoinFacts| may_load_be_joined(&facts);
    assert_eq!(may(JOIN), Ok(()));
    assert_eq!(may(but!(JOIN, load_proven = false)), Ok(()));
    let unproven = but!(JOIN, reader_proven = false);
    let of_the_ledger = but!(unproven, load_proven = false);
    assert_eq!(may(but!(of_the_ledger, load_young = true)), Ok(()));
    for (facts, reason) in [
        (but!(JOIN, same_generation = false), No::OtherGeneration),
        (but!(JOIN, same_reread = false), No::BeforeReread),
        (but!(unproven, load_young = true), No::ReaderUnproven),
        (of_the_ledger, No::TooOld),
        (but!(JOIN, batch_load_single_reader = true), No::BatchQueue),
    ] {
        assert_eq!(may(facts), Err(reason), "{facts:?}");
    }
}

const KEEP: KeepFacts = KeepFacts {
    floors_met: true,
    from_ledger: false,
    redis_configured: true,
    lease_granted: true,
    fill_accepted: true,
};

#[test]
fn a_load_is_kept_with_the_word_of_redis_or_of_the_ledger_and_never_below_a_floor() {
    use KeepRefusal as No;
    let may = |facts: KeepFacts| may_load_be_kept(&facts);
    assert_eq!(may(KEEP), Ok(()));
    let alone = but!(KEEP, lease_granted = false, fill_accepted = false);
    assert_eq!(may(but!(alone, from_ledger = true)), Ok(()));
    assert_eq!(may(but!(alone, redis_configured = false)), Ok(()));
    for from_ledger in [false, true] {
        for (facts, reason) in [
            (but!(KEEP, floors_met = false), No::BelowFloor),
            (but!(KEEP, fill_accepted = false), No::RefusedByRedis),
        ] {
            let facts = but!(facts, from_ledger = from_ledger);
            assert_eq!(may(facts), Err(reason), "{facts:?}");
        }
    }
    assert_eq!(may(alone), Err(No::WithoutLease));
}

const STORE: StoreFacts = StoreFacts {
    same_generation: true,
    same_reread: true,
    floors_met: true,
};

#[test]
fn memory_stores_nothing_that_was_outdone_while_it_was_loaded() {
    use StoreRefusal as No;
    assert_eq!(may_memory_store(&STORE), Ok(()));
    for (facts, reason) in [
        (but!(STORE, same_generation = false), No::OtherGeneration),
        (but!(STORE, same_reread = false), No::BeforeReread),
        (but!(STORE, floors_met = false), No::BelowFloor),
    ] {
        assert_eq!(may_memory_store(&facts), Err(reason), "{facts:?}");
    }
}

const REDIS: RedisFacts = RedisFacts {
    proven_at_start: true,
    changes_missed: false,
    ledger_required: false,
    same_reread: true,
    floors_met: true,
};

#[test]
fn a_snapshot_of_redis_is_accepted_only_where_nothing_better_is_known() {
    use RedisRefusal as No;
    assert_eq!(may_redis_snapshot_be_accepted(&REDIS), Ok(()));
    for (facts, reason) in [
        (but!(REDIS, proven_at_start = false), No::Unproven),
        (but!(REDIS, changes_missed = true), No::ChangesMissed),
        (but!(REDIS, ledger_required = true), No::LedgerRequired),
        (but!(REDIS, same_reread = false), No::BeforeReread),
        (but!(REDIS, floors_met = false), No::BelowFloor),
    ] {
        assert_eq!(
            may_redis_snapshot_be_accepted(&facts),
            Err(reason),
            "{facts:?}"
        );
    }
}

const STALE: StaleFacts = StaleFacts {
    ledger_requested: false,
    too_old: false,
    current_generation: true,
    invalidated: false,
    ledger_required: false,
    changes_given_up: false,
    floors_met: true,
    min_seq_met: true,
};

#[test]
fn a_stale_answer_consults_all_that_is_known_of_the_user() {
    use StaleRefusal as No;
    assert_eq!(may_stale_answer_be_shown(&STALE), Ok(()));
    for (facts, reason) in [
        (but!(STALE, ledger_requested = true), No::LedgerRequested),
        (but!(STALE, too_old = true), No::TooOld),
        (but!(STALE, current_generation = false), No::OtherGeneration),
        (but!(STALE, invalidated = true), No::Invalidated),
        (but!(STALE, ledger_required = true), No::LedgerRequired),
        (but!(STALE, changes_given_up = true), No::ChangesGivenUp),
        (but!(STALE, floors_met = false), No::BelowFloor),
        (but!(STALE, min_seq_met = false), No::BelowMinSeq),
    ] {
        assert_eq!(may_stale_answer_be_shown(&facts), Err(reason), "{facts:?}");
    }
}
