//! `fill.lua` on a real Redis: what it takes, what it refuses, and how long it lasts.

use crate::support::{
    desk::{Desk, FOREIGN, KEY, MINUTE, seq},
    eventually::eventually,
    stage::SOON,
};

#[test]
fn seed_fault_18_a_fill_has_its_time_to_live() {
    let mut desk = Desk::new();
    desk.lease("t");
    assert_eq!(desk.fill_of("e1", "t", 30_000, "0", &[(1, 5, 50)]), "ok");
    assert!((1..=30_000).contains(&desk.ttl()), "{}", desk.ttl());
    assert!(!desk.has("lease"), "a lease is good for one fill");
    assert_eq!(desk.fill("t", &[(1, 5, 50)]), "lease");
    desk.lease_of("e1", "t", MINUTE, "1");
    assert_eq!(desk.fill_of("e1", "t", 20, "0", &[(1, 5, 50)]), "ok");
    eventually(SOON, "it ends", || desk.fields().is_empty().then_some(()));
}

#[test]
fn floors_outlive_the_snapshot() {
    let mut desk = Desk::new();
    desk.apply("1", 5, Some(50));
    desk.lease("t");
    assert_eq!(desk.fill_of("e1", "t", 1, "0", &[(1, 5, 50)]), "ok");
    assert!(desk.ttl() > 2 * MINUTE, "{}", desk.ttl());
    eventually(SOON, "the snapshot ends alone", || {
        (desk.lease("t2") == "lease").then_some(())
    });
    assert!(desk.has("f:1"));
    assert_eq!(
        desk.fill("t2", &[(1, 4, 40)]),
        "ok",
        "the balance that raised the floor is still there"
    );
    assert!(
        desk.fields()["b:1"].starts_with(&seq(5)),
        "and is not taken back"
    );
}

#[test]
fn a_fill_needs_the_lease_that_its_miss_was_given() {
    let mut desk = Desk::new();
    assert_eq!(desk.fill("t", &[(1, 5, 50)]), "lease", "there is nothing");
    assert!(!desk.redis.ask::<bool>(&["EXISTS", KEY]));
    desk.lease("t1");
    assert_eq!(desk.fill("t2", &[(1, 5, 50)]), "lease", "another's");
    desk.apply("1", 6, None);
    assert_eq!(
        desk.fill("t1", &[(1, 6, 60)]),
        "lease",
        "revoked by a notification"
    );
    desk.lease("t3");
    let () = desk.redis.ask(&["DEL", KEY]);
    assert_eq!(desk.fill("t3", &[(1, 6, 60)]), "lease", "gone with its key");
    for kind in 0..FOREIGN {
        desk.foreign(kind);
        assert_eq!(desk.fill("t", &[(1, 5, 50)]), "lease", "{kind}");
    }
}

#[test]
fn a_fill_from_another_epoch_is_refused() {
    let mut desk = Desk::new();
    desk.lease("t");
    assert_eq!(desk.fill_of("e2", "t", MINUTE, "0", &[(1, 5, 50)]), "epoch");
    assert!(!desk.whole());
}

#[test]
fn a_fill_below_a_floor_or_without_its_asset_is_refused() {
    let mut desk = Desk::new();
    desk.apply("1", 6, None);
    desk.lease("t");
    assert_eq!(desk.fill("t", &[(2, 9, 90)]), "incomplete");
    assert_eq!(desk.fill("t", &[(1, 5, 50), (2, 9, 90)]), "floor");
    assert_eq!(
        desk.fill("t", &[]),
        "incomplete",
        "nor is an absent user one"
    );
    assert!(!desk.whole() && !desk.has("b:2"), "nothing of it stays");
    assert_eq!(desk.fill("t", &[(1, 6, 60)]), "ok");
    assert!(desk.whole());
}

#[test]
fn what_was_to_be_read_from_the_ledger_is_not_taken_from_the_view() {
    for asset in ["1", "*"] {
        let mut desk = Desk::new();
        desk.apply(asset, 0, None);
        desk.lease("t");
        assert_eq!(desk.fill("t", &[(1, 5, 50)]), "floor");
        assert_eq!(desk.fill_of("e1", "t", MINUTE, "1", &[(1, 5, 50)]), "ok");
        assert_eq!(desk.lease("t2"), "hit");
        assert!(
            desk.has(&format!("d:{asset}")),
            "the view may still lag for the next one"
        );
    }
}

#[test]
fn a_fill_merges_by_seq_and_an_unknown_user_is_a_snapshot_too() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50), (2, 9, 90)]);
    desk.lease_of("e1", "t", MINUTE, "1");
    assert_eq!(
        desk.fill("t", &[(1, 4, 40), (2, 10, 100), (3, 1, 10)]),
        "ok"
    );
    let fields = desk.fields();
    let of = |name: &str| fields[name].as_str();
    assert_eq!(of("b:1"), "5 50 0 - 5");
    assert_eq!(of("b:2"), "10 100 0 - 5");
    assert_eq!(of("b:3"), "1 10 0 - 5");
    let () = desk.redis.ask(&["DEL", KEY]);
    desk.lease("t");
    assert_eq!(desk.fill("t", &[]), "ok");
    assert_eq!(desk.lease("t2"), "hit");
}

#[test]
fn a_floor_that_ended_is_forgotten_by_the_next_fill() {
    let mut desk = Desk::new();
    desk.lease("t");
    let () = desk.redis.ask(&[
        "HSET",
        KEY,
        "f:1",
        &format!("{} 0 1000", seq(9)),
        "d:*",
        "1000",
        "f:2",
        "garbage",
    ]);
    assert_eq!(desk.fill("t", &[(1, 5, 50)]), "ok");
    assert!(!desk.has("f:1") && !desk.has("d:*") && !desk.has("f:2"));
}

#[test]
fn a_user_with_ten_thousand_assets_is_filled_in_one_go() {
    let mut desk = Desk::new();
    let balances: Vec<_> = (1..=10_000)
        .map(|asset| (asset, 1, i64::from(asset)))
        .collect();
    desk.filled(&balances);
    assert_eq!(desk.redis.ask::<usize>(&["HLEN", KEY]), balances.len() + 1);
}
