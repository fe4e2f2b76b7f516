use super::*;

fn sample_balance(seq: i64, raw: i64) -> Balance {
    Balance::sample_of(1, seq, raw)
}

fn sample_tier(tier: &'static str, withheld: bool, balances: Vec<Balance>) -> TierHolding {
    TierHolding {
        tier,
        state: String::new(),
        snapshot: Some(Snapshot::new(balances)),
        withheld,
    }
}

/// The findings' texts, with `!` before a bad one, of a ledger at seq 4 and memory as given.
fn finding_texts(memory: &TierHolding, floor: Option<i64>) -> Vec<String> {
    let ledger = sample_tier("ledger", false, vec![sample_balance(4, 400)]);
    let floors = floor.map(|seq| (AssetId::new(1).unwrap(), Seq::new(seq).unwrap()));
    let catalogue = Catalogue::new(&[], &[]).unwrap();
    let found = compare_tiers(
        &ledger,
        &[memory],
        &floors.into_iter().collect(),
        &catalogue,
    );
    let sign = |bad| if bad { "!" } else { "" };
    let texts = found.iter();
    texts
        .map(|at| format!("{}{}", sign(at.bad), at.text))
        .collect()
}

#[test]
fn each_difference_has_its_sentence() {
    let memory = |seq, raw| sample_tier("memory", false, vec![sample_balance(seq, raw)]);
    for (memory, floor, part) in [
        (
            memory(4, 400),
            None,
            "Every tier that holds this user agrees",
        ),
        (
            memory(3, 300),
            None,
            "!1: memory holds seq 3 and the ledger seq 4, and no notification",
        ),
        (
            memory(3, 300),
            Some(4),
            "1: memory holds seq 3 and the ledger seq 4; it is known to be behind",
        ),
        (memory(4, 401), None, "!1: memory has other amounts"),
        (
            memory(4, 400),
            Some(9),
            "!1: a notification announced seq 9, and the ledger is at seq 4",
        ),
        (
            memory(5, 500),
            None,
            "!1: memory holds seq 5, and the ledger is at seq 4",
        ),
        (
            sample_tier("memory", true, vec![sample_balance(3, 300)]),
            None,
            "1: memory holds seq 3 and the ledger seq 4; it is known",
        ),
    ] {
        let found = finding_texts(&memory, floor);
        assert!(
            found[0].starts_with(part),
            "{found:?} begins not with {part}"
        );
    }
}

#[test]
fn a_ledger_that_cannot_be_asked_is_said() {
    let ledger = TierHolding {
        tier: "ledger",
        state: "could not be asked: no".to_owned(),
        ..TierHolding::default()
    };
    let catalogue = Catalogue::new(&[], &[]).unwrap();
    let found = compare_tiers(&ledger, &[], &KnownFloors::new(), &catalogue);
    assert!(found[0].bad && found[0].text.contains("could not be asked: no"));
}
