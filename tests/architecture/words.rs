//! The words of the house: those of the glossary are used in the code.

use crate::scan::{files, root, text};

/// The most words of the glossary.
const GLOSSARY_MAX: usize = 25;

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
