//! Numbers that name things, each in its range from the moment it exists.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// A text or number that is not the id it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be a whole number from 1 to {max}, without a sign or leading zeros")]
pub struct MalformedId {
    what: &'static str,
    max: &'static str,
}

/// Decimal digits without a sign or a leading zero: the only spelling of a number that is accepted from outside.
fn canonical_digits(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

macro_rules! positive_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The highest value there is.
            pub const MAX: Self = Self(<$inner>::MAX);

            /// The number, checked: at least 1.
            /// Errors: [`MalformedId`] for zero and below.
            pub const fn new(number: $inner) -> Result<Self, MalformedId> {
                if number >= 1 { Ok(Self(number)) } else { Err(Self::malformed_id()) }
            }

            /// The number as the database and the wire hold it.
            pub const fn get(self) -> $inner {
                self.0
            }

            const fn malformed_id() -> MalformedId {
                MalformedId { what: $what, max: $max }
            }
        }

        impl TryFrom<i64> for $name {
            type Error = MalformedId;

            fn try_from(number: i64) -> Result<Self, MalformedId> {
                <$inner>::try_from(number).map_err(|_| Self::malformed_id()).and_then(Self::new)
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(text: &str) -> Result<Self, MalformedId> {
                if !canonical_digits(text) {
                    return Err(Self::malformed_id());
                }
                text.parse::<$inner>().map_err(|_| Self::malformed_id()).and_then(Self::new)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

positive_id! {
    /// A user: 1 … 2^63−1.
    UserId(i64), "user_id", "9223372036854775807"
}

impl UserId {
    /// A number below `parts`, at most 2^32 of them: evenly spread whatever the ids have in common (Fibonacci hashing, Knuth).
    #[inline]
    pub fn part_of(self, parts: usize) -> usize {
        let spread = self.0.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let high = spread.wrapping_shr(32);
        let parts = u64::try_from(parts).unwrap_or(0);
        usize::try_from(high.wrapping_mul(parts).wrapping_shr(32)).unwrap_or(0)
    }
}

positive_id! {
    /// An asset: 1 … 2^31−1.
    AssetId(i32), "asset_id", "2147483647"
}

positive_id! {
    /// The version of one user's balance in one asset: 1 … 2^63−1, strictly increasing per (user, asset), not contiguous.
    Seq(i64), "seq", "9223372036854775807"
}

positive_id! {
    /// The caller's key of a transaction: 1 … 2^63−1. Trades have their own ([`TradeId`]).
    TransactionId(i64), "transaction_id", "9223372036854775807"
}

positive_id! {
    /// The caller's key of a trade: 1 … 2^63−1.
    TradeId(i64), "trade_id", "9223372036854775807"
}

/// Milliseconds since 1970 by the wall clock of its sender. Any signed 64-bit number: it is shown, never trusted.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// A moment that a writer names: not before 1970.
    /// Errors: the mistake, with the field's name, for the caller to read.
    pub fn parse_named(field: &str, millis: i64) -> Result<Self, String> {
        if millis < 0 {
            return Err(format!(
                "{field} must be at least 0: milliseconds since 1970"
            ));
        }
        Ok(Self(millis))
    }

    /// Whole seconds from this moment to `now`; 0 where the clocks disagree.
    pub fn seconds_until(self, now: Self) -> u64 {
        u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_only_their_canonical_spelling() {
        for bad in [
            "",
            "0",
            "-1",
            "+1",
            "01",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "9223372036854775808",
            "٣",
            "0x1",
        ] {
            assert!(bad.parse::<UserId>().is_err(), "{bad:?}");
            assert!(bad.parse::<Seq>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "9223372036854775807".parse::<UserId>().unwrap(),
            UserId::MAX
        );
        assert!("2147483648".parse::<AssetId>().is_err());
        assert_eq!("2147483647".parse::<AssetId>().unwrap(), AssetId::MAX);
    }

    #[test]
    fn an_age_is_never_negative() {
        assert_eq!(UnixMillis(5_000).seconds_until(UnixMillis(1_000)), 0);
        assert_eq!(UnixMillis(1_000).seconds_until(UnixMillis(3_999)), 2);
        assert_eq!(
            UnixMillis(i64::MIN).seconds_until(UnixMillis(i64::MAX)),
            9_223_372_036_854_775
        );
    }
}
