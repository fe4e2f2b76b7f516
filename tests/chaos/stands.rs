//! What stands in PostgreSQL after a run of transactions, against what was sent and answered: W1 to W5, and P10 of all reads.

use std::collections::{BTreeMap, HashMap};

use crate::{
    history::{Key, Read, Violation},
    pg_writer::PgWriter,
    senders::{Request, Sent},
};

const ROWS: &str = "SELECT user_id, asset_id, seq, delta_avail, delta_frozen, avail, frozen, event_type = 'trade', ref_id \
     FROM trading.balance_ledger ORDER BY user_id, asset_id, seq";
const CURRENT: &str = "SELECT user_id, asset_id, version, avail, frozen FROM trading.user_balances";
/// Of each trade: itself, and its two sides.
const TRADES: &str = "SELECT trade_id, (SELECT count(*) FROM trading.user_trades AS side WHERE side.trade_id = trade.trade_id) \
     FROM trading.settled_trades AS trade ORDER BY trade_id";
const TRANSACTIONS: &str =
    "SELECT transaction_id FROM trading.ledger_transactions ORDER BY transaction_id";

/// A ledger row.
#[derive(Debug, Clone, Copy)]
pub struct StandingRow {
    pub key: Key,
    pub seq: i64,
    pub avail: i64,
    pub frozen: i64,
    deltas: (i64, i64),
    is_trade: bool,
    id: i64,
}

/// The ledger, in the order of user, asset and seq.
pub async fn ledger_rows(writer: &PgWriter) -> Vec<StandingRow> {
    let rows = writer.rows(ROWS).await;
    let row = |row: &tokio_postgres::Row| StandingRow {
        key: key_of(row),
        seq: row.get(2),
        deltas: (row.get(3), row.get(4)),
        avail: row.get(5),
        frozen: row.get(6),
        is_trade: row.get(7),
        id: row.get(8),
    };
    rows.iter().map(row).collect()
}

fn key_of(row: &tokio_postgres::Row) -> Key {
    let (user, asset): (i64, i32) = (row.get(0), row.get(1));
    (user.unsigned_abs(), asset.unsigned_abs())
}

/// The last row of each.
pub fn newest(rows: &[StandingRow]) -> BTreeMap<Key, StandingRow> {
    rows.iter().map(|row| (row.key, *row)).collect()
}

/// W3 and W5: seqs without gaps, each row from the one before it, nothing below 0.
pub fn rows_follow(rows: &[StandingRow]) {
    let mut before: Option<StandingRow> = None;
    for row in rows {
        let (seq, avail, frozen) = before
            .filter(|before| before.key == row.key)
            .map_or((0, 0, 0), |before| {
                (before.seq, before.avail, before.frozen)
            });
        let expected = (seq + 1, avail + row.deltas.0, frozen + row.deltas.1);
        assert_eq!((row.seq, row.avail, row.frozen), expected, "{row:?}");
        assert!(row.avail >= 0 && row.frozen >= 0, "{row:?}");
        before = Some(*row);
    }
}

/// W1 and W2: what was acknowledged stands as it was told, what was refused left nothing, and all that stands is whole.
pub fn each_stands_once_and_whole(rows: &[StandingRow], sent: &[Sent]) {
    let mut standing: BTreeMap<(bool, i64), BTreeMap<Key, StandingRow>> = BTreeMap::new();
    for row in rows {
        let of = standing.entry((row.is_trade, row.id)).or_default();
        assert!(of.insert(row.key, *row).is_none(), "twice: {row:?}");
    }
    let mut sums: BTreeMap<u32, (i64, i64)> = BTreeMap::new();
    for Sent {
        request,
        told,
        was_unanswered,
    } in sent
    {
        let found = standing.remove(&(request.is_trade, request.id));
        let Some(found) = found else {
            assert!(told.is_none(), "acknowledged, and lost: {request:?}");
            continue;
        };
        is_whole(request, &found);
        match told {
            Some(told) => {
                let shown = found.iter().map(|(key, row)| (*key, (row.seq, row.avail)));
                assert_eq!(shown.collect::<BTreeMap<_, _>>(), *told, "{request:?}");
            }
            None => assert!(*was_unanswered, "refused, and stands: {request:?}"),
        }
        for ((_, asset), (avail, frozen)) in &request.deltas {
            let sum = sums.entry(*asset).or_default();
            *sum = (sum.0 + avail, sum.1 + frozen);
        }
    }
    assert!(standing.is_empty(), "nobody sent {standing:?}");
    for row in newest(rows).values() {
        let sum = sums.entry(row.key.1).or_default();
        *sum = (sum.0 - row.avail, sum.1 - row.frozen);
    }
    assert!(sums.values().all(|sum| *sum == (0, 0)), "{sums:?}");
}

fn is_whole(request: &Request, found: &BTreeMap<Key, StandingRow>) {
    let deltas = found.iter().map(|(key, row)| (*key, row.deltas));
    assert_eq!(
        deltas.collect::<BTreeMap<_, _>>(),
        request.deltas,
        "{request:?}"
    );
}

/// The other tables say the same as the ledger.
pub async fn tables_agree(writer: &PgWriter, rows: &[StandingRow]) {
    let current = writer.rows(CURRENT).await;
    let current = current
        .iter()
        .map(|row| (key_of(row), (row.get(2), row.get(3), row.get(4))));
    let last = newest(rows).into_iter();
    let last = last.map(|(key, row)| (key, (row.seq, row.avail, row.frozen)));
    assert_eq!(
        current.collect::<BTreeMap<_, (i64, i64, i64)>>(),
        last.collect()
    );
    let ids = |are_trades: bool| {
        let of = rows.iter().filter(|row| row.is_trade == are_trades);
        let mut ids: Vec<i64> = of.map(|row| row.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let trades = writer.rows(TRADES).await;
    let trades = trades.iter().map(|row| (row.get(0), row.get(1)));
    let both_sides: Vec<(i64, i64)> = ids(true).into_iter().map(|id| (id, 2)).collect();
    assert_eq!(trades.collect::<Vec<(i64, i64)>>(), both_sides);
    let transactions = writer.rows(TRANSACTIONS).await;
    let transactions: Vec<i64> = transactions.iter().map(|row| row.get(0)).collect();
    assert_eq!(transactions, ids(false));
}

/// P10: a read that shows one row of a transaction shows all of that user.
pub fn torn_reads(rows: &[StandingRow], reads: &[Read]) -> Vec<Violation> {
    let mut of_user: HashMap<(bool, i64, u64), Vec<(u32, i64)>> = HashMap::new();
    for row in rows {
        let (user, asset) = row.key;
        let together = of_user.entry((row.is_trade, row.id, user)).or_default();
        together.push((asset, row.seq));
    }
    // With the seq of one asset comes at least that seq of the other.
    let mut needs: HashMap<(u64, u32, u32), BTreeMap<i64, i64>> = HashMap::new();
    for ((_, _, user), together) in of_user {
        for (one, seq) in &together {
            for (other, needed) in together.iter().filter(|(other, _)| other != one) {
                let of = needs.entry((user, *one, *other)).or_default();
                of.insert(*seq, *needed);
            }
        }
    }
    let mut found = Vec::new();
    for read in reads.iter().filter(|read| read.detail.is_none()) {
        for ((user, one, other), of) in needs.iter().filter(|((user, ..), _)| *user == read.user) {
            let seq_of = |asset: &u32| read.shown.get(asset).map_or(0, |(seq, _)| *seq);
            let last = of.range(..=seq_of(one)).next_back();
            if let Some((seq, needed)) = last
                && seq_of(other) < *needed
            {
                let story = format!(
                    "user {user} has asset {one} at {seq} and asset {other} below {needed}: {read:?}"
                );
                found.push(Violation {
                    promise: "P10",
                    story,
                });
            }
        }
    }
    found
}
