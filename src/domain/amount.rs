//! Money: a signed 64-bit number of raw units.

use std::fmt;

/// Raw units of an asset: a signed 64-bit integer. What a unit is worth is the catalogue's business (`decimals`).
/// Negative amounts exist (a correction that overshot) and are shown as negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i64);

/// `i64::MIN` has 19 digits; more decimals than that only add zeros in front.
const DECIMALS_MAX: u8 = 18;
/// The characters allowed between the point and the first other digit.
const ZEROS: &str = "00000000000000000";

impl Amount {
    /// The most decimals that an asset may have.
    pub const DECIMALS_MAX: u8 = DECIMALS_MAX;

    /// `raw` units.
    pub const fn from_raw(raw: i64) -> Self {
        Self(raw)
    }

    /// The raw units.
    pub const fn raw(self) -> i64 {
        self.0
    }

    /// Below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The canonical decimal of `raw / 10^decimals`: full precision, no exponent, no trailing zeros, no sign on zero.
    pub const fn to_decimal(self, decimals: u8) -> Decimal {
        Decimal {
            amount: self,
            decimals,
        }
    }

    /// Reads back what [`Amount::to_decimal`] writes; none for a text that does not fit.
    pub fn from_decimal(text: &str, decimals: u8) -> Option<Self> {
        let (digits, negative) = match text.strip_prefix('-') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
        let missing = usize::from(decimals).checked_sub(rest.len())?;
        let scale = |digits: u8| 10_u64.checked_pow(u32::from(digits));
        let number = |digits: &str| digits.parse::<u64>().ok();
        let rest = match rest {
            "" => 0,
            rest => number(rest)?.checked_mul(scale(u8::try_from(missing).ok()?)?)?,
        };
        let whole = number(whole)?.checked_mul(scale(decimals)?)?;
        let magnitude = whole.checked_add(rest)?;
        let raw = if negative {
            0_i64.checked_sub_unsigned(magnitude)
        } else {
            0_i64.checked_add_unsigned(magnitude)
        };
        raw.map(Self)
    }
}

/// An amount on its way to a reader; see [`Amount::to_decimal`].
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    amount: Amount,
    decimals: u8,
}

impl Decimal {
    /// Writes it.
    pub fn write_to(self, f: &mut impl fmt::Write) -> fmt::Result {
        let magnitude = self.amount.0.unsigned_abs();
        let scale = 10_u64.checked_pow(u32::from(self.decimals));
        let (whole, rest) = scale.map_or((0, magnitude), |scale| {
            (
                magnitude.checked_div(scale).unwrap_or(0),
                magnitude.checked_rem(scale).unwrap_or(0),
            )
        });
        let mut buffer = itoa::Buffer::new();
        if self.amount.is_negative() {
            f.write_str("-")?;
        }
        f.write_str(buffer.format(whole))?;
        if rest == 0 {
            return Ok(());
        }
        let digits = buffer.format(rest);
        let missing = usize::from(self.decimals).saturating_sub(digits.len());
        f.write_str(".")?;
        f.write_str(ZEROS.get(..missing).unwrap_or_default())?;
        f.write_str(digits.trim_end_matches('0'))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal_text(raw: i64, decimals: u8) -> String {
        Amount::from_raw(raw).to_decimal(decimals).to_string()
    }

    #[test]
    fn seed_fault_06_a_negative_amount_stays_negative() {
        assert_eq!(decimal_text(-1, 8), "-0.00000001");
        assert_eq!(decimal_text(i64::MIN, 8), "-92233720368.54775808");
    }

    #[test]
    fn seed_fault_07_amounts_are_canonical_and_keep_full_precision() {
        assert_eq!(decimal_text(910_000_000_000, 8), "9100");
        assert_eq!(decimal_text(12_345, 8), "0.00012345");
        assert_eq!(decimal_text(150_000_000, 8), "1.5");
        assert_eq!(decimal_text(0, 8), "0");
        assert_eq!(decimal_text(10, 0), "10");
        assert_eq!(decimal_text(i64::MAX, 18), "9.223372036854775807");
    }

    proptest! {
        #[test]
        fn a_decimal_reads_back_as_the_same_raw_amount(raw: i64, decimals in 0_u8..=DECIMALS_MAX) {
            let text = decimal_text(raw, decimals);
            prop_assert!(!text.contains(['e', 'E', '+']));
            let (negative, digits) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
            let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
            prop_assert!(!rest.ends_with('0'));
            prop_assert!(whole == "0" || !whole.starts_with('0'));
            let padded = format!("{whole}{rest:0<width$}", width = usize::from(decimals));
            let magnitude: i128 = padded.parse().unwrap();
            prop_assert_eq!(Amount::from_decimal(&text, decimals), Some(Amount::from_raw(raw)));
            prop_assert_eq!(if negative { -magnitude } else { magnitude }, i128::from(raw));
        }
    }
}
