//! Which assets and symbols there are: one table for readers and writers. [`super::Catalogue`] holds the one in force.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::domain::{Amount, AssetId};

/// An asset with the name and scale that clients see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// 1 … 2^31−1.
    pub id: i32,
    /// As clients write it; case counts; not a number.
    pub name: String,
    /// Digits behind the decimal point: 0 … 18.
    pub decimals: u8,
}

/// A market of two assets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symbol {
    /// 1 … 2^31−1.
    pub id: i32,
    /// As clients write it, `BTC_USDT`.
    pub name: String,
    /// Name of the asset that is traded.
    pub base: String,
    /// Name of the asset that it is paid in.
    pub quote: String,
}

/// A catalogue that cannot be, with the key that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct CatalogueError {
    /// `assets[1].name`
    pub key: String,
    /// The mistake.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    id: AssetId,
    name: String,
    decimals: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Market {
    id: i32,
    base: AssetId,
    quote: AssetId,
}

/// The assets and symbols of one deployment. Sorted by asset id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogueTable {
    known: Vec<Known>,
    by_name: HashMap<String, AssetId>,
    markets: HashMap<String, Market>,
}

impl CatalogueTable {
    /// The table, checked.
    ///
    /// # Errors
    /// Everything that is wrong with it, not the first thing only.
    pub fn new(assets: &[Asset], symbols: &[Symbol]) -> Result<Self, Vec<CatalogueError>> {
        let mut errors = Vec::new();
        let mut catalogue = Self::default();
        for (at, asset) in assets.iter().enumerate() {
            catalogue.add_asset(at, asset, &mut errors);
        }
        catalogue.known.sort_by_key(|known| known.id);
        let mut symbol_ids = HashSet::new();
        for (at, symbol) in symbols.iter().enumerate() {
            if !symbol_ids.insert(symbol.id) {
                errors.push(wrong(
                    "symbols",
                    at,
                    "id",
                    format!("{} is taken", symbol.id),
                ));
            }
            catalogue.add_symbol(at, symbol, &mut errors);
        }
        if errors.is_empty() {
            Ok(catalogue)
        } else {
            Err(errors)
        }
    }

    fn add_asset(&mut self, at: usize, asset: &Asset, errors: &mut Vec<CatalogueError>) {
        let before = errors.len();
        let id = AssetId::new(asset.id)
            .map_err(|malformed| errors.push(wrong("assets", at, "id", malformed.to_string())))
            .ok();
        if id.is_some_and(|id| self.known.iter().any(|known| known.id == id)) {
            errors.push(wrong("assets", at, "id", format!("{} is taken", asset.id)));
        }
        if let Some(reason) = bad_name(&asset.name) {
            errors.push(wrong("assets", at, "name", reason));
        } else if self.by_name.contains_key(&asset.name) {
            errors.push(wrong(
                "assets",
                at,
                "name",
                format!("{} is taken", asset.name),
            ));
        }
        if asset.decimals > Amount::DECIMALS_MAX {
            errors.push(wrong(
                "assets",
                at,
                "decimals",
                format!("at most {}", Amount::DECIMALS_MAX),
            ));
        }
        if let (Some(id), true) = (id, errors.len() == before) {
            self.known.push(Known {
                id,
                name: asset.name.clone(),
                decimals: asset.decimals,
            });
            self.by_name.insert(asset.name.clone(), id);
        }
    }

    fn add_symbol(&mut self, at: usize, symbol: &Symbol, errors: &mut Vec<CatalogueError>) {
        let before = errors.len();
        if symbol.id < 1 {
            errors.push(wrong("symbols", at, "id", "must be at least 1"));
        }
        if symbol.name.is_empty() || self.markets.contains_key(&symbol.name) {
            errors.push(wrong("symbols", at, "name", "is empty or taken"));
        }
        let mut side = |key, name: &String| {
            let id = self.by_name.get(name).copied();
            if id.is_none() {
                errors.push(wrong(
                    "symbols",
                    at,
                    key,
                    format!("{name} is not in assets"),
                ));
            }
            id
        };
        if let (Some(base), Some(quote)) =
            (side("base", &symbol.base), side("quote", &symbol.quote))
        {
            if base == quote {
                errors.push(wrong("symbols", at, "quote", "is the base too"));
            }
            if errors.len() == before {
                self.markets.insert(
                    symbol.name.clone(),
                    Market {
                        id: symbol.id,
                        base,
                        quote,
                    },
                );
            }
        }
    }

    /// The ids of all assets, ascending.
    pub fn ids(&self) -> impl Iterator<Item = AssetId> + '_ {
        self.known.iter().map(|known| known.id)
    }

    /// How many assets there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.known.len()
    }

    /// No assets at all: everything is shown raw.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Name and decimals of an asset; none for one that is not in the catalogue.
    #[must_use]
    pub fn get(&self, id: AssetId) -> Option<(&str, u8)> {
        let at = self
            .known
            .binary_search_by_key(&id, |known| known.id)
            .ok()?;
        self.known
            .get(at)
            .map(|known| (known.name.as_str(), known.decimals))
    }

    /// The asset that a client means: a name of the catalogue, or the number of an asset that is not in it.
    #[must_use]
    pub fn resolve(&self, text: &str) -> Option<AssetId> {
        self.by_name
            .get(text)
            .copied()
            .or_else(|| text.parse().ok().filter(|id| self.get(*id).is_none()))
    }

    /// The names of all symbols, in their order.
    #[must_use]
    pub fn symbols(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.markets.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Id, base and quote of a symbol. Readers and writers ask here, and nowhere else.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<(i32, AssetId, AssetId)> {
        self.markets
            .get(name)
            .map(|market| (market.id, market.base, market.quote))
    }

    /// Differences that a running process must not take over from `next`, because amounts or names would change their meaning:
    /// another scale of an asset, a name that moves to another asset, another base or quote of a symbol.
    #[must_use]
    pub fn unsafe_changes(&self, next: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for Known { id, name, decimals } in &self.known {
            if let Some((_, other)) = next.get(*id).filter(|(_, other)| other != decimals) {
                found.push(format!("decimals of {name} ({decimals} to {other})"));
            }
            if let Some(other) = next.by_name.get(name).filter(|other| *other != id) {
                found.push(format!("the id of {name} ({id} to {other})"));
            }
        }
        let mut symbols: Vec<_> = self.markets.iter().collect();
        symbols.sort_by_key(|(name, _)| name.as_str());
        for (name, market) in symbols {
            if next.markets.get(name).is_some_and(|other| other != market) {
                found.push(format!("the symbol {name}"));
            }
        }
        found
    }

    /// The cost of `quantity` of the symbol's base at `price`: both raw, the price in quote units per whole base unit.
    /// None where it does not fit in 64 bits, or the symbol is unknown. What is left below one raw unit is cut off.
    #[must_use]
    pub fn cost(&self, symbol: &str, price: Amount, quantity: Amount) -> Option<Amount> {
        let (_, base, _) = self.symbol(symbol)?;
        let scale = 10_i128.checked_pow(u32::from(self.get(base)?.1))?;
        let product = i128::from(price.raw()).checked_mul(i128::from(quantity.raw()))?;
        i64::try_from(product.checked_div(scale)?)
            .ok()
            .map(Amount::from_raw)
    }
}

fn wrong(list: &str, at: usize, key: &str, reason: impl Into<String>) -> CatalogueError {
    CatalogueError {
        key: format!("{list}[{at}].{key}"),
        reason: reason.into(),
    }
}

/// A name goes into queries between commas and colons, and must not be taken for the number of another asset.
fn bad_name(name: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 32 {
        Some("must have 1 to 32 characters")
    } else if !name.bytes().all(plain) {
        Some("may have ASCII letters, digits, '-', '_' and '.' only")
    } else if name.bytes().all(|byte| byte.is_ascii_digit()) {
        Some("must not be a number")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset(id: i32, name: &str, decimals: u8) -> Asset {
        Asset {
            id,
            name: name.to_owned(),
            decimals,
        }
    }

    fn symbol(id: i32, name: &str, base: &str, quote: &str) -> Symbol {
        Symbol {
            id,
            name: name.to_owned(),
            base: base.to_owned(),
            quote: quote.to_owned(),
        }
    }

    fn seeds() -> CatalogueTable {
        CatalogueTable::new(
            &[asset(1, "BTC", 8), asset(2, "USDT", 8), asset(3, "ETH", 8)],
            &[
                symbol(1, "BTC_USDT", "BTC", "USDT"),
                symbol(2, "ETH_USDT", "ETH", "USDT"),
            ],
        )
        .unwrap()
    }

    #[test]
    fn seed_fault_10_an_unknown_asset_is_named_by_its_number() {
        let catalogue = seeds();
        assert_eq!(catalogue.resolve("4"), AssetId::new(4).ok());
        assert_eq!(catalogue.get(AssetId::new(4).unwrap()), None);
        assert_eq!(catalogue.resolve("1"), None, "asset 1 has a name");
        assert_eq!(catalogue.resolve("btc"), None, "case counts");
        assert_eq!(catalogue.resolve("04"), None);
    }

    #[test]
    fn seed_fault_16_readers_and_writers_share_one_table_of_symbols() {
        let catalogue = seeds();
        let id = |name| catalogue.symbol(name).map(|found| found.0);
        assert_eq!(
            (id("BTC_USDT"), id("ETH_USDT"), id("BTC_ETH")),
            (Some(1), Some(2), None)
        );
        let twice = [
            symbol(1, "BTC_USDT", "BTC", "USDT"),
            symbol(1, "ETH_USDT", "ETH", "USDT"),
        ];
        let assets = [asset(1, "BTC", 8), asset(2, "USDT", 8), asset(3, "ETH", 8)];
        let errors = CatalogueTable::new(&assets, &twice).unwrap_err();
        assert_eq!(
            errors
                .iter()
                .map(|error| error.key.as_str())
                .collect::<Vec<_>>(),
            ["symbols[1].id"]
        );
    }

    #[test]
    fn what_would_change_the_meaning_of_an_amount_or_a_name_is_found() {
        let with = |assets: &[Asset], symbols: &[Symbol]| {
            let next = CatalogueTable::new(assets, symbols).unwrap();
            seeds().unsafe_changes(&next)
        };
        let (btc, usdt, eth) = (asset(1, "BTC", 8), asset(2, "USDT", 8), asset(3, "ETH", 8));
        let harmless = [btc.clone(), usdt.clone(), asset(4, "XAU", 3)];
        assert_eq!(with(&harmless, &[]), [""; 0], "one less, and one more");
        let renamed = [asset(1, "XBT", 8), usdt.clone()];
        assert_eq!(
            with(&renamed, &[]),
            [""; 0],
            "another name of the same asset"
        );
        let scaled = [asset(1, "BTC", 6), usdt.clone(), eth.clone()];
        assert_eq!(with(&scaled, &[]), ["decimals of BTC (8 to 6)"]);
        let moved = [asset(3, "BTC", 8), usdt.clone()];
        assert_eq!(with(&moved, &[]), ["the id of BTC (1 to 3)"]);
        let symbols = [symbol(1, "BTC_USDT", "ETH", "USDT")];
        assert_eq!(with(&[btc, usdt, eth], &symbols), ["the symbol BTC_USDT"]);
    }

    #[test]
    fn seed_fault_17_a_cost_is_scaled_and_checked() {
        let catalogue = seeds();
        let raw = Amount::from_raw;
        let cost = |price, quantity| {
            catalogue
                .cost("BTC_USDT", raw(price), raw(quantity))
                .map(Amount::raw)
        };
        assert_eq!(
            cost(9_100_000_000_000, 150_000_000),
            Some(13_650_000_000_000),
            "1.5 BTC at 91000 USDT is 136500 USDT"
        );
        assert_eq!(cost(i64::MAX, i64::MAX), None);
        assert_eq!(cost(-1, 100_000_000), Some(-1));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let assets = [
            asset(0, "", 19),
            asset(2, "7", 8),
            asset(2, "A B", 8),
            asset(5, "X", 1),
            asset(5, "X", 1),
        ];
        let keys: Vec<_> = CatalogueTable::new(&assets, &[])
            .unwrap_err()
            .into_iter()
            .map(|error| error.key)
            .collect();
        assert_eq!(
            keys,
            [
                "assets[0].id",
                "assets[0].name",
                "assets[0].decimals",
                "assets[1].name",
                "assets[2].name",
                "assets[4].id",
                "assets[4].name"
            ]
        );
    }
}
