use std::collections::BTreeSet;

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::*;
use crate::domain::{
    Asset, Catalogue, Conflict, PostedBalance, Receipt, RefusalReason, Symbol, Trade, TransactionId,
};

type TradeSide = (i64, i32, i64, i64, u8);
type TestTradeRow = (i64, i64, i64, Option<i64>);
type TestLedgerRow = (
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<&'static str>,
    Option<i64>,
    Option<i64>,
);

pub(super) fn test_catalogue() -> Catalogue {
    let symbol = Symbol::new(1, "BTC_USDT", "BTC", "USDT");
    Catalogue::new(
        &[Asset::new(1, "BTC", 8), Asset::new(2, "USDT", 8)],
        &[symbol],
    )
    .unwrap()
}

/// (user, asset, `delta_avail`) of each entry.
fn test_transaction(id: i64, entries: &[(i64, i32, i64)]) -> Transaction {
    let entries: Vec<String> = entries
        .iter()
        .map(|(user, asset, delta)| {
            format!(r#"{{"user_id":{user},"asset_id":{asset},"delta_avail":{delta}}}"#)
        })
        .collect();
    Transaction::parse_transaction(&format!(
        r#"{{"transaction_id":{id},"entries":[{}],"created_at":5}}"#,
        entries.join(",")
    ))
    .unwrap()
}

fn test_trade(id: i64, buyer: i64, seller: i64) -> Transaction {
    let json = format!(
        r#"{{"trade_id":{id},"symbol":"BTC_USDT","buyer_user_id":{buyer},"seller_user_id":{seller},"price":200000000,"quantity":10,"settled_at":77,"buyer_order_id":5}}"#
    );
    Trade::parse_trade(&json, &test_catalogue()).unwrap()
}

async fn settle_one(ledger: &Embedded, transaction: &Transaction) -> SettleOutcome {
    let outcomes = ledger
        .settle_transactions(std::slice::from_ref(transaction))
        .await;
    outcomes.unwrap().remove(0)
}

/// (user, asset, seq, avail)
fn posted_rows(outcome: &SettleOutcome) -> Vec<(i64, i32, i64, i64)> {
    let receipt = match outcome {
        SettleOutcome::Written(receipt) | SettleOutcome::Repeated(receipt) => receipt,
        other => panic!("{other:?}"),
    };
    let row = |balance: &PostedBalance| {
        (
            balance.user_id.get(),
            balance.asset_id.get(),
            balance.seq.get(),
            balance.avail.raw(),
        )
    };
    receipt.balances.iter().map(row).collect()
}

#[tokio::test]
async fn a_transaction_follows_what_stands_and_its_repetition_hears_of_the_first_time() {
    let (folder, ledger) = new_ledger();
    write_all(&ledger, &[test_entry(1, 1, 41, 100)]).await;
    let first = test_transaction(9, &[(1, 1, -60), (2, 1, 60)]);
    let outcome = settle_one(&ledger, &first).await;
    assert!(matches!(outcome, SettleOutcome::Written(_)));
    assert_eq!(posted_rows(&outcome), [(1, 1, 42, 40), (2, 1, 1, 60)]);
    settle_one(&ledger, &test_transaction(10, &[(1, 1, 5)])).await;
    drop(ledger);
    let ledger = open_ledger(&folder);
    let again = settle_one(&ledger, &first).await;
    assert!(matches!(again, SettleOutcome::Repeated(_)));
    assert_eq!(
        posted_rows(&again),
        posted_rows(&outcome),
        "whatever happened since"
    );
    let other = settle_one(&ledger, &test_transaction(9, &[(1, 1, 60)])).await;
    assert_eq!(other, SettleOutcome::Conflict(Conflict::OtherContent));
    let loaded = ledger.load_snapshot(test_user(1)).await.unwrap();
    assert_eq!(plain_balances(&loaded)[0].1, 43);
    assert_eq!(
        plain_balances(&load_newest(&ledger, 1, &[1]).await),
        plain_balances(&loaded)
    );
    let stands = ledger
        .find_transaction(first.reference)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (stands.content, stands.receipt.created_at),
        (first.content, UnixMillis(5))
    );
    let none = Reference::Transaction(TransactionId::new(99).unwrap());
    assert_eq!(ledger.find_transaction(none).await.unwrap(), None);
}

#[tokio::test]
async fn a_refused_transaction_leaves_nothing_and_refuses_nobody() {
    let (_folder, ledger) = new_ledger();
    settle_one(&ledger, &test_transaction(1, &[(1, 1, 100)])).await;
    let outcomes = ledger
        .settle_transactions(&[
            test_transaction(2, &[(1, 1, -60), (2, 1, 60)]),
            test_transaction(3, &[(2, 2, 7), (1, 1, -60)]),
            test_transaction(4, &[(1, 1, -40)]),
            test_transaction(4, &[(1, 1, -40)]),
            test_transaction(4, &[(1, 1, -41)]),
        ])
        .await
        .unwrap();
    assert_eq!(posted_rows(&outcomes[0]), [(1, 1, 2, 40), (2, 1, 1, 60)]);
    let SettleOutcome::Refused(refusal) = outcomes[1] else {
        panic!("{:?}", outcomes[1])
    };
    assert_eq!(
        (refusal.user, refusal.reason),
        (test_user(1), RefusalReason::AvailBelowZero)
    );
    assert_eq!(posted_rows(&outcomes[2]), [(1, 1, 3, 0)], "40 were left");
    assert!(matches!(outcomes[3], SettleOutcome::Repeated(_)));
    assert!(matches!(outcomes[4], SettleOutcome::Conflict(_)));
    let nothing = ledger.find_transaction(test_transaction(3, &[(1, 1, 1)]).reference);
    assert_eq!(nothing.await.unwrap(), None);
    assert_eq!(held_balances(&ledger, 2).await.len(), 1);
    // The id is free again.
    let outcome = settle_one(&ledger, &test_transaction(3, &[(1, 1, 1)])).await;
    assert_eq!(posted_rows(&outcome), [(1, 1, 4, 1)]);
    assert_eq!(
        ledger.readiness(),
        SourceReadiness::Ready,
        "a refusal is an answer"
    );
}

#[tokio::test]
async fn seed_fault_05_and_24_a_trade_stands_with_both_sides_and_a_self_trade_too() {
    let (folder, ledger) = new_ledger();
    settle_one(&ledger, &test_transaction(1, &[(1, 2, 20), (2, 1, 10)])).await;
    let outcome = settle_one(&ledger, &test_trade(1, 1, 2)).await;
    let expected = [(1, 1, 1, 10), (1, 2, 2, 0), (2, 1, 2, 0), (2, 2, 1, 20)];
    assert_eq!(posted_rows(&outcome), expected);
    assert!(matches!(
        settle_one(&ledger, &test_trade(2, 1, 2)).await,
        SettleOutcome::Refused(_)
    ));
    let own = settle_one(&ledger, &test_trade(3, 1, 1)).await;
    assert_eq!(posted_rows(&own), [(1, 1, 2, 10), (1, 2, 3, 0)]);
    // The same number as a transaction is another thing.
    assert!(matches!(
        settle_one(&ledger, &test_transaction(3, &[(7, 7, 7)])).await,
        SettleOutcome::Written(_)
    ));
    drop(ledger);
    let read = open_file(&folder).begin_read().unwrap();
    let sides: TableDefinition<'_, TradeSide, TestTradeRow> = TableDefinition::new("user_trades");
    let rows: Vec<_> = read
        .open_table(sides)
        .unwrap()
        .iter()
        .unwrap()
        .map(|row| row.map(|(key, row)| (key.value(), row.value())).unwrap())
        .collect();
    assert_eq!(
        rows,
        [
            ((1, 1, 77, 1, 0), (200_000_000, 10, 20, Some(5))),
            ((1, 1, 77, 3, 0), (200_000_000, 10, 20, Some(5))),
            ((1, 1, 77, 3, 1), (200_000_000, 10, 20, None)),
            ((2, 1, 77, 1, 1), (200_000_000, 10, 20, None)),
        ]
    );
}

#[tokio::test]
async fn of_withdrawals_at_the_same_time_exactly_as_many_stand_as_the_balance_allows() {
    let (_folder, ledger) = new_ledger();
    settle_one(&ledger, &test_transaction(1, &[(1, 1, 70)])).await;
    let withdrawals: Vec<_> = (0..160)
        .map(|n| [test_transaction(100 + n, &[(1, 1, -10)])])
        .collect();
    let answers = futures::future::join_all(
        withdrawals
            .iter()
            .map(|one| ledger.settle_transactions(one)),
    )
    .await;
    let outcomes: Vec<SettleOutcome> = answers.into_iter().flat_map(Result::unwrap).collect();
    let mut seqs = BTreeSet::new();
    for outcome in &outcomes {
        match outcome {
            SettleOutcome::Written(_) => assert!(seqs.insert(posted_rows(outcome)[0].2)),
            SettleOutcome::Refused(refusal) => {
                assert_eq!(refusal.reason, RefusalReason::AvailBelowZero);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seqs, (2..=8).collect(), "7 of 160, and no gap");
    assert_eq!(held_balances(&ledger, 1).await[0].2, 0);
}

#[tokio::test]
async fn entries_with_the_callers_seq_and_transactions_take_each_seq_once() {
    let (folder, ledger) = new_ledger();
    let writes = (1..=40).map(|n| {
        let ledger = &ledger;
        async move {
            if n % 2 == 0 {
                ledger
                    .write_entries(&[test_entry(1, 1, n, 1_000)])
                    .await
                    .is_ok()
            } else {
                let outcome = settle_one(ledger, &test_transaction(n, &[(1, 1, 1)])).await;
                matches!(outcome, SettleOutcome::Written(_))
            }
        }
    });
    let done = futures::future::join_all(writes).await;
    let written = done.iter().filter(|done| **done).count();
    drop(ledger);
    let table: TableDefinition<'_, (i64, i32, i64), TestLedgerRow> =
        TableDefinition::new("balance_ledger");
    let read = open_file(&folder).begin_read().unwrap();
    let rows = read.open_table(table).unwrap();
    assert_eq!(
        rows.iter().unwrap().count(),
        written,
        "no row took another's place"
    );
}

#[tokio::test]
async fn what_stands_takes_effect_before_its_caller_hears_of_it() {
    let (_folder, ledger) = new_ledger();
    let heard = Arc::new(parking_lot::Mutex::new(Vec::<Receipt>::new()));
    let recorder = Arc::clone(&heard);
    ledger.on_commit(Box::new(move |receipt, _| {
        recorder.lock().push(receipt.clone());
    }));
    let outcome = settle_one(&ledger, &test_transaction(1, &[(1, 1, 5), (2, 1, 5)])).await;
    let SettleOutcome::Written(receipt) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(*heard.lock(), [receipt]);
    settle_one(&ledger, &test_transaction(1, &[(1, 1, 5), (2, 1, 5)])).await;
    settle_one(&ledger, &test_transaction(2, &[(1, 1, -50)])).await;
    assert_eq!(heard.lock().len(), 1, "only what is new");
}

/// (user, asset) → (seq, avail)
type ModelBalances = BTreeMap<(i64, i32), (i64, i64)>;

fn model_settle(balances: &mut ModelBalances, entries: &[(i64, i32, i64)]) -> bool {
    let mut sums: BTreeMap<(i64, i32), i64> = BTreeMap::new();
    for (user, asset, delta) in entries {
        *sums.entry((*user, *asset)).or_default() += delta;
    }
    let after = |pair: &(i64, i32), sum: i64| {
        let (seq, avail) = balances.get(pair).copied().unwrap_or_default();
        (seq + 1, avail + sum)
    };
    if sums
        .iter()
        .any(|(pair, sum)| *sum < 0 && after(pair, *sum).1 < 0)
    {
        return false;
    }
    let rows: Vec<_> = sums
        .iter()
        .filter(|(_, sum)| **sum != 0)
        .map(|(pair, sum)| (*pair, after(pair, *sum)))
        .collect();
    balances.extend(rows);
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn transactions_do_what_a_map_would_do(
        all in vec((1..30_i64, vec((1..4_i64, 1..3_i32, -5..9_i64), 1..4)), 1..25),
        batch in 1..6_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_folder, ledger) = new_ledger();
        let (mut balances, mut stands) = (ModelBalances::new(), BTreeMap::new());
        let useful = |entries: &Vec<(i64, i32, i64)>| {
            let mut sums: BTreeMap<(i64, i32), i64> = BTreeMap::new();
            for (user, asset, delta) in entries {
                *sums.entry((*user, *asset)).or_default() += delta;
            }
            sums.values().any(|sum| *sum != 0)
        };
        let all: Vec<_> = all.into_iter().filter(|(_, entries)| useful(entries)).collect();
        for some in all.chunks(batch) {
            let requests: Vec<_> = some.iter().map(|(id, entries)| test_transaction(*id, entries)).collect();
            let outcomes = runtime.block_on(ledger.settle_transactions(&requests)).unwrap();
            for ((id, entries), (request, outcome)) in some.iter().zip(requests.iter().zip(outcomes)) {
                let word = match stands.get(id) {
                    Some(content) if *content == request.content => "repeated",
                    Some(_) => "conflict",
                    None if model_settle(&mut balances, entries) => {
                        stands.insert(*id, request.content.clone());
                        "written"
                    }
                    None => "refused",
                };
                let said = match outcome {
                    SettleOutcome::Written(_) => "written",
                    SettleOutcome::Repeated(_) => "repeated",
                    SettleOutcome::Refused(_) => "refused",
                    SettleOutcome::Conflict(_) => "conflict",
                };
                prop_assert_eq!(said, word);
            }
        }
        for id in 1..4 {
            let loaded = runtime.block_on(ledger.load_snapshot(test_user(id))).unwrap();
            let found: Vec<_> = plain_balances(&loaded).into_iter().map(|row| (row.0, row.1, row.2)).collect();
            let expected: Vec<_> = balances.range((id, 0)..(id + 1, 0))
                .map(|((_, asset), (seq, avail))| (*asset, *seq, *avail)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
