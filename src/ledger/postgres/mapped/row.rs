//! A row of somebody else's ledger as a balance.
//!
//! **Invariants.** A value that is not exactly a balance is an error that names user, column and cause: nothing is rounded, cut off or
//! left out, and an asset that stands twice is refused, as either row would be half of the truth.

use super::statement::{AmountUnit, ROWS_MAX, RowShape};
use crate::{
    domain::{Amount, AssetId, Balance, CatalogueTable, Seq, Snapshot, UnixMillis, UserId},
    ledger::LedgerError,
};

/// The columns of a row, as the database wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredRow {
    pub(super) asset: Option<String>,
    pub(super) avail: Option<String>,
    pub(super) frozen: Option<String>,
    pub(super) seq: Option<i64>,
    pub(super) updated_at: Option<i64>,
}

/// All rows of one user.
///
/// # Errors
/// [`LedgerError::Corrupt`]: the first row that is not exactly a balance.
pub(super) fn read_rows(
    user: UserId,
    rows: &[StoredRow],
    shape: RowShape,
    catalogue: &CatalogueTable,
    said_at: UnixMillis,
) -> Result<Snapshot, LedgerError> {
    let corrupt = |reason: String| LedgerError::Corrupt(format!("user {user}: {reason}").into());
    if rows.len() > ROWS_MAX {
        return Err(corrupt(format!(
            "more than {ROWS_MAX} rows: postgres.balances_sql has to give one row for each asset of the user"
        )));
    }
    let mut balances = Vec::with_capacity(rows.len());
    for row in rows {
        balances.push(read_row(row, shape, catalogue, said_at).map_err(corrupt)?);
    }
    let count = balances.len();
    let snapshot = Snapshot::new(balances);
    if snapshot.balances().len() == count {
        Ok(snapshot)
    } else {
        Err(corrupt(
            "an asset stands in more than one row: postgres.balances_sql has to sum them, or to name the one that counts".to_owned(),
        ))
    }
}

fn read_row(
    row: &StoredRow,
    shape: RowShape,
    catalogue: &CatalogueTable,
    said_at: UnixMillis,
) -> Result<Balance, String> {
    let name = row.asset.as_deref().ok_or("asset_id is NULL")?.trim_end();
    let asset = read_asset(name, catalogue)?;
    let decimals = catalogue.get_asset(asset).map(|(_, decimals)| decimals);
    let amount = |column: &str, value: Option<&String>, unit| {
        // The contract's rule: a NULL amount is 0.
        let Some(text) = value else {
            return Ok(Amount::default());
        };
        read_amount(text, unit, decimals).map_err(|why| format!("{column} of {name} {why}"))
    };
    let seq = row.seq.ok_or_else(|| format!("seq of {name} is NULL"))?;
    Ok(Balance {
        asset,
        seq: Seq::new(seq).map_err(|_| format!("seq of {name} is below 1"))?,
        avail: amount("avail", row.avail.as_ref(), shape.avail)?,
        frozen: amount("frozen", row.frozen.as_ref(), shape.frozen)?,
        updated_at: row.updated_at.map(UnixMillis),
        said_at,
    })
}

/// An id in digits, or a name of the catalogue.
fn read_asset(text: &str, catalogue: &CatalogueTable) -> Result<AssetId, String> {
    let id = text.parse::<AssetId>().ok();
    id.or_else(|| catalogue.resolve_asset(text)).ok_or_else(|| {
        format!("the asset {text} is no id and no name of the catalogue: add it to [[assets]]")
    })
}

fn read_amount(text: &str, unit: AmountUnit, decimals: Option<u8>) -> Result<Amount, String> {
    let exact = match (unit, decimals) {
        (AmountUnit::Raw, _) => text.parse().ok().map(Amount::from_raw),
        // No sign but the one that is written back.
        (AmountUnit::Whole, Some(_)) if text.contains('+') => None,
        (AmountUnit::Whole, Some(decimals)) => Amount::from_decimal(shorten(text), decimals),
        (AmountUnit::Whole, None) => {
            return Err(
                "is a decimal of an asset without decimals: add the asset to [[assets]]".to_owned(),
            );
        }
    };
    exact.ok_or_else(|| {
        let decimals = decimals.unwrap_or_default();
        format!("does not fit exactly into 64 bits with {decimals} decimals of the catalogue")
    })
}

/// Without zeros that say nothing: `1.5000` is `1.5`. A text that is no decimal stays as it is.
fn shorten(text: &str) -> &str {
    let text = text.trim();
    match text.split_once('.') {
        Some((_, rest)) if rest.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.trim_end_matches('0').trim_end_matches('.')
        }
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::types::Type;

    use super::*;
    use crate::domain::Asset;

    fn catalogue() -> CatalogueTable {
        let asset = |id, name: &str, decimals| Asset {
            id,
            name: name.to_owned(),
            decimals,
        };
        CatalogueTable::new(&[asset(1, "BTC", 8), asset(2, "JPY", 0)], &[]).unwrap()
    }

    fn shape(amounts: Type) -> RowShape {
        RowShape::read(&[
            ("asset_id", Type::TEXT),
            ("avail", amounts.clone()),
            ("frozen", amounts),
            ("seq", Type::INT8),
        ])
        .unwrap()
    }

    fn row(asset: &str, avail: Option<&str>, seq: Option<i64>) -> StoredRow {
        StoredRow {
            asset: Some(asset.to_owned()),
            avail: avail.map(str::to_owned),
            frozen: Some("0".to_owned()),
            seq,
            updated_at: Some(5),
        }
    }

    fn read(rows: &[StoredRow], amounts: Type) -> Result<Vec<(i32, i64, i64)>, String> {
        let user = UserId::new(7).unwrap();
        let snapshot = read_rows(user, rows, shape(amounts), &catalogue(), UnixMillis(9))
            .map_err(|error| error.to_string())?;
        let of = |balance: &Balance| (balance.asset.get(), balance.avail.raw(), balance.seq.get());
        Ok(snapshot.balances().iter().map(of).collect())
    }

    #[test]
    fn decimals_are_scaled_by_the_catalogue_and_integers_are_raw() {
        for (text, raw) in [
            ("9100.00000000", 910_000_000_000),
            ("0.00012345", 12_345),
            ("-1.5", -150_000_000),
            ("92233720368.54775807", i64::MAX),
            ("1.500000000000", 150_000_000),
            ("10", 1_000_000_000),
        ] {
            let got = read(&[row("BTC", Some(text), Some(3))], Type::NUMERIC);
            assert_eq!(got, Ok(vec![(1, raw, 3)]), "{text}");
        }
        let raw = read(&[row("1", Some("12345"), Some(1))], Type::INT8);
        assert_eq!(raw, Ok(vec![(1, 12_345, 1)]));
        let null = read(&[row("2", None, Some(1))], Type::NUMERIC);
        assert_eq!(null, Ok(vec![(2, 0, 1)]));
        let unknown = read(&[row("77", Some("12"), Some(1))], Type::INT8);
        assert_eq!(unknown, Ok(vec![(77, 12, 1)]));
    }

    #[test]
    fn a_text_that_is_no_decimal_is_refused() {
        for text in [
            "1.000.000",
            "1.5.0",
            "1,5",
            "1e3",
            "+1",
            "1.+5",
            "--1",
            "-",
            ".",
            "",
            "0x10",
            "1_000",
            "Infinity",
            "NaN",
            "\u{661}",
            "1 0",
            ".5",
        ] {
            let said = read(&[row("BTC", Some(text), Some(1))], Type::TEXT);
            assert!(said.is_err(), "{text}: {said:?}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_balance_is_refused_with_its_cause() {
        for (rows, part) in [
            (
                vec![row("BTC", Some("0.123456789"), Some(1))],
                "does not fit exactly",
            ),
            (
                vec![row("BTC", Some("92233720368.54775808"), Some(1))],
                "does not fit exactly",
            ),
            (
                vec![row("BTC", Some("NaN"), Some(1))],
                "does not fit exactly",
            ),
            (vec![row("JPY", Some("1.5"), Some(1))], "with 0 decimals"),
            (
                vec![row("01", Some("1"), Some(1))],
                "no name of the catalogue",
            ),
            (
                vec![row("+1", Some("1"), Some(1))],
                "no name of the catalogue",
            ),
            (
                vec![row("-1", Some("1"), Some(1))],
                "no name of the catalogue",
            ),
            (
                vec![row("", Some("1"), Some(1))],
                "no name of the catalogue",
            ),
            (
                vec![row("XRP", Some("1"), Some(1))],
                "no name of the catalogue",
            ),
            (vec![row("77", Some("1"), Some(1))], "without decimals"),
            (vec![row("BTC", Some("1"), None)], "seq of BTC is NULL"),
            (vec![row("BTC", Some("1"), Some(0))], "below 1"),
            (
                vec![row("BTC", Some("1"), Some(1)), row("1", Some("2"), Some(2))],
                "more than one row",
            ),
        ] {
            let said = read(&rows, Type::NUMERIC).unwrap_err();
            assert!(said.contains(part) && said.contains("user 7"), "{said}");
        }
    }
}
