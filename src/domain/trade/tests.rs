use proptest::prelude::*;

use super::*;
use crate::domain::{Asset, BalanceHead, Symbol};

fn test_catalogue(decimals: u8) -> Catalogue {
    let symbol = Symbol::new(1, "BTC_USDT", "BTC", "USDT");
    Catalogue::new(
        &[Asset::new(1, "BTC", decimals), Asset::new(2, "USDT", 8)],
        &[symbol],
    )
    .unwrap()
}

const PLAIN: &str = r#"{"trade_id":7,"symbol":"BTC_USDT","buyer_user_id":1001,"seller_user_id":1002,"price":5000000000000,"quantity":1000000,"settled_at":1765352441955}"#;

fn trade_with(more: &str) -> String {
    format!("{},{more}}}", PLAIN.trim_end_matches('}'))
}

fn parse_trade(json: &str) -> Result<Transaction, String> {
    Trade::parse_trade(json, &test_catalogue(8))
}

/// (user, asset, `delta_avail`, `delta_frozen`)
fn trade_changes(trade: &Transaction) -> Vec<(i64, i32, i128, i128)> {
    let changes = trade.changes.iter();
    changes
        .map(|change| {
            (
                change.user.get(),
                change.asset.get(),
                change.delta_avail,
                change.delta_frozen,
            )
        })
        .collect()
}

#[test]
fn seed_fault_17_a_trade_of_a_hundredth_bitcoin_at_50000_costs_500() {
    let trade = parse_trade(PLAIN).unwrap();
    assert_eq!(trade.trade.as_ref().unwrap().cost, 50_000_000_000);
    assert_eq!(
        trade_changes(&trade),
        [
            (1001, 1, 1_000_000, 0),
            (1001, 2, -50_000_000_000, 0),
            (1002, 1, -1_000_000, 0),
            (1002, 2, 50_000_000_000, 0),
        ]
    );
    assert_eq!(trade.created_at, Some(UnixMillis(1_765_352_441_955)));
    assert_eq!(trade.event_type, "trade");
}

#[test]
fn each_side_pays_from_where_it_says_and_fees_go_from_avail_to_avail() {
    let trade = parse_trade(&trade_with(
        r#""buyer_pays_from":"frozen","seller_pays_from":"frozen","fees":[{"user_id":1001,"asset_id":1,"amount":10,"to_user_id":1},{"user_id":1002,"asset_id":2,"amount":20,"to_user_id":1}]"#,
    ))
    .unwrap();
    assert_eq!(
        trade_changes(&trade),
        [
            (1, 1, 10, 0),
            (1, 2, 20, 0),
            (1001, 1, 999_990, 0),
            (1001, 2, 0, -50_000_000_000),
            (1002, 1, 0, -1_000_000),
            (1002, 2, 49_999_999_980, 0),
        ]
    );
}

#[test]
fn seed_fault_05_a_trade_with_oneself_has_one_entry_for_each_asset_and_each_has_a_row() {
    let own = parse_trade(&PLAIN.replace("1002", "1001")).unwrap();
    assert_eq!(trade_changes(&own), [(1001, 1, 0, 0), (1001, 2, 0, 0)]);
    let rows = own.rows_above(&[None, None], UnixMillis(0)).unwrap();
    assert_eq!(rows.len(), 2, "nothing is lowered, so nothing refuses");
    assert!(rows.iter().all(|row| row.seq.get() == 1));
}

#[test]
fn a_given_cost_is_the_computed_one_or_one_more() {
    let content = |json: &str| parse_trade(json).map(|trade| trade.content);
    let none = content(PLAIN).unwrap();
    assert_eq!(content(&trade_with(r#""cost":50000000000"#)).unwrap(), none);
    assert_ne!(content(&trade_with(r#""cost":50000000001"#)).unwrap(), none);
    for bad in ["49999999999", "50000000002", "0", "-1"] {
        let what = parse_trade(&trade_with(&format!(r#""cost":{bad}"#))).unwrap_err();
        assert!(what.contains("cost"), "{what}");
    }
}

#[test]
fn the_same_trade_with_its_defaults_written_out_is_the_same() {
    let content = |json: &str| parse_trade(json).unwrap().content;
    let fees = |first: &str, second: &str| trade_with(&format!(r#""fees":[{first},{second}]"#));
    let (one, other) = (
        r#"{"user_id":1001,"asset_id":1,"amount":1,"to_user_id":1}"#,
        r#"{"user_id":1002,"asset_id":1,"amount":1,"to_user_id":1}"#,
    );
    assert_eq!(content(&fees(one, other)), content(&fees(other, one)));
    assert_ne!(content(&fees(one, other)), content(&fees(one, one)));
    let written = trade_with(
        r#""fees":[],"buyer_pays_from":"avail","seller_pays_from":null,"buyer_order_id":null"#,
    );
    assert_eq!(content(&written), content(PLAIN));
    assert_ne!(
        content(&trade_with(r#""buyer_order_id":1"#)),
        content(PLAIN)
    );
    assert_ne!(
        content(&trade_with(r#""buyer_pays_from":"frozen""#)),
        content(PLAIN)
    );
}

#[test]
fn what_is_no_trade_is_refused() {
    let fee = |fee: &str| trade_with(&format!(r#""fees":[{fee}]"#));
    let cases = [
        (PLAIN.replace("BTC_USDT", "BTC_EUR"), "unknown symbol"),
        (
            PLAIN.replace("\"price\":5000000000000", "\"price\":0"),
            "price",
        ),
        (
            PLAIN.replace("\"quantity\":1000000", "\"quantity\":-1"),
            "quantity",
        ),
        (PLAIN.replace("5000000000000", "99"), "cost of 0"),
        (
            PLAIN
                .replace("5000000000000", "9223372036854775807")
                .replace(":1000000,", ":1000000000,"),
            "above 2^63",
        ),
        (PLAIN.replace("1001", "0"), "buyer_user_id"),
        (PLAIN.replace("1002", "-5"), "seller_user_id"),
        (
            PLAIN.replace(",\"settled_at\":1765352441955", ""),
            "settled_at",
        ),
        (PLAIN.replace("1765352441955", "-1"), "settled_at"),
        (trade_with(r#""overdraft":true"#), "overdraft"),
        (trade_with(r#""buyer_pays_from":"both""#), "both"),
        (
            fee(r#"{"user_id":1,"asset_id":1,"amount":0,"to_user_id":2}"#),
            "fees[0]: amount",
        ),
        (
            fee(r#"{"user_id":1,"asset_id":1,"amount":1,"to_user_id":1}"#),
            "fees[0]: to_user_id",
        ),
        (
            fee(r#"{"user_id":1,"asset_id":1,"amount":1,"to_user_id":2,"x":1}"#),
            "fees[0]",
        ),
        (fee("[1,1,1,2]"), "fees[0]"),
        (
            trade_with(&format!(r#""fees":[{}]"#, ["{}"; 5].join(","))),
            "more than 4",
        ),
        (trade_with(r#""balances":[]"#), "balances"),
    ];
    for (json, says) in cases {
        let what = parse_trade(&json).unwrap_err();
        assert!(what.contains(says), "{json}: {what}");
    }
}

#[test]
fn given_balances_name_each_pair_that_is_touched_once() {
    let balance = |user: i64, asset: i32| {
        format!(r#"{{"user_id":{user},"asset_id":{asset},"seq":5,"avail":1,"frozen":0}}"#)
    };
    let all =
        [(1002, 2), (1001, 1), (1001, 2), (1002, 1)].map(|(user, asset)| balance(user, asset));
    let of = |balances: &[String]| {
        parse_trade(&trade_with(&format!(
            r#""balances":[{}]"#,
            balances.join(",")
        )))
    };
    let trade = of(&all).unwrap();
    assert_eq!(trade.content, parse_trade(PLAIN).unwrap().content);
    let given = trade.balances.clone().unwrap();
    assert_eq!(given.len(), 4);
    let row = given[0].row_of(&trade);
    assert_eq!(
        (row.user.get(), row.asset.get(), row.seq.get()),
        (1001, 1, 5)
    );
    assert_eq!(row.delta_avail, Some(Amount::from_raw(1_000_000)));
    assert!(of(&all[1..]).is_err(), "too few");
    assert!(
        of(&[all.to_vec(), vec![balance(1, 1)]].concat()).is_err(),
        "too many"
    );
    assert!(
        of(&[all.to_vec(), vec![all[0].clone()]].concat()).is_err(),
        "one twice"
    );
}

fn any_fee() -> impl Strategy<Value = String> {
    (1..4_i64, 1..4_i32, 1..i64::MAX, 1..4_i64)
        .prop_filter("other users", |(from, _, _, to)| from != to)
        .prop_map(|(from, asset, amount, to)| {
            format!(
                r#"{{"user_id":{from},"asset_id":{asset},"amount":{amount},"to_user_id":{to}}}"#
            )
        })
}

proptest! {
    #[test]
    fn every_trade_keeps_the_sum_of_each_asset(
        users in (1..4_i64, 1..4_i64),
        price in 1..i64::MAX,
        quantity in 1..i64::MAX,
        decimals in 0_u8..=18,
        frozen in any::<(bool, bool)>(),
        one_more: bool,
        fees in proptest::collection::vec(any_fee(), 0..4),
    ) {
        let from = |frozen| if frozen { "frozen" } else { "avail" };
        let exact = i128::from(price) * i128::from(quantity) / 10_i128.pow(u32::from(decimals));
        let cost = i64::try_from(exact + i128::from(one_more)).ok();
        let json = format!(
            r#"{{"trade_id":7,"symbol":"BTC_USDT","buyer_user_id":{},"seller_user_id":{},"price":{price},"quantity":{quantity},"settled_at":1,"cost":{},"buyer_pays_from":"{}","seller_pays_from":"{}","fees":[{}]}}"#,
            users.0, users.1, cost.unwrap_or(1), from(frozen.0), from(frozen.1), fees.join(",")
        );
        let parsed = Trade::parse_trade(&json, &test_catalogue(decimals));
        let valid = cost.is_some() && (1..=i128::from(i64::MAX)).contains(&exact);
        prop_assert_eq!(parsed.is_ok(), valid, "{:?}", parsed.as_ref().err());
        if let Ok(trade) = parsed {
            for asset in 1..4 {
                let sum: i128 = trade.changes.iter()
                    .filter(|change| change.asset.get() == asset)
                    .map(|change| change.delta_avail + change.delta_frozen)
                    .sum();
                prop_assert_eq!(sum, 0);
            }
            // Where all of it can be paid, the rows move exactly so much.
            let heads: Vec<_> = trade.changes.iter().map(|_| Some(BalanceHead {
                seq: Seq::new(4).unwrap(),
                avail: Amount::from_raw(i64::MAX / 2),
                frozen: Amount::from_raw(i64::MAX / 2),
            })).collect();
            if let Ok(rows) = trade.rows_above(&heads, UnixMillis(0)) {
                prop_assert_eq!(rows.len(), trade.changes.len());
                for (row, change) in rows.iter().zip(&trade.changes) {
                    prop_assert_eq!(i128::from(row.avail.raw()), i128::from(i64::MAX / 2) + change.delta_avail);
                    prop_assert_eq!(i128::from(row.frozen.raw()), i128::from(i64::MAX / 2) + change.delta_frozen);
                    prop_assert_eq!(row.seq.get(), 5);
                }
            }
        }
    }
}
