//! What one script does with several changes of one user, with a Redis that is full, and by which rule it merges.

use crate::support::desk::{Desk, FEED, FOREIGN, Fields, KEY, MINUTE, is_refused_right, script};

#[test]
fn all_changes_of_one_user_stand_in_one_entry_of_the_feed() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50), (2, 9, 90)]);
    let done = desk.apply_all(&[(1, 6, Some(60)), (2, 10, Some(100)), (3, 1, Some(7))]);
    assert_eq!(done.unwrap(), [0, 0, 0]);
    assert!(desk.whole(), "no miss");
    let fields = desk.fields();
    let of = |name: &str| fields[name].as_str();
    assert_eq!(
        (of("b:1"), of("b:2"), of("b:3")),
        ("6 60 0 - 5", "10 100 0 - 5", "1 7 0 - 5")
    );
    let news: Vec<(String, Vec<String>)> = desk.redis.ask(&["XRANGE", FEED, "-", "+"]);
    assert_eq!(news.len(), 1);
    let told: Vec<_> = news[0].1.chunks(2).filter(|pair| pair[0] == "c").collect();
    assert_eq!(told.len(), 3, "{told:?}");
    // One that is known and one that is news: what is news goes out.
    let done = desk.apply_all(&[(1, 6, Some(60)), (2, 11, Some(110))]);
    assert_eq!(done.unwrap(), [1, 0]);
    assert_eq!(desk.news(), 2);
}

#[test]
fn a_seq_beside_its_values_makes_no_miss_and_one_without_makes_the_whole_unservable() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50), (2, 9, 90)]);
    desk.apply_all(&[(1, 6, None), (2, 10, Some(100)), (1, 6, Some(60))])
        .unwrap();
    assert!(desk.whole());
    desk.apply_all(&[(1, 7, None), (2, 11, Some(110))]).unwrap();
    assert!(!desk.whole(), "neither is shown before the first is read");
}

#[test]
fn ten_thousand_changes_of_one_user_are_one_script_and_one_entry() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50)]);
    let all: Vec<_> = (1..=10_000)
        .map(|asset| (asset, 6, Some(i64::from(asset))))
        .collect();
    assert_eq!(desk.apply_all(&all).unwrap(), vec![0; all.len()]);
    assert!(desk.whole());
    assert_eq!(desk.redis.ask::<usize>(&["HLEN", KEY]), 2 * all.len() + 1);
    let news: Vec<(String, Fields)> = desk.redis.ask(&["XRANGE", FEED, "-", "+"]);
    assert_eq!(news.len(), 1);
    let words: Vec<(String, Vec<String>)> = desk.redis.ask(&["XRANGE", FEED, "-", "+"]);
    let told = words[0].1.chunks(2).filter(|pair| pair[0] == "c");
    let told: usize = told.map(|pair| pair[1].split(',').count()).sum();
    assert_eq!(told, all.len());
    assert_eq!(desk.apply_all(&all).unwrap(), vec![1; all.len()]);
    assert_eq!(desk.news(), 1);
}

#[test]
fn the_scripts_merge_by_the_rule_of_the_table() {
    let mut desk = Desk::new();
    let code = concat!(
        crate::support::desk::script_file!("entry"),
        "return takes_place(ARGV[1], ARGV[2], ARGV[3] == 'ledger') and 'yes' or 'no'"
    );
    let cases = include_str!("../fixtures/merge_cases.txt");
    for case in cases.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<_> = case.split_whitespace().collect();
        let held = if words[0] == "-" { "" } else { words[0] };
        let takes: String = desk.run(code, &[], &[held, words[1], words[2]]);
        assert_eq!(takes, words[3], "{case}");
    }
}

#[test]
fn at_equal_seq_a_fill_brings_the_ledgers_word_and_a_notification_does_not_take_it_back() {
    let mut desk = Desk::new();
    desk.filled(&[(1, 5, 50)]);
    desk.apply("1", 6, Some(66));
    desk.apply("1", 6, Some(67));
    assert_eq!(desk.fields()["b:1"], "6 66 0 - 5", "the first of two");
    desk.lease_of("e1", "t", MINUTE, "1");
    assert_eq!(desk.fill("t", &[(1, 6, 60)]), "ok");
    assert_eq!(desk.fields()["b:1"], "6 60 0 - 5", "what the ledger says");
    desk.apply("1", 6, Some(66));
    assert_eq!(desk.fields()["b:1"], "6 60 0 - 5");
    let seen = ["e1", "1", "6", "61 0 - 5", "1"];
    desk.apply_in(&[KEY], seen[0], seen[1], seen[2], seen[3], seen[4]);
    assert_eq!(desk.fields()["b:1"], "6 61 0 - 5", "so does a look at it");
}

/// Nothing that takes memory is granted any more.
fn fill_up(desk: &Desk) {
    let () = desk.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
}

#[track_caller]
fn is_full(desk: &mut Desk, code: &str, keys: &[&str], args: &[&str]) {
    let refused = desk.try_run::<redis::Value>(code, keys, args).unwrap_err();
    assert_eq!(refused.code(), Some("OOM"), "{refused}");
}

#[test]
fn a_full_redis_refuses_every_script_that_grows_it_and_loses_nothing() {
    use balance_cache::cache::redis::entry::VERSION;
    for kind in 0..=FOREIGN {
        let mut desk = Desk::new();
        for asset in 1..=3 {
            desk.apply(&asset.to_string(), 6, Some(60));
        }
        let stream: redis::Value = desk.redis.ask(&["XRANGE", FEED, "-", "+"]);
        if kind < FOREIGN {
            desk.foreign(kind);
        } else {
            desk.lease("t");
        }
        let before: redis::Value = desk.redis.ask(&["DUMP", KEY]);
        fill_up(&desk);
        let apply = [
            VERSION, "e1", "600000", "feed", "7", "1", "1", "7", "70 0 - 5",
        ];
        is_full(&mut desk, script!("apply"), &[FEED, KEY], &apply);
        let apart = [
            VERSION, "e1", "600000", "apart", "7", "1", "1", "7", "70 0 - 5",
        ];
        is_full(&mut desk, script!("apply"), &[KEY], &apart);
        let lease = [VERSION, "e1", "t2", "60000", "1"];
        is_full(&mut desk, script!("lease"), &[KEY], &lease);
        if kind == FOREIGN {
            let fill = [VERSION, "e1", "t", "60000", "0", "1", "7", "70 0 - 5"];
            is_full(&mut desk, script!("fill"), &[KEY], &fill);
        }
        for forget in ["0", "1"] {
            is_full(
                &mut desk,
                script!("drop"),
                &[KEY, FEED],
                &[VERSION, "7", forget],
            );
            is_full(
                &mut desk,
                script!("drop"),
                &["balance:user:8", FEED],
                &[VERSION, "8", forget],
            );
        }
        is_full(
            &mut desk,
            script!("forget"),
            &[KEY, FEED],
            &[VERSION, "7", "1", "5"],
        );
        is_full(&mut desk, script!("announce"), &[FEED], &["d", "7"]);
        is_full(
            &mut desk,
            script!("epoch"),
            &["balance:epoch"],
            &["run1", "a"],
        );
        let after: redis::Value = desk.redis.ask(&["DUMP", KEY]);
        assert_eq!(before, after, "{kind}: the entry stands");
        let feed: redis::Value = desk.redis.ask(&["XRANGE", FEED, "-", "+"]);
        assert_eq!(stream, feed, "{kind}: so does the feed");
    }
}

#[test]
fn only_what_is_no_stream_or_has_no_ids_left_is_replaced_as_the_feed() {
    let mut desk = Desk::new();
    let announce =
        |desk: &mut Desk| desk.try_run::<String>(script!("announce"), &[FEED], &["d", "7"]);
    announce(&mut desk).unwrap();
    for right in ["xrevrange", "xadd"] {
        let () = desk
            .redis
            .ask(&["ACL", "SETUSER", "default", &format!("-{right}")]);
        let refused = announce(&mut desk).unwrap_err().to_string();
        assert!(is_refused_right(&refused), "{right}: {refused}");
        assert_eq!(desk.news(), 1, "{right}");
        let () = desk
            .redis
            .ask(&["ACL", "SETUSER", "default", &format!("+{right}")]);
    }
    let last = format!("{0}-{0}", u64::MAX);
    let _: String = desk.redis.ask(&["XADD", FEED, &last, "p", "0-0"]);
    announce(&mut desk).unwrap();
    assert_eq!(desk.news(), 1, "a new one");
    let () = desk.redis.ask(&["DEL", FEED]);
    let () = desk.redis.ask(&["SET", FEED, "foreign"]);
    announce(&mut desk).unwrap();
    assert_eq!(desk.news(), 1);
}
