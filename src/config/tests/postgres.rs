//! `[postgres]`: mistakes with their keys, and secrets that stay hidden.

use super::*;

#[test]
fn each_mistake_is_told_with_its_key() {
    for (text, expected) in [
        ("url = \"postgresql://h/\"", vec!["postgres.url"]),
        (
            "url = \"postgresql://h/b?sslmode=require\"",
            vec!["postgres.url"],
        ),
        (
            "url = \"postgresql://u@h/b\"\nusername = \"v\"",
            vec!["postgres.username"],
        ),
        ("password = \"p\"", vec!["postgres.username"]),
        (
            "read_urls = [\"postgresql://h/b\", \"h:1\"]",
            vec!["postgres.read_urls[1]"],
        ),
        (
            "read_urls = [\"postgresql://g,h/b\"]",
            vec!["postgres.read_urls[0]"],
        ),
        ("schema = \"Trading\"", vec!["postgres.schema"]),
        ("connections = 0", vec!["postgres.connections"]),
        ("sslmode = \"require\"", vec!["postgres.sslmode"]),
        ("sslmode = \"verify-full\"", vec!["postgres.tls_ca_file"]),
        ("tls_ca_file = \"ca.pem\"", vec!["postgres.sslmode"]),
    ] {
        assert_eq!(
            mistaken_keys(&format!("[postgres]\n{text}\n"), &[]),
            expected,
            "{text}"
        );
    }
}

#[test]
fn no_secret_of_postgresql_is_shown_and_what_is_shown_is_refused() {
    let text = "[source]\nkind = \"postgres\"\n[postgres]\nurl = \"postgresql://secret1:pw1secret@h,i:1/money\"\n\
                read_urls = [\"postgresql://secret2:pw2secret@j/money\"]\n";
    let settings = load_text(text, &[]).unwrap();
    for said in [shown(&settings), format!("{settings:?}")] {
        assert!(!said.contains("secret"), "{said}");
        assert!(said.contains("postgresql://***:***@h,i:1/money"), "{said}");
    }
    let refused = mistaken_keys(&shown(&settings), &[]);
    assert_eq!(refused, ["postgres.url", "postgres.read_urls[0]"]);
    let password = load_text(
        "[postgres]\nusername = \"u\"\npassword = \"pw3secret\"\n",
        &[],
    )
    .unwrap();
    assert!(!format!("{password:?}{}", shown(&password)).contains("secret"));
    assert_eq!(mistaken_keys(&shown(&password), &[]), ["postgres.password"]);
}
