//! The query strings of pages.
//!
//! **Invariants.** As for balance reads, a parameter that is unknown, repeated or malformed is an error. A page's cursor belongs to
//! the question beside it.

use super::cursor;
use crate::{
    domain::{
        AssetId, CatalogueTable, Order, PAGE_DEFAULT, PAGE_MAX, StatementQuestion, TradesQuestion,
        UnixMillis,
    },
    http::query::Parameters,
};

const TRADES: [&str; 7] = [
    "user_id", "symbol", "limit", "cursor", "from", "to", "order",
];
const STATEMENT: [&str; 6] = ["user_id", "asset", "limit", "cursor", "at", "order"];

/// A page of trades, and how its amounts are written.
#[derive(Debug, Clone)]
pub struct TradesAsked {
    /// The page.
    pub question: TradesQuestion,
    pub symbol: String,
    /// Decimals of the base.
    pub base: u8,
    /// Decimals of the quote.
    pub quote: u8,
}

/// A page of a statement, and how its amounts are written.
#[derive(Debug, Clone)]
pub struct StatementAsked {
    /// The page.
    pub question: StatementQuestion,
    /// Decimals of the asset; none for one that is not in the catalogue.
    pub decimals: Option<u8>,
}

impl TradesAsked {
    /// The question in a query string.
    /// Errors: the first mistake in it, for the caller to read.
    pub fn parse_query(query: Option<&str>, catalogue: &CatalogueTable) -> Result<Self, String> {
        let given = Parameters::parse_query(query, &TRADES)?;
        let user = given.parse_user()?;
        let symbol = given.get("symbol").ok_or("symbol is missing")?;
        let found = catalogue.find_symbol(symbol);
        let (symbol_id, base, quote) =
            found.ok_or_else(|| format!("unknown symbol: {symbol}: no name of the catalogue"))?;
        let decimals = |asset: AssetId| {
            catalogue
                .get_asset(asset)
                .map_or(0, |(_, decimals)| decimals)
        };
        let mut question = TradesQuestion {
            user,
            symbol_id,
            from: given.parse_time("from")?,
            to: given.parse_time("to")?,
            order: given.parse_order()?,
            limit: given.parse_limit()?,
            after: None,
        };
        if let Some(text) = given.get("cursor") {
            question.after = Some(cursor::decode_cursor(&question, text)?);
        }
        Ok(Self {
            question,
            symbol: symbol.to_owned(),
            base: decimals(base),
            quote: decimals(quote),
        })
    }
}

impl StatementAsked {
    /// The question in a query string.
    /// Errors: the first mistake in it, for the caller to read.
    pub fn parse_query(query: Option<&str>, catalogue: &CatalogueTable) -> Result<Self, String> {
        let given = Parameters::parse_query(query, &STATEMENT)?;
        let user = given.parse_user()?;
        let asset = given.get("asset").ok_or("asset is missing")?;
        let asset = catalogue.resolve_asset(asset).ok_or_else(|| {
            format!(
                "asset: unknown asset: {asset}: neither a name nor the number of an unnamed asset"
            )
        })?;
        let mut question = StatementQuestion {
            user,
            asset,
            at: given.parse_time("at")?,
            order: given.parse_order()?,
            limit: given.parse_limit()?,
            after: None,
        };
        if let Some(text) = given.get("cursor") {
            question.after = Some(cursor::decode_cursor(&question, text)?);
        }
        Ok(Self {
            question,
            decimals: catalogue.get_asset(asset).map(|(_, decimals)| decimals),
        })
    }
}

impl Parameters<'_> {
    fn parse_limit(&self) -> Result<usize, String> {
        let Some(text) = self.get("limit") else {
            return Ok(PAGE_DEFAULT);
        };
        let limit = parse_whole_number(text).and_then(|limit| usize::try_from(limit).ok());
        limit
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or_else(|| format!("limit must be a whole number from 1 to {PAGE_MAX}"))
    }

    fn parse_time(&self, name: &str) -> Result<Option<UnixMillis>, String> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let time = parse_whole_number(text).map(UnixMillis);
        time.map(Some).ok_or_else(|| {
            format!(
                "{name} must be milliseconds since 1970: a whole number from 0 to {}",
                i64::MAX
            )
        })
    }

    fn parse_order(&self) -> Result<Order, String> {
        match self.get("order") {
            None | Some("desc") => Ok(Order::NewestFirst),
            Some("asc") => Ok(Order::OldestFirst),
            Some(_) => Err("order must be asc (oldest first) or desc (newest first)".to_owned()),
        }
    }
}

/// A number from 0 on, without a sign or leading zeros.
fn parse_whole_number(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = plain && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok())?
}
