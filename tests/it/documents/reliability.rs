//! docs/RELIABILITY.md: each promise, P1 to P9, names tests that exist.

use crate::support::document::{quoted, read, test_exists};

/// The paragraph that begins with `label`.
fn paragraph<'a>(section: &'a str, label: &str) -> &'a str {
    let (_, rest) = section
        .split_once(label)
        .unwrap_or_else(|| panic!("no {label} in {section}"));
    rest.split("\n\n").next().unwrap_or_default()
}

#[test]
fn every_promise_names_existing_tests() {
    let document = read("docs/RELIABILITY.md").expect("docs/RELIABILITY.md");
    let promises: Vec<_> = document
        .split("\n## ")
        .filter(|section| section.starts_with('P'))
        .collect();
    assert_eq!(promises.len(), 9);
    for (number, promise) in (1..).zip(promises) {
        let heading = promise.lines().next().unwrap_or_default();
        assert!(heading.starts_with(&format!("P{number} ")), "{heading}");
        let tests = quoted(paragraph(promise, "**Test**"));
        assert!(!tests.is_empty(), "{heading}: no test");
        for test in tests {
            assert!(test_exists(&test), "{heading}: {test} is no test");
        }
    }
}
