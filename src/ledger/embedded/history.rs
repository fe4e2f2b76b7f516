//! Slices of trades and of the ledger. Everything here blocks.

use redb::{AccessGuard, Key, Range, ReadableDatabase as _, StorageError, TableError, Value};

use super::{rows::LEDGER, tables::Tables, transactions::USER_TRADES};
use crate::{
    domain::{
        Amount, LedgerSlice, Order, Seq, StatementRow, TradeId, TradePlace, TradeSideRole,
        TradeSlice, UnixMillis, UserTrade,
    },
    ledger::LedgerError,
};

/// A row with its key, as redb hands it out.
type FoundEntry<'t, K, V> = Result<(AccessGuard<'t, K>, AccessGuard<'t, V>), StorageError>;

fn in_order<'t, K: Key + 'static, V: Value + 'static>(
    range: Range<'t, K, V>,
    order: Order,
) -> Box<dyn Iterator<Item = FoundEntry<'t, K, V>> + 't> {
    match order {
        Order::NewestFirst => Box::new(range.rev()),
        Order::OldestFirst => Box::new(range),
    }
}

fn corrupt_row(what: impl std::fmt::Display) -> LedgerError {
    LedgerError::Corrupt(what.to_string().into())
}

/// The sides of trades in the slice.
pub(super) fn user_trades(
    tables: &Tables,
    slice: &TradeSlice,
) -> Result<Vec<UserTrade>, LedgerError> {
    let read = || -> Result<Vec<_>, redb::Error> {
        let table = match tables.database().begin_read()?.open_table(USER_TRADES) {
            // A file that was opened for reading only, before a start made the table.
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let key = |(at, trade), role| (slice.user.get(), slice.symbol_id, at, trade, role);
        let range = key(slice.lowest, u8::MIN)..=key(slice.highest, u8::MAX);
        let mut rows = Vec::new();
        for row in in_order(table.range(range)?, slice.order).take(slice.rows_max) {
            let (key, row) = row?;
            rows.push((key.value(), row.value()));
        }
        Ok(rows)
    };
    let rows = read().map_err(LedgerError::unavailable)?.into_iter();
    let side = |((_, _, at, trade, role), (price, quantity, cost, order_id))| {
        Ok(UserTrade {
            place: TradePlace {
                settled_at: UnixMillis(at),
                trade_id: TradeId::new(trade).map_err(corrupt_row)?,
                role: TradeSideRole::from_number(role)
                    .ok_or_else(|| corrupt_row(format!("role {role}")))?,
            },
            price: Some(Amount::from_raw(price)),
            quantity: Some(Amount::from_raw(quantity)),
            cost: Some(Amount::from_raw(cost)),
            order_id,
        })
    };
    let mut sides = rows.map(side).collect::<Result<Vec<_>, LedgerError>>()?;
    // Both sides of one trade stand here in the other order than in the page.
    sides.sort_by_key(|side| side.place.sort_rank());
    if slice.order == Order::NewestFirst {
        sides.reverse();
    }
    Ok(sides)
}

pub(super) fn read_statement(
    tables: &Tables,
    slice: &LedgerSlice,
) -> Result<Vec<StatementRow>, LedgerError> {
    let read = || -> Result<Vec<_>, redb::Error> {
        let table = tables.database().begin_read()?.open_table(LEDGER)?;
        let key = |seq| (slice.user.get(), slice.asset.get(), seq);
        let range = key(slice.lowest)..=key(slice.highest);
        let mut rows = Vec::new();
        for row in in_order(table.range(range)?, slice.order).take(slice.rows_max) {
            let (key, row) = row?;
            let row = row.value();
            let event_type = row.4.map(str::to_owned);
            rows.push((
                key.value().2,
                (row.0, row.1, row.2, row.3),
                event_type,
                row.5,
                row.6,
            ));
        }
        Ok(rows)
    };
    let rows = read().map_err(LedgerError::unavailable)?.into_iter();
    let row = |(seq, (avail, frozen, delta_avail, delta_frozen), event_type, ref_id, at)| {
        Ok(StatementRow {
            seq: Seq::new(seq).map_err(corrupt_row)?,
            avail: Amount::from_raw(avail),
            frozen: Amount::from_raw(frozen),
            delta_avail: Option::map(delta_avail, Amount::from_raw),
            delta_frozen: Option::map(delta_frozen, Amount::from_raw),
            event_type,
            ref_id,
            created_at: Option::map(at, UnixMillis),
        })
    };
    rows.map(row).collect()
}

#[cfg(test)]
mod tests {
    use crate::{
        domain::{
            AssetId, Catalogue, LedgerSlice, Order, SettleOutcome, Trade, TradeSideRole,
            TradesQuestion, UserId,
        },
        ledger::{Cost, Source as _, embedded::Embedded},
    };

    fn open_ledger(folder: &std::path::Path) -> Embedded {
        let settings = crate::config::EmbeddedSettings {
            path: folder.join("ledger.redb"),
            sample_data: true,
            check_at_start: false,
        };
        Embedded::open_ledger(&settings, std::time::Duration::from_secs(30), 1).unwrap()
    }

    #[tokio::test]
    async fn a_trade_with_oneself_has_two_sides_and_the_buyers_counts_as_the_newer() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open_ledger(folder.path());
        let settings =
            crate::config::load_settings(None, std::iter::empty::<(String, String)>()).unwrap();
        let catalogue = Catalogue::new(&settings.assets, &settings.symbols).unwrap();
        let trade = |id: i64, seller: i64, at: i64| {
            let text = format!(
                r#"{{"trade_id":{id},"symbol":"BTC_USDT","buyer_user_id":1001,"seller_user_id":{seller},"price":100000000,"quantity":10,"settled_at":{at}}}"#
            );
            Trade::parse_trade(&text, &catalogue).unwrap()
        };
        let all = [trade(1, 1001, 5), trade(2, 1002, 5), trade(3, 1001, 9)];
        let outcomes = ledger.settle_transactions(&all).await.unwrap();
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, SettleOutcome::Written(_))),
            "{outcomes:?}"
        );
        let mut question = TradesQuestion {
            user: UserId::new(1001).unwrap(),
            symbol_id: 1,
            from: None,
            to: None,
            order: Order::NewestFirst,
            limit: 1,
            after: None,
        };
        let mut expected = vec![
            (3, TradeSideRole::Buyer),
            (3, TradeSideRole::Seller),
            (2, TradeSideRole::Buyer),
            (1, TradeSideRole::Buyer),
            (1, TradeSideRole::Seller),
        ];
        for order in [Order::NewestFirst, Order::OldestFirst] {
            (question.order, question.after) = (order, None);
            let mut found = Vec::new();
            loop {
                let slice = question.trade_slice().unwrap();
                let page =
                    question.cut_page(ledger.user_trades(slice, &Cost::default()).await.unwrap());
                found.extend(
                    page.rows
                        .iter()
                        .map(|row| (row.place.trade_id.get(), row.place.role)),
                );
                question.after = page.rows.last().map(|row| row.place);
                if !page.more {
                    break;
                }
            }
            assert_eq!(found, expected);
            expected.reverse();
        }
    }

    #[tokio::test]
    async fn a_statement_is_read_by_seq_from_either_end() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open_ledger(folder.path());
        let mut slice = LedgerSlice {
            user: UserId::new(1001).unwrap(),
            asset: AssetId::new(1).unwrap(),
            lowest: i64::MIN,
            highest: i64::MAX,
            order: Order::NewestFirst,
            rows_max: 100,
        };
        let cost = Cost::default();
        let newest = ledger.read_statement(slice, &cost).await.unwrap();
        assert!(newest.len() > 2 && newest[0].avail.raw() == 910_000_000_000);
        slice.order = Order::OldestFirst;
        let mut oldest = ledger.read_statement(slice, &cost).await.unwrap();
        oldest.reverse();
        assert_eq!(oldest, newest);
        slice.highest = newest[1].seq.get();
        slice.rows_max = 1;
        slice.order = Order::NewestFirst;
        assert_eq!(
            ledger.read_statement(slice, &cost).await.unwrap(),
            newest[1..2]
        );
        slice.lowest = newest[0].seq.get() + 1;
        assert_eq!(
            ledger.read_statement(slice, &cost).await.unwrap(),
            [],
            "an empty range is no fault"
        );
    }
}
