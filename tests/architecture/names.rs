//! Names: no type name is there twice, and a function says what it does to what.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::scan::{ending, files, tokens};

/// Functions of a hundred that may have a name of one word: `new`, `fmt`, `len`.
const ONE_WORD_PERCENT: usize = 20;

/// Words before the name of a type.
const KINDS: [&str; 5] = ["struct", "enum", "trait", "type", "union"];

/// Macros of ours that make a type, whose name is the first word behind its attributes.
const MAKERS: [&str; 4] = ["section", "choice", "label", "positive_id"];

/// Names of types and of functions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Defined {
    types: Vec<String>,
    functions: Vec<String>,
}

fn is_punct(tree: Option<&TokenTree>, punct: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(found)) if found.as_char() == punct)
}

/// The first word that is no part of an attribute.
fn first_word(stream: TokenStream) -> Option<String> {
    let mut after_hash = false;
    for tree in stream {
        match tree {
            TokenTree::Punct(punct) => after_hash = punct.as_char() == '#',
            TokenTree::Group(_) if after_hash => after_hash = false,
            TokenTree::Ident(name) => return Some(name.to_string()),
            TokenTree::Group(_) | TokenTree::Literal(_) => return None,
        }
    }
    None
}

/// Adds what a source defines; the types of an `impl` or a `trait` are not types of their own.
fn collect_names(stream: TokenStream, associated: bool, defined: &mut Defined) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut of_types = false;
    for (at, tree) in tokens.iter().enumerate() {
        match tree {
            TokenTree::Ident(word) => {
                let word = word.to_string();
                // `-> impl Trait {` is no block of associated types.
                let begins_item = at == 0
                    || matches!(&tokens[at - 1], TokenTree::Ident(_) | TokenTree::Group(_))
                    || is_punct(tokens.get(at - 1), ';');
                of_types |= word == "trait" || (word == "impl" && begins_item);
                let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else {
                    continue;
                };
                if word == "fn" {
                    defined.functions.push(name.to_string());
                }
                if KINDS.contains(&word.as_str()) && !(associated && word == "type") {
                    defined.types.push(name.to_string());
                }
            }
            TokenTree::Group(group) => {
                let body = group.delimiter() == Delimiter::Brace;
                let maker = at >= 2 && is_punct(tokens.get(at - 1), '!');
                if let (true, true, Some(TokenTree::Ident(name))) =
                    (body, maker, tokens.get(at.wrapping_sub(2)))
                    && MAKERS.iter().any(|maker| name == maker)
                {
                    defined.types.extend(first_word(group.stream()));
                }
                collect_names(group.stream(), body && of_types, defined);
                of_types &= !body;
            }
            TokenTree::Punct(end) if end.as_char() == ';' => of_types = false,
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn defined_in_src() -> Vec<(String, Defined)> {
    let mut all = Vec::new();
    for file in files("src") {
        if ending(&file) == "rs" {
            let mut defined = Defined::default();
            collect_names(tokens(&file), false, &mut defined);
            all.push((file, defined));
        }
    }
    all
}

#[test]
fn no_type_name_is_there_twice() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, defined) in defined_in_src() {
        for name in defined.types {
            places.entry(name).or_default().push(file.clone());
        }
    }
    assert!(places.len() > 500, "{} types were found", places.len());
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn names_of_functions_say_what_they_do() {
    let (mut all, mut short) = (0, BTreeMap::<String, usize>::new());
    for (_, defined) in defined_in_src() {
        for name in defined.functions {
            all += 1;
            if !name.contains('_') {
                *short.entry(name).or_default() += 1;
            }
        }
    }
    let one_word: usize = short.values().sum();
    assert!(all > 1000, "{all} functions were found");
    assert!(
        one_word * 100 < all * ONE_WORD_PERCENT,
        "{one_word} of {all} have one word: {short:#?}"
    );
}

#[test]
fn what_a_source_defines_is_found() {
    let source = "
        struct Row(u8); pub(crate) enum Kind { Row } type Rows = Vec<Row>;
        impl Iterator for Row { type Item = u8; fn next(&mut self) -> Option<u8> { struct Inner; None } }
        trait Named { type Name; fn full_name(&self) -> impl Iterator<Item = u8> { type Local = u8; [] } }
        section! { /// Text.
            #[derive(Debug)] Redis { url: String, } }
        fn union() { let union = 1; }
    ";
    let mut defined = Defined::default();
    collect_names(source.parse().unwrap(), false, &mut defined);
    let types = ["Row", "Kind", "Rows", "Inner", "Named", "Local", "Redis"];
    assert_eq!(defined.types, types);
    assert_eq!(defined.functions, ["next", "full_name", "union"]);
}
