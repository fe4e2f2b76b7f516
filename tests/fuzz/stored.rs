//! The hash in Redis, as others may have written it: no bytes panic, and what is served is whole, current and above its
//! floors.

use balance_cache::cache::redis::entry::{EntryLifetime, StoredEntry, VERSION};
use proptest::prelude::*;

use crate::runner::fuzz;

fn field() -> impl Strategy<Value = String> {
    let known = vec![
        "v", "epoch", "lease", "b:1", "b:2", "f:1", "d:1", "d:*", "b:", "z:1",
    ];
    prop_oneof![8 => prop::sample::select(known).prop_map(str::to_owned), 1 => "[bfd]:[0-9*]{0,11}", 1 => ".{0,8}"]
}

fn header() -> impl Strategy<Value = String> {
    "(e|f) -?[0-9]{1,4} [01]".prop_map(|rest| format!("{VERSION} {rest}"))
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let near = prop_oneof![
        Just(VERSION.to_owned()),
        header(),
        "[0-9]{1,4}",
        "[0-9]{18,20} -?[0-9]{1,20} -?[0-9]{1,20} (-|[0-9]{1,14}) [0-9]{1,14}",
        "[1-9][0-9]{0,3} [0-9]{1,4} [0-9]{1,4}",
        "[1-9][0-9]{0,3} -?[0-9]{1,4} 0 - [0-9]{1,4}",
    ];
    prop_oneof![8 => near.prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..40)]
}

#[test]
fn fuzz_stored_hash() {
    let pairs = prop::collection::vec((field(), value()), 0..8);
    let inputs = (pairs, prop::option::of(header()), 0..200_i64);
    fuzz("fuzz_stored_hash", &inputs, |(mut pairs, header, now)| {
        if let Some(header) = header {
            pairs.retain(|(field, _)| field != "v");
            pairs.push(("v".to_owned(), header.into_bytes()));
        }
        let read = StoredEntry::decode_fields(
            pairs
                .iter()
                .map(|(field, value)| Ok((field.as_bytes(), value.as_slice()))),
            now,
        );
        let life = EntryLifetime {
            now,
            longest: i64::MAX,
        };
        if let Ok(Some(entry)) = read
            && entry.may_serve("e", life)
        {
            prop_assert!(entry.whole && entry.until > now && entry.epoch == b"e");
            for (asset, floor) in entry.floors.iter() {
                prop_assert!(
                    entry
                        .snapshot
                        .get(asset)
                        .is_some_and(|balance| balance.seq >= floor)
                );
            }
        }
        Ok(())
    });
}
