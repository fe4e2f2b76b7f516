//! Checks that stand on seqs alone: what was answered, and what stands at the end.

use futures::{StreamExt, stream};

use super::*;
use crate::support::service::Answer;

/// The seqs of an answer; 0 where a user has no row.
pub fn seqs_of(answer: &Answer) -> Seqs {
    let mut seqs = Seqs::new();
    for of in answer.data().as_array().unwrap() {
        if of["detail"] != Value::Null {
            continue;
        }
        let user = of["user_id"].as_i64().unwrap();
        for asset in ["BTC", "USDT"] {
            seqs.insert((user, asset.to_owned()), 0);
        }
        for balance in of["balances"].as_array().unwrap() {
            let asset = balance["asset"].as_str().unwrap().to_owned();
            seqs.insert((user, asset), balance["seq"].as_i64().unwrap());
        }
    }
    seqs
}

/// The rows of a transaction or trade that stands.
async fn rows(service: &Service, kind: &str, id: i64) -> Option<Seqs> {
    let path = format!("/api/v1/ledger/{kind}/{id}");
    let answer = eventually_async(Duration::from_mins(1), "the record is read", async || {
        let answer = service.get(&path).await;
        (answer.status < 500).then_some(answer)
    })
    .await;
    if answer.status == 404 {
        return None;
    }
    assert_eq!(answer.status, 200, "{}", answer.body);
    let data = answer.data();
    assert_eq!(data["state"], "done", "{data}");
    let row = |row: &Value| {
        let asset = if row["asset_id"] == 1 { "BTC" } else { "USDT" };
        let pair = (row["user_id"].as_i64().unwrap(), asset.to_owned());
        (pair, row["seq"].as_i64().unwrap())
    };
    Some(
        data["balances"]
            .as_array()
            .unwrap()
            .iter()
            .map(row)
            .collect(),
    )
}

/// Everything that stands: trades, and the other transactions where the service has them.
pub async fn read_standing(
    service: &Service,
    seed: &Seed,
    trades: u64,
    with_transactions: bool,
) -> (Vec<Seqs>, Vec<Seqs>) {
    let count = i64::try_from(trades).unwrap();
    let all: Vec<Option<Seqs>> = stream::iter(0..count)
        .map(|number| rows(service, "trades", seed.flow(number)[1]))
        .buffered(8)
        .collect()
        .await;
    let trades: Vec<Seqs> = all
        .into_iter()
        .map(|found| found.expect("a trade is lost"))
        .collect();
    if !with_transactions {
        return (trades, Vec::new());
    }
    let of_flows = (0..count).flat_map(|number| {
        let [hold, _, withdrawal, deposit] = seed.flow(number);
        [hold, withdrawal, deposit]
    });
    let ids: Vec<i64> = seed.deposits().chain(of_flows).collect();
    let others: Vec<Option<Seqs>> = stream::iter(ids)
        .map(|id| rows(service, "transactions", id))
        .buffered(8)
        .collect()
        .await;
    (trades, others.into_iter().flatten().collect())
}

/// W1 and W5: each seq belongs to one transaction, and there are no gaps.
pub fn seqs_are_gapless<'a>(all: impl Iterator<Item = &'a Seqs>, last: &Seqs) {
    let mut taken: BTreeMap<Pair, Vec<i64>> = BTreeMap::new();
    for (pair, seq) in all.flatten() {
        taken.entry(pair.clone()).or_default().push(*seq);
    }
    for (pair, mut seqs) in taken {
        seqs.sort_unstable();
        let expected: Vec<i64> = (1..=last[&pair]).collect();
        assert_eq!(seqs, expected, "{pair:?}");
    }
}

/// No answer shows one row of a trade and lacks another.
pub fn no_answer_is_torn(answers: &BTreeSet<Vec<(Pair, i64)>>, trades: &[Seqs]) {
    for answer in answers {
        let shown: BTreeMap<&Pair, i64> = answer.iter().map(|(pair, seq)| (pair, *seq)).collect();
        for trade in trades {
            let there = trade
                .iter()
                .filter_map(|(pair, seq)| Some(shown.get(pair)? >= seq));
            let there: BTreeSet<bool> = there.collect();
            assert!(there.len() < 2, "half of {trade:?} in {answer:?}");
        }
    }
}
