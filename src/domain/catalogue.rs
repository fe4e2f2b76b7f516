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

impl Asset {
    pub fn new(id: i32, name: impl Into<String>, decimals: u8) -> Self {
        let name = name.into();
        Self { id, name, decimals }
    }
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

impl Symbol {
    pub fn new(id: i32, name: &str, base: &str, quote: &str) -> Self {
        let [name, base, quote] = [name, base, quote].map(str::to_owned);
        Self {
            id,
            name,
            base,
            quote,
        }
    }
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
struct KnownAsset {
    id: AssetId,
    name: String,
    decimals: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SymbolAssets {
    id: i32,
    base: AssetId,
    quote: AssetId,
}

/// The assets and symbols of one deployment. Sorted by asset id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogueTable {
    known: Vec<KnownAsset>,
    by_name: HashMap<String, AssetId>,
    markets: HashMap<String, SymbolAssets>,
}

impl CatalogueTable {
    /// The table, checked.
    /// Errors: everything that is wrong with it, not the first thing only.
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
                errors.push(catalogue_error(
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
            .map_err(|malformed| {
                errors.push(catalogue_error("assets", at, "id", malformed.to_string()));
            })
            .ok();
        if id.is_some_and(|id| self.known.iter().any(|known| known.id == id)) {
            errors.push(catalogue_error(
                "assets",
                at,
                "id",
                format!("{} is taken", asset.id),
            ));
        }
        if let Some(reason) = bad_name(&asset.name) {
            errors.push(catalogue_error("assets", at, "name", reason));
        } else if self.by_name.contains_key(&asset.name) {
            errors.push(catalogue_error(
                "assets",
                at,
                "name",
                format!("{} is taken", asset.name),
            ));
        }
        if asset.decimals > Amount::DECIMALS_MAX {
            errors.push(catalogue_error(
                "assets",
                at,
                "decimals",
                format!("at most {}", Amount::DECIMALS_MAX),
            ));
        }
        if let (Some(id), true) = (id, errors.len() == before) {
            self.known.push(KnownAsset {
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
            errors.push(catalogue_error("symbols", at, "id", "must be at least 1"));
        }
        if symbol.name.is_empty() || self.markets.contains_key(&symbol.name) {
            errors.push(catalogue_error("symbols", at, "name", "is empty or taken"));
        }
        let mut side = |key, name: &String| {
            let id = self.by_name.get(name).copied();
            if id.is_none() {
                errors.push(catalogue_error(
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
                errors.push(catalogue_error("symbols", at, "quote", "is the base too"));
            }
            if errors.len() == before {
                self.markets.insert(
                    symbol.name.clone(),
                    SymbolAssets {
                        id: symbol.id,
                        base,
                        quote,
                    },
                );
            }
        }
    }

    /// The ids of all assets, ascending.
    pub fn asset_ids(&self) -> impl Iterator<Item = AssetId> + '_ {
        self.known.iter().map(|known| known.id)
    }

    /// How many assets there are.
    pub const fn asset_count(&self) -> usize {
        self.known.len()
    }

    /// Name and decimals of an asset; none for one that is not in the catalogue.
    pub fn get_asset(&self, id: AssetId) -> Option<(&str, u8)> {
        let at = self
            .known
            .binary_search_by_key(&id, |known| known.id)
            .ok()?;
        self.known
            .get(at)
            .map(|known| (known.name.as_str(), known.decimals))
    }

    /// The asset that a client means: a name of the catalogue, or the number of an asset that is not in it.
    pub fn resolve_asset(&self, text: &str) -> Option<AssetId> {
        self.by_name
            .get(text)
            .copied()
            .or_else(|| text.parse().ok().filter(|id| self.get_asset(*id).is_none()))
    }

    /// The names of all symbols, in their order.
    pub fn symbol_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.markets.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Id, base and quote of a symbol. Readers and writers ask here, and nowhere else.
    pub fn find_symbol(&self, name: &str) -> Option<(i32, AssetId, AssetId)> {
        self.markets
            .get(name)
            .map(|market| (market.id, market.base, market.quote))
    }

    /// The name of a symbol's id.
    pub fn symbol_name(&self, id: i32) -> Option<&str> {
        let mut markets = self.markets.iter();
        let of_id = markets.find(|(_, market)| market.id == id);
        of_id.map(|(name, _)| name.as_str())
    }

    /// Differences that a running process must not take over from `next`, because amounts or names would change their meaning:
    /// another scale of an asset, a name that moves to another asset, another base or quote of a symbol.
    pub fn unsafe_changes(&self, next: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for KnownAsset { id, name, decimals } in &self.known {
            if let Some((_, other)) = next.get_asset(*id).filter(|(_, other)| other != decimals) {
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
    pub fn trade_cost(&self, symbol: &str, price: Amount, quantity: Amount) -> Option<Amount> {
        let (_, base, _) = self.find_symbol(symbol)?;
        let scale = 10_i128.checked_pow(u32::from(self.get_asset(base)?.1))?;
        let product = i128::from(price.raw()).checked_mul(i128::from(quantity.raw()))?;
        i64::try_from(product.checked_div(scale)?)
            .ok()
            .map(Amount::from_raw)
    }
}

fn catalogue_error(list: &str, at: usize, key: &str, reason: impl Into<String>) -> CatalogueError {
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
mod tests;
