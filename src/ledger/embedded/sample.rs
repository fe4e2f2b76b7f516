//! The history of the sample users: fixed, so that every new ledger and every page of documentation show the same.

use crate::domain::{Amount, AssetId, Entry, Seq, UnixMillis, UserId};

/// The events, in tenths of a user's unit of the asset: change of avail, change of frozen, and the seq.
const HISTORY: [(&str, i64, i64, i64); 6] = [
    ("deposit", 80, 0, 2),
    ("trade", 30, 0, 3),
    ("withdraw", -20, 0, 5),
    ("order", -20, 20, 9),
    ("trade", 0, -20, 12),
    ("deposit", 21, 0, 17),
];

/// BTC, USDT and ETH: id, and a tenth of the unit of the richest user, in raw units at 8 decimals.
const ASSETS: [(i32, i64); 3] = [
    (1, 10_000_000_000),
    (2, 500_000_000_000),
    (3, 100_000_000_000),
];

/// User 1001 has tenths of ten parts, 1010 of one.
const USERS: std::ops::RangeInclusive<i64> = 1001..=1010;

/// The newest row of user 1001 in BTC: 10 December 2025.
const NEWEST: i64 = 1_765_352_441_955;
const HOUR_MS: i64 = 3_600_000;

/// All rows, oldest first within a user's asset. 1001 ends with 9100 BTC at seq 17.
pub(super) fn sample_entries() -> Vec<Entry> {
    USERS
        .flat_map(|user| ASSETS.map(|(asset, unit)| sample_history(user, asset, unit)))
        .flatten()
        .flatten()
        .collect()
}

fn sample_history(user: i64, asset: i32, unit: i64) -> [Option<Entry>; 6] {
    let place = user.saturating_sub(*USERS.start());
    let share = unit.saturating_mul(10_i64.saturating_sub(place)) / 10;
    let later = place.saturating_add(i64::from(asset)).saturating_sub(1);
    let (mut avail, mut frozen) = (0_i64, 0_i64);
    HISTORY.map(|(event, avail_parts, frozen_parts, seq)| {
        let delta_avail = share.saturating_mul(avail_parts);
        let delta_frozen = share.saturating_mul(frozen_parts);
        avail = avail.saturating_add(delta_avail);
        frozen = frozen.saturating_add(delta_frozen);
        let age = 17_i64.saturating_sub(seq).saturating_add(later);
        Some(Entry {
            user: UserId::new(user).ok()?,
            asset: AssetId::new(asset).ok()?,
            seq: Seq::new(seq.saturating_add(later)).ok()?,
            avail: Amount::from_raw(avail),
            frozen: Amount::from_raw(frozen),
            delta_avail: Some(Amount::from_raw(delta_avail)),
            delta_frozen: Some(Amount::from_raw(delta_frozen)),
            event_type: Some(event.to_owned()),
            ref_id: Some(user.saturating_mul(1000).saturating_add(seq)),
            created_at: Some(UnixMillis(
                NEWEST.saturating_sub(age.saturating_mul(HOUR_MS)),
            )),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_user_has_three_assets_whose_running_balances_add_up() {
        let all = sample_entries();
        assert_eq!(all.len(), 10 * 3 * HISTORY.len());
        let mut newest = Vec::new();
        for history in all.chunks(HISTORY.len()) {
            let (mut avail, mut frozen, mut seq, mut at) = (0, 0, 0, 0);
            for entry in history {
                avail += entry.delta_avail.unwrap().raw();
                frozen += entry.delta_frozen.unwrap().raw();
                assert_eq!((entry.avail.raw(), entry.frozen.raw()), (avail, frozen));
                assert!(avail > 0 && frozen >= 0);
                assert!(entry.seq.get() > seq && entry.created_at.unwrap().0 > at);
                (seq, at) = (entry.seq.get(), entry.created_at.unwrap().0);
            }
            newest.push(history.last().unwrap());
        }
        let btc = newest[0];
        assert_eq!((btc.user.get(), btc.asset.get()), (1001, 1));
        assert_eq!((btc.avail.raw(), btc.frozen.raw()), (910_000_000_000, 0));
        assert_eq!(
            (btc.seq.get(), btc.created_at),
            (17, Some(UnixMillis(NEWEST)))
        );
    }
}
