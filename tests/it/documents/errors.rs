//! docs/ERRORS.md and the sources name the same reasons, and each row names tests that bring it about.

use std::collections::BTreeSet;

use crate::support::document::{quoted, read, rows, test_exists};

/// Where reasons are made.
const SOURCES: &[&str] = &[
    "src/grpc/failure.rs",
    "src/send.rs",
    "src/send/core.rs",
    "src/send/dispatcher.rs",
    "src/send/guards.rs",
    "src/send/in_doubt.rs",
    "src/commands/command.rs",
    "src/commands/handle.rs",
    "src/commands/returned.rs",
];

/// The string literals in capitals outside of unit tests.
fn reasons(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let literals = code.split('"').filter(|literal| literal.len() > 4);
    literals.filter(|literal| {
        literal
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    })
}

#[test]
fn every_reason_is_documented_and_every_documented_reason_exists() {
    let sources: Vec<_> = SOURCES
        .iter()
        .map(|path| read(path).unwrap_or_else(|| panic!("no {path}")))
        .collect();
    let made: BTreeSet<_> = sources
        .iter()
        .flat_map(|source| reasons(source))
        .map(str::to_owned)
        .collect();
    let document = read("docs/ERRORS.md").expect("docs/ERRORS.md");
    let documented: BTreeSet<_> = document
        .split("\n## ")
        .flat_map(rows)
        .flat_map(|cells| quoted(cells[0]))
        .collect();
    assert_eq!(documented, made);
}

/// A test of a row exists, and its file expects the row's reason by name.
#[test]
fn every_row_names_a_test_that_expects_its_reason() {
    let document = read("docs/ERRORS.md").expect("docs/ERRORS.md");
    for cells in document.split("\n## ").flat_map(rows) {
        let [reason, .., tests] = cells.as_slice() else {
            panic!("no tests: {cells:?}")
        };
        let (reason, tests) = (quoted(reason).concat(), quoted(tests));
        assert!(!tests.is_empty(), "no test: {reason}");
        for test in tests {
            assert!(test_exists(&test), "{reason}: {test} is no test");
            let (theme, _) = test.rsplit_once("::").unwrap();
            let path = format!("tests/it/{}.rs", theme.replace("::", "/"));
            let source = read(&path).unwrap();
            assert!(
                source.contains(&format!("\"{reason}\"")),
                "{path} expects no {reason}"
            );
        }
    }
}
