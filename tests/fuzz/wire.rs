//! Notifications and ledger entries as JSON: no input panics, and what is accepted is what was said.

use std::collections::BTreeMap;

use balance_cache::domain::{Entry, Notification};
use proptest::prelude::*;
use serde_json::{Value, json, value::RawValue};

use crate::runner::fuzz;

/// Any text of one line. Made once for each place: a pattern that is a strategy itself is read again for every input.
fn anything() -> impl Strategy<Value = String> {
    prop::string::string_regex(".*").unwrap()
}

/// Numbers at the edges of what is allowed, of 64 bits and of what JSON may hold.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1..100_i64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            i64::MIN,
            -1,
            0,
            1,
            i64::from(i32::MAX),
            i64::from(i32::MAX) + 1,
            i64::MAX
        ])
        .prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => number(),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => anything().prop_map(Value::from),
        1 => prop::collection::vec(number(), 0..3).prop_map(Value::from),
        1 => Just(json!({})),
    ]
}

fn field() -> impl Strategy<Value = String> {
    let known = vec![
        "user_id",
        "asset_id",
        "seq",
        "avail",
        "frozen",
        "created_at",
        "delta_avail",
        "event_type",
        "ref_id",
    ];
    prop_oneof![15 => prop::sample::select(known).prop_map(str::to_owned), 1 => anything()]
}

/// Objects that are nearly right, in part with one piece of text cut out, and text that is nothing.
fn text() -> impl Strategy<Value = String> {
    let object = || {
        prop::collection::btree_map(field(), value(), 0..9)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()).to_string())
    };
    let cut =
        (object(), any::<prop::sample::Index>(), 0..5_usize).prop_map(|(text, from, length)| {
            let from = from.index(text.len());
            let kept = text
                .chars()
                .enumerate()
                .filter(|(at, _)| !(from..from + length).contains(at));
            kept.map(|(_, letter)| letter).collect()
        });
    prop_oneof![8 => object(), 4 => cut, 1 => anything()]
}

/// The value of a field in the text; null where it is absent. Other fields are only looked over, as the service does it: they may
/// hold a number beyond any type.
fn said(text: &str, field: &str) -> Result<Value, TestCaseError> {
    let failed = |error: serde_json::Error| TestCaseError::fail(error.to_string());
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).map_err(failed)?;
    fields.get(field).map_or(Ok(Value::Null), |value| {
        serde_json::from_str(value.get()).map_err(failed)
    })
}

/// A field that nobody reads may hold any number.
#[test]
fn a_number_beyond_any_type_in_an_unknown_field_is_no_finding() {
    let text = r#"{"user_id": 7, "else": 17976931348623157e308}"#;
    let notification = Notification::parse_notification(text).unwrap();
    assert_eq!(notification.user.get(), 7);
    assert_eq!(said(text, "user_id").unwrap(), json!(7));
}

#[test]
fn fuzz_notification_json() {
    fuzz("fuzz_notification_json", &text(), |text| {
        if let Ok(notification) = Notification::parse_notification(&text) {
            prop_assert_eq!(said(&text, "user_id")?, json!(notification.user.get()));
            prop_assert!(notification.user.get() >= 1);
            if let Some((asset, seq)) = notification.raised_floor() {
                prop_assert_eq!(said(&text, "asset_id")?, json!(asset.get()));
                prop_assert_eq!(said(&text, "seq")?, json!(seq.get()));
                prop_assert!(asset.get() >= 1 && seq.get() >= 1);
            }
        }
        Ok(())
    });
}

#[test]
fn fuzz_entry_json() {
    fuzz("fuzz_entry_json", &text(), |text| {
        if let Ok(entry) = Entry::parse_entry(&text) {
            prop_assert_eq!(said(&text, "user_id")?, json!(entry.user.get()));
            prop_assert_eq!(said(&text, "asset_id")?, json!(entry.asset.get()));
            prop_assert_eq!(said(&text, "seq")?, json!(entry.seq.get()));
            prop_assert_eq!(said(&text, "avail")?, json!(entry.avail.raw()));
            prop_assert!(entry.user.get() >= 1 && entry.asset.get() >= 1 && entry.seq.get() >= 1);
        }
        Ok(())
    });
}
