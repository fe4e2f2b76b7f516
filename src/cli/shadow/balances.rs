//! Balances of two gateways, as numbers that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cli::{arguments::Shadow, service_view::ShownBalance};

/// Places of an exponent that are followed: beyond them it is no amount.
const EXPONENT_MAX: i32 = 40;

/// Available and frozen.
type ShadowAmounts = (String, String);

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

    /// The balances in the other gateway's answer.
    pub(super) fn of_other(body: &[u8], what: &Shadow) -> Result<Self, String> {
        let answer: Value =
            serde_json::from_slice(body).map_err(|_| "its answer is no JSON".to_owned())?;
        let list = match &answer {
            Value::Array(list) => list,
            other => match other.pointer(&what.old_list) {
                Some(Value::Array(list)) => list,
                _ => return Err(format!("its answer has no list at {}", what.old_list)),
            },
        };
        let mut all = BTreeMap::new();
        for element in list {
            let of = |name: &str| {
                let field = element.get(name).and_then(text_of);
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

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
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
    use super::*;

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
