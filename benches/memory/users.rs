//! Users as they are: three assets each, with amounts, seqs and times of the usual length.

use balance_cache::domain::{
    Amount, Asset, AssetId, Balance, Catalogue, Seq, Snapshot, UnixMillis, UserId,
};

/// A moment of late 2025.
pub const NOW: i64 = 1_765_352_441_955;

/// BTC, USDT and ETH, as configured by default.
pub fn catalogue() -> Catalogue {
    let assets = [
        Asset::new(1, "BTC", 8),
        Asset::new(2, "USDT", 8),
        Asset::new(3, "ETH", 8),
    ];
    Catalogue::new(&assets, &[]).unwrap()
}

/// The user of that number.
pub fn user(number: i64) -> UserId {
    UserId::new(1_000_000 + number).unwrap()
}

/// What that user has: up to 10 BTC and 100 ETH in full precision, up to a million USDT in cents, a tenth of it frozen for
/// every other user, after up to a million changes.
pub fn snapshot(number: i64) -> Snapshot {
    let some = |salt: i64, below: i64| {
        let mixed = (number + 1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed())
            .wrapping_add(salt.wrapping_mul(0x5851_F42D_4C95_7F2D));
        (mixed ^ (mixed >> 29)).rem_euclid(below)
    };
    let balance = |asset: i32, below: i64, unit: i64| {
        let salt = i64::from(asset) * 4;
        let avail = some(salt, below / unit) * unit;
        let frozen = if number % 2 == 0 {
            0
        } else {
            avail / unit / 10 * unit
        };
        Balance {
            asset: AssetId::new(asset).unwrap(),
            seq: Seq::new(1 + some(salt + 1, 1_000_000)).unwrap(),
            avail: Amount::from_raw(avail),
            frozen: Amount::from_raw(frozen),
            updated_at: Some(UnixMillis(NOW - some(salt + 2, 1_000_000_000))),
            said_at: UnixMillis(NOW + number / 1_000),
        }
    };
    Snapshot::new(vec![
        balance(1, 1_000_000_000, 1),
        balance(2, 100_000_000_000_000, 1_000_000),
        balance(3, 10_000_000_000, 1),
    ])
}
