//! What is remembered, for how long, and what may be shown by it.

use super::*;
use crate::domain::{Amount, UnixMillis};

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

#[tokio::test(start_paused = true)]
async fn what_was_notified_ends_though_the_user_is_read_all_the_time() {
    let marks = Marks::new(Duration::from_secs(10), 100);
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
    let marks = Marks::new(Duration::from_secs(10), 100);
    let shown = |rereads, of: &Snapshot| {
        let allowed = marks.allows(user(1), rereads, of);
        let newest = marks.take(user(1), rereads, of, Instant::now());
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
    assert!(marks.allows(user(1), 0, &held(8)));
    assert_eq!(marks.floors(user(1)).get(asset()), Some(seq(8)));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(shown(0, &held(7)), Some(held(7)), "a notified floor ends");
    assert_eq!(marks.floors(user(1)).get(asset()), Some(seq(7)));

    marks.reread(user(1), None);
    let rereads = marks.rereads(user(1));
    assert_ne!(rereads, 0);
    assert_eq!(shown(0, &held(9)), None, "begun before the notification");
    assert!(
        marks
            .take(user(1), rereads, &held(9), Instant::now())
            .is_none(),
        "the ledger was not read"
    );
    marks.read(user(1), rereads);
    assert_eq!(shown(rereads, &held(9)), Some(held(9)));
}

#[tokio::test(start_paused = true)]
async fn who_is_only_taken_is_remembered_too() {
    let marks = Marks::new(Duration::from_secs(10), 100);
    for _ in 0..5 {
        assert!(marks.take(user(1), 0, &held(5), Instant::now()).is_some());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(marks.floors(user(1)).get(asset()), Some(seq(5)));
    }
    tokio::time::advance(Duration::from_secs(21)).await;
    marks.shown(user(17), &held(5));
    assert_eq!(marks.of(user(1)), Mark::default(), "and then forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_mark_lives_for_a_ttl() {
    let marks = Marks::new(Duration::from_secs(10), 100);
    marks.changed(user(1), asset(), seq(5), None);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(marks.of(user(1)).floors.get(asset()), Some(seq(5)));
    marks.changed(user(17), asset(), seq(7), None);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert!(
        marks.of(user(17)).changed,
        "nine seconds old, whatever turned in between"
    );
    tokio::time::advance(Duration::from_secs(21)).await;
    assert_eq!(
        (marks.of(user(1)), marks.of(user(17))),
        (Mark::default(), Mark::default())
    );
}

#[tokio::test(start_paused = true)]
async fn giving_up_changes_makes_blind_and_giving_up_what_was_shown_does_not() {
    let marks = Marks::new(Duration::from_secs(10), SHARDS);
    let shown = Snapshot::default();
    marks.changed(user(16), asset(), seq(1), None);
    marks.shown(user(32), &shown);
    assert!(!marks.blind());
    marks.changed(user(48), asset(), seq(1), None);
    assert!(marks.blind());
    assert!(
        marks.of(user(16)).changed,
        "the last generation is still there"
    );
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(!marks.blind());
}

#[test]
fn every_notification_without_a_seq_is_another() {
    let marks = Marks::new(Duration::from_secs(10), 100);
    marks.reread(user(1), Some(asset()));
    let first = marks.of(user(1)).reread;
    marks.reread(user(1), None);
    assert!(marks.of(user(1)).reread > first);
    assert_eq!(marks.of(user(1)).reread_assets, [asset()]);
}
