//! Rates: the worth of one whole unit of an asset in another asset, posted from outside.

use std::{collections::BTreeMap, fmt, str::FromStr};

use bigdecimal::BigDecimal;

use crate::domain::{AssetId, UnixMillis};

/// Digits of a rate before its point, and behind it, at most.
pub const RATE_DIGITS_MAX: usize = 40;

/// The latest `at` of a rate: the end of the year 9999, in ms. A time in microseconds would be later, and no rate could replace it.
pub const RATE_AT_MAX: i64 = 253_402_300_799_999;

/// The value of one whole unit of an asset in whole units of the quote: an exact decimal above 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate(BigDecimal);

/// A text that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "rate must be a decimal above 0 in a string, as \"50000.5\", with at most 40 digits before the point and 40 behind it, no sign, no exponent and no leading zeros"
)]
pub struct MalformedRate;

impl Rate {
    /// The rate of an asset in itself.
    pub fn one() -> Self {
        Self(BigDecimal::from(1))
    }

    pub(super) const fn as_decimal(&self) -> &BigDecimal {
        &self.0
    }
}

impl FromStr for Rate {
    type Err = MalformedRate;

    fn from_str(text: &str) -> Result<Self, MalformedRate> {
        let digits = |part: &str| {
            (1..=RATE_DIGITS_MAX).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let (whole, rest) = match text.split_once('.') {
            Some((whole, rest)) => (whole, Some(rest)),
            None => (text, None),
        };
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if !digits(whole) || leading_zero || !rest.is_none_or(digits) {
            return Err(MalformedRate);
        }
        if !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
            return Err(MalformedRate);
        }
        let decimal = BigDecimal::from_str(text).map_err(|_| MalformedRate)?;
        Ok(Self(decimal.normalized()))
    }
}

/// Canonical: no exponent, no trailing zeros.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_plain_string())
    }
}

/// A rate and when it was made, by its sender's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedRate {
    /// The value of one whole unit in the quote.
    pub rate: Rate,
    /// In ms since 1970: 0 … [`RATE_AT_MAX`].
    pub at: UnixMillis,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rates(pub BTreeMap<AssetId, DatedRate>);

impl Rates {
    /// Takes a rate over, unless a newer one is held. Of two of the same time the later call wins. Whether it did.
    pub fn offer_rate(&mut self, asset: AssetId, rate: DatedRate) -> bool {
        let news = self.0.get(&asset).is_none_or(|held| held.at <= rate.at);
        if news {
            self.0.insert(asset, rate);
        }
        news
    }
}

/// The fate of the rates of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RatesTaken {
    /// Rates that are in force now.
    pub applied: u64,
    /// Rates older than what was held.
    pub old: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_rate_is_a_plain_decimal_above_zero() {
        for (text, shown) in [
            ("50000.5", "50000.5"),
            ("1.500", "1.5"),
            (
                "0.00000000000000000000000000000000000012",
                "0.00000000000000000000000000000000000012",
            ),
            ("100", "100"),
            (
                "1000000000000000000000000000000",
                "1000000000000000000000000000000",
            ),
        ] {
            assert_eq!(test_rate(text).to_string(), shown);
            assert_eq!(test_rate(shown), test_rate(text));
        }
        let long = format!("1{}", "0".repeat(RATE_DIGITS_MAX));
        for bad in [
            "",
            "0",
            "0.0",
            "-1",
            "+1",
            "1e5",
            "1E5",
            ".5",
            "5.",
            "1_000",
            "01",
            "00.5",
            "1.2.3",
            " 1",
            "1 ",
            "NaN",
            "inf",
            "0x1",
            "１",
            long.as_str(),
        ] {
            assert_eq!(bad.parse::<Rate>(), Err(MalformedRate), "{bad}");
        }
    }

    #[test]
    fn the_newest_rate_wins_and_of_two_of_one_time_the_later_call() {
        let asset = AssetId::new(1).unwrap();
        let dated = |text: &str, at| DatedRate {
            rate: test_rate(text),
            at: UnixMillis(at),
        };
        let mut rates = Rates::default();
        assert!(rates.offer_rate(asset, dated("1", 5)));
        assert!(!rates.offer_rate(asset, dated("2", 4)));
        assert!(rates.offer_rate(asset, dated("3", 5)));
        assert_eq!(rates.0[&asset], dated("3", 5));
    }
}
