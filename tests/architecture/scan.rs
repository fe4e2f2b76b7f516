//! Reads Rust sources as tokens: comments and strings say nothing, macros and tests are seen.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The package's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What holds nothing of ours: built, written at run time, or vendored.
const SKIPPED: [&str; 6] = [
    ".git",
    ".test",
    "target",
    "data",
    "fixtures",
    "node_modules",
];

/// Every file below a folder of the package, sorted, as paths from the package's folder.
pub fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if SKIPPED.contains(&name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let short = path.strip_prefix(root()).unwrap();
                found.push(short.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// How a file's name ends; empty where it has no dot.
pub fn ending(file: &str) -> &str {
    let ending = Path::new(file).extension();
    ending.map_or("", |ending| ending.to_str().unwrap())
}

/// The text of a file; none where it is not text.
pub fn text(file: &str) -> Option<String> {
    fs::read_to_string(root().join(file)).ok()
}

/// The tokens of a Rust file.
pub fn tokens(file: &str) -> TokenStream {
    let text = text(file).unwrap();
    text.parse()
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A source without its test modules, and what is in them.
pub fn split(stream: TokenStream) -> (TokenStream, TokenStream) {
    let (mut production, mut tests) = (Vec::new(), Vec::new());
    let all: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while at < all.len() {
        if let Some((length, body)) = test_module(&all[at..]) {
            tests.extend(body);
            at += length;
        } else {
            production.push(all[at].clone());
            at += 1;
        }
    }
    (
        production.into_iter().collect(),
        tests.into_iter().collect(),
    )
}

/// `#[cfg(test)] … mod name { … }`: how many tokens it is, and what is in it.
fn test_module(tokens: &[TokenTree]) -> Option<(usize, TokenStream)> {
    let [hash, TokenTree::Group(attribute), ..] = tokens else {
        return None;
    };
    let text = attribute.stream().to_string().replace(' ', "");
    if !is(hash, '#') || text != "cfg(test)" {
        return None;
    }
    for (at, tree) in tokens.iter().enumerate().skip(2) {
        match tree {
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                return word(&tokens[at - 2], "mod").then(|| (at + 1, body.stream()));
            }
            TokenTree::Punct(end) if end.as_char() == ';' => return None,
            _ => {}
        }
    }
    None
}

fn is(tree: &TokenTree, punct: char) -> bool {
    matches!(tree, TokenTree::Punct(found) if found.as_char() == punct)
}

fn word(tree: &TokenTree, expected: &str) -> bool {
    matches!(tree, TokenTree::Ident(found) if found == expected)
}

/// `::` at a place.
fn colons(tokens: &[TokenTree], at: usize) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(first))
        if first.as_char() == ':' && first.spacing() == Spacing::Joint)
        && tokens.get(at + 1).is_some_and(|second| is(second, ':'))
}

/// A path as it is written, `use` trees opened up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `["crate", "domain", "Asset"]`.
    pub segments: Vec<String>,
    /// It begins with `::`.
    pub global: bool,
    /// It follows `use`, or is a path of two segments and more.
    pub certain: bool,
}

/// Every path in a source.
pub fn paths(stream: TokenStream) -> Vec<Written> {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(_) => {
                let global = at >= 2 && colons(&tokens, at - 2);
                let before = if global {
                    at.checked_sub(3)
                } else {
                    at.checked_sub(1)
                };
                let before = before.map(|place| &tokens[place]);
                // What follows generics or a closed path continues a path that was seen.
                let continued = global
                    && before
                        .is_some_and(|tree| is(tree, '>') || matches!(tree, TokenTree::Group(_)));
                let used = before.is_some_and(|tree| word(tree, "use"));
                let mut branches = Vec::new();
                at = read_path(&tokens, at, &[], &mut branches);
                if !continued {
                    found.extend(branches.into_iter().map(|segments| Written {
                        certain: used || segments.len() > 1,
                        segments,
                        global,
                    }));
                }
            }
            TokenTree::Group(group) => {
                found.extend(paths(group.stream()));
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
    found.retain(|path| path.certain);
    found
}

/// Reads the path that begins at a place, and returns the place behind it.
fn read_path(
    tokens: &[TokenTree],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) => path.push(name.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for branch in inner.split(|tree| is(tree, ',')) {
                    if !branch.is_empty() {
                        read_path(branch, 0, &path, found);
                    }
                }
                return at + 1;
            }
            Some(tree) if is(tree, '*') => path.push("*".to_owned()),
            _ => break,
        }
        at += 1;
        if !colons(tokens, at) {
            break;
        }
        at += 2;
    }
    found.push(path);
    at
}

/// Names that the file gives to modules of ours: `mod redis`, `use crate::cache::redis`.
pub fn local_names(stream: &TokenStream) -> Vec<String> {
    let mut names = Vec::new();
    for path in paths(stream.clone()) {
        if matches!(path.segments[0].as_str(), "crate" | "self" | "super") {
            names.extend(path.segments.into_iter().rev().find(|name| name != "self"));
        }
    }
    let mut earlier_is_mod = false;
    for tree in stream.clone() {
        if let (true, TokenTree::Ident(name)) = (earlier_is_mod, &tree) {
            names.push(name.to_string());
        }
        earlier_is_mod = word(&tree, "mod");
    }
    names
}

/// Calls of these functions, macros with `!`, and attributes `#[…]`, wherever they are: the names found.
pub fn uses(
    stream: TokenStream,
    calls: &[&str],
    macros: &[&str],
    attributes: &[&str],
) -> Vec<String> {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut found = Vec::new();
    for (at, tree) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1);
        match (tree, next) {
            (TokenTree::Ident(name), Some(TokenTree::Group(group)))
                if group.delimiter() == Delimiter::Parenthesis
                    && calls.iter().any(|call| name == call) =>
            {
                found.push(format!("{name}("));
            }
            (TokenTree::Ident(name), Some(bang))
                if is(bang, '!') && macros.iter().any(|call| name == call) =>
            {
                found.push(format!("{name}!"));
            }
            (hash, Some(TokenTree::Group(group))) if is(hash, '#') => {
                let first = group.stream().into_iter().next();
                let names = attributes.iter();
                found.extend(
                    names
                        .filter(|name| first.as_ref().is_some_and(|first| word(first, name)))
                        .map(|name| format!("#[{name}]")),
                );
            }
            _ => {}
        }
        if let TokenTree::Group(group) = tree {
            found.extend(uses(group.stream(), calls, macros, attributes));
        }
    }
    found
}
