//! The checker sees each kind of violation, and none where there is none.

use std::{collections::BTreeMap, time::Duration};

use super::history::{Ack, Amounts, At, History, Kind, Read, Row, Rules, amount};

const USER: u64 = 7;

fn ms(ms: u64) -> At {
    Duration::from_millis(ms)
}

fn rules() -> Rules {
    Rules {
        amounts: Amounts::Computed,
        max_staleness: ms(300),
        assets: vec![1, 2],
        catalogue: vec![1, 2, 3],
    }
}

fn row(asset: u32, seq: i64, at: u64) -> Row {
    Row {
        key: (USER, asset),
        seq,
        at: ms(at),
    }
}

fn ack(asset: u32, seq: i64, instance: usize, at: u64) -> Ack {
    Ack {
        key: (USER, asset),
        seq,
        by: Some((instance, 0)),
        form: "values",
        at: ms(at),
    }
}

/// Shows asset 1 at `seq` and asset 2 at 1.
fn read(instance: usize, seq: i64, begun: u64, ended: u64) -> Read {
    let shown = [(1, seq), (2, 1)]
        .map(|(asset, seq)| (asset, (seq, amount((USER, asset), seq).to_string())));
    Read {
        user: USER,
        instance,
        life: Some(0),
        kind: Kind::Single,
        begun: ms(begun),
        ended: ms(ended),
        shown: BTreeMap::from(shown),
        detail: None,
        status: "memory; hit".to_owned(),
    }
}

fn broken(acks: Vec<Ack>, reads: Vec<Read>) -> Vec<&'static str> {
    let rows = vec![row(1, 1, 0), row(2, 1, 0), row(1, 5, 50)];
    let history = History { rows, acks, reads };
    history
        .check(&rules())
        .iter()
        .map(|violation| violation.promise)
        .collect()
}

#[test]
fn a_history_in_which_all_is_well_has_no_violation() {
    let reads = vec![
        read(0, 5, 101, 102),
        // Before the acknowledgement, at once elsewhere, and overlapping: all allowed.
        read(0, 1, 99, 200),
        read(1, 1, 101, 110),
        read(1, 5, 105, 106),
        read(1, 5, 401, 402),
    ];
    assert_eq!(broken(vec![ack(1, 5, 0, 100)], reads), [""; 0]);
}

#[test]
fn an_old_read_on_the_instance_that_acknowledged_breaks_p1() {
    let reads = vec![read(0, 1, 101, 102)];
    assert_eq!(broken(vec![ack(1, 5, 0, 100)], reads), ["P1"]);
}

#[test]
fn an_old_read_elsewhere_breaks_p2_once_max_staleness_is_over() {
    let acks = || vec![ack(1, 5, 0, 100)];
    assert_eq!(broken(acks(), vec![read(1, 1, 399, 410)]), [""; 0]);
    assert_eq!(broken(acks(), vec![read(1, 1, 401, 410)]), ["P2"]);
    let by_stream = Ack {
        by: None,
        ..ack(1, 5, 0, 100)
    };
    assert_eq!(broken(vec![by_stream], vec![read(0, 1, 401, 410)]), ["P2"]);
}

#[test]
fn the_next_life_of_an_instance_owes_p2_and_not_p1() {
    let next = |begun| Read {
        life: Some(2),
        ..read(0, 1, begun, begun + 1)
    };
    assert_eq!(broken(vec![ack(1, 5, 0, 100)], vec![next(200)]), [""; 0]);
    assert_eq!(broken(vec![ack(1, 5, 0, 100)], vec![next(500)]), ["P2"]);
}

#[test]
fn a_first_deposit_that_is_not_shown_breaks_p1() {
    let reads = vec![read(0, 1, 101, 102)];
    assert_eq!(broken(vec![ack(3, 1, 0, 100)], reads), ["P1"]);
}

#[test]
fn a_read_that_goes_backwards_breaks_p3_within_one_life() {
    let first = read(0, 5, 100, 110);
    assert_eq!(
        broken(vec![], vec![first.clone(), read(0, 1, 111, 112)]),
        ["P3"]
    );
    assert_eq!(
        broken(vec![], vec![first.clone(), read(0, 1, 105, 112)]),
        [""; 0]
    );
    assert_eq!(
        broken(vec![], vec![first.clone(), read(1, 1, 111, 112)]),
        [""; 0]
    );
    let unknown = Read {
        life: None,
        ..read(0, 1, 111, 112)
    };
    assert_eq!(broken(vec![], vec![first, unknown]), [""; 0]);
}

#[test]
fn what_is_missing_or_never_was_breaks_p6() {
    let mut part = read(0, 1, 10, 11);
    part.shown.remove(&2);
    assert_eq!(broken(vec![], vec![part]), ["P6"]);
    let mut mixed = read(0, 1, 10, 11);
    mixed.shown.insert(2, (1, "17".to_owned()));
    assert_eq!(broken(vec![], vec![mixed]), ["P6"]);
}

#[test]
fn min_seq_and_no_cache_that_show_less_break_p9() {
    let asked = Read {
        kind: Kind::MinSeq(1, 5),
        ..read(0, 1, 60, 61)
    };
    assert_eq!(broken(vec![], vec![asked]), ["P9"]);
    let ledger = |begun| Read {
        kind: Kind::NoCache,
        ..read(0, 1, begun, begun + 1)
    };
    assert_eq!(broken(vec![], vec![ledger(60)]), ["P9"]);
    assert_eq!(broken(vec![], vec![ledger(49)]), [""; 0]);
}

#[test]
fn behind_is_no_excuse_where_the_ledger_has_the_row() {
    let behind = Read {
        detail: Some("behind".to_owned()),
        ..read(0, 1, 101, 102)
    };
    assert_eq!(broken(vec![ack(1, 5, 0, 100)], vec![behind]), ["P1"]);
}

#[test]
fn at_rest_an_old_value_breaks_p4_and_a_lost_notification_p8() {
    let rows = vec![row(1, 1, 0), row(2, 1, 0), row(1, 5, 50)];
    let mut history = History {
        rows,
        ..History::default()
    };
    let promises = |history: &History, seq| {
        let found = history.check_at_rest(&read(0, seq, 900, 901));
        found
            .iter()
            .map(|violation| violation.promise)
            .collect::<Vec<_>>()
    };
    assert_eq!(promises(&history, 5), [""; 0]);
    assert_eq!(promises(&history, 1), ["P4"]);
    assert_eq!(promises(&history, 6), ["P4"], "what never was");
    history.acks.push(ack(1, 5, 0, 100));
    assert_eq!(promises(&history, 1), ["P8"]);
}
