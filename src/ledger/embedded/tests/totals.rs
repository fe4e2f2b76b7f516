use rand::{Rng, SeedableRng, rngs::StdRng};
use redb::TableDefinition;

use super::{transactions::test_catalogue, *};
use crate::{
    domain::{AssetSum, Trade},
    ledger::{ScannedTotals, TotalsScan},
};

type TotalsBalanceRow = (i64, i64, i64, Option<i64>);
const BALANCES: TableDefinition<(i64, i32), TotalsBalanceRow> =
    TableDefinition::new("user_balances");
const TOTALS: TableDefinition<i32, (i128, i128, u64)> = TableDefinition::new("balance_totals");

const USERS: std::ops::RangeInclusive<i64> = 1..=40;
const ASSETS: [i32; 3] = [1, 2, 9];

async fn scan_ledger(ledger: &Embedded) -> ScannedTotals {
    let scan = TotalsScan::begin_scan(u32::MAX);
    ledger.scan_totals(&scan).await.unwrap()
}

/// The sums of what each user has, by the ledger's newest rows.
async fn sum_users(ledger: &Embedded) -> BTreeMap<AssetId, AssetSum> {
    let mut sums: BTreeMap<AssetId, AssetSum> = BTreeMap::new();
    for id in USERS {
        let latest = load_newest(ledger, id, &ASSETS).await;
        for balance in latest.balances() {
            let sum = sums.entry(balance.asset).or_default();
            sum.avail += i128::from(balance.avail.raw());
            sum.frozen += i128::from(balance.frozen.raw());
            sum.users += 1;
        }
    }
    sums
}

/// One of many kinds: deposits, transfers with a hold, trades; refused ones and repetitions among them.
fn random_transaction(random: &mut StdRng, id: i64) -> Transaction {
    let mut any = || random.random_range(USERS);
    let (one, other) = (any(), any());
    let asset = ASSETS[random.random_range(0..ASSETS.len())];
    let amount = random.random_range(1..1_000_000_i64);
    let id = if random.random_bool(0.02) { 1 } else { id };
    let entry = |user: i64, avail: i64, frozen: i64| {
        format!(
            r#"{{"user_id":{user},"asset_id":{asset},"delta_avail":{avail},"delta_frozen":{frozen}}}"#
        )
    };
    let entries = match random.random_range(0..4) {
        0 => entry(one, amount, 0),
        1 => [entry(one, -amount, 0), entry(other, 0, amount)].join(","),
        2 => entry(one, -amount, amount),
        _ => {
            let json = format!(
                r#"{{"trade_id":{id},"symbol":"BTC_USDT","buyer_user_id":{one},"seller_user_id":{other},"price":200000000,"quantity":{amount},"settled_at":77}}"#
            );
            return Trade::parse_trade(&json, &test_catalogue()).unwrap();
        }
    };
    Transaction::parse_transaction(&format!(
        r#"{{"transaction_id":{id},"entries":[{entries}]}}"#
    ))
    .unwrap()
}

#[tokio::test]
async fn totals_equal_an_independent_sum_after_10_000_random_transactions() {
    let (_folder, ledger) = new_ledger();
    let mut random = StdRng::seed_from_u64(20_261_129);
    let mut written = 0_usize;
    for round in 0..20 {
        let ids = round * 500 + 1..=round * 500 + 500;
        let all: Vec<_> = ids.map(|id| random_transaction(&mut random, id)).collect();
        let outcomes = ledger.settle_transactions(&all).await.unwrap();
        let stands = |outcome: &&SettleOutcome| matches!(outcome, SettleOutcome::Written(_));
        written += outcomes.iter().filter(stands).count();
        // An external row, the newest of its pair or an older one.
        let seq = random.random_range(1..2_000);
        let row = test_entry(
            random.random_range(USERS),
            2,
            seq,
            random.random_range(0..1_000_000),
        );
        let _ = ledger.write_entries(&[row]).await;
        if round % 5 == 4 {
            let scanned = scan_ledger(&ledger).await;
            let expected = sum_users(&ledger).await;
            assert_eq!(scanned.totals.assets, expected, "round {round}");
            assert_eq!(scanned.maintained, Some(expected), "round {round}");
        }
    }
    assert!(written > 5_000, "{written}");
}

#[tokio::test]
async fn a_planted_wrong_row_is_found_and_is_gone_once_the_row_is_written_again() {
    let (folder, ledger) = new_ledger();
    let rows = [
        test_entry(1, 1, 5, 50),
        test_entry(2, 1, 5, 20),
        test_entry(2, 9, 1, 7),
    ];
    write_all(&ledger, &rows).await;
    drop(ledger);
    let file = open_file(&folder);
    let transaction = file.begin_write().unwrap();
    {
        let mut balances = transaction.open_table(BALANCES).unwrap();
        balances.insert((1, 1), (1_050, -50, 5, Some(5))).unwrap();
        balances.remove((2, 9)).unwrap();
    }
    transaction.commit().unwrap();
    drop(file);

    let ledger = open_ledger(&folder);
    let scanned = scan_ledger(&ledger).await;
    let maintained = scanned.maintained.unwrap();
    let asset = |id: i32| AssetId::new(id).unwrap();
    assert_eq!(scanned.totals.assets[&asset(1)].avail, 1_070);
    assert_eq!(maintained[&asset(1)].avail, 70);
    assert!(!scanned.totals.assets.contains_key(&asset(9)));
    assert_eq!(maintained[&asset(9)].users, 1);
    let newer = [test_entry(1, 1, 6, 60), test_entry(2, 9, 2, 8)];
    write_all(&ledger, &newer).await;
    let scanned = scan_ledger(&ledger).await;
    assert_eq!(scanned.maintained, Some(scanned.totals.assets));
}

#[tokio::test]
async fn totals_that_were_not_maintained_are_made_from_the_ledger_at_the_next_start() {
    let (folder, ledger) = new_ledger();
    let rows = [
        test_entry(1, 1, 5, 50),
        test_entry(1, 1, 9, 90),
        test_entry(2, 1, 5, 20),
    ];
    write_all(&ledger, &rows).await;
    let expected = sum_users(&ledger).await;
    assert_eq!(expected[&AssetId::new(1).unwrap()].avail, 110);
    drop(ledger);
    for older_version in [true, false] {
        let file = open_file(&folder);
        let transaction = file.begin_write().unwrap();
        if older_version {
            // It has written fewer rows into the totals than into the ledger.
            let mut totals = transaction.open_table(TOTALS).unwrap();
            totals.insert(0, (2, 0, 0)).unwrap();
            totals.insert(1, (1, 1, 1)).unwrap();
        } else {
            transaction.delete_table(TOTALS).unwrap();
        }
        transaction.commit().unwrap();
        drop(file);
        let ledger = open_ledger(&folder);
        assert_eq!(
            scan_ledger(&ledger).await.maintained.as_ref(),
            Some(&expected)
        );
        drop(ledger);
    }
}

#[expect(clippy::disallowed_methods, reason = "a task of the test")]
#[tokio::test]
async fn a_scan_sees_one_moment_whatever_is_written_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open_ledger(&folder));
    let rows: Vec<_> = (1..=2_000).map(|id| test_entry(id, 1, 1, 1)).collect();
    write_all(&ledger, &rows).await;
    // Ten steps, each of them a fifth of a second.
    let pace = Arc::new(TotalsScan::begin_scan(1_000));
    let (scanned, reader) = (Arc::clone(&pace), Arc::clone(&ledger));
    let scan = tokio::spawn(async move { reader.scan_totals(&scanned).await.unwrap() });
    while pace.rows_read() == 0 {
        tokio::task::yield_now().await;
    }
    let more: Vec<_> = (1..=2_000).map(|id| test_entry(id, 1, 2, 5)).collect();
    write_all(&ledger, &more).await;
    let scanned = scan.await.unwrap();
    let total = scanned.totals.assets[&AssetId::new(1).unwrap()];
    assert_eq!((total.avail, total.users), (2_000, 2_000));
    assert_eq!(scanned.maintained, Some(scanned.totals.assets));
}
