//! The operator's statement as it is sent: with the user's key in its place, and each column in a type that is read exactly.
//!
//! **Invariants.** A column is cast only where the cast is exact. A result without a seq, or of a type that cannot be exact, is refused.

use tokio_postgres::types::Type;

/// The columns of `postgres.balances_sql` and `postgres.balance_sql`.
const COLUMNS: [&str; 5] = ["asset_id", "avail", "frozen", "seq", "updated_at"];
/// The way to a seq, for a ledger that has none.
pub(super) const SEQ_GUIDE: &str = "every balance needs a number that rises with each of its changes: docs/EXISTING_LEDGER.md adds one with a column and a trigger";

/// Rows of one user. A statement without its condition is told by them, and not by the memory that it needs.
pub(super) const ROWS_MAX: usize = 10_000;

/// The unit of an amount's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AmountUnit {
    /// An integer: raw units.
    Raw,
    /// A decimal: whole units, scaled by the catalogue's decimals.
    Whole,
}

impl AmountUnit {
    /// In words for the operator.
    const fn describe_unit(self) -> &'static str {
        match self {
            Self::Raw => "integer, raw units",
            Self::Whole => "decimal, whole units",
        }
    }
}

/// The type of an asset's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ledger::postgres) enum AssetKind {
    /// Its id.
    Number,
    /// Its name in the catalogue, or its id in digits.
    Name,
}

/// The meaning of the columns of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowShape {
    pub(super) asset: AssetKind,
    pub(super) avail: AmountUnit,
    pub(super) frozen: AmountUnit,
    updated_at: TimeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeKind {
    Instant,
    /// Without a zone: UTC.
    Local,
    Millis,
    Absent,
}

impl RowShape {
    /// The meaning of a result's columns.
    ///
    /// # Errors
    /// The column that is missing, or whose type cannot be read exactly, in words for the operator.
    pub(super) fn read(columns: &[(&str, Type)]) -> Result<Self, String> {
        let find = |name: &str| {
            let named = columns.iter().filter(|(column, _)| *column == name);
            named.map(|(_, of)| of.clone()).collect::<Vec<_>>()
        };
        for name in COLUMNS {
            match (find(name).len(), name) {
                (1, _) | (0, "updated_at") => {}
                (0, "seq") => return Err(format!("has no column seq; {SEQ_GUIDE}")),
                (0, _) => return Err(format!("has no column {name}")),
                _ => return Err(format!("has the column {name} more than once")),
            }
        }
        let of = |name: &str| find(name).into_iter().next();
        match of("seq") {
            Some(Type::INT2 | Type::INT4 | Type::INT8) => {}
            Some(Type::XID | Type::XID8) => {
                return Err(format!(
                    "has a transaction's number as seq, which starts again in a restored database; {SEQ_GUIDE}"
                ));
            }
            other => return Err(refuse("seq", other.as_ref(), "bigint or integer")),
        }
        Ok(Self {
            asset: match of("asset_id") {
                Some(Type::INT2 | Type::INT4 | Type::INT8) => AssetKind::Number,
                Some(other) if is_text(&other) => AssetKind::Name,
                other => return Err(refuse("asset_id", other.as_ref(), "an integer or text")),
            },
            avail: unit("avail", of("avail"))?,
            frozen: unit("frozen", of("frozen"))?,
            updated_at: match of("updated_at") {
                Some(Type::TIMESTAMPTZ) => TimeKind::Instant,
                Some(Type::TIMESTAMP) => TimeKind::Local,
                Some(Type::INT8) => TimeKind::Millis,
                None => TimeKind::Absent,
                other => {
                    let wanted = "timestamptz, timestamp, or bigint (milliseconds since 1970)";
                    return Err(refuse("updated_at", other.as_ref(), wanted));
                }
            },
        })
    }

    /// The unit of each amount, in words for the operator: `sum` of a bigint is a numeric, which is another unit.
    pub(super) fn describe_units(self) -> String {
        let (avail, frozen) = (self.avail.describe_unit(), self.frozen.describe_unit());
        format!("avail: {avail}; frozen: {frozen}")
    }

    /// The statement around `sql` whose columns are text, text, text, bigint and bigint.
    pub(super) fn wrap(self, sql: &str) -> String {
        let updated_at = match self.updated_at {
            // 'infinity' is no moment that can be shown.
            TimeKind::Instant => {
                "CASE WHEN isfinite(b.updated_at) THEN floor(extract(epoch FROM b.updated_at) * 1000)::bigint END"
            }
            TimeKind::Local => {
                "CASE WHEN isfinite(b.updated_at) THEN floor(extract(epoch FROM b.updated_at AT TIME ZONE 'UTC') * 1000)::bigint END"
            }
            TimeKind::Millis => "b.updated_at",
            TimeKind::Absent => "NULL::bigint",
        };
        let limit = ROWS_MAX.saturating_add(1);
        format!(
            "SELECT b.asset_id::text, b.avail::text, b.frozen::text, b.seq::bigint, {updated_at} FROM ({sql}\n) AS b LIMIT {limit}"
        )
    }
}

fn unit(name: &str, of: Option<Type>) -> Result<AmountUnit, String> {
    match of {
        Some(Type::INT2 | Type::INT4 | Type::INT8) => Ok(AmountUnit::Raw),
        Some(Type::NUMERIC) => Ok(AmountUnit::Whole),
        Some(other) if is_text(&other) => Ok(AmountUnit::Whole),
        other => {
            let wanted = "numeric, text (decimals of whole units), or an integer (raw units)";
            Err(refuse(name, other.as_ref(), wanted))
        }
    }
}

fn is_text(of: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::BPCHAR].contains(of)
}

fn refuse(column: &str, of: Option<&Type>, wanted: &str) -> String {
    let of = of.map_or("nothing", Type::name);
    format!("has the column {column} of type {of}, and {wanted} is needed")
}

/// The statement with `$1` as the user's key: the parameter, a bigint, or the one row of `user_id_sql` for it.
pub(super) fn bind_user(sql: &str, user_id_sql: &str) -> String {
    let number = "($1::bigint)";
    if trim_end(user_id_sql).is_empty() {
        return bind_parameter(sql, 1, number);
    }
    let key = bind_parameter(user_id_sql, 1, number);
    bind_parameter(sql, 1, &format!("({key}\n)"))
}

/// The statement with `$2` as the asset, which is sent as text.
pub(super) fn bind_asset(sql: &str, kind: AssetKind) -> String {
    let asset = match kind {
        AssetKind::Number => "(($2::text)::integer)",
        AssetKind::Name => "($2::text)",
    };
    bind_parameter(sql, 2, asset)
}

/// The statement without what ends it, with something else in the place of a parameter. A cast beside it says which type it has.
pub(in crate::ledger::postgres) fn bind_parameter(sql: &str, number: u8, value: &str) -> String {
    let mark = format!("${number}");
    let mut bound = String::with_capacity(sql.len());
    let mut rest = trim_end(sql);
    while let Some((before, after)) = rest.split_once(&mark) {
        bound.push_str(before);
        if after.starts_with(|next: char| next.is_ascii_digit()) {
            bound.push_str(&mark);
        } else {
            bound.push_str(value);
        }
        rest = after;
    }
    bound.push_str(rest);
    bound
}

fn trim_end(sql: &str) -> &str {
    sql.trim().trim_end_matches(';').trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_decimals_and_names_are_told_apart() {
        let read = RowShape::read(&[
            ("updated_at", Type::TIMESTAMPTZ),
            ("seq", Type::INT8),
            ("frozen", Type::INT8),
            ("avail", Type::NUMERIC),
            ("asset_id", Type::VARCHAR),
        ]);
        let read = read.unwrap();
        assert_eq!(
            (read.avail, read.frozen),
            (AmountUnit::Whole, AmountUnit::Raw)
        );
        assert_eq!(
            read.describe_units(),
            "avail: decimal, whole units; frozen: integer, raw units"
        );
        assert_eq!(read.asset, AssetKind::Name);
        let sql = read.wrap("SELECT 1 -- all of it");
        assert!(
            sql.contains("floor(extract(epoch FROM b.updated_at) * 1000)"),
            "{sql}"
        );
        assert!(sql.contains("-- all of it\n) AS b "), "{sql}");
    }

    #[test]
    fn a_column_that_is_missing_or_inexact_is_named() {
        let good = [
            ("asset_id", Type::INT4),
            ("avail", Type::INT8),
            ("frozen", Type::INT8),
            ("seq", Type::INT8),
            ("updated_at", Type::INT8),
        ];
        assert!(RowShape::read(&good).is_ok());
        assert!(
            RowShape::read(&good[..4]).is_ok(),
            "updated_at may be left out"
        );
        let without_seq: Vec<_> = good
            .iter()
            .filter(|(name, _)| *name != "seq")
            .cloned()
            .collect();
        let said = RowShape::read(&without_seq).unwrap_err();
        assert!(said.contains("EXISTING_LEDGER"), "{said}");
        for (at, bad, part) in [
            (0, Type::UUID, "asset_id of type uuid"),
            (1, Type::FLOAT8, "avail of type float8"),
            (2, Type::MONEY, "frozen of type money"),
            (3, Type::NUMERIC, "seq of type numeric"),
            (3, Type::XID8, "restored database"),
            (4, Type::DATE, "updated_at of type date"),
        ] {
            let mut columns = good.clone();
            columns[at].1 = bad;
            let said = RowShape::read(&columns).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
        let twice = [good.to_vec(), vec![("avail", Type::INT8)]].concat();
        assert!(
            RowShape::read(&twice)
                .unwrap_err()
                .contains("more than once")
        );
    }

    #[test]
    fn the_users_key_stands_where_the_parameter_stood() {
        let sql = "SELECT * FROM w WHERE a = $1 AND b = $12 OR c = $1::text ;\n";
        assert_eq!(
            bind_user(sql, ""),
            "SELECT * FROM w WHERE a = ($1::bigint) AND b = $12 OR c = ($1::bigint)::text"
        );
        assert_eq!(
            bind_user(
                "SELECT 1 FROM w WHERE a = $1",
                "SELECT id FROM u WHERE no = $1;"
            ),
            "SELECT 1 FROM w WHERE a = (SELECT id FROM u WHERE no = ($1::bigint)\n)"
        );
        assert_eq!(
            bind_asset("SELECT 1 FROM w WHERE b = $2", AssetKind::Number),
            "SELECT 1 FROM w WHERE b = (($2::text)::integer)"
        );
    }
}
