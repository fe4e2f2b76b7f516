//! Rules of the house that no compiler holds.

use crate::scan::{ending, files, root, split, text, tokens, uses};

/// Lines that a file may have.
const LINES: usize = 400;

/// Ways to wait for time to pass.
const WAITING: [&str; 4] = ["sleep", "sleep_until", "sleep_ms", "park_timeout"];

/// The files of tests that may: the one bounded way to wait, and the proxy, whose product is delay.
const MAY_WAIT: [&str; 3] = [
    "tests/chaos/pace.rs",
    "tests/it/support/eventually.rs",
    "tests/it/support/proxy.rs",
];

fn rust_files() -> Vec<String> {
    let mut found = files("");
    found.retain(|file| ending(file) == "rs");
    assert!(found.iter().any(|file| file == "src/lib.rs"));
    found
}

#[test]
fn nothing_names_a_path_of_a_build_machine() {
    // In pieces, so that this file does not hold them either.
    let paths = [
        ["/wo", "rk/"],
        ["/tmp/", "team"],
        ["/fa", "rm/"],
        ["/ro", "ot/"],
    ]
    .map(|pieces| pieces.concat());
    let mut found = Vec::new();
    for file in files("") {
        for (number, line) in text(&file).unwrap_or_default().lines().enumerate() {
            if paths.iter().any(|path| line.contains(path.as_str())) {
                found.push(format!("{file}:{}: {line}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_reader() {
    let mut found = Vec::new();
    for file in files("") {
        let ours = ["rs", "lua", "cql", "sh", "js"].contains(&ending(&file));
        let lines = text(&file).map_or(0, |text| text.lines().count());
        if (ours || file == "test") && lines > LINES {
            found.push(format!("{file}: {lines} lines, {LINES} at most"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Folders of the house. Another one needs a reason, and a line here.
const FOLDERS: [&str; 7] = [
    "benches", "config", "docs", "examples", "schema", "src", "tests",
];

#[test]
fn the_folders_are_those_of_the_house() {
    let all = files("");
    let mut found: Vec<&str> = all
        .iter()
        .filter_map(|file| file.split_once('/'))
        .map(|(folder, _)| folder)
        .collect();
    found.retain(|folder| !folder.starts_with('.'));
    found.dedup();
    assert_eq!(found, FOLDERS);
}

/// Lines that the documentation of a module may have.
const MODULE_DOC_LINES: usize = 12;

/// First words of a comment that avoid its subject.
const NO_SUBJECT: [&str; 4] = ["Who", "Whoever", "What", "Somebody"];

#[test]
fn a_comment_begins_with_its_subject() {
    let mut found = Vec::new();
    for file in files("src") {
        for (number, line) in text(&file).unwrap_or_default().lines().enumerate() {
            let line = line.trim_start();
            let comment = ["///", "//!", "//", "--"]
                .iter()
                .find_map(|mark| line.strip_prefix(mark));
            let first = comment.and_then(|words| words.split_whitespace().next());
            if first.is_some_and(|word| NO_SUBJECT.contains(&word)) {
                found.push(format!("{file}:{}: {line}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_documentation_of_a_module_is_short() {
    let mut found = Vec::new();
    for file in rust_files() {
        let text = text(&file).unwrap_or_default();
        let lines = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .count();
        if file.starts_with("src/") && lines > MODULE_DOC_LINES {
            found.push(format!("{file}: {lines} lines, {MODULE_DOC_LINES} at most"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_is_left_to_do_and_no_test_is_ignored() {
    let mut found = Vec::new();
    for file in rust_files() {
        for name in uses(tokens(&file), &[], &["todo", "unimplemented"], &["ignore"]) {
            found.push(format!("{file}: {name}"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_test_sleeps() {
    let mut found = Vec::new();
    for file in rust_files() {
        let all = tokens(&file);
        let of_tests = !file.starts_with("src/") || file.ends_with("/tests.rs");
        let stream = if of_tests { all } else { split(all).1 };
        if !MAY_WAIT.contains(&file.as_str()) {
            let names = uses(stream, &WAITING, &[], &[]);
            found.extend(names.into_iter().map(|name| format!("{file}: {name}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_looked_for_would_be_found() {
    let text = "#[ignore = \"slow\"] fn f() { todo!(); tokio::time::sleep(TICK).await; }";
    let found = uses(text.parse().unwrap(), &WAITING, &["todo"], &["ignore"]);
    assert_eq!(found, ["#[ignore]", "todo!", "sleep("]);
    for file in MAY_WAIT {
        assert!(
            !uses(tokens(file), &WAITING, &[], &[]).is_empty(),
            "{file} needs no leave"
        );
    }
    assert!(root().join("test").is_file());
}
