//! docs/ERRORS.md lists exactly the reasons of the code, and each row names tests that provoke it.

use std::collections::BTreeSet;

use smsbridge::message::reason::Reason;

use crate::support::document::{quoted, read, rows, test_exists};

#[test]
fn errors_document_lists_every_reason() {
    let reasons: BTreeSet<_> = Reason::ALL
        .iter()
        .map(|reason| reason.as_str().to_owned())
        .collect();
    let document = read("docs/ERRORS.md").expect("docs/ERRORS.md");
    let documented: BTreeSet<_> = document
        .split("\n## ")
        .flat_map(rows)
        .flat_map(|cells| quoted(cells[0]))
        .collect();
    assert_eq!(documented, reasons);
}

/// Each test in a row exists, and its file mentions the reason of the row.
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
