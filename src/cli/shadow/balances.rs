//! Balances of two gateways, as numbers that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::{arguments::Shadow, service_view::ShownBalance};

/// Places of an exponent that are followed: beyond them it is no amount.
const EXPONENT_MAX: i32 = 40;

/// Available and frozen.
type ShadowAmounts = (String, String);

/// The fields of an object, not yet parsed.
type RawFields<'a> = BTreeMap<String, &'a RawValue>;

/// The balances of one user by the name of the asset, each amount in its shortest form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ShadowBalances(BTreeMap<String, ShadowAmounts>);

impl ShadowBalances {
    pub(super) fn of_service(balances: &[ShownBalance]) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for balance in balances {
            let amounts = (
                shortest_decimal(&balance.avail)?,
                shortest_decimal(&balance.frozen)?,
            );
            all.insert(balance.asset.clone(), amounts);
        }
        Ok(Self(all))
    }

    /// The balances in the other gateway's answer. Numbers are taken digit by digit: as floats they would lose some.
    pub(super) fn of_other(body: &[u8], what: &Shadow) -> Result<Self, String> {
        let answer: &RawValue =
            serde_json::from_slice(body).map_err(|_| "its answer is no JSON".to_owned())?;
        let list: Vec<&RawValue> = parse_value(answer)
            .or_else(|| parse_value(find_value(answer, &what.old_list)?))
            .ok_or_else(|| format!("its answer has no list at {}", what.old_list))?;
        let mut all = BTreeMap::new();
        for element in list {
            let fields: RawFields<'_> = parse_value(element).unwrap_or_default();
            let of = |name: &str| {
                let field = fields.get(name).and_then(|value| text_of(value));
                field.ok_or_else(|| format!("an element has no {name}"))
            };
            let amounts = (
                shortest_decimal(&of(&what.old_avail)?)?,
                shortest_decimal(&of(&what.old_frozen)?)?,
            );
            let asset = of(&what.old_asset)?;
            if all.insert(asset.clone(), amounts).is_some() {
                return Err(format!("it shows {asset} twice"));
            }
        }
        Ok(Self(all))
    }

    /// How the other gateway's balances differ from these, asset by asset.
    pub(super) fn list_differences(&self, old: &Self) -> Vec<String> {
        let nothing = || ("0".to_owned(), "0".to_owned());
        let names: BTreeSet<&String> = self.0.keys().chain(old.0.keys()).collect();
        let mut found = Vec::new();
        for name in names {
            let (new, old) = (self.0.get(name), old.0.get(name));
            if new.cloned().unwrap_or_else(nothing) != old.cloned().unwrap_or_else(nothing) {
                let words = |amounts: Option<&ShadowAmounts>| {
                    amounts.map_or_else(
                        || "nothing".to_owned(),
                        |(avail, frozen)| format!("avail {avail}, frozen {frozen}"),
                    )
                };
                found.push(format!("{name}: old {}; new {}", words(old), words(new)));
            }
        }
        found
    }
}

/// The value at a JSON pointer.
fn find_value<'a>(answer: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    if pointer.is_empty() {
        return Some(answer);
    }
    let mut names = pointer.strip_prefix('/')?.split('/');
    names.try_fold(answer, |value, name| {
        if let Some(list) = parse_value::<Vec<&RawValue>>(value) {
            return list.get(name.parse::<usize>().ok()?).copied();
        }
        let name = name.replace("~1", "/").replace("~0", "~");
        parse_value::<RawFields<'_>>(value)?.remove(&name)
    })
}

fn parse_value<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// A string, or a number as it is written.
fn text_of(value: &RawValue) -> Option<String> {
    let text = value.get();
    if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    parse_value(value)
}

/// A decimal number in its shortest form: no exponent, no zeros that say nothing.
fn shortest_decimal(text: &str) -> Result<String, String> {
    digits_of(text.trim()).ok_or_else(|| format!("{text:?} is no amount"))
}

fn digits_of(text: &str) -> Option<String> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{part}");
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || !(-EXPONENT_MAX..=EXPONENT_MAX).contains(&exponent) {
        return None;
    }
    // Where the point is, counted from the left; digits that are not there are zeros.
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let before = usize::try_from(point.max(0)).ok()?;
    let leading = usize::try_from(point.min(0).checked_neg()?).ok()?;
    let digits = format!("{}{digits}", "0".repeat(leading));
    let digits = format!("{digits:0<before$}");
    let (whole, part) = digits.split_at_checked(before)?;
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(match (whole, part) {
        ("0", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        (whole, part) => format!("{sign}{whole}.{part}"),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::arguments::{Arguments, Command};

    #[test]
    fn amounts_are_compared_as_numbers() {
        for (text, short) in [
            ("1.50", "1.5"),
            ("001", "1"),
            ("0.000", "0"),
            ("-0", "0"),
            ("1e-8", "0.00000001"),
            ("1.25E3", "1250"),
            ("-12.340", "-12.34"),
            (".5", "0.5"),
            ("9100", "9100"),
            ("12345e-8", "0.00012345"),
        ] {
            assert_eq!(shortest_decimal(text).as_deref(), Ok(short), "{text}");
        }
        for bad in ["", "-", "1,5", "abc", "1e99", "1.2.3", "NaN"] {
            assert!(shortest_decimal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_digit_of_a_number_is_lost() {
        let what = shadow_at("/wallet/items~1all/0");
        let old = |avail: &str| {
            let body = format!(
                r#"{{"wallet": {{"items/all": [[{{"asset": "BTC", "avail": {avail}, "frozen": "0.0"}}]]}}}}"#
            );
            ShadowBalances::of_other(body.as_bytes(), &what)
        };
        let new = ShownBalance {
            asset: "BTC".to_owned(),
            avail: "12345678901.12345678".to_owned(),
            frozen: "0".to_owned(),
            seq: 1,
            updated_at: None,
            unit: None,
        };
        let new = ShadowBalances::of_service(&[new]).unwrap();
        for same in [
            "12345678901.12345678",
            "1234567890112345678e-8",
            "\"12345678901.123456780\"",
        ] {
            assert_eq!(old(same).as_ref(), Ok(&new), "{same}");
        }
        assert_ne!(old("12345678901.12345679").as_ref(), Ok(&new));
        for bad in ["null", "true", "[1]"] {
            let told = old(bad).unwrap_err();
            assert_eq!(told, "an element has no avail", "{bad}");
        }
        let nowhere = ShadowBalances::of_other(b"{}", &what).unwrap_err();
        assert_eq!(nowhere, "its answer has no list at /wallet/items~1all/0");
        let list = ShadowBalances::of_other(b"[]", &what);
        assert_eq!(list, Ok(ShadowBalances::default()));
    }

    fn shadow_at(list: &str) -> Shadow {
        let old = ["--users", "-", "--old", "http://old/{user}"];
        let words = ["balance-cache", "shadow", "--old-list", list];
        let words = words.into_iter().chain(old);
        match Arguments::try_parse_from(words).unwrap().command {
            Some(Command::Shadow(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_asset_that_is_left_out_equals_one_without_anything() {
        let of = |list: &[(&str, &str)]| {
            let amounts = |avail: &str| (avail.to_owned(), "0".to_owned());
            let all = list
                .iter()
                .map(|(name, avail)| ((*name).to_owned(), amounts(avail)));
            ShadowBalances(all.collect())
        };
        let new = of(&[("BTC", "1"), ("ETH", "0")]);
        assert!(
            new.list_differences(&of(&[("BTC", "1"), ("USDT", "0")]))
                .is_empty()
        );
        let told = new.list_differences(&of(&[("ETH", "2")]));
        assert_eq!(
            told,
            [
                "BTC: old nothing; new avail 1, frozen 0",
                "ETH: old avail 2, frozen 0; new avail 0, frozen 0"
            ]
        );
    }
}
