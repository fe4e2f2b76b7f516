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

use self::paging::{At, Pages};
pub use self::{
    paging::Next,
    row::{Content, Key, Row, Sums},
};
use super::{
    connect::Connector,
    inspect::{Stretch, Trouble},
    schema_state::query,
    table_names::{LEDGER, SETTLED_TRADES, TABLE, USER_TRADES},
};
use crate::{
    config::{self, Millis},
    ledger::Error,
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
    pub const fn name(self) -> &'static str {
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
pub struct Unusable(pub String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rows of the target that one row of the source becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// In the order in which they are written.
    pub rows: Vec<Row>,
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
pub struct Compared {
    /// As the source says it should stand.
    pub expected: Option<Row>,
    /// As it stands in the target.
    pub standing: Option<Row>,
    /// It is of a trade that this service claimed, which may be unfinished.
    pub claimed: bool,
}

impl Compared {
    const NOWHERE: Self = Self {
        expected: None,
        standing: None,
        claimed: false,
    };
}

/// A page of the source.
#[derive(Debug)]
pub struct Page {
    /// The rows that can be written.
    pub planned: Vec<Planned>,
    /// The rows that cannot.
    pub unusable: Vec<Unusable>,
    /// Where the next page begins.
    pub next: Next,
}

impl Page {
    const fn new(next: Next) -> Self {
        Self {
            planned: Vec::new(),
            unusable: Vec::new(),
            next,
        }
    }

    fn add(&mut self, plan: Result<Planned, Unusable>) {
        match plan {
            Ok(planned) => self.planned.push(planned),
            Err(unusable) => self.unusable.push(unusable),
        }
    }
}

#[derive(Debug)]
enum Statements {
    Trades(Box<trades::Statements>),
    Balances(Box<balances::Statements>),
}

/// A connection that can fill one table.
#[derive(Debug)]
pub struct Backfill {
    pages: Pages,
    statements: Statements,
    target: Target,
    identity: String,
}

impl Backfill {
    /// Connects, and looks whether both tables are there with the columns that are needed.
    ///
    /// # Errors
    /// [`Trouble`]: a setting, a table or column that is missing, or a database that does not answer.
    pub async fn open(
        settings: &config::Scylla,
        source: &config::Source,
        target: Target,
    ) -> Result<Self, Trouble> {
        let patient = config::Source {
            timeout_ms: Millis(source.timeout_ms.0.max(PATIENCE)),
            ..source.clone()
        };
        let pages = Pages::connect(Connector::new(settings, &patient)?).await?;
        let (from_columns, to_columns) = match target {
            Target::UserTrades => (SETTLED_TRADES_COLUMNS, USER_TRADES_COLUMNS),
            Target::UserBalances => (LEDGER_COLUMNS, TABLE_COLUMNS),
        };
        let from = columns(&pages, target.source_name(), from_columns).await?;
        columns(&pages, target.name(), to_columns).await?;
        let statements = match target {
            Target::UserTrades => {
                let has = |ours: &str| {
                    let name = pages.names.column(SETTLED_TRADES, ours);
                    from.iter().any(|column| column == name)
                };
                let has_claims = has("content") && has("balances");
                Statements::Trades(Box::new(
                    trades::Statements::prepare(&pages, has_claims).await?,
                ))
            }
            Target::UserBalances => {
                Statements::Balances(Box::new(balances::Statements::prepare(&pages).await?))
            }
        };
        let identity = identity(&pages, target).await?;
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
    pub async fn read_source_page(&self, stretch: Stretch, state: Next) -> Result<Page, Error> {
        let at = At { stretch, state };
        match &self.statements {
            Statements::Trades(trades) => trades.read_source_page(self, at).await,
            Statements::Balances(balances) => balances.read_source_page(self, at).await,
        }
    }

    /// A page of a part of the target; `state` is none for the first.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn read_target_page(
        &self,
        stretch: Stretch,
        state: Next,
    ) -> Result<(Vec<Row>, Next), Error> {
        let at = At { stretch, state };
        match &self.statements {
            Statements::Trades(trades) => trades.read_target_page(self, at).await,
            Statements::Balances(balances) => balances.read_target_page(self, at).await,
        }
    }

    /// Writes what one row of the source becomes.
    ///
    /// # Errors
    /// A database that does not answer; some of the rows may stand.
    pub async fn write(&self, planned: &Planned) -> Result<Wrote, Error> {
        match &self.statements {
            Statements::Trades(trades) => trades.write(self, planned).await,
            Statements::Balances(balances) => balances.write(self, planned).await,
        }
    }

    /// Reads one row in both tables.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn compare(&self, key: Key) -> Result<Compared, Error> {
        match (&self.statements, key) {
            (Statements::Trades(trades), key) => trades.compare(self, key).await,
            (Statements::Balances(balances), Key::Balance { user, asset }) => {
                balances.compare(self, (user, asset)).await
            }
            (Statements::Balances(_), Key::Trade { .. }) => Ok(Compared::NOWHERE),
        }
    }

    /// Whether a row of a claimed trade is absent because its trade is not finished.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn is_pending(&self, key: Key) -> Result<bool, Error> {
        match (&self.statements, key) {
            (Statements::Trades(trades), Key::Trade { trade, .. }) => {
                trades.is_pending(self, trade).await
            }
            _ => Ok(false),
        }
    }
}

/// The columns of a table, as the database names them; it has all of `needed`.
async fn columns(pages: &Pages, table: &str, needed: &[&str]) -> Result<Vec<String>, Error> {
    let names = &pages.names;
    let (keyspace, shown) = (names.keyspace(), names.show_table(table));
    let found: Vec<(String,)> = query(
        &pages.session,
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
        (keyspace, names.table(table)),
    )
    .await?;
    let found: Vec<String> = found.into_iter().map(|(name,)| name).collect();
    if found.is_empty() {
        return Err(Error::unavailable(format_args!(
            "{shown} is missing in keyspace {keyspace}: run `balance-cache schema apply`"
        )));
    }
    let mut wanted = needed.iter().map(|name| names.column(table, name));
    match wanted.find(|name| found.iter().all(|has| has != name)) {
        Some(name) => Err(Error::unavailable(format_args!(
            "{shown} of keyspace {keyspace} has no column {name}"
        ))),
        None => Ok(found),
    }
}

async fn identity(pages: &Pages, target: Target) -> Result<String, Error> {
    let names = &pages.names;
    let mut identity = names.keyspace().to_owned();
    for table in [target.source_name(), target.name()] {
        let ids: Vec<(CqlValue,)> = query(
            &pages.session,
            "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?",
            (names.keyspace(), names.table(table)),
        )
        .await?;
        let id = ids.first().and_then(|(id,)| id.as_uuid());
        identity.push('/');
        identity.push_str(&id.map(|id| id.to_string()).unwrap_or_default());
    }
    Ok(identity)
}
