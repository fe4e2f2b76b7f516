//! The value of balances in one asset: exact decimals of any length, rounded once at the end.
//!
//! **Invariants.** Products and sums are exact: an amount has at most 20 digits and a rate at most 80, and nothing cuts them. Each
//! value, and the total, is rounded half to even once, to the decimals of the quote. So the total may differ from the sum of the
//! values that are shown, by less than one raw unit for each.

use bigdecimal::{BigDecimal, RoundingMode, Zero};

use crate::domain::{
    Amount, AssetId, Balance, CatalogueTable, Rate, Rates, Snapshot, UnixMillis,
    total::wide_decimal,
};

/// The value of a user's balances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valuation {
    /// The value of all priced balances, as a canonical decimal.
    pub total: String,
    /// Balances that have a rate, by asset id.
    pub priced: Vec<PricedBalance>,
    /// Assets of the user without a rate, ascending.
    pub unpriced: Vec<AssetId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricedBalance {
    pub asset: AssetId,
    /// `avail + frozen` as a canonical decimal; raw units where the catalogue does not know the asset.
    pub amount: String,
    /// The value of one whole unit.
    pub rate: Rate,
    /// `amount × rate`, rounded.
    pub value: String,
    /// When the rate was made; none for the quote itself.
    pub rate_at: Option<UnixMillis>,
}

/// The value of these balances in `quote`, which has `decimals`. The quote itself counts at rate 1, whatever `rates` say.
pub fn value_balances(
    snapshot: &Snapshot,
    (quote, decimals): (AssetId, u8),
    rates: &Rates,
    catalogue: &CatalogueTable,
) -> Valuation {
    let mut total = BigDecimal::zero();
    let (mut priced, mut unpriced) = (Vec::new(), Vec::new());
    for balance in snapshot.balances() {
        let (rate, rate_at) = if balance.asset == quote {
            (Rate::one(), None)
        } else if let Some(dated) = rates.0.get(&balance.asset) {
            (dated.rate.clone(), Some(dated.at))
        } else {
            unpriced.push(balance.asset);
            continue;
        };
        let scale = catalogue
            .get_asset(balance.asset)
            .map_or(0, |(_, decimals)| decimals);
        let raw = raw_amount(balance);
        let exact = multiply_exactly(raw, scale, &rate);
        priced.push(PricedBalance {
            asset: balance.asset,
            amount: wide_decimal(raw, scale),
            rate,
            value: round_down(&exact, decimals),
            rate_at,
        });
        total = add_exactly(&total, &exact);
    }
    Valuation {
        total: round_down(&total, decimals),
        priced,
        unpriced,
    }
}

/// Two numbers of 64 bits: their sum always fits.
fn raw_amount(balance: &Balance) -> i128 {
    let raw = |amount: Amount| i128::from(amount.raw());
    raw(balance.avail).saturating_add(raw(balance.frozen))
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "decimals of any length: nothing overflows or is cut"
)]
fn multiply_exactly(raw: i128, scale: u8, rate: &Rate) -> BigDecimal {
    BigDecimal::new(raw.into(), i64::from(scale)) * rate.as_decimal()
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "decimals of any length: nothing overflows or is cut"
)]
fn add_exactly(one: &BigDecimal, other: &BigDecimal) -> BigDecimal {
    one + other
}

/// The canonical decimal with at most so many digits behind the point.
fn round_down(exact: &BigDecimal, decimals: u8) -> String {
    exact
        .with_scale_round(i64::from(decimals), RoundingMode::HalfEven)
        .normalized()
        .to_plain_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Asset, DatedRate};

    fn test_asset(id: i32) -> AssetId {
        AssetId::new(id).unwrap()
    }

    fn test_catalogue() -> CatalogueTable {
        let assets = [
            Asset::new(1, "BTC", 8),
            Asset::new(2, "USDT", 2),
            Asset::new(3, "ETH", 18),
        ];
        CatalogueTable::new(&assets, &[]).unwrap()
    }

    fn test_snapshot(balances: &[(i32, i64, i64)]) -> Snapshot {
        let balance = |(id, avail, frozen): &(i32, i64, i64)| Balance {
            frozen: Amount::from_raw(*frozen),
            ..Balance::sample_of(*id, 1, *avail)
        };
        Snapshot::new(balances.iter().map(balance).collect())
    }

    fn test_rates(all: &[(i32, &str)]) -> Rates {
        let mut rates = Rates::default();
        for (id, rate) in all {
            let rate = DatedRate {
                rate: rate.parse().unwrap(),
                at: UnixMillis(7),
            };
            rates.offer_rate(test_asset(*id), rate);
        }
        rates
    }

    /// In USDT, with two decimals.
    fn value_of(balances: &[(i32, i64, i64)], known: &[(i32, &str)]) -> Valuation {
        value_balances(
            &test_snapshot(balances),
            (test_asset(2), 2),
            &test_rates(known),
            &test_catalogue(),
        )
    }

    #[test]
    fn values_are_rounded_half_to_even_once() {
        for (raw, shown) in [
            (50_000, "0"),
            (50_001, "0.01"),
            (150_000, "0.02"),
            (250_000, "0.02"),
            (-150_000, "-0.02"),
            (-50_000, "0"),
        ] {
            // A raw unit of BTC is worth 10^-7 USDT.
            let valued = value_of(&[(1, raw, 0)], &[(1, "10")]);
            assert_eq!(valued.priced[0].value, shown, "{raw}");
        }
        // Three values that are each rounded down, and a total that is not made of them.
        let valued = value_of(
            &[(1, 40_000, 0), (3, 4_000_000_000_000_000, 0), (9, 4, 0)],
            &[(1, "10"), (3, "1"), (9, "0.001")],
        );
        let shown: Vec<_> = valued.priced.iter().map(|one| one.value.as_str()).collect();
        assert_eq!(shown, ["0", "0", "0"]);
        assert_eq!(valued.total, "0.01");
    }

    #[test]
    fn the_quote_counts_at_one_and_what_has_no_rate_is_named() {
        let valued = value_of(
            &[
                (1, 910_000_000_000, 5_000_000),
                (2, 12_345, -45),
                (3, 0, 0),
                (9, 7, 0),
            ],
            &[(1, "50000.5"), (2, "99")],
        );
        assert_eq!(valued.unpriced, [test_asset(3), test_asset(9)]);
        let shown: Vec<_> = valued
            .priced
            .iter()
            .map(|one| {
                (
                    one.amount.as_str(),
                    one.rate.to_string(),
                    one.value.as_str(),
                    one.rate_at,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                (
                    "9100.05",
                    "50000.5".to_owned(),
                    "455007050.02",
                    Some(UnixMillis(7))
                ),
                ("123", "1".to_owned(), "123", None),
            ]
        );
        assert_eq!(valued.total, "455007173.02");
        assert_eq!(value_of(&[], &[(1, "2")]).total, "0");
    }

    #[test]
    fn the_greatest_amounts_and_longest_rates_lose_no_digit() {
        let longest = format!("{}.{}", "9".repeat(40), "9".repeat(40));
        let valued = value_of(&[(9, i64::MAX, i64::MAX)], &[(9, &longest)]);
        // (2^64 − 2) × (10^40 − 10^−40): what is taken away is far below half a cent.
        assert_eq!(
            valued.total,
            format!("18446744073709551614{}", "0".repeat(40))
        );
        assert_eq!(valued.priced[0].rate.to_string(), longest);
        let smallest = format!("0.{}1", "0".repeat(39));
        assert_eq!(
            value_of(&[(9, i64::MIN, i64::MIN)], &[(9, &smallest)]).total,
            "0"
        );
    }

    proptest! {
        /// Against integers: rates of whole thousandths, in a quote of two decimals.
        #[test]
        fn values_are_those_of_integer_arithmetic(avail: i64, frozen: i64, thousandths in 1_i64..10_000_000_000) {
            let rate = wide_decimal(thousandths.into(), 3);
            let valued = value_of(&[(9, avail, frozen)], &[(9, &rate)]);
            let exact = (i128::from(avail) + i128::from(frozen)) * i128::from(thousandths);
            let (down, rest) = (exact.div_euclid(10), exact.rem_euclid(10));
            let cents = match rest {
                0..=4 => down,
                5 => down + down.rem_euclid(2),
                _ => down + 1,
            };
            prop_assert_eq!(&valued.total, &wide_decimal(cents, 2));
            prop_assert_eq!(&valued.priced[0].value, &valued.total);
        }
    }
}
