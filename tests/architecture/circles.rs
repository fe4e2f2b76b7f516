//! No module imports itself in a circle, inside the top modules either.
//!
//! A file and the files below it are one module: what passes between a file and one that its path begins with is no arrow.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;

use crate::scan::{ending, files, paths, split, tokens};

/// A module by its path below `src/`: `["http", "openapi", "ledger"]`.
type Module = Vec<String>;

/// Each module, and the modules that it names.
type Arrows = BTreeMap<Module, BTreeSet<Module>>;

fn module_of(file: &str) -> Module {
    let short = file.strip_suffix(".rs").unwrap();
    short.split('/').map(str::to_owned).collect()
}

fn is_above(one: &Module, other: &Module) -> bool {
    other.starts_with(one)
}

/// The path from the crate's root, where a path leads into the crate.
fn from_root(module: &Module, path: &[String], modules: &BTreeSet<Module>) -> Option<Vec<String>> {
    let (head, rest) = path.split_first()?;
    match head.as_str() {
        "crate" => Some(rest.to_vec()),
        "super" | "self" => {
            let mut base = module.clone();
            let mut at = path;
            while let Some((step, rest)) = at.split_first() {
                match step.as_str() {
                    "super" => drop(base.pop()),
                    "self" => {}
                    _ => break,
                }
                at = rest;
            }
            base.extend(at.iter().cloned());
            Some(base)
        }
        child => {
            let mut below = module.clone();
            below.push(child.to_owned());
            let known = modules.contains(&below);
            below.extend(rest.iter().cloned());
            known.then_some(below)
        }
    }
}

fn arrows(sources: &BTreeMap<Module, TokenStream>) -> Arrows {
    let modules: BTreeSet<Module> = sources.keys().cloned().collect();
    let mut arrows = Arrows::new();
    for (module, source) in sources {
        let named = arrows.entry(module.clone()).or_default();
        let (production, _tests) = split(source.clone());
        for path in paths(production) {
            let Some(mut target) = from_root(module, &path.segments, &modules) else {
                continue;
            };
            while !target.is_empty() && !modules.contains(&target) {
                target.pop();
            }
            if !target.is_empty() && !is_above(module, &target) && !is_above(&target, module) {
                named.insert(target);
            }
        }
    }
    arrows
}

/// Everything that a module leads to.
fn reached(from: &Module, arrows: &Arrows) -> BTreeSet<Module> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from.clone()];
    while let Some(module) = next.pop() {
        for target in arrows.get(&module).into_iter().flatten() {
            if reached.insert(target.clone()) {
                next.push(target.clone());
            }
        }
    }
    reached
}

/// The arrows that are part of a circle, as text.
fn circles(arrows: &Arrows) -> Vec<String> {
    let mut found = Vec::new();
    for (module, named) in arrows {
        for target in named {
            if reached(target, arrows).contains(module) {
                found.push(format!("{} -> {}", module.join("/"), target.join("/")));
            }
        }
    }
    found
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let mut sources = BTreeMap::new();
    for file in files("src") {
        let short = file.strip_prefix("src/").unwrap();
        let of_tests = short.ends_with("/tests.rs") || short.contains("/tests/");
        if ending(short) == "rs" && !of_tests && !["lib.rs", "main.rs"].contains(&short) {
            sources.insert(module_of(short), tokens(&file));
        }
    }
    let found = circles(&arrows(&sources));
    assert!(found.is_empty(), "in a circle:\n{}", found.join("\n"));
}

#[test]
fn a_circle_is_found_and_a_parent_with_its_child_is_none() {
    let source = |text: &[(&str, &str)]| -> BTreeMap<Module, TokenStream> {
        let both = text.iter();
        both.map(|(file, text)| (module_of(file), text.parse().unwrap()))
            .collect()
    };
    let circle = source(&[
        ("http.rs", "mod front; mod routes;"),
        ("http/front.rs", "use super::routes::{Table, BALANCE};"),
        (
            "http/routes.rs",
            "fn f() { crate::http::front::serve() } #[cfg(test)] mod tests { use crate::read; }",
        ),
        ("read.rs", "use crate::http::routes;"),
    ]);
    assert_eq!(
        circles(&arrows(&circle)),
        ["http/front -> http/routes", "http/routes -> http/front"]
    );
    let family = source(&[
        ("read.rs", "mod load; use load::Load; fn f() { load::g() }"),
        ("read/load.rs", "use super::Error;"),
    ]);
    assert_eq!(circles(&arrows(&family)), [""; 0]);
}
