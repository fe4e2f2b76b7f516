//! Reads over real tiers and a source that lags, fails and waits as it is told. No Redis: what needs one is in `tests/it`.

mod batch;
mod house;

use std::{sync::atomic::Ordering, time::Duration};

use tokio::sync::Semaphore;

use self::house::{HOUR, shown_seqs, test_asset, test_balances, test_seq};
pub(super) use self::house::{House, test_house, test_user};
use super::*;
use crate::{
    cache_status::Detail,
    domain::{BalanceChange, Floors, Snapshot},
};

fn no_cache() -> ReadOptions {
    ReadOptions {
        no_cache: true,
        ..ReadOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_source_fails_a_stale_answer_consults_all_that_is_known_of_the_user() {
    type Teller = fn(&House);
    let known: [(&str, Teller); 7] = [
        ("a floor", |house| {
            house
                .change_log
                .change_asset(test_user(1), test_asset(1), test_seq(2), None);
        }),
        ("a floor of an asset that it lacks", |house| {
            house
                .change_log
                .change_asset(test_user(1), test_asset(3), test_seq(1), None);
        }),
        ("what was shown", |house| {
            let (user, shown) = (test_user(1), test_balances(&[(1, 2)]));
            let now = house.change_log.knowledge_of(user);
            house.change_log.note_shown(user, now, &shown);
        }),
        ("an asset to be read again", |house| {
            house
                .change_log
                .require_reread(test_user(1), Some(test_asset(1)));
        }),
        ("a user to be read again", |house| {
            house.change_log.require_reread(test_user(1), None);
        }),
        ("memory was told", |house| {
            let unknown = BalanceChange::Unknown { asset: None };
            house.memory.advance_user(test_user(1), &[unknown]);
        }),
        ("another generation", |house| house.change_log.start_over()),
    ];
    for (what, change) in known {
        let house = test_house(&[]);
        assert_eq!(shown_seqs(house.read_user().await), [(1, 1), (2, 1)]);
        house.source.fails.store(true, Ordering::SeqCst);
        house.freshness.revoke_proof();
        let stale = house.read_user().await.unwrap();
        assert_eq!(stale.cache_status.detail, Some(Detail::Stale), "{what}");
        change(&house);
        let refused = house.read_user().await;
        assert!(matches!(refused, Err(ReadError::Source(_))), "{what}");
        let deadline = Instant::now() + Duration::from_secs(10);
        let batch = house.reader.read_users(&[test_user(1)], deadline).await;
        assert!(
            matches!(batch, Err(ReadError::Source(_))),
            "{what}, in a batch"
        );
        // The ledger is read again, and shown as stale the next time.
        house.source.fails.store(false, Ordering::SeqCst);
        let rows = test_balances(&[(1, 2), (2, 1), (3, 1)]);
        *house.source.ledger.lock() = rows.clone();
        *house.source.view.lock() = rows;
        assert_eq!(shown_seqs(house.read_user().await)[0], (1, 2), "{what}");
        house.source.fails.store(true, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(1)).await;
        let again = house.read_user().await.unwrap();
        assert_eq!(again.cache_status.detail, Some(Detail::Stale), "{what}");
        assert_eq!(shown_seqs(Ok(again))[0], (1, 2), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_not_older_than_changes_are_remembered() {
    let house = test_house(&[
        ("BALANCE_CACHE__STALE__MAX_AGE_MS", "80000000"),
        ("BALANCE_CACHE__SETTLEMENT__FLOOR_TTL_MS", "100000"),
    ]);
    assert_eq!(shown_seqs(house.read_user().await), [(1, 1), (2, 1)]);
    house.source.fails.store(true, Ordering::SeqCst);
    for seconds in [99, 2] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(house.read_user().await.is_ok(), seconds == 99);
    }
}

#[tokio::test(start_paused = true)]
async fn with_no_cache_the_view_says_which_assets_there_are_and_the_ledger_what_they_are_worth() {
    let house = test_house(&[]);
    *house.source.view.lock() = test_balances(&[(1, 9), (2, 1), (3, 9), (4, 4)]);
    *house.source.ledger.lock() = test_balances(&[(1, 2), (2, 2), (3, 3)]);
    let expected = [(1, 2), (2, 2), (3, 3), (4, 4)];
    assert_eq!(shown_seqs(house.ask_reader(no_cache()).await), expected);
    // Nor where the view is asked beside the ledger for another reason.
    let blind = self::test_house(&[]);
    *blind.source.view.lock() = test_balances(&[(1, 9), (2, 1)]);
    blind.change_log.blind_for(HOUR);
    assert_eq!(shown_seqs(blind.read_user().await), [(1, 1), (2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_view_is_asked_alone_only_by_readers_who_know_every_change() {
    type Cause = fn(&House);
    let reasons: [(&str, bool, Cause); 5] = [
        ("nothing", true, |_| {}),
        ("unproven", false, |house| house.freshness.revoke_proof()),
        ("blind", false, |house| house.change_log.blind_for(HOUR)),
        ("changed", false, |house| {
            house
                .change_log
                .change_asset(test_user(1), test_asset(2), test_seq(1), None);
        }),
        ("to be read again", false, |house| {
            house.change_log.require_reread(test_user(1), None);
        }),
    ];
    for (what, alone, change) in reasons {
        let house = test_house(&[]);
        *house.source.ledger.lock() = test_balances(&[(1, 2), (2, 1)]);
        change(&house);
        let expected = if alone { 1 } else { 2 };
        assert_eq!(
            shown_seqs(house.read_user().await)[0],
            (1, expected),
            "{what}"
        );
        let ledgers = house.source.ledgers.load(Ordering::SeqCst);
        assert_eq!(ledgers == 0, alone, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_reach_a_floor_is_answered_as_behind_and_not_kept() {
    let house = test_house(&[]);
    house
        .change_log
        .change_asset(test_user(1), test_asset(1), test_seq(7), None);
    let answer = house.read_user().await.unwrap();
    assert_eq!(answer.cache_status.detail, Some(Detail::Behind));
    assert_eq!(house.in_memory(), None);
    *house.source.ledger.lock() = test_balances(&[(1, 7), (2, 1)]);
    assert_eq!(shown_seqs(house.read_user().await), [(1, 7), (2, 1)]);
    assert_eq!(
        house.in_memory(),
        Some(balances_of(&house, &[(1, 7), (2, 1)]))
    );
}

/// As memory holds them: with the moment at which they were loaded.
fn balances_of(house: &House, of: &[(i32, i64)]) -> Snapshot {
    let held = house.in_memory().unwrap();
    assert!(
        test_balances(of)
            .balances()
            .iter()
            .zip(held.balances())
            .all(|(one, other)| (one.asset, one.seq, one.avail)
                == (other.asset, other.seq, other.avail))
    );
    held
}

#[tokio::test(start_paused = true)]
async fn a_balance_that_memory_holds_reaches_a_floor_that_the_ledger_does_not() {
    let house = test_house(&[]);
    assert_eq!(shown_seqs(house.read_user().await), [(1, 1), (2, 1)]);
    house
        .memory
        .raise_shown(test_user(1), &test_balances(&[(1, 5)]), || true);
    house
        .change_log
        .change_asset(test_user(1), test_asset(1), test_seq(5), None);
    let answer = house.ask_reader(no_cache()).await.unwrap();
    assert_eq!(answer.cache_status.detail, None);
    assert_eq!(shown_seqs(Ok(answer)), [(1, 5), (2, 1)]);
}

/// A load that has asked the source, and what happens before its answer.
async fn overtaken_by(change: impl FnOnce(&House)) -> (House, Result<ReadAnswer, ReadError>) {
    let house = test_house(&[]);
    let gate = Arc::new(Semaphore::new(0));
    let waits = house
        .source
        .may_go_on
        .lock()
        .insert(test_user(1), Arc::clone(&gate));
    assert!(waits.is_none());
    let mut first = Box::pin(house.read_user());
    for _ in 0..100 {
        assert!(futures::poll!(&mut first).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(house.source.views.load(Ordering::SeqCst), 1);
    change(&house);
    gate.add_permits(9);
    let answer = first.as_mut().await;
    drop(first);
    (house, answer)
}

#[tokio::test(start_paused = true)]
async fn a_load_that_a_change_overtook_is_not_kept() {
    let (kept, answer) = overtaken_by(|_| {}).await;
    assert_eq!(shown_seqs(answer), [(1, 1), (2, 1)]);
    assert!(kept.in_memory().is_some(), "nothing came between");
    let (house, answer) =
        overtaken_by(|house| house.change_log.require_reread(test_user(1), None)).await;
    assert_eq!(shown_seqs(answer), [(1, 1), (2, 1)], "it began before");
    assert_eq!(house.in_memory(), None);
    let (house, _) = overtaken_by(|house| house.change_log.start_over()).await;
    assert_eq!(house.in_memory(), None);
    let (house, answer) = overtaken_by(|house| {
        house
            .change_log
            .change_asset(test_user(1), test_asset(1), test_seq(4), None);
        *house.source.ledger.lock() = test_balances(&[(1, 4)]);
    })
    .await;
    assert_eq!(shown_seqs(answer)[0], (1, 4), "it is read again");
    assert!(house.in_memory().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_load_from_before_a_forgetting_leaves_nothing_behind() {
    let user = test_user(1);
    let (house, answer) = overtaken_by(|house| {
        house.change_log.forget_user(user);
        house.memory.forget_user(user);
    })
    .await;
    assert_eq!(shown_seqs(answer), [(1, 1), (2, 1)], "it began before");
    assert!(house.change_log.floors_of(user).is_empty());
    assert_eq!(house.in_memory(), None);
    // A load that began after it kept what is left; one from before shows what it had.
    let left = test_balances(&[(2, 1)]);
    let before = house.change_log.knowledge_of(user);
    house.change_log.forget_user(user);
    *house.source.view.lock() = left.clone();
    *house.source.ledger.lock() = left;
    assert_eq!(shown_seqs(house.read_user().await), [(2, 1)]);
    let gone = test_balances(&[(1, 1), (2, 1)]);
    house.reader.memory.raise_held(user, before, &gone);
    house.change_log.note_shown(user, before, &gone);
    let answer = house.read_user().await.unwrap();
    assert_eq!(answer.cache_status.detail, None);
    assert_eq!(shown_seqs(Ok(answer)), [(2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_single_reader_of_a_user_whom_a_batch_waits_for_has_a_place_of_its_own() {
    let house = test_house(&[("BALANCE_CACHE__LIMITS__SOURCE_LOADS", "8")]);
    let users: Vec<_> = (2..=40).map(test_user).chain([test_user(1)]).collect();
    house
        .source
        .stuck
        .lock()
        .extend(users.iter().filter(|of| **of != test_user(1)));
    let deadline = Instant::now() + Duration::from_secs(10);
    let batch = house.reader.read_users(&users, deadline);
    let mut batch = std::pin::pin!(batch);
    for _ in 0..100 {
        assert!(futures::poll!(&mut batch).is_pending());
        tokio::task::yield_now().await;
    }
    let stuck = house.source.views.load(Ordering::SeqCst);
    assert!((1..40).contains(&stuck), "{stuck}: the rest waits");
    let begun = Instant::now();
    assert_eq!(shown_seqs(house.read_user().await), [(1, 1), (2, 1)]);
    assert!(begun.elapsed() < Duration::from_millis(100));
}

fn at_least(asset: i32, seq: i64) -> Floors {
    let mut floors = Floors::NONE;
    floors.raise_floor(test_asset(asset), test_seq(seq));
    floors
}

#[tokio::test(start_paused = true)]
async fn min_seq_holds_with_no_cache_too() {
    let house = test_house(&[]);
    let ask = |seq| ReadOptions {
        min_seq: at_least(1, seq),
        ..no_cache()
    };
    assert_eq!(shown_seqs(house.ask_reader(ask(1)).await)[0], (1, 1));
    let ahead = house.ask_reader(ask(2)).await;
    assert!(matches!(ahead, Err(ReadError::NotReached)), "{ahead:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_min_seq_brought_up_to_the_floor_is_not_behind() {
    let house = test_house(&[]);
    house
        .change_log
        .change_asset(test_user(1), test_asset(1), test_seq(2), None);
    let ask = ReadOptions {
        min_seq: at_least(1, 2),
        ..ReadOptions::default()
    };
    let lag_budget = house.reader.source.lag_budget;
    let late = async {
        // The load has given the floor up by then, and the reader has not.
        let pause = tokio::time::timeout(lag_budget * 3 / 2, std::future::pending::<()>());
        assert!(pause.await.is_err());
        *house.source.ledger.lock() = test_balances(&[(1, 2), (2, 1)]);
    };
    let (answer, ()) = tokio::join!(house.ask_reader(ask), late);
    let answer = answer.unwrap();
    assert_eq!(answer.cache_status.detail, None);
    assert_eq!(shown_seqs(Ok(answer))[0], (1, 2));
}
