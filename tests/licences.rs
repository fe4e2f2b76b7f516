//! Every dependency's licence is one that deny.toml allows, and none comes from anywhere but crates.io.
//!
//! `cargo deny` says more (advisories, texts that differ from what is declared); this needs no tool but cargo.

#![cfg(test)]

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

/// Whether a SPDX expression can be met with the licences allowed: `OR` needs one side, `AND` both, and the old `/`
/// means `OR`.
fn met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let answer = either(&mut rest, allowed);
    answer && rest.is_empty()
}

fn either(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut answer = both(rest, allowed);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        answer |= both(rest, allowed);
    }
    answer
}

fn both(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut answer = one(rest, allowed);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        answer &= one(rest, allowed);
    }
    answer
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let answer = either(rest, allowed);
            let closed = rest.first() == Some(&")");
            *rest = rest.get(1..).unwrap_or_default();
            answer && closed
        }
        [licence, "WITH", exception, tail @ ..] => {
            *rest = tail;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, tail @ ..] => {
            *rest = tail;
            allowed.contains(*licence)
        }
        [] => false,
    }
}

fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let deny: toml::Table = toml::from_str(&text).unwrap();
    let list = deny["licenses"]["allow"].as_array().unwrap();
    list.iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// What cargo knows of every package that is built here.
fn packages() -> Vec<Value> {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let metadata = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--format-version",
            "1",
            "--filter-platform",
            host,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), "cargo metadata: {complaint}");
    let mut metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        other => panic!("packages: {other}"),
    }
}

#[test]
fn every_licence_is_allowed_and_every_crate_is_of_the_public_registry() {
    let allowed = allowed();
    let packages = packages();
    assert!(packages.len() > 100, "{} packages only", packages.len());
    let mut faults = Vec::new();
    for package in &packages {
        let name = format!("{} {}", package["name"], package["version"]);
        let licence = package["license"].as_str().unwrap_or("none declared");
        if !met(licence, &allowed) {
            faults.push(format!("{name}: {licence}"));
        }
        let source = package["source"].as_str();
        // This package, and the model below tests/.
        let ours = package["name"]
            .as_str()
            .is_some_and(|name| name.starts_with(env!("CARGO_PKG_NAME")));
        if !ours && !source.is_some_and(|source| source.starts_with("registry+")) {
            faults.push(format!("{name}: from {source:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn expressions_are_understood() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]
        .map(str::to_owned)
        .into();
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT AND GPL-3.0 OR ISC", true),
        ("MIT AND (GPL-3.0 OR ISC)", true),
        ("(MIT OR ISC) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("MIT ISC", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(met(expression, &allowed), expected, "{expression}");
    }
}
