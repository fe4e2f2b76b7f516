use super::*;

fn seed_table() -> CatalogueTable {
    CatalogueTable::new(
        &[
            Asset::new(1, "BTC", 8),
            Asset::new(2, "USDT", 8),
            Asset::new(3, "ETH", 8),
        ],
        &[
            Symbol::new(1, "BTC_USDT", "BTC", "USDT"),
            Symbol::new(2, "ETH_USDT", "ETH", "USDT"),
        ],
    )
    .unwrap()
}

#[test]
fn seed_fault_10_an_unknown_asset_is_named_by_its_number() {
    let catalogue = seed_table();
    assert_eq!(catalogue.resolve_asset("4"), AssetId::new(4).ok());
    assert_eq!(catalogue.get_asset(AssetId::new(4).unwrap()), None);
    assert_eq!(catalogue.resolve_asset("1"), None, "asset 1 has a name");
    assert_eq!(catalogue.resolve_asset("btc"), None, "case counts");
    assert_eq!(catalogue.resolve_asset("04"), None);
}

#[test]
fn seed_fault_16_readers_and_writers_share_one_table_of_symbols() {
    let catalogue = seed_table();
    let id = |name| catalogue.find_symbol(name).map(|found| found.0);
    assert_eq!(
        (id("BTC_USDT"), id("ETH_USDT"), id("BTC_ETH")),
        (Some(1), Some(2), None)
    );
    let twice = [
        Symbol::new(1, "BTC_USDT", "BTC", "USDT"),
        Symbol::new(1, "ETH_USDT", "ETH", "USDT"),
    ];
    let assets = [
        Asset::new(1, "BTC", 8),
        Asset::new(2, "USDT", 8),
        Asset::new(3, "ETH", 8),
    ];
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
        seed_table().unsafe_changes(&next)
    };
    let (btc, usdt, eth) = (
        Asset::new(1, "BTC", 8),
        Asset::new(2, "USDT", 8),
        Asset::new(3, "ETH", 8),
    );
    let harmless = [btc.clone(), usdt.clone(), Asset::new(4, "XAU", 3)];
    assert_eq!(with(&harmless, &[]), [""; 0], "one less, and one more");
    let renamed = [Asset::new(1, "XBT", 8), usdt.clone()];
    assert_eq!(
        with(&renamed, &[]),
        [""; 0],
        "another name of the same asset"
    );
    let scaled = [Asset::new(1, "BTC", 6), usdt.clone(), eth.clone()];
    assert_eq!(with(&scaled, &[]), ["decimals of BTC (8 to 6)"]);
    let moved = [Asset::new(3, "BTC", 8), usdt.clone()];
    assert_eq!(with(&moved, &[]), ["the id of BTC (1 to 3)"]);
    let symbols = [Symbol::new(1, "BTC_USDT", "ETH", "USDT")];
    assert_eq!(with(&[btc, usdt, eth], &symbols), ["the symbol BTC_USDT"]);
}

#[test]
fn seed_fault_17_a_cost_is_scaled_and_checked() {
    let catalogue = seed_table();
    let raw = Amount::from_raw;
    let cost = |price, quantity| {
        catalogue
            .trade_cost("BTC_USDT", raw(price), raw(quantity))
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
        Asset::new(0, "", 19),
        Asset::new(2, "7", 8),
        Asset::new(2, "A B", 8),
        Asset::new(5, "X", 1),
        Asset::new(5, "X", 1),
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
