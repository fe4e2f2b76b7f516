//! The catalogue in force, which a reload replaces while readers use it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::domain::{Amount, Asset, AssetId, CatalogueError, CatalogueTable, Symbol};

/// The assets and symbols of one deployment, as they are now. Two questions may be answered by two tables: take
/// [`Catalogue::current_table`] for several that belong together.
#[derive(Debug, Default)]
pub struct Catalogue(ArcSwap<CatalogueTable>);

impl Catalogue {
    /// The catalogue, checked.
    /// Errors: everything that is wrong with it, not the first thing only.
    pub fn new(assets: &[Asset], symbols: &[Symbol]) -> Result<Self, Vec<CatalogueError>> {
        let table = CatalogueTable::new(assets, symbols)?;
        Ok(Self(ArcSwap::from_pointee(table)))
    }

    pub fn current_table(&self) -> Arc<CatalogueTable> {
        self.0.load_full()
    }

    /// Puts another table in force. What was rendered by the one before stays as it is: the caller drops it.
    pub fn replace_table(&self, table: CatalogueTable) {
        self.0.store(Arc::new(table));
    }

    /// The ids of all assets, ascending.
    pub fn asset_ids(&self) -> impl Iterator<Item = AssetId> + use<> {
        let ids: Vec<_> = self.0.load().asset_ids().collect();
        ids.into_iter()
    }

    /// How many assets there are.
    pub fn asset_count(&self) -> usize {
        self.0.load().asset_count()
    }

    /// Name and decimals of an asset; none for one that is not in the catalogue.
    pub fn get_asset(&self, id: AssetId) -> Option<(String, u8)> {
        let table = self.0.load();
        let (name, decimals) = table.get_asset(id)?;
        Some((name.to_owned(), decimals))
    }

    pub fn has_asset(&self, id: AssetId) -> bool {
        self.0.load().get_asset(id).is_some()
    }

    /// The asset that a client means: see [`CatalogueTable::resolve_asset`].
    pub fn resolve_asset(&self, text: &str) -> Option<AssetId> {
        self.0.load().resolve_asset(text)
    }

    /// Id, base and quote of a symbol: see [`CatalogueTable::find_symbol`].
    pub fn find_symbol(&self, name: &str) -> Option<(i32, AssetId, AssetId)> {
        self.0.load().find_symbol(name)
    }

    /// The names of all symbols, in their order.
    pub fn symbol_names(&self) -> Vec<String> {
        let table = self.0.load();
        table
            .symbol_names()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// The cost of a trade: see [`CatalogueTable::trade_cost`].
    pub fn trade_cost(&self, symbol: &str, price: Amount, quantity: Amount) -> Option<Amount> {
        self.0.load().trade_cost(symbol, price, quantity)
    }
}

impl Clone for Catalogue {
    fn clone(&self) -> Self {
        Self(ArcSwap::new(self.current_table()))
    }
}
