//! The ways of a cold read, a hit and a settlement through the code: the lists of `docs/ARCHITECTURE.md`, held against the code.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::scan::{root, text, tokens};

/// The document with the lists.
const DOCUMENT: &str = "docs/ARCHITECTURE.md";

/// Depth, file below `src/`, function. A function is called by the nearest one above it in the list with less depth.
type Step = (usize, String, String);

/// The functions and files that a cold read may pass.
const COLD_READ_FUNCTIONS: usize = 45;
const COLD_READ_FILES: usize = 15;

/// The bodies of all functions of a name in a source; none where there is no such function.
fn bodies(stream: TokenStream, name: &str, found: &mut Vec<TokenStream>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    for (at, tree) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = tree {
            bodies(group.stream(), name, found);
        }
        let is = |at: usize, word: &str| matches!(tokens.get(at), Some(TokenTree::Ident(found)) if found == word);
        if is(at, "fn") && is(at + 1, name) {
            let body = tokens[at..].iter().find_map(|tree| match tree {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    Some(group.stream())
                }
                _ => None,
            });
            found.extend(body);
        }
    }
}

fn names(stream: TokenStream, name: &str) -> bool {
    stream.into_iter().any(|tree| match tree {
        TokenTree::Ident(found) => found == name,
        TokenTree::Group(group) => names(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// The list below a heading of the document.
fn list(heading: &str) -> Vec<Step> {
    let document = text(DOCUMENT).unwrap();
    let (_, below) = document.split_once(&format!("\n### {heading}\n")).unwrap();
    let (_, block) = below.split_once("```text\n").unwrap();
    let (block, _) = block.split_once("\n```").unwrap();
    let step = |line: &str| {
        let words = line.trim_start();
        let (file, function) = words.split_once(' ').unwrap();
        let depth = (line.len() - words.len()) / 2;
        (depth, file.to_owned(), function.to_owned())
    };
    block.lines().map(step).collect()
}

/// The steps that are not in the code as the list says.
fn faults(steps: &[Step]) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, (depth, file, function)) in steps.iter().enumerate() {
        let path = format!("src/{file}");
        let mut here = Vec::new();
        if root().join(&path).is_file() {
            bodies(tokens(&path), function, &mut here);
        }
        if here.is_empty() {
            faults.push(format!("{file} has no function {function}"));
        }
        let caller = steps[..at].iter().rfind(|(above, ..)| above < depth);
        let Some((_, of, caller)) = caller else {
            continue;
        };
        let mut callers = Vec::new();
        let path = format!("src/{of}");
        if root().join(&path).is_file() {
            bodies(tokens(&path), caller, &mut callers);
        }
        if !callers.into_iter().any(|body| names(body, function)) {
            faults.push(format!("{of} {caller} does not call {function}"));
        }
    }
    faults
}

#[test]
fn the_ways_through_the_code_are_as_they_are_listed() {
    let (cold, hit) = (list("A cold read"), list("A hit"));
    let settlement = list("A settlement");
    assert!(hit.len() > 10 && settlement.len() > 10, "lists are missing");
    let found = [faults(&cold), faults(&hit), faults(&settlement)].concat();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let files: BTreeSet<_> = cold.iter().map(|(_, file, _)| file).collect();
    assert!((30..=COLD_READ_FUNCTIONS).contains(&cold.len()));
    assert!(files.len() <= COLD_READ_FILES, "{files:?}");
}

#[test]
fn a_step_that_is_not_in_the_code_is_found() {
    let wrong = [
        (0, "read/pipeline.rs", "read_user"),
        (1, "read/pipeline.rs", "load_from_source"),
        (1, "read/pipeline.rs", "nothing"),
        (1, "read/nowhere.rs", "read_tiers"),
    ];
    let wrong = wrong.map(|(depth, file, name)| (depth, file.to_owned(), name.to_owned()));
    assert_eq!(
        faults(&wrong),
        [
            "read/pipeline.rs read_user does not call load_from_source",
            "read/pipeline.rs has no function nothing",
            "read/pipeline.rs read_user does not call nothing",
            "read/nowhere.rs has no function read_tiers",
        ]
    );
}
