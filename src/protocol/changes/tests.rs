//! Changes that are remembered, for how long, and what may be shown by them.

use super::*;
use crate::domain::{Amount, UnixMillis};

const TTL: Duration = Duration::from_secs(10);
/// For everybody here.
const ROOM: u64 = 16 << 20;

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn asset() -> AssetId {
    AssetId::new(1).unwrap()
}

fn seq(number: i64) -> Seq {
    Seq::new(number).unwrap()
}

fn balance(number: i64) -> Balance {
    Balance {
        asset: asset(),
        seq: seq(number),
        avail: Amount::from_raw(number),
        frozen: Amount::from_raw(0),
        updated_at: None,
        said_at: UnixMillis(0),
    }
}

fn held(number: i64) -> Snapshot {
    Snapshot::new(vec![balance(number)])
}

/// The knowledge of a load that began after so many notifications without a seq.
fn began(reread: u64) -> Knowledge {
    Knowledge {
        generation: 1,
        reread,
        given_up: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_notified_ends_though_the_user_is_read_all_the_time() {
    let marks = Marks::new(TTL, ROOM);
    marks.changed(user(1), asset(), seq(i64::MAX), None);
    for second in 0..12 {
        let mark = marks.of(user(1));
        assert_eq!(mark.changed, second < 10, "{second}");
        let floor = if second < 10 { seq(i64::MAX) } else { seq(5) };
        if second > 0 {
            assert_eq!(mark.floors.get(asset()), Some(floor), "{second}");
        }
        marks.shown(user(1), &held(5));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_held_is_shown_only_as_far_as_is_known_here() {
    let marks = Marks::new(TTL, ROOM);
    let shown = |reread, of: &Snapshot| {
        let began = began(reread);
        let allowed = marks.allows(user(1), began, of);
        let newest = marks.take(user(1), (true, began), of, Instant::now());
        assert_eq!(
            allowed,
            newest.as_deref() == Some(of),
            "no more and no less than memory may keep"
        );
        if let Some(newest) = &newest {
            let shown = newest.get(asset()).map(|balance| balance.seq);
            assert!(marks.floors(user(1)).get(asset()) >= shown, "{newest:?}");
        }
        newest.map(Cow::into_owned)
    };
    assert_eq!(shown(1, &held(5)), None, "what was known is forgotten");
    assert_eq!(shown(0, &held(5)), Some(held(5)), "nothing is known");
    assert_eq!(
        (shown(0, &held(4)), shown(0, &held(5))),
        (None, Some(held(5)))
    );
    marks.changed(user(1), asset(), seq(7), Some(balance(7)));
    assert_eq!(shown(0, &held(5)), Some(held(7)), "what was told is newer");
    marks.changed(user(1), asset(), seq(8), None);
    assert_eq!(shown(0, &held(7)), None);
    assert!(marks.allows(user(1), began(0), &held(8)));
    assert_eq!(marks.floors(user(1)).get(asset()), Some(seq(8)));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(shown(0, &held(7)), Some(held(7)), "a notified floor ends");
    assert_eq!(marks.floors(user(1)).get(asset()), Some(seq(7)));

    marks.reread(user(1), None);
    let rereads = marks.rereads(user(1));
    assert_ne!(rereads, 0);
    assert_eq!(shown(0, &held(9)), None, "begun before the notification");
    assert!(marks.of(user(1)).ledger_required);
    let take = |proven| {
        let (began, held) = ((proven, began(rereads)), held(9));
        let newest = marks.take(user(1), began, &held, Instant::now());
        newest.map(Cow::into_owned)
    };
    assert_eq!(take(true), None, "the ledger was not read");
    marks.read(user(1), rereads);
    assert!(!marks.of(user(1)).ledger_required);
    assert_eq!(take(true), Some(held(9)));
    assert_eq!(take(false), None, "nothing is proven");
    marks.missed();
    assert_eq!(take(true), None, "changes were missed, maybe there too");
    tokio::time::advance(TTL).await;
    assert_eq!(take(true), Some(held(9)));
}

#[tokio::test(start_paused = true)]
async fn who_is_only_taken_is_remembered_too() {
    let marks = Marks::new(TTL, ROOM);
    for _ in 0..5 {
        let taken = held(5);
        let newest = marks.take(user(1), (true, began(0)), &taken, Instant::now());
        assert!(newest.is_some());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(marks.floors(user(1)).get(asset()), Some(seq(5)));
    }
    tokio::time::advance(Duration::from_secs(21)).await;
    marks.shown(neighbours(2)[1], &held(5));
    assert_eq!(marks.of(user(1)), Mark::default(), "and then forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_mark_lives_for_a_ttl() {
    let marks = Marks::new(TTL, ROOM);
    let other = neighbours(2)[1];
    marks.changed(user(1), asset(), seq(5), None);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(marks.of(user(1)).floors.get(asset()), Some(seq(5)));
    marks.changed(other, asset(), seq(7), None);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert!(
        marks.of(other).changed,
        "nine seconds old, whatever turned in between"
    );
    tokio::time::advance(Duration::from_secs(21)).await;
    assert_eq!(
        (marks.of(user(1)), marks.of(other)),
        (Mark::default(), Mark::default())
    );
}

/// Room for some hundred users in all.
const LITTLE: u64 = 128 << 10;

/// Users of one shard, as many as asked for.
fn neighbours(count: usize) -> Vec<UserId> {
    let first = user(1).part_of(SHARDS);
    let of_shard = (1..).map(user).filter(|user| user.part_of(SHARDS) == first);
    of_shard.take(count).collect()
}

#[tokio::test(start_paused = true)]
async fn readers_do_not_take_the_room_of_changes() {
    let marks = Marks::new(TTL, LITTLE);
    marks.changed(user(1), asset(), seq(1), None);
    for id in 1..20_000 {
        marks.shown(user(id), &held(5));
    }
    let uses = marks.use_of_memory();
    assert!(uses.shown.given_up > 10_000, "{uses:?}");
    assert!(uses.changes.bytes + uses.shown.bytes <= LITTLE, "{uses:?}");
    marks.changed(user(2), asset(), seq(1), None);
    assert!(marks.of(user(1)).changed && !marks.blind() && !marks.forgetful());
    let last = marks.floors(user(19_999)).get(asset());
    assert_eq!(last, Some(seq(5)), "the oldest went first");
}

#[tokio::test(start_paused = true)]
async fn changes_that_are_given_up_make_blind_until_they_would_have_ended() {
    let marks = Marks::new(TTL, LITTLE);
    let crowd = neighbours(50);
    let first = marks.knowledge(crowd[0]);
    let mut told = 0;
    for user in &crowd {
        if !marks.blind() {
            marks.changed(*user, asset(), seq(1), None);
            told += 1;
        }
        let uses = marks.use_of_memory();
        assert!(uses.changes.bytes <= LITTLE, "{uses:?}");
    }
    assert!((4..50).contains(&told), "{told}");
    let given_up = marks.use_of_memory().changes.given_up;
    assert!(given_up > 0 && marks.forgetful());
    assert!(!marks.of(crowd[0]).changed, "the oldest went first");
    assert!(marks.of(crowd[told - 1]).changed, "the last one stays");
    let began = Knowledge {
        given_up: 0,
        ..first
    };
    assert!(
        !marks.allows(crowd[0], began, &held(1)),
        "a load from before may be below what was given up"
    );
    let now = marks.knowledge(crowd[0]);
    assert!(marks.allows(crowd[0], now, &held(1)));
    assert!(
        marks
            .take(crowd[0], (true, began), &held(1), Instant::now())
            .is_none()
    );
    tokio::time::advance(TTL).await;
    assert!(!marks.blind() && !marks.forgetful());
}

#[tokio::test(start_paused = true)]
async fn one_user_with_more_changes_than_there_is_room_for_is_given_up_too() {
    let marks = Marks::new(TTL, LITTLE);
    for id in 1..2_000 {
        marks.changed(user(1), AssetId::new(id).unwrap(), seq(1), None);
        let uses = marks.use_of_memory();
        assert!(uses.changes.bytes <= LITTLE, "{id} {uses:?}");
    }
    assert!(marks.blind() && marks.forgetful());
}

#[tokio::test(start_paused = true)]
async fn what_is_old_anyway_is_dropped_without_a_word() {
    let marks = Marks::new(TTL, LITTLE);
    for user in neighbours(40) {
        marks.changed(user, asset(), seq(1), None);
        tokio::time::advance(TTL).await;
    }
    assert!(!marks.blind());
    assert_eq!(marks.use_of_memory().changes.given_up, 0);
}

#[test]
fn users_whose_ids_end_alike_have_their_part_of_the_room() {
    for step in [1, 16, 1 << 10, 1 << 20, 1 << 32] {
        let marks = Marks::new(TTL, ROOM);
        for number in 1..=20_000 {
            marks.changed(user(number * step), asset(), seq(1), Some(balance(1)));
        }
        let uses = marks.use_of_memory();
        assert_eq!(
            (uses.changes.users, marks.blind()),
            (20_000, false),
            "{step}"
        );
        assert!(uses.changes.bytes / 20_000 < 350, "{uses:?}");
    }
}

#[test]
fn every_notification_without_a_seq_is_another() {
    let marks = Marks::new(TTL, ROOM);
    marks.reread(user(1), Some(asset()));
    let first = marks.of(user(1)).reread;
    marks.reread(user(1), None);
    assert!(marks.of(user(1)).reread > first);
    assert_eq!(marks.of(user(1)).reread_assets, [asset()]);
}
