//! Sums over all users, which may need more than 64 bits.

use std::collections::BTreeMap;

use crate::domain::{Amount, AssetId, UnixMillis};

/// The sum of all users' balances in one asset, in raw units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AssetSum {
    /// The sum of what may be spent.
    pub avail: i128,
    /// The sum of what is held back.
    pub frozen: i128,
    /// Users that have a row in the asset, one of zero too.
    pub users: u64,
}

/// The totals of all assets that have a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    pub assets: BTreeMap<AssetId, AssetSum>,
    /// When the first row was read, in ms since 1970.
    pub began: UnixMillis,
    /// When the last row was read. The same moment where one snapshot was read.
    pub ended: UnixMillis,
}

impl AssetSum {
    /// Adds one user's balance; none where a sum does not fit into 128 bits.
    #[must_use]
    pub fn with_user(self, avail: Amount, frozen: Amount) -> Option<Self> {
        Some(Self {
            avail: self.avail.checked_add(i128::from(avail.raw()))?,
            frozen: self.frozen.checked_add(i128::from(frozen.raw()))?,
            users: self.users.checked_add(1)?,
        })
    }

    /// The distance to another total in raw units, `avail` and `frozen` together. Two totals that differ in users only are one
    /// unit apart.
    pub fn distance_to(&self, other: &Self) -> u128 {
        let units = self
            .avail
            .abs_diff(other.avail)
            .saturating_add(self.frozen.abs_diff(other.frozen));
        if units == 0 && self.users != other.users {
            1
        } else {
            units
        }
    }
}

/// The canonical decimal of `raw / 10^decimals`, as of [`Amount::to_decimal`], for sums.
pub fn wide_decimal(raw: i128, decimals: u8) -> String {
    let decimals = usize::from(decimals);
    let digits = format!(
        "{:0>width$}",
        raw.unsigned_abs(),
        width = decimals.saturating_add(1)
    );
    let (whole, rest) = digits.split_at(digits.len().saturating_sub(decimals));
    let rest = rest.trim_end_matches('0');
    let sign = if raw < 0 { "-" } else { "" };
    let point = if rest.is_empty() { "" } else { "." };
    [sign, whole, point, rest].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_beyond_64_bits_are_exact_and_canonical() {
        let most = Amount::from_raw(i64::MAX);
        let mut total = AssetSum::default();
        for _ in 0..3 {
            total = total.with_user(most, Amount::from_raw(-1)).unwrap();
        }
        assert_eq!(wide_decimal(total.avail, 8), "276701161105.64327421");
        assert_eq!(wide_decimal(total.frozen, 8), "-0.00000003");
        assert_eq!(total.users, 3);
        assert_eq!(
            wide_decimal(i128::MIN, 18),
            "-170141183460469231731.687303715884105728"
        );
        let full = AssetSum {
            avail: i128::MAX,
            ..total
        };
        assert_eq!(full.with_user(most, most), None);
    }

    #[test]
    fn totals_of_the_same_sums_and_other_users_are_not_equal() {
        let one = AssetSum {
            avail: 5,
            frozen: -5,
            users: 2,
        };
        assert_eq!(one.distance_to(&one), 0);
        assert_eq!(one.distance_to(&AssetSum { users: 3, ..one }), 1);
        let other = AssetSum {
            avail: -5,
            frozen: 5,
            users: 2,
        };
        assert_eq!(one.distance_to(&other), 20);
    }

    proptest! {
        #[test]
        fn a_sum_that_fits_is_written_as_an_amount_is(raw: i64, decimals in 0_u8..=Amount::DECIMALS_MAX) {
            prop_assert_eq!(wide_decimal(raw.into(), decimals), Amount::from_raw(raw).to_decimal(decimals).to_string());
        }
    }
}
