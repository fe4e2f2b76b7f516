//! Compares rows of the ledger with the records of the transactions and trades that wrote them.

use balance_cache::{
    domain::Catalogue,
    ledger::records::{HistoryRow, RecordedRow, SettledRecord},
};

use super::{ShownAmounts, name_and_decimals, row_amounts, row_deltas};
use crate::cli::verify::difference::{Difference, DifferenceKind};

/// A row whose trade stands without it.
pub(in crate::cli::verify) fn describe_stray(
    row: &HistoryRow,
    catalogue: &Catalogue,
) -> Difference {
    let (user, asset, seq) = row.key;
    let (name, _) = name_and_decimals(asset, catalogue);
    let trade = row.ref_id.unwrap_or_default();
    let said = format!("seq {seq} of {name} is of trade {trade}, which does not have it");
    new_difference(DifferenceKind::RowStray, user, name, said)
}

/// How a row of a record differs from the one that stands under its key, if it does.
pub(in crate::cli::verify) fn compare_recorded(
    record: &SettledRecord,
    row: &RecordedRow,
    stands: Option<&HistoryRow>,
    catalogue: &Catalogue,
) -> Option<Difference> {
    let (user, asset, seq) = row.row_key();
    let (name, decimals) = name_and_decimals(asset, catalogue);
    let what = if record.is_trade {
        "trade"
    } else {
        "transaction"
    };
    let of = format!("{what} {}", record.id);
    let Some(stands) = stands else {
        let said = format!("{of}: there is no row seq {seq} of {name}");
        return Some(new_difference(
            DifferenceKind::RecordIncomplete,
            user,
            name,
            said,
        ));
    };
    let balance = (
        i128::from(row.balance.avail.raw()),
        i128::from(row.balance.frozen.raw()),
    );
    let has = row_amounts(stands);
    let said = if has != balance {
        format!(
            "{of}: seq {seq} of {name} has {}, and had {}",
            ShownAmounts(has, decimals),
            ShownAmounts(balance, decimals)
        )
    } else if stands.ref_id != Some(record.id) {
        format!("{of}: seq {seq} of {name} refers to something else")
    } else if let (Some(should), Some(moved)) = (row.deltas, row_deltas(stands))
        && should != moved
    {
        format!(
            "{of}: seq {seq} of {name} moves {}, and should {}",
            ShownAmounts(moved, decimals),
            ShownAmounts(should, decimals)
        )
    } else {
        return None;
    };
    Some(new_difference(
        DifferenceKind::RecordDiffers,
        user,
        name,
        said,
    ))
}

pub(super) const fn new_difference(
    kind: DifferenceKind,
    user: i64,
    asset: String,
    said: String,
) -> Difference {
    Difference {
        kind,
        user,
        asset,
        said,
    }
}
