//! The catalogue in force, which a reload replaces while readers use it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::domain::{Amount, Asset, AssetId, CatalogueError, CatalogueTable, Symbol};

/// The assets and symbols of one deployment, as they are now. Two questions may be answered by two tables: take
/// [`Catalogue::now`] for several that belong together.
#[derive(Debug, Default)]
pub struct Catalogue(ArcSwap<CatalogueTable>);

impl Catalogue {
    /// The catalogue, checked.
    ///
    /// # Errors
    /// Everything that is wrong with it, not the first thing only.
    pub fn new(assets: &[Asset], symbols: &[Symbol]) -> Result<Self, Vec<CatalogueError>> {
        let table = CatalogueTable::new(assets, symbols)?;
        Ok(Self(ArcSwap::from_pointee(table)))
    }

    /// The table in force.
    #[must_use]
    pub fn now(&self) -> Arc<CatalogueTable> {
        self.0.load_full()
    }

    /// Puts another table in force. What was rendered by the one before stays as it is: the caller drops it.
    pub fn replace(&self, table: CatalogueTable) {
        self.0.store(Arc::new(table));
    }

    /// The ids of all assets, ascending.
    pub fn ids(&self) -> impl Iterator<Item = AssetId> + use<> {
        let ids: Vec<_> = self.0.load().ids().collect();
        ids.into_iter()
    }

    /// How many assets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.load().len()
    }

    /// No assets at all: everything is shown raw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Name and decimals of an asset; none for one that is not in the catalogue.
    #[must_use]
    pub fn get(&self, id: AssetId) -> Option<(String, u8)> {
        let table = self.0.load();
        let (name, decimals) = table.get(id)?;
        Some((name.to_owned(), decimals))
    }

    /// Whether the asset has a name here.
    #[must_use]
    pub fn has(&self, id: AssetId) -> bool {
        self.0.load().get(id).is_some()
    }

    /// The asset that a client means: see [`CatalogueTable::resolve`].
    #[must_use]
    pub fn resolve(&self, text: &str) -> Option<AssetId> {
        self.0.load().resolve(text)
    }

    /// Id, base and quote of a symbol: see [`CatalogueTable::symbol`].
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<(i32, AssetId, AssetId)> {
        self.0.load().symbol(name)
    }

    /// The names of all symbols, in their order.
    #[must_use]
    pub fn symbols(&self) -> Vec<String> {
        let table = self.0.load();
        table.symbols().into_iter().map(str::to_owned).collect()
    }

    /// The cost of a trade: see [`CatalogueTable::cost`].
    #[must_use]
    pub fn cost(&self, symbol: &str, price: Amount, quantity: Amount) -> Option<Amount> {
        self.0.load().cost(symbol, price, quantity)
    }
}

impl Clone for Catalogue {
    fn clone(&self) -> Self {
        Self(ArcSwap::new(self.now()))
    }
}
