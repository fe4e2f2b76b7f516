//! No setting that is shown or logged tells a secret.

use super::*;

#[test]
fn no_secret_is_shown_or_logged() {
    let text = format!(
        "[redis]\nmode = \"cluster\"\nurl = \"redis://secret1:pw1secret@h:1/0?protocol=resp3,redis://secret1:pw1secret@i?protocol=3\"\n[scylla]\nusername = \"u\"\npassword = \"pw4secret\"\n[auth]\nmode = \"token\"\n{TOKEN}"
    );
    let settings = load_text(&text, &[]).unwrap();
    for said in [shown(&settings), format!("{settings:?}")] {
        assert!(
            !said.contains("secret") && !said.contains("ba7816bf"),
            "{said}"
        );
        assert!(
            said.contains("redis://***:***@h:1/0?protocol=resp3,redis://***:***@i?protocol=3"),
            "{said}"
        );
    }
    let refused = mistaken_keys(&shown(&settings), &[]);
    assert_eq!(
        refused,
        ["auth.tokens[0].sha256", "redis.url", "scylla.password"]
    );
}

#[test]
fn no_part_of_an_address_that_is_taken_or_refused_tells_a_secret() {
    for (url, hidden) in [
        ("redis://:secret@h", "redis://:***@h"),
        ("redis://secret@h", "redis://***@h"),
        (
            "unix:///run/s?user=secret&pass=secret&db=2",
            "unix:///run/s?user=***&pass=***&db=2",
        ),
    ] {
        let settings = load_text(&format!("[redis]\nurl = \"{url}\""), &[]).unwrap();
        for said in [shown(&settings), format!("{settings:?}")] {
            assert!(said.contains(hidden) && !said.contains("secret"), "{said}");
        }
    }
    for url in [
        "redis://h:1/3?password=secret",
        "redis://h:1/3?pass=secret",
        "redis://h?secret",
        "redis://h/secret",
        "redis://h#secret",
        "redis://u:sec,secret@h",
        "http://secret@h",
        "secret",
    ] {
        let mut settings = default_settings().unwrap();
        url.clone_into(&mut settings.redis.url);
        for said in [shown(&settings), format!("{settings:?}")] {
            assert!(!said.contains("sec,") && !said.contains("secret"), "{said}");
        }
        let refused = load_text("", &[("BALANCE_CACHE__REDIS__URL", url)]).unwrap_err();
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
}
