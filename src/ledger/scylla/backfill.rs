//! Fills one table from another, for `ledger backfill`: `user_trades` from `settled_trades`, `user_balances` from the ledger.
//!
//! The source is read by parts of the token ring, page by page, and nothing of it is changed. Which parts are done is the caller's
//! to remember.
//!
//! **Invariants.** Every write is idempotent, and never takes the place of a live row: it carries a timestamp that no live writer's
//! is below (see [`Planned::timestamp`]). Nothing is deleted.
//!
//! **Cancellation.** Some rows may stand; they may be written again.
//!
//! **Limits.** A page has some thousand rows. Consistency is that of the service.

mod balances;
mod paging;
mod row;
mod trades;

use std::{fmt, time::Duration};

use scylla::value::CqlValue;

use self::paging::{PagePosition, Pages};
pub use self::{
    paging::NextPage,
    row::{BackfillKey, BackfillRow, BucketSums, RowContent},
};
use super::{
    connect::Connector,
    inspect::{InspectError, TokenRange},
    schema_state::query_rows,
    table_names::{LEDGER, SETTLED_TRADES, TABLE, USER_TRADES},
};
use crate::{
    config::{self, Millis},
    ledger::LedgerError,
};

/// How long a statement about one row may take, where `source.timeout_ms` is shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// The columns that a source must have; another program may have more.
const LEDGER_COLUMNS: &[&str] = &[
    "user_id",
    "asset_id",
    "seq",
    "avail",
    "frozen",
    "created_at",
];
const SETTLED_TRADES_COLUMNS: &[&str] = &[
    "trade_id",
    "symbol_id",
    "price",
    "quantity",
    "cost",
    "settled_at",
    "buyer_user_id",
    "seller_user_id",
    "buyer_order_id",
    "seller_order_id",
];
const TABLE_COLUMNS: &[&str] = &[
    "user_id",
    "asset_id",
    "avail",
    "frozen",
    "version",
    "updated_at",
];
const USER_TRADES_COLUMNS: &[&str] = &[
    "user_id",
    "symbol_id",
    "settled_at",
    "trade_id",
    "role",
    "price",
    "quantity",
    "cost",
    "order_id",
];

/// The table that is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// From `settled_trades`.
    UserTrades,
    /// From `balance_ledger`.
    UserBalances,
}

impl Target {
    /// Its name in the keyspace.
    #[must_use]
    pub const fn table_name(self) -> &'static str {
        match self {
            Self::UserTrades => USER_TRADES,
            Self::UserBalances => TABLE,
        }
    }

    /// The table that it is filled from.
    #[must_use]
    pub const fn source_name(self) -> &'static str {
        match self {
            Self::UserTrades => SETTLED_TRADES,
            Self::UserBalances => LEDGER,
        }
    }
}

/// A row of the source that no row can be made of, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableRow(pub String);

impl fmt::Display for UnusableRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rows of the target that one row of the source becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// In the order in which they are written.
    pub rows: Vec<BackfillRow>,
    /// Of all cells: the seq of a balance; when the trade was written, in microseconds since 1970. A live writer's row of the same key
    /// never has a lower one.
    pub timestamp: i64,
    /// The trade, if this service claimed it: it may be unfinished.
    claimed: Option<i64>,
}

/// The outcome of one row of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// Its rows were written.
    Rows,
    /// A claimed trade that is finished: its rows stood.
    Present,
    /// A claimed trade whose ledger rows do not all stand: its writer finishes it, or it is sent again.
    Pending,
}

/// One row in both tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparedRow {
    /// As the source says it should stand.
    pub expected: Option<BackfillRow>,
    /// As it stands in the target.
    pub standing: Option<BackfillRow>,
    /// It is of a trade that this service claimed, which may be unfinished.
    pub claimed: bool,
}

impl ComparedRow {
    const NOWHERE: Self = Self {
        expected: None,
        standing: None,
        claimed: false,
    };
}

#[derive(Debug)]
pub struct SourcePage {
    /// The rows that can be written.
    pub planned: Vec<Planned>,
    /// The rows that cannot.
    pub unusable: Vec<UnusableRow>,
    /// Where the next page begins.
    pub next: NextPage,
}

impl SourcePage {
    const fn new(next: NextPage) -> Self {
        Self {
            planned: Vec::new(),
            unusable: Vec::new(),
            next,
        }
    }

    fn add_plan(&mut self, plan: Result<Planned, UnusableRow>) {
        match plan {
            Ok(planned) => self.planned.push(planned),
            Err(unusable) => self.unusable.push(unusable),
        }
    }
}

#[derive(Debug)]
enum BackfillStatements {
    Trades(Box<trades::TradeStatements>),
    Balances(Box<balances::BalanceStatements>),
}

/// A connection that can fill one table.
#[derive(Debug)]
pub struct Backfill {
    pages: Pages,
    statements: BackfillStatements,
    target: Target,
    identity: String,
}

impl Backfill {
    /// Connects, and looks whether both tables are there with the columns that are needed.
    ///
    /// # Errors
    /// [`InspectError`]: a setting, a table or column that is missing, or a database that does not answer.
    pub async fn open_target(
        settings: &config::ScyllaSettings,
        source: &config::SourceSettings,
        target: Target,
    ) -> Result<Self, InspectError> {
        let patient = config::SourceSettings {
            timeout_ms: Millis(source.timeout_ms.0.max(PATIENCE)),
            ..source.clone()
        };
        let pages = Pages::connect_session(Connector::new(settings, &patient)?).await?;
        let (from_columns, to_columns) = match target {
            Target::UserTrades => (SETTLED_TRADES_COLUMNS, USER_TRADES_COLUMNS),
            Target::UserBalances => (LEDGER_COLUMNS, TABLE_COLUMNS),
        };
        let from = read_columns(&pages, target.source_name(), from_columns).await?;
        read_columns(&pages, target.table_name(), to_columns).await?;
        let statements = match target {
            Target::UserTrades => {
                let has = |ours: &str| {
                    let name = pages.names.column_name(SETTLED_TRADES, ours);
                    from.iter().any(|column| column == name)
                };
                let has_claims = has("content") && has("balances");
                BackfillStatements::Trades(Box::new(
                    trades::TradeStatements::prepare_all(&pages, has_claims).await?,
                ))
            }
            Target::UserBalances => BackfillStatements::Balances(Box::new(
                balances::BalanceStatements::prepare_all(&pages).await?,
            )),
        };
        let identity = read_identity(&pages, target).await?;
        Ok(Self {
            pages,
            statements,
            target,
            identity,
        })
    }

    /// The table that is filled.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// Both tables of this database: other ones after either was made anew.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// A page of a part of the source; `state` is none for the first.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn read_source_page(
        &self,
        stretch: TokenRange,
        state: NextPage,
    ) -> Result<SourcePage, LedgerError> {
        let at = PagePosition { stretch, state };
        match &self.statements {
            BackfillStatements::Trades(trades) => trades.read_source_page(self, at).await,
            BackfillStatements::Balances(balances) => balances.read_source_page(self, at).await,
        }
    }

    /// A page of a part of the target; `state` is none for the first.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn read_target_page(
        &self,
        stretch: TokenRange,
        state: NextPage,
    ) -> Result<(Vec<BackfillRow>, NextPage), LedgerError> {
        let at = PagePosition { stretch, state };
        match &self.statements {
            BackfillStatements::Trades(trades) => trades.read_target_page(self, at).await,
            BackfillStatements::Balances(balances) => balances.read_target_page(self, at).await,
        }
    }

    /// Writes what one row of the source becomes.
    ///
    /// # Errors
    /// A database that does not answer; some of the rows may stand.
    pub async fn write_planned(&self, planned: &Planned) -> Result<Wrote, LedgerError> {
        match &self.statements {
            BackfillStatements::Trades(trades) => trades.write_planned(self, planned).await,
            BackfillStatements::Balances(balances) => balances.write_planned(self, planned).await,
        }
    }

    /// Reads one row in both tables.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn compare_row(&self, key: BackfillKey) -> Result<ComparedRow, LedgerError> {
        match (&self.statements, key) {
            (BackfillStatements::Trades(trades), key) => trades.compare_row(self, key).await,
            (BackfillStatements::Balances(balances), BackfillKey::Balance { user, asset }) => {
                balances.compare_row(self, (user, asset)).await
            }
            (BackfillStatements::Balances(_), BackfillKey::Trade { .. }) => {
                Ok(ComparedRow::NOWHERE)
            }
        }
    }

    /// Whether a row of a claimed trade is absent because its trade is not finished.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn is_pending(&self, key: BackfillKey) -> Result<bool, LedgerError> {
        match (&self.statements, key) {
            (BackfillStatements::Trades(trades), BackfillKey::Trade { trade, .. }) => {
                trades.is_pending(self, trade).await
            }
            _ => Ok(false),
        }
    }
}

/// The columns of a table, as the database names them; it has all of `needed`.
async fn read_columns(
    pages: &Pages,
    table: &str,
    needed: &[&str],
) -> Result<Vec<String>, LedgerError> {
    let names = &pages.names;
    let (keyspace, shown) = (names.keyspace(), names.show_table(table));
    let found: Vec<(String,)> = query_rows(
        &pages.session,
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
        (keyspace, names.table_name(table)),
    )
    .await?;
    let found: Vec<String> = found.into_iter().map(|(name,)| name).collect();
    if found.is_empty() {
        return Err(LedgerError::unavailable(format_args!(
            "{shown} is missing in keyspace {keyspace}: run `balance-cache schema apply`"
        )));
    }
    let mut wanted = needed.iter().map(|name| names.column_name(table, name));
    match wanted.find(|name| found.iter().all(|has| has != name)) {
        Some(name) => Err(LedgerError::unavailable(format_args!(
            "{shown} of keyspace {keyspace} has no column {name}"
        ))),
        None => Ok(found),
    }
}

async fn read_identity(pages: &Pages, target: Target) -> Result<String, LedgerError> {
    let names = &pages.names;
    let mut identity = names.keyspace().to_owned();
    for table in [target.source_name(), target.table_name()] {
        let ids: Vec<(CqlValue,)> = query_rows(
            &pages.session,
            "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?",
            (names.keyspace(), names.table_name(table)),
        )
        .await?;
        let id = ids.first().and_then(|(id,)| id.as_uuid());
        identity.push('/');
        identity.push_str(&id.map(|id| id.to_string()).unwrap_or_default());
    }
    Ok(identity)
}
