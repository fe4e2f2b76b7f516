//! Files of any content: what is shown of them loads again, and no text makes loading panic.

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn good_files()(
        ttl in 1_u64..9_000, floor in 100_000_u64..1_000_000, stale: bool, port in 4_000_u16..60_000,
        name in "[A-Z]{1,8}", decimals in 0_u8..19, id in 1_i32.., path in "[ -~]{1,20}",
        nodes in prop::collection::vec("[a-z]{1,9}:[1-9][0-9]{1,3}", 0..4),
        mode in prop::sample::select(vec!["network", "none"]),
        namespace in "[A-Za-z0-9_.-]{0,64}", redis: bool,
    ) -> String {
        let path = toml::Value::String(path);
        let url = if redis { "redis://h:6379/3?protocol=resp3" } else { "" };
        format!(
            "[http]\nlisten = \"127.0.0.1:{port}\"\n[memory]\nttl_ms = {ttl}\n[stale]\nenabled = {stale}\n\
             [settlement]\nfloor_ttl_ms = {floor}\n[embedded]\npath = {path}\n[scylla]\nnodes = {nodes:?}\n\
             [auth]\nmode = \"{mode}\"\n[redis]\nurl = \"{url}\"\nnamespace = \"{namespace}\"\n\
             [[assets]]\nid = {id}\nname = \"{name}\"\ndecimals = {decimals}\n"
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_shown_loads_to_the_same_settings(text in good_files()) {
        let settings = load_text(&text, &[]).unwrap();
        prop_assert_eq!(load_text(&shown(&settings), &[]).unwrap(), settings);
    }

    #[test]
    fn what_is_shown_of_a_secret_is_read_back_as_its_mark(text in good_files()) {
        let mut settings = load_text(&format!("{text}{TOKEN}"), &[]).unwrap();
        let shown: Settings = toml::from_str(&shown(&settings)).unwrap();
        "***".clone_into(&mut settings.auth.tokens[0].sha256);
        prop_assert_eq!(shown, settings);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}", name in "[A-Z_]{0,20}") {
        let _ = load_text(&text, &[(&format!("{PREFIX}{name}"), &text)]);
    }
}
