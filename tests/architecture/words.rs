//! The words of the house: those of the glossary are used in the code.

use proc_macro2::{TokenStream, TokenTree};

use crate::scan::{ending, files, root, text, tokens};

/// The most words of the glossary.
const GLOSSARY_MAX: usize = 25;

/// Names that were replaced by the field's terms, and must not come back.
const OLD_NAMES: [&str; 30] = [
    "Doors",
    "Turns",
    "Own",
    "Flights",
    "Landed",
    "Lead",
    "Gathered",
    "Spent",
    "Trail",
    "Forward",
    "Memo",
    "Kept",
    "Slot",
    "Tap",
    "Says",
    "Said",
    "Mark",
    "Stood",
    "Story",
    "Agenda",
    "Tempers",
    "Unfit",
    "Conns",
    "lane",
    "trail",
    "doubted",
    "doubtful",
    "sparing",
    "meanwhile",
    "gathered",
];

/// The words of the glossary, as they stand in the table.
fn glossary() -> Vec<String> {
    let document = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let table = document.split("## Glossary").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| line.split(" |").next())
        .filter(|word| *word != "word")
        .flat_map(|word| word.split(", "))
        .map(str::to_owned)
        .collect()
}

/// All text of `src`, in small letters, with blanks for underscores.
fn all_code() -> String {
    files("src")
        .iter()
        .filter_map(|file| text(file))
        .map(|text| text.to_lowercase().replace('_', " "))
        .collect()
}

#[test]
fn each_word_of_the_glossary_is_used() {
    let words = glossary();
    assert!((10..=GLOSSARY_MAX).contains(&words.len()), "{words:?}");
    let code = all_code();
    let unused: Vec<_> = words
        .iter()
        .filter(|word| !code.contains(&word.to_lowercase()))
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
}

/// The old names among the identifiers of a source; comments and strings say nothing.
fn find_old_names(stream: TokenStream, found: &mut Vec<String>) {
    for tree in stream {
        match tree {
            TokenTree::Ident(name) if OLD_NAMES.iter().any(|old| name == old) => {
                found.push(name.to_string());
            }
            TokenTree::Group(group) => find_old_names(group.stream(), found),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[test]
fn no_old_name_comes_back() {
    let mut found = Vec::new();
    find_old_names("struct Doors { trail: u8 }".parse().unwrap(), &mut found);
    assert_eq!(found, ["Doors", "trail"]);
    for file in files("src") {
        if ending(&file) == "rs" {
            found.clear();
            find_old_names(tokens(&file), &mut found);
            assert!(found.is_empty(), "{file}: {found:?}");
        }
    }
}
