//! The kinds of differences, and one difference in words.

use balance_cache::domain::{AssetId, Balance, Catalogue, UserId};
use serde::Serialize;

/// How two places differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DifferenceKind {
    ViewBehind,
    ViewAhead,
    ViewAmounts,
    TableBehind,
    TableAhead,
    TableAmounts,
    RedisBehind,
    RedisAhead,
    RedisAmounts,
    ServiceBehind,
    ServiceAhead,
    ServiceAmounts,
    /// The rows of a user in somebody else's ledger are no balances.
    LedgerUnreadable,
    /// `postgres.balance_sql` answers something else than `postgres.balances_sql`.
    StatementsDiffer,
    RowBroken,
    RowStray,
    RecordIncomplete,
    RecordDiffers,
}

impl DifferenceKind {
    pub(super) const fn kind_text(self) -> &'static str {
        match self {
            Self::ViewBehind => "view behind",
            Self::ViewAhead => "view ahead",
            Self::ViewAmounts => "view amounts differ",
            Self::TableBehind => "table behind",
            Self::TableAhead => "table ahead",
            Self::TableAmounts => "table amounts differ",
            Self::RedisBehind => "Redis behind",
            Self::RedisAhead => "Redis ahead",
            Self::RedisAmounts => "Redis amounts differ",
            Self::ServiceBehind => "service behind",
            Self::ServiceAhead => "service ahead",
            Self::ServiceAmounts => "service amounts differ",
            Self::LedgerUnreadable => "ledger cannot be read",
            Self::StatementsDiffer => "statements differ",
            Self::RowBroken => "row does not add up",
            Self::RowStray => "row of no trade",
            Self::RecordIncomplete => "row missing",
            Self::RecordDiffers => "row differs from its record",
        }
    }
}

/// A difference, for a line and for programs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Difference {
    pub(super) kind: DifferenceKind,
    pub(super) user: i64,
    pub(super) asset: String,
    pub(super) said: String,
}

/// A place has one row of an asset, and the one that is right has another.
pub(super) fn describe_rows(
    (place, right): (&str, &str),
    kind: DifferenceKind,
    user: UserId,
    (asset, held, stands): (AssetId, Option<Balance>, Option<Balance>),
    catalogue: &Catalogue,
) -> Difference {
    let known = catalogue.get_asset(asset);
    let (asset, decimals) = known.unwrap_or_else(|| (asset.to_string(), 0));
    let row = |row: Option<Balance>| {
        row.map_or_else(
            || "nothing".to_owned(),
            |row| {
                let (avail, frozen) = (
                    row.avail.to_decimal(decimals),
                    row.frozen.to_decimal(decimals),
                );
                format!("seq {} (avail {avail}, frozen {frozen})", row.seq)
            },
        )
    };
    let said = format!(
        "{place} has {} of {asset}, {right} has {}",
        row(held),
        row(stands)
    );
    Difference {
        kind,
        user: user.get(),
        asset,
        said,
    }
}
