//! Each rule of `src/protocol/rules.rs` and `forgetting.rs` is taken out, one at a time, and a test of its file has to fail: what no test holds
//! is no rule. All variants are modules of one crate, so that they are compiled once and no server is needed.

#![expect(clippy::unwrap_used, reason = "all of it is a test")]

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

/// A variant of the rules: what was taken out, and its source.
struct Variant {
    what: String,
    code: String,
}

/// Its tests in place of the line that includes them.
fn with_tests(name: &str, rules: &str, tests: &str) -> String {
    let tests: Vec<&str> = tests
        .lines()
        .filter(|line| !line.starts_with("//!"))
        .collect();
    let rules: Vec<&str> = rules
        .lines()
        .filter(|line| !line.starts_with("//!"))
        .collect();
    let (rules, tests) = (rules.join("\n"), tests.join("\n"));
    let included = format!("#[path = \"{name}/tests.rs\"]\nmod tests;");
    assert!(
        rules.contains(&included),
        "the tests are included elsewhere"
    );
    rules.replace(&included, &format!("mod tests {{\n{tests}\n}}"))
}

/// Each statement `if … { return Err(…); }` taken out, and each part of its condition.
fn variants(code: &str) -> Vec<Variant> {
    let mut variants = Vec::new();
    let mut rest = 0;
    while let Some(found) = code[rest..].find("    if ") {
        let begin = rest + found;
        let end = begin + code[begin..].find("\n    }\n").unwrap() + "\n    }\n".len();
        let statement = &code[begin..end];
        rest = end;
        let Some((_, reason)) = statement.split_once("return Err(") else {
            continue;
        };
        let reason = reason.split(')').next().unwrap();
        let without = |what: String, by: &str| Variant {
            what,
            code: format!("{}{by}{}", &code[..begin], &code[end..]),
        };
        variants.push(without(reason.to_owned(), ""));
        let condition = statement.trim_start().strip_prefix("if ").unwrap();
        let condition = condition.split(" {\n").next().unwrap();
        let parts: Vec<&str> = condition.split(" && ").collect();
        for left_out in parts.iter().filter(|_| parts.len() > 1) {
            let kept: Vec<&str> = parts
                .iter()
                .copied()
                .filter(|part| part != left_out)
                .collect();
            let weaker = statement.replace(condition, &kept.join(" && "));
            variants.push(without(format!("{reason} without {left_out}"), &weaker));
        }
    }
    variants
}

/// The lines that the tests of all variants print.
fn run(variants: &[Variant]) -> String {
    let folder = TempDir::new().unwrap();
    let (source, program) = (folder.path().join("all.rs"), folder.path().join("all"));
    let modules = variants.iter().enumerate();
    let modules =
        modules.map(|(number, variant)| format!("mod v{number} {{\n{}\n}}\n", variant.code));
    let code: String = modules.collect();
    fs::write(&source, format!("#![allow(dead_code, unused)]\n{code}")).unwrap();
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "--test", "-o"])
        .args([&program, &source])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{said}");
    let output = Command::new(&program).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_rule_that_is_taken_out_fails_a_test_that_needs_no_server() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let mut all = Vec::new();
    for (name, least) in [("rules", 31), ("forgetting", 3)] {
        let (rules, tests) = (format!("{name}.rs"), format!("{name}/tests.rs"));
        let whole = with_tests(name, &read(&rules), &read(&tests));
        let found = variants(&whole);
        assert!(found.len() >= least, "{} rules were found", found.len());
        all.extend(found);
        all.push(Variant {
            what: "nothing".to_owned(),
            code: whole,
        });
    }
    let said = run(&all);
    let failed = |number: usize| {
        let begins = format!("test v{number}::");
        let mut lines = said.lines();
        let line = lines.find(|line| line.starts_with(&begins) && line.ends_with("FAILED"));
        line.and_then(|line| line.strip_prefix(&begins)?.split(' ').next())
    };
    let mut survived = Vec::new();
    for (number, variant) in all.iter().enumerate() {
        let test = failed(number);
        println!("| {} | {} |", variant.what, test.unwrap_or("no test fails"));
        if test.is_none() {
            survived.push(variant.what.as_str());
        }
    }
    assert_eq!(survived, ["nothing", "nothing"], "rules that no test holds");
}
