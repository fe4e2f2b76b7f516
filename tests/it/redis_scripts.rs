//! The Lua scripts one by one, on a real Redis: lease, apply, drop, release, epoch and the announcements.
//! What a fill takes and refuses is in `redis_scripts_fill`.

use balance_cache::cache::redis::entry::VERSION;

use crate::support::{
    desk::{Desk, FEED, FOREIGN, Fields, KEY, MINUTE, header, is_refused_right, script, seq},
    eventually::eventually,
    stage::SOON,
};

#[test]
fn a_lease_is_given_once_until_it_ends_or_is_taken() {
    let mut desk = Desk::new();
    let (what, known) = desk.lease_of("e1", "t1", MINUTE, "0");
    assert_eq!((what.as_str(), known.len()), ("absent", 0));
    assert_eq!(desk.header(), Some(("e1".to_owned(), 0, false)));
    assert!(
        (1..=MINUTE).contains(&desk.ttl()),
        "a lease alone goes with its time"
    );
    let (what, fields) = desk.lease_of("e1", "t2", MINUTE, "0");
    assert_eq!((what.as_str(), fields.len()), ("busy", 0));
    assert_eq!(desk.lease_of("e1", "t3", 1, "1").0, "lease", "by force");
    eventually(SOON, "a lease of 1 ms ends", || {
        (desk.lease("t4") != "busy").then_some(())
    });
    assert_eq!(desk.fill("t3", &[]), "lease", "whose lease was taken");
    assert_eq!(desk.fill("t4", &[(1, 5, 50)]), "ok");
    let (what, fields) = desk.lease_of("e1", "t5", MINUTE, "0");
    assert_eq!(
        (what.as_str(), fields["b:1"].as_str()),
        ("hit", "5 50 0 - 5")
    );
    assert_eq!(
        desk.lease_of("e1", "t6", MINUTE, "1").0,
        "lease",
        "by force, whatever is held"
    );
    assert!(desk.whole(), "and others go on being served meanwhile");
}

#[test]
fn a_lease_in_another_epoch_serves_nothing_of_the_old_one_and_keeps_its_floors() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50)]);
    desk.apply("1", 6, Some(60));
    let (what, fields) = desk.lease_of("e2", "t2", MINUTE, "0");
    let of_the_new = Some(("e2".to_owned(), 0, false));
    assert_eq!((what.as_str(), header(&fields)), ("lease", of_the_new));
    assert!(fields["f:1"].starts_with(&seq(6)));
}

#[test]
fn a_lease_replaces_what_is_not_ours() {
    for kind in 0..FOREIGN {
        let mut desk = Desk::new();
        desk.foreign(kind);
        let (what, known) = desk.lease_of("e1", "t1", MINUTE, "0");
        assert_eq!((what.as_str(), known.len()), ("foreign", 0), "{kind}");
        let fields = desk.fields();
        let mut names: Vec<_> = fields.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["lease", "v"], "{kind}");
        assert_eq!(desk.header(), Some(("e1".to_owned(), 0, false)), "{kind}");
        assert!(desk.ttl() > 0);
    }
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50)]);
    let (what, known) = desk.lease_of("e1", "t1", MINUTE, "2");
    assert_eq!(
        (what.as_str(), known.len(), desk.has("b:1")),
        ("foreign", 0, false),
        "or what could not be read"
    );
}

#[test]
fn a_notification_with_values_moves_what_is_held_and_is_told_once() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50), (2, 9, 90)]);
    assert_eq!(desk.apply("1", 6, Some(60)), (0, 0));
    assert_eq!(desk.fields()["b:1"], "6 60 0 - 5");
    assert!(desk.whole(), "no miss");
    assert!(
        desk.ttl() > 2 * MINUTE,
        "the floor has its time: {}",
        desk.ttl()
    );
    assert_eq!(desk.apply("1", 6, Some(60)), (1, 0), "a duplicate");
    assert_eq!(desk.apply("1", 4, Some(40)), (1, 0), "an older one");
    assert_eq!(desk.news(), 1);
    assert_eq!(desk.fields()["b:1"], "6 60 0 - 5");
    assert!(desk.fields()["f:1"].starts_with(&seq(6)));
    // A first deposit is a value over a known zero.
    assert_eq!(desk.apply("3", 1, Some(7)), (0, 0));
    assert!(desk.whole());
    assert_eq!(desk.lease("t"), "hit");
    let news: Vec<(String, Fields)> = desk.redis.ask(&["XRANGE", FEED, "-", "+"]);
    assert_eq!((news.len(), news[0].1["p"].as_str()), (2, "0-0"));
    assert_eq!(news[1].1["p"], news[0].0, "each names the one before");
    assert_eq!(news[1].1["c"], "7 3 1 7 0 - 5");
}

#[test]
fn a_notification_without_values_makes_what_is_held_unservable() {
    for (asset, number) in [("1", 6), ("1", 0), ("*", 0), ("2", 1)] {
        let mut desk = Desk::new();
        desk.filled(&[(1, 5, 50)]);
        assert_eq!(desk.apply(asset, number, None), (0, 0));
        assert!(!desk.whole() && !desk.has("lease"), "{asset} {number}");
        let field = if number == 0 { "d:" } else { "f:" };
        assert!(desk.has(&format!("{field}{asset}")));
        assert_eq!((desk.lease("t").as_str(), desk.news()), ("lease", 1));
    }
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50)]);
    assert_eq!(desk.apply("1", 5, None), (1, 0), "held already");
    assert_eq!(desk.lease("t"), "hit");
}

#[test]
fn a_late_duplicate_after_a_deletion_is_no_snapshot() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50), (2, 9, 90)]);
    desk.apply("1", 6, Some(60));
    let () = desk.redis.ask(&["DEL", KEY]);
    desk.apply("1", 5, Some(50));
    assert!(!desk.whole());
    assert_eq!(desk.lease("t"), "lease");
    assert!(desk.ttl() > 2 * MINUTE, "the floor's time, not the lease's");
}

#[test]
fn seqs_above_two_to_the_53_are_compared_exactly() {
    let big = 1 << 53;
    let mut desk = Desk::new();
    desk.filled(&[(1, big, 1)]);
    assert_eq!(
        desk.apply("1", big + 1, Some(2)),
        (0, 0),
        "a double would say that they are equal"
    );
    assert_eq!(desk.apply("1", big, Some(1)), (1, 0));
    assert!(desk.fields()["b:1"].starts_with(&seq(big + 1)));
    desk.lease_of("e1", "t", MINUTE, "1");
    let () = desk.redis.ask(&["HDEL", KEY, "b:1"]);
    assert_eq!(desk.fill("t", &[(1, big, 1)]), "floor");
    assert_eq!(desk.fill("t", &[(1, i64::MAX, 1)]), "ok");
}

#[test]
fn what_could_not_be_told_is_told_by_the_repeated_notification() {
    let mut desk = Desk::new();
    let apply =
        |desk: &mut Desk| desk.apply_all(&[(1, 6, Some(60)), (1, 7, Some(70)), (1, 6, Some(60))]);
    let () = desk.redis.ask(&["ACL", "SETUSER", "default", "-xadd"]);
    let refused = apply(&mut desk).unwrap_err();
    assert!(is_refused_right(&refused.to_string()), "{refused}");
    assert!(desk.fields().is_empty(), "nothing has happened");
    assert_eq!(desk.news(), 0);
    let () = desk.redis.ask(&["ACL", "SETUSER", "default", "+xadd"]);
    assert_eq!(apply(&mut desk).unwrap(), [0, 0, 1]);
    assert_eq!(desk.news(), 1, "in one entry");
    assert!(desk.fields()["f:1"].starts_with("7 7 "));
    assert_eq!(apply(&mut desk).unwrap(), [1, 1, 1]);
    assert_eq!(desk.news(), 1);
}

#[test]
fn seqs_are_compared_as_numbers_whatever_their_length() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 9, 90)]);
    assert_eq!(desk.apply("1", 10, Some(100)), (0, 0), "10 is above 9");
    assert_eq!(desk.apply("1", 9, Some(90)), (1, 0));
    assert_eq!(desk.fields()["b:1"], "10 100 0 - 5");
    assert_eq!(desk.apply("1", 100, None), (0, 0));
    desk.lease("t");
    assert_eq!(desk.fill("t", &[(1, 99, 1)]), "floor");
    assert_eq!(desk.fill("t", &[(1, 100, 1)]), "ok");
}

#[test]
fn a_notification_replaces_what_is_not_ours_and_serves_nothing_of_another_epoch() {
    for kind in 0..FOREIGN {
        let mut desk = Desk::new();
        desk.foreign(kind);
        assert_eq!(desk.apply("1", 6, Some(60)), (0, 0), "{kind}");
        assert!(desk.has("f:1") && !desk.whole() && !desk.has("BTC"));
    }
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50)]);
    desk.apply_in(&[FEED, KEY], "e2", "1", &seq(6), "60 0 - 5", "0");
    assert_eq!(desk.header(), Some(("e2".to_owned(), 0, false)));
}

#[test]
fn what_a_reader_saw_moves_a_whole_entry_and_nothing_else() {
    let mut desk = Desk::new();
    let seen =
        |desk: &mut Desk, epoch: &str| desk.apply_in(&[KEY], epoch, "1", &seq(6), "60 0 - 5", "1");
    assert_eq!(seen(&mut desk, "e1"), (1, 0));
    assert!(!desk.redis.ask::<bool>(&["EXISTS", KEY]));
    desk.filled(&[(1, 5, 50)]);
    let before = desk.ttl();
    assert_eq!(seen(&mut desk, "e2"), (1, 0), "another epoch's");
    assert_eq!(seen(&mut desk, "e1"), (0, 0));
    assert_eq!(seen(&mut desk, "e1"), (1, 0));
    assert!(desk.fields()["b:1"].starts_with(&seq(6)));
    assert!(!desk.has("f:1") && desk.ttl() <= before && desk.news() == 0);
}

#[test]
fn a_drop_keeps_floors_and_what_they_were_raised_with_unless_told_to_forget() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50), (2, 9, 90)]);
    desk.apply("1", 6, Some(60));
    desk.lease_of("e1", "t", MINUTE, "1");
    let _: i64 = desk.run(script!("drop"), &[KEY, FEED], &[VERSION, "7", "0"]);
    let fields = desk.fields();
    assert!(fields.contains_key("f:1") && fields.contains_key("b:1"));
    assert_eq!(header(&fields), Some(("e1".to_owned(), 0, false)));
    for gone in ["lease", "b:2"] {
        assert!(!fields.contains_key(gone), "{gone}");
    }
    let _: i64 = desk.run(script!("drop"), &[KEY, FEED], &[VERSION, "7", "1"]);
    assert!(desk.fields().is_empty());
    let news: Vec<(String, Fields)> = desk.redis.ask(&["XRANGE", FEED, "-", "+"]);
    let told = |at: usize, field: &str| news[at].1.get(field).cloned();
    assert_eq!(
        (told(1, "d").as_deref(), told(2, "x").as_deref()),
        (Some("7"), Some("7")),
        "after the notification, it was dropped and forgotten"
    );
    for kind in 0..FOREIGN {
        desk.foreign(kind);
        let _: i64 = desk.run(script!("drop"), &[KEY], &[VERSION, "7", "0"]);
        assert!(!desk.redis.ask::<bool>(&["EXISTS", KEY]), "{kind}");
    }
}

#[test]
fn what_was_told_again_is_forgotten_and_what_came_after_it_stays() {
    let mut desk = Desk::new();
    let forget = |desk: &mut Desk, keys: &[&str], told: &[&str]| -> String {
        let args = [&[VERSION, "7"], told].concat();
        desk.run(script!("forget"), keys, &args)
    };
    desk.filled(&[(1, 5, 50), (2, 9, 90), (4, 1, 10)]);
    for (asset, number, amount) in [("1", 6, Some(60)), ("2", 10, None), ("3", 8, Some(80))] {
        desk.apply(asset, number, amount);
    }
    desk.apply_in(&[FEED, KEY], "e1", "5", "", "", "0");
    desk.lease_of("e1", "t", MINUTE, "1");
    let (told, newest) = (seq(6), seq(7));
    desk.apply("3", 9, Some(90));
    let stays = forget(&mut desk, &[KEY, FEED], &["1", &told, "3", &seq(8)]);
    let mut stays: Vec<&str> = stays.split(',').collect();
    stays.sort_unstable();
    let newer = format!("3 {} 90 0 - 5", seq(9));
    assert_eq!(stays, [format!("2 {} ", seq(10)), newer.clone()]);
    let fields = desk.fields();
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["b:3", "d:5", "f:2", "f:3", "v"]);
    assert_eq!(header(&fields), Some(("e1".to_owned(), 0, false)));
    let news: Vec<(String, Fields)> = desk.redis.ask(&["XREVRANGE", FEED, "+", "-", "COUNT", "1"]);
    assert_eq!(news[0].1["x"], "7");
    assert!(news[0].1["c"].starts_with("7 ") && news[0].1["c"].contains(&newer));
    // In a cluster the caller announces; where nothing is newer, nothing stays.
    let count = desk.news();
    let all = ["2", &seq(10), "3", &seq(9)];
    assert_eq!(forget(&mut desk, &[KEY], &all), "");
    assert_eq!((desk.fields().len(), desk.news()), (0, count));
    desk.apply("1", 7, Some(70));
    assert_eq!(forget(&mut desk, &[KEY, FEED], &["1", &newest]), "");
    let news: Vec<(String, Fields)> = desk.redis.ask(&["XREVRANGE", FEED, "+", "-", "COUNT", "1"]);
    assert!(news[0].1["x"] == "7" && !news[0].1.contains_key("c"));
    for kind in 0..FOREIGN {
        desk.foreign(kind);
        assert_eq!(forget(&mut desk, &[KEY], &[]), "");
        assert!(!desk.redis.ask::<bool>(&["EXISTS", KEY]), "{kind}");
    }
}

#[test]
fn a_lease_is_given_back_by_its_owner_only() {
    let mut desk = Desk::new();
    desk.lease("t1");
    assert_eq!(desk.run::<i64>(script!("release"), &[KEY], &["t2"]), 0);
    assert_eq!(desk.run::<i64>(script!("release"), &[KEY], &["t1"]), 1);
    assert_eq!(desk.run::<i64>(script!("release"), &[KEY], &["t1"]), 0);
    assert_eq!(desk.lease("t2"), "lease");
    desk.foreign(0);
    assert_eq!(desk.run::<i64>(script!("release"), &[KEY], &["t2"]), 0);
}

#[test]
fn in_a_cluster_the_news_goes_out_in_steps_and_is_remembered_last() {
    let mut desk = Desk::new();
    let apart = |desk: &mut Desk| desk.apply_in(&[KEY], "e1", "1", &seq(6), "60 0 - 5", "0");
    assert_eq!(apart(&mut desk), (0, 1), "it is for the caller to tell");
    assert_eq!(
        apart(&mut desk),
        (1, 1),
        "and again, as long as nobody said that it was told"
    );
    let first: String = desk.run(script!("announce"), &[FEED], &["d", "7"]);
    let second: String = desk.run(script!("announce"), &[FEED], &["d", "7"]);
    let last: Vec<(String, Fields)> = desk.redis.ask(&["XRANGE", FEED, &second, &second]);
    assert_eq!(last[0].1["p"], first);
    for (told, stands) in [(6, 6), (4, 6)] {
        let _: i64 = desk.run(script!("announced"), &[KEY], &["1", &seq(told)]);
        let told = format!("{} {} ", seq(6), seq(stands));
        assert!(desk.fields()["f:1"].starts_with(&told), "{told}");
    }
    assert_eq!(apart(&mut desk), (1, 0));
    let args = [
        VERSION, "e1", "600000", "apart", "7", "2", "1", "8", "80 0 - 5", "2", "3", "",
    ];
    let both: Vec<i64> = desk.run(script!("apply"), &[KEY], &args);
    assert_eq!(both, [2, 2], "one user's changes, together");
    let _: i64 = desk.run(script!("announced"), &[KEY], &["1", "8", "2", "3"]);
    let both: Vec<i64> = desk.run(script!("apply"), &[KEY], &args);
    assert_eq!(both, [1, 1], "both were told");
    let () = desk.redis.ask(&["DEL", KEY]);
    let _: i64 = desk.run(script!("announced"), &[KEY], &["1", &seq(9)]);
    assert!(
        desk.fields().is_empty(),
        "an entry without an end is never made"
    );
    for kind in 0..FOREIGN {
        desk.foreign(kind);
        let _: i64 = desk.run(script!("announced"), &[KEY], &["1", &seq(9)]);
    }
}

#[test]
fn an_epoch_lasts_as_long_as_the_same_servers_keep_it() {
    let mut desk = Desk::new();
    let key = "balance:epoch";
    let mut look = |servers: &str, id: &str| -> (String, i64, i64, i64) {
        desk.run(script!("epoch"), &[key], &[servers, id])
    };
    let (id, birth, now, fresh) = look("run1/repl1", "a");
    assert_eq!((id.as_str(), fresh), ("a", 1));
    assert_eq!(birth, now);
    let again = look("run1/repl1", "b");
    assert_eq!((again.0.as_str(), again.1, again.3), ("a", birth, 0));
    let other = look("run2/repl1", "c");
    assert_eq!((other.0.as_str(), other.3), ("c", 1));
    let _: redis::Value = desk.redis.ask(&["SET", key, "foreign"]);
    let replaced: (String, i64, i64, i64) =
        desk.run(script!("epoch"), &[key], &["run2/repl1", "d"]);
    assert_eq!((replaced.0.as_str(), replaced.3), ("d", 1));
    assert_eq!(desk.redis.ask::<i64>(&["PTTL", key]), -1);
}
