//! Changes that are remembered, for how long, and what may be shown by them.

use proptest::{collection::vec, option, prelude::*};

use super::*;

const TTL: Duration = Duration::from_secs(10);
/// For everybody here.
const ROOM: u64 = 16 << 20;

fn test_user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn test_asset() -> AssetId {
    AssetId::new(1).unwrap()
}

fn test_seq(number: i64) -> Seq {
    Seq::new(number).unwrap()
}

fn test_balance(number: i64) -> Balance {
    Balance::sample_of(1, number, number)
}

fn held_snapshot(number: i64) -> Snapshot {
    Snapshot::new(vec![test_balance(number)])
}

/// The knowledge of a load that began after so many notifications without a seq.
fn began_after(reread: u64) -> Knowledge {
    Knowledge {
        generation: 1,
        reread,
        given_up: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_notified_ends_though_the_user_is_read_all_the_time() {
    let marks = ChangeLog::new(TTL, ROOM);
    marks.change_asset(test_user(1), test_asset(), test_seq(i64::MAX), None);
    for second in 0..12 {
        let mark = marks.changes_of(test_user(1));
        assert_eq!(mark.changed, second < 10, "{second}");
        let floor = if second < 10 {
            test_seq(i64::MAX)
        } else {
            test_seq(5)
        };
        if second > 0 {
            assert_eq!(mark.floors.floor_of(test_asset()), Some(floor), "{second}");
        }
        marks.note_shown(test_user(1), began_after(0), &held_snapshot(5));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_held_is_shown_only_as_far_as_is_known_here() {
    let marks = ChangeLog::new(TTL, ROOM);
    let (user, asset) = (test_user(1), test_asset());
    let shown = |reread, of: &Snapshot| {
        let began = began_after(reread);
        let allowed = marks.may_keep(user, began, of);
        let newest = marks.take_redis(user, (true, began), of, Instant::now());
        let is_whole = newest.as_deref() == Some(of);
        assert_eq!(allowed, is_whole, "exactly what memory may keep");
        if let Some(newest) = &newest {
            let shown = newest.get(asset).map(|balance| balance.seq);
            assert!(marks.floors_of(user).floor_of(asset) >= shown, "{newest:?}");
        }
        newest.map(Cow::into_owned)
    };
    assert_eq!(
        shown(1, &held_snapshot(5)),
        None,
        "what was known is forgotten"
    );
    assert_eq!(
        shown(0, &held_snapshot(5)),
        Some(held_snapshot(5)),
        "nothing is known"
    );
    assert_eq!(
        (shown(0, &held_snapshot(4)), shown(0, &held_snapshot(5))),
        (None, Some(held_snapshot(5)))
    );
    marks.change_asset(user, asset, test_seq(7), Some(test_balance(7)));
    assert_eq!(
        shown(0, &held_snapshot(5)),
        Some(held_snapshot(7)),
        "what was told is newer"
    );
    marks.change_asset(user, asset, test_seq(8), None);
    assert_eq!(shown(0, &held_snapshot(7)), None);
    assert!(marks.may_keep(user, began_after(0), &held_snapshot(8)));
    assert_eq!(marks.floors_of(user).floor_of(asset), Some(test_seq(8)));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(
        shown(0, &held_snapshot(7)),
        Some(held_snapshot(7)),
        "a notified floor ends"
    );
    assert_eq!(marks.floors_of(user).floor_of(asset), Some(test_seq(7)));

    marks.require_reread(user, None);
    let rereads = marks.reread_count(user);
    assert_ne!(rereads, 0);
    assert_eq!(
        shown(0, &held_snapshot(9)),
        None,
        "begun before the notification"
    );
    assert!(marks.changes_of(user).ledger_required);
    let take = |proven| {
        let (began, held) = ((proven, began_after(rereads)), held_snapshot(9));
        let newest = marks.take_redis(user, began, &held, Instant::now());
        newest.map(Cow::into_owned)
    };
    assert_eq!(take(true), None, "the ledger was not read");
    marks.note_read(user, rereads);
    assert!(!marks.changes_of(user).ledger_required);
    assert_eq!(take(true), Some(held_snapshot(9)));
    assert_eq!(take(false), None, "nothing is proven");
    marks.note_missed();
    assert_eq!(take(true), None, "changes were missed, maybe there too");
    tokio::time::advance(TTL).await;
    assert_eq!(take(true), Some(held_snapshot(9)));
}

#[tokio::test(start_paused = true)]
async fn who_is_only_taken_is_remembered_too() {
    let marks = ChangeLog::new(TTL, ROOM);
    for _ in 0..5 {
        let taken = held_snapshot(5);
        let newest = marks.take_redis(test_user(1), (true, began_after(0)), &taken, Instant::now());
        assert!(newest.is_some());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(
            marks.floors_of(test_user(1)).floor_of(test_asset()),
            Some(test_seq(5))
        );
    }
    tokio::time::advance(Duration::from_secs(21)).await;
    marks.note_shown(users_of_shard(2)[1], began_after(0), &held_snapshot(5));
    assert_eq!(
        marks.changes_of(test_user(1)),
        UserMark::default(),
        "and then forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn a_mark_lives_for_a_ttl() {
    let marks = ChangeLog::new(TTL, ROOM);
    let other = users_of_shard(2)[1];
    marks.change_asset(test_user(1), test_asset(), test_seq(5), None);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(
        marks.changes_of(test_user(1)).floors.floor_of(test_asset()),
        Some(test_seq(5))
    );
    marks.change_asset(other, test_asset(), test_seq(7), None);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert!(
        marks.changes_of(other).changed,
        "nine seconds old, whatever turned in between"
    );
    tokio::time::advance(Duration::from_secs(21)).await;
    assert_eq!(
        (marks.changes_of(test_user(1)), marks.changes_of(other)),
        (UserMark::default(), UserMark::default())
    );
}

/// Room for some hundred users in all.
const LITTLE: u64 = 128 << 10;

/// Users of one shard, as many as asked for.
fn users_of_shard(count: usize) -> Vec<UserId> {
    let first = test_user(1).part_of(SHARDS);
    let of_shard = (1..)
        .map(test_user)
        .filter(|user| user.part_of(SHARDS) == first);
    of_shard.take(count).collect()
}

#[tokio::test(start_paused = true)]
async fn readers_do_not_take_the_room_of_changes() {
    let marks = ChangeLog::new(TTL, LITTLE);
    marks.change_asset(test_user(1), test_asset(), test_seq(1), None);
    for id in 1..20_000 {
        marks.note_shown(test_user(id), began_after(0), &held_snapshot(5));
    }
    let uses = marks.use_of_memory();
    assert!(uses.shown.given_up > 10_000, "{uses:?}");
    assert!(uses.changes.bytes + uses.shown.bytes <= LITTLE, "{uses:?}");
    marks.change_asset(test_user(2), test_asset(), test_seq(1), None);
    assert!(
        marks.changes_of(test_user(1)).changed && !marks.distrusts_view() && !marks.has_forgotten()
    );
    let last = marks.floors_of(test_user(19_999)).floor_of(test_asset());
    assert_eq!(last, Some(test_seq(5)), "the oldest went first");
}

#[tokio::test(start_paused = true)]
async fn changes_that_are_given_up_make_blind_until_they_would_have_ended() {
    let marks = ChangeLog::new(TTL, LITTLE);
    let crowd = users_of_shard(50);
    let first = marks.knowledge_of(crowd[0]);
    let mut told = 0;
    for user in &crowd {
        if !marks.distrusts_view() {
            marks.change_asset(*user, test_asset(), test_seq(1), None);
            told += 1;
        }
        let uses = marks.use_of_memory();
        assert!(uses.changes.bytes <= LITTLE, "{uses:?}");
    }
    assert!((4..50).contains(&told), "{told}");
    let given_up = marks.use_of_memory().changes.given_up;
    assert!(given_up > 0 && marks.has_forgotten());
    assert!(!marks.changes_of(crowd[0]).changed, "the oldest went first");
    assert!(
        marks.changes_of(crowd[told - 1]).changed,
        "the last one stays"
    );
    let began = Knowledge {
        given_up: 0,
        ..first
    };
    assert!(
        !marks.may_keep(crowd[0], began, &held_snapshot(1)),
        "a load from before may be below what was given up"
    );
    let now = marks.knowledge_of(crowd[0]);
    assert!(marks.may_keep(crowd[0], now, &held_snapshot(1)));
    assert!(
        marks
            .take_redis(crowd[0], (true, began), &held_snapshot(1), Instant::now())
            .is_none()
    );
    tokio::time::advance(TTL).await;
    assert!(!marks.distrusts_view() && !marks.has_forgotten());
}

#[tokio::test(start_paused = true)]
async fn one_user_with_more_changes_than_there_is_room_for_is_given_up_too() {
    let marks = ChangeLog::new(TTL, LITTLE);
    for id in 1..2_000 {
        marks.change_asset(test_user(1), AssetId::new(id).unwrap(), test_seq(1), None);
        let uses = marks.use_of_memory();
        assert!(uses.changes.bytes <= LITTLE, "{id} {uses:?}");
    }
    assert!(marks.distrusts_view() && marks.has_forgotten());
}

#[tokio::test(start_paused = true)]
async fn what_is_old_anyway_is_dropped_without_a_word() {
    let marks = ChangeLog::new(TTL, LITTLE);
    for user in users_of_shard(40) {
        marks.change_asset(user, test_asset(), test_seq(1), None);
        tokio::time::advance(TTL).await;
    }
    assert!(!marks.distrusts_view());
    assert_eq!(marks.use_of_memory().changes.given_up, 0);
}

#[tokio::test(start_paused = true)]
async fn users_whose_ids_end_alike_have_their_part_of_the_room() {
    for step in [1, 16, 1 << 10, 1 << 20, 1 << 32] {
        let marks = ChangeLog::new(TTL, ROOM);
        for number in 1..=20_000 {
            marks.change_asset(
                test_user(number * step),
                test_asset(),
                test_seq(1),
                Some(test_balance(1)),
            );
        }
        let uses = marks.use_of_memory();
        assert_eq!(
            (uses.changes.users, marks.distrusts_view()),
            (20_000, false),
            "{step}"
        );
        assert!(uses.changes.bytes / 20_000 < 350, "{uses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_notification_without_a_seq_is_another() {
    let marks = ChangeLog::new(TTL, ROOM);
    marks.require_reread(test_user(1), Some(test_asset()));
    let first = marks.changes_of(test_user(1)).reread;
    marks.require_reread(test_user(1), None);
    assert!(marks.changes_of(test_user(1)).reread > first);
    assert_eq!(marks.changes_of(test_user(1)).reread_assets, [test_asset()]);
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_from_before_a_forgetting_is_no_floor_and_from_after_it_is() {
    let marks = ChangeLog::new(TTL, ROOM);
    let (user, other) = (test_user(1), test_user(2));
    let seen = |user| marks.floors_of(user).floor_of(test_asset());
    let before = marks.knowledge_of(user);
    marks.change_asset(user, test_asset(), test_seq(4), Some(test_balance(4)));
    marks.note_shown(user, before, &held_snapshot(5));
    marks.forget_user(user);
    assert!(!marks.may_raise(user, before));
    marks.note_shown(user, before, &held_snapshot(5));
    marks.note_shown(other, before, &held_snapshot(5));
    assert_eq!((seen(user), seen(other)), (None, Some(test_seq(5))));
    let mark = marks.changes_of(user);
    assert!(mark.changed && mark.ledger_required && mark.told.balances().is_empty());
    let after = marks.knowledge_of(user);
    marks.note_shown(user, after, &held_snapshot(3));
    assert_eq!(seen(user), Some(test_seq(3)));
    marks.require_reread(user, None);
    assert!(marks.may_raise(user, after), "only a forgetting counts");
    marks.note_shown(user, after, &held_snapshot(6));
    assert_eq!(seen(user), Some(test_seq(6)));
}

fn any_change() -> impl Strategy<Value = BalanceChange> {
    let moved = (1..5_i32, 1..5_i64, option::of(0..3_i64));
    let moved = moved.prop_map(|(asset, seq, avail)| BalanceChange::Moved {
        asset: AssetId::new(asset).unwrap(),
        seq: test_seq(seq),
        balance: avail.map(|avail| Balance::sample_of(asset, seq, avail)),
    });
    let unknown = option::of(1..5_i32).prop_map(|asset| BalanceChange::Unknown {
        asset: asset.map(|id| AssetId::new(id).unwrap()),
    });
    prop_oneof![4 => moved, 1 => unknown]
}

proptest! {
    #[test]
    fn the_changes_of_one_call_are_known_as_if_each_had_come_by_itself(
        calls in vec((0..8_u64, vec(any_change(), 0..9)), 1..6),
    ) {
        let mut together = AnnouncedChanges::default();
        let mut apart = AnnouncedChanges::default();
        let mut now = Instant::now();
        for (count, (seconds, changes)) in (1..).zip(calls) {
            now += Duration::from_secs(seconds);
            let at_once = together.take_changes(&changes, count, TTL, now);
            let one_by_one: Vec<bool> = changes
                .chunks(1)
                .flat_map(|one| apart.take_changes(one, count, TTL, now))
                .collect();
            prop_assert_eq!(at_once, one_by_one);
            let known = |change: &AnnouncedChanges| {
                let change = Some(change);
                KnownUser { shown: None, change }.valid_changes(TTL, now)
            };
            prop_assert_eq!(known(&together), known(&apart));
            for of_user in [&together, &apart] {
                prop_assert!(of_user.notified.is_sorted_by(|one, next| one.0 < next.0));
            }
        }
    }
}
