//! Assets and symbols: each by itself, then beside each other. What an asset and a symbol must be is the domain's
//! business; here it is asked about them one at a time, so that none hides the mistakes of another.

use std::collections::HashSet;

use super::SettingsCheck;
use crate::domain::{Asset, Catalogue, CatalogueError, Symbol};

impl SettingsCheck<'_> {
    pub(super) fn check_catalogue(&mut self) {
        let settings = self.settings;
        let (assets, symbols) = (&settings.assets, &settings.symbols);
        // Before the assets are judged: a name that is no good is a name still, and its symbols are not wrong for it.
        let names = self.asset_names();
        for (at, asset) in assets.iter().enumerate() {
            self.check_element(
                "assets",
                at,
                Catalogue::new(std::slice::from_ref(asset), &[]),
            );
        }
        self.require_unique("assets", "id", assets.iter().map(|it| it.id), taken_text);
        self.require_unique(
            "assets",
            "name",
            assets.iter().map(|it| &it.name),
            taken_text,
        );
        for (at, symbol) in symbols.iter().enumerate() {
            self.check_element("symbols", at, symbol_alone(symbol));
            self.check_sides(at, symbol, names.as_ref());
        }
        self.require_unique("symbols", "id", symbols.iter().map(|it| it.id), taken_text);
        self.require_unique(
            "symbols",
            "name",
            symbols.iter().map(|it| &it.name),
            taken_text,
        );
        if self.told.mistakes.is_empty() {
            // The last word: what the service will ask.
            for error in Catalogue::new(assets, symbols).err().unwrap_or_default() {
                self.add_mistake(&[&error.key], error.reason);
            }
        }
    }

    /// The faults of the element at `at`, which was judged as the only one of its list.
    fn check_element(
        &mut self,
        list: &str,
        at: usize,
        judged: Result<Catalogue, Vec<CatalogueError>>,
    ) {
        let first = format!("{list}[0].");
        for error in judged.err().unwrap_or_default() {
            if let Some(field) = error.key.strip_prefix(&first) {
                self.add_mistake(&[&format!("{list}[{at}].{field}")], error.reason);
            }
        }
    }

    /// The names that symbols can use; none where one of them is not known.
    fn asset_names(&self) -> Option<HashSet<String>> {
        let origins = &self.told.origins;
        // The list in force is not the one that was meant.
        if !origins.contains_key("assets") && self.is_bad("assets") {
            return None;
        }
        let name = |(at, asset): (usize, &Asset)| {
            let known = !self.is_bad(&format!("assets[{at}].name"));
            known.then(|| asset.name.clone())
        };
        self.settings.assets.iter().enumerate().map(name).collect()
    }

    fn check_sides(&mut self, at: usize, symbol: &Symbol, names: Option<&HashSet<String>>) {
        let key = |side: &str| format!("symbols[{at}].{side}");
        for (side, name) in [("base", &symbol.base), ("quote", &symbol.quote)] {
            self.require_that(
                &[&key(side)],
                names.is_none_or(|names| names.contains(name)),
                &format!("{name} is not in assets"),
            );
        }
        self.require_that(
            &[&key("quote"), &key("base")],
            symbol.base != symbol.quote,
            "is the base too",
        );
    }
}

/// A symbol between two assets that are good.
fn symbol_alone(symbol: &Symbol) -> Result<Catalogue, Vec<CatalogueError>> {
    let symbol = Symbol {
        base: "BASE".to_owned(),
        quote: "QUOTE".to_owned(),
        ..symbol.clone()
    };
    Catalogue::new(
        &[Asset::new(1, "BASE", 0), Asset::new(2, "QUOTE", 0)],
        &[symbol],
    )
}

fn taken_text(value: &impl std::fmt::Display) -> String {
    format!("{value} is taken")
}
