//! The values that labels have: enumerations, each with its word.

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub const fn label_value(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

label! {
    /// The operation that a tier was asked for.
    Op {
        /// Answers a read.
        Get = "get",
        /// Keeps the result of a load.
        Fill = "fill",
        /// Applies a notification.
        Apply = "apply",
        Load = "load",
    }
}

label! {
    /// A table that a backfill fills.
    BackfillTarget {
        /// Both sides of each trade.
        UserTrades = "user_trades",
        /// The current state.
        UserBalances = "user_balances",
    }
}

label! {
    /// How a tier failed.
    Fault {
        /// The tier did not answer in time.
        Timeout = "timeout",
        /// The tier answered with an error, or the connection broke.
        Error = "error",
        /// The tier held bytes that this service did not write.
        Corrupt = "corrupt",
        /// The tier was not asked, because the breaker is open.
        Open = "open",
    }
}

label! {
    /// The kinds of knowledge of users.
    Remembered {
        /// Changes that notifications announced.
        Changes = "changes",
        /// Balances that reads were shown.
        Reads = "reads",
    }
}

label! {
    /// The way by which a notification came.
    Via {
        /// `POST /api/v1/settlements`.
        Http = "http",
        Stream = "stream",
        /// Our own ledger entries.
        Ledger = "ledger",
        /// Kafka; only in builds with the feature.
        Kafka = "kafka",
        /// The outbox of a PostgreSQL ledger.
        Outbox = "outbox",
    }
}

impl Via {
    /// Returns the ways by which notifications can come in this build.
    pub fn built_inlets() -> impl Iterator<Item = Self> {
        let all = Self::ALL.iter().copied();
        all.filter(|via| *via != Self::Kafka || cfg!(feature = "kafka"))
    }
}

label! {
    /// The effect of a notification.
    AppliedLabel {
        /// The notification changed something.
        News = "applied",
        /// The notification was known already.
        Old = "old",
        /// The notification could not be parsed.
        Invalid = "invalid",
        /// The notification did not take effect in time.
        Failed = "failed",
    }
}

label! {
    /// The result of a transaction or trade.
    SettledLabel {
        Written = "written",
        /// The transaction was written before.
        Repeated = "repeated",
        Refused = "refused",
        /// Another transaction or seq with other content stands.
        Conflict = "conflict",
        /// The source or Redis failed: it may stand.
        Failed = "failed",
    }
}

label! {
    /// The routes that show pages of the past.
    HistoryRoute {
        /// Trades of a user in a symbol.
        Trades = "/api/v1/order/trades",
        Statement = "/api/v1/user/ledger",
    }
}

label! {
    /// The end of a read of a page.
    PageResult {
        /// It was shown.
        Page = "page",
        /// There was no permit for the source in time.
        Shed = "shed",
        /// The source, or the deadline.
        Failed = "failed",
    }
}

label! {
    /// Why Redis refused a fill.
    Refused {
        /// The lease was lost: revoked, taken or expired.
        Lease = "lease",
        Floor = "floor",
        /// The lease is of another epoch.
        Epoch = "epoch",
        /// An asset with a floor is missing.
        Incomplete = "incomplete",
    }
}

label! {
    /// Why memory dropped an entry.
    Evicted {
        /// `memory.max_bytes` was reached.
        Size = "size",
        /// Its time to live was over.
        Expired = "expired",
    }
}

label! {
    /// The faults while answers go on.
    Degraded {
        /// Redis cannot be used.
        Redis = "redis",
        /// Redis drops keys when its memory is full.
        Evicting = "evicting",
        Source = "source",
        /// The embedded ledger cannot be written.
        LedgerWrites = "ledger_writes",
        /// Freshness is not proven.
        Feed = "feed",
        /// The settlement stream cannot be followed.
        Stream = "stream",
        /// Kafka cannot be followed.
        Kafka = "kafka",
        /// The outbox of a PostgreSQL ledger cannot be followed.
        Outbox = "outbox",
        /// Redis answers and takes no settlements.
        Settlements = "settlements",
    }
}

label! {
    /// How a scan for totals ended.
    ScanResult {
        /// All rows are summed.
        Done = "done",
        Failed = "failed",
        /// Another instance got the right to scan.
        Lost = "lost",
    }
}

label! {
    /// Why the embedded ledger cannot be written.
    LedgerFault {
        /// No space is left.
        Full = "full",
        /// The process may not write files of that size.
        SizeLimit = "size_limit",
        /// The file system is mounted read-only.
        ReadOnly = "read_only",
        Permission = "permission",
        /// Some of the file is not what was written, or missing.
        Damaged = "damaged",
        /// Another file, or none, is where the open one was.
        Replaced = "replaced",
        /// The system says something else.
        Other = "other",
    }
}

label! {
    /// How long after an answer it is compared with the ledger.
    CompareDelay {
        /// 0.1 s.
        Tenth = "0.1",
        /// 1 s.
        One = "1",
        /// 10 s.
        Ten = "10",
        /// 300 s.
        FiveMinutes = "300",
    }
}

label! {
    /// The result of a reload of the settings.
    Reloaded {
        /// All that differed is in force.
        Done = "done",
        /// Some keys need a restart.
        Partial = "partial",
        /// Nothing was taken: the settings, or what they name, cannot be used.
        Failed = "failed",
    }
}

label! {
    /// Which route a request asked for. A label's value is the path, or the part of it that all paths of the route share.
    Route {
        /// One user's balances, by either of its paths.
        Balance = "/api/v1/user/balance",
        Balances = "/api/v1/user/balances",
        /// Notifications.
        Settlements = "/api/v1/settlements",
        Entries = "/api/v1/ledger/entries",
        Transactions = "/api/v1/ledger/transactions",
        Trades = "/api/v1/ledger/trades",
        UserTrades = "/api/v1/order/trades",
        Statement = "/api/v1/user/ledger",
        /// Sums over all users.
        Totals = "/api/v1/totals",
        Rates = "/api/v1/rates",
        /// The value of a user's balances.
        UserTotal = "/api/v1/user/total",
        /// Snapshots are dropped.
        Invalidate = "/api/v1/cache/invalidate",
        /// Users are loaded.
        Warm = "/api/v1/cache/warm",
        /// The page to try the API.
        Docs = "/docs",
        /// The description of the API, on either listener.
        Openapi = "/openapi.json",
        /// Whether the process lives.
        Livez = "/livez",
        /// Whether it can answer.
        Readyz = "/readyz",
        Metrics = "/metrics",
        /// The operators' page with its files and data.
        Dashboard = "/dashboard",
        /// No route of ours, and requests that cannot be read.
        Other = "other",
    }
}

label! {
    /// The HTTP status of an answer: those of the contract, and one for all others.
    HttpStatus {
        /// Done.
        Ok = "200",
        /// To be found elsewhere.
        TemporaryRedirect = "307",
        /// The client has it already.
        NotModified = "304",
        /// Malformed.
        BadRequest = "400",
        /// No token that is known.
        Unauthorized = "401",
        /// A token without the scope.
        Forbidden = "403",
        /// No such route or object.
        NotFound = "404",
        MethodNotAllowed = "405",
        /// Something else stands there.
        Conflict = "409",
        /// The body is too long.
        PayloadTooLarge = "413",
        /// The body is not JSON.
        UnsupportedMediaType = "415",
        /// Shed.
        TooManyRequests = "429",
        HeadTooLarge = "431",
        /// A bug.
        Internal = "500",
        /// Source, Redis or `min_seq`.
        Unavailable = "503",
        /// The request's deadline.
        GatewayTimeout = "504",
        /// Any other.
        Other = "other",
    }
}

/// The other path of a balance read.
const BALANCE_ALIAS: &str = "/api/user/balance";

impl Route {
    /// The route of a path; a path below a route's own counts as that route.
    pub fn of_path(path: &str) -> Self {
        let below = |route: &&Self| {
            let rest = path.strip_prefix(route.label_value());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match Self::ALL.iter().find(below) {
            Some(route) => *route,
            None if path == BALANCE_ALIAS => Self::Balance,
            None => Self::Other,
        }
    }
}

impl HttpStatus {
    pub fn of_code(code: u16) -> Self {
        let named = |status: &&Self| status.label_value().parse() == Ok(code);
        Self::ALL.iter().find(named).copied().unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_route() {
        for (path, route) in [
            ("/api/user/balance", Route::Balance),
            ("/api/v1/user/balance", Route::Balance),
            ("/api/v1/user/balances", Route::Balances),
            ("/api/v1/ledger/trades/7", Route::Trades),
            ("/api/v1/order/trades", Route::UserTrades),
            ("/api/v1/user/ledger", Route::Statement),
            ("/docs/page.js", Route::Docs),
            ("/docs/OPERATIONS.md", Route::Docs),
            ("/dashboard/data", Route::Dashboard),
            ("/dashboards", Route::Other),
            ("/api/user/balance/x", Route::Other),
            ("other", Route::Other),
            ("/", Route::Other),
            ("", Route::Other),
        ] {
            assert_eq!(Route::of_path(path), route, "{path}");
        }
    }

    #[test]
    fn a_code_outside_of_the_contract_is_other() {
        assert_eq!(HttpStatus::of_code(200), HttpStatus::Ok);
        assert_eq!(HttpStatus::of_code(504), HttpStatus::GatewayTimeout);
        assert_eq!(HttpStatus::of_code(418), HttpStatus::Other);
    }
}
