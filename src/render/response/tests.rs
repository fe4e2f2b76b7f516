use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::domain::Asset;

fn test_catalogue() -> Catalogue {
    // Two of four; the others are shown raw.
    let assets = [
        Asset::new(1, "BTC", 18),
        Asset::new(3, "frozen.seq-avail_2", 0),
    ];
    Catalogue::new(&assets, &[]).unwrap()
}

fn any_balance() -> impl Strategy<Value = Balance> {
    let asset = prop_oneof![1..5_i32, Just(i32::MAX)];
    let (seq, said) = (1..=i64::MAX, any::<i64>());
    let numbers = (
        asset,
        seq,
        any::<i64>(),
        any::<i64>(),
        option::of(any::<i64>()),
        said,
    );
    numbers.prop_map(|(asset, seq, avail, frozen, updated_at, said_at)| Balance {
        asset: AssetId::new(asset).unwrap(),
        seq: Seq::new(seq).unwrap(),
        avail: Amount::from_raw(avail),
        frozen: Amount::from_raw(frozen),
        updated_at: updated_at.map(UnixMillis),
        said_at: UnixMillis(said_at),
    })
}

proptest! {
    #[test]
    fn what_is_held_is_read_back_as_it_was(balances in vec(any_balance(), 0..8), heard_at: i64) {
        let snapshot = Snapshot::new(balances);
        let held = RenderedSnapshot::new(&test_catalogue(), &snapshot, UnixMillis(heard_at));
        prop_assert_eq!(held.asset_count(), snapshot.balances().len());
        prop_assert_eq!(held.is_empty(), snapshot.balances().is_empty());
        prop_assert_eq!(held.heard_at(), UnixMillis(heard_at));
        prop_assert_eq!(held.said_at(), snapshot.oldest_said_at().unwrap_or(UnixMillis(heard_at)));
        prop_assert_eq!(held.body_bytes().len(), held.body_len());
        prop_assert_eq!(held.read_snapshot(), snapshot);
    }

    #[test]
    fn numbers_come_back(numbers in vec(any::<u64>(), 0..9)) {
        let mut bytes = Vec::new();
        for number in &numbers {
            push_varint(&mut bytes, *number);
        }
        let mut rest = bytes.as_slice();
        let back: Vec<_> = std::iter::from_fn(|| pull_varint(&mut rest)).collect();
        prop_assert_eq!(back, numbers);
    }
}

#[test]
fn a_thousand_assets_are_read_back_too() {
    let balances = (1..=1_000).map(|asset| Balance {
        frozen: Amount::from_raw(i64::MAX),
        ..Balance::sample_of(asset, 17, i64::MIN)
    });
    let snapshot = Snapshot::new(balances.collect());
    let held = RenderedSnapshot::new(&test_catalogue(), &snapshot, UnixMillis(5));
    assert_eq!(held.read_snapshot(), snapshot);
    assert!(held.bytes_taken() > held.body_len());
}
