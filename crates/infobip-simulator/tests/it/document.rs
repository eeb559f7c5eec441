//! Checks the table of docs/SIMULATOR.md that names the tests of every section, parameter and sample of the manual: every
//! named test must exist, and every section, parameter and sample must have a line.

use std::collections::BTreeSet;

use crate::support::document::{quoted, read, rows, test_exists};

/// The manual's sections, as printed in its table of contents.
const SECTIONS: &[&str] = &[
    "Base URL",
    "Content-Type & Accept header",
    "Authorization",
    "SEND SMS",
    "Send SMS response",
    "GETTING DELIVERY REPORTS",
    "GETTING SMS LOGS",
    "PULL RECEIVED MESSAGE",
    "PUSH RECEIVED MESSAGE",
    "FULLY FEATURED TEXTUAL MESSAGE",
    "NUMBER LOOKUP",
    "RESPONSE CODES",
    "Statuses groups",
    "Statuses",
    "Errors groups",
    "GSM Error Codes",
    "SMS to multiple destinations",
    "Multiple SMS to multiple destinations",
    "Schedule SMS and validity period",
    "Delivery reports on Notify URL",
    "Delivery report push retry cycle",
    "Intermediate delivery reports",
    "Flash SMS",
    "URL shortening & tracking solution",
];

/// The parameters of the manual's tables and lists, by section.
const PARAMETERS: &[(&str, &[&str])] = &[
    ("SEND SMS", &["from", "to", "text"]),
    (
        "Send SMS response",
        &["messages", "to", "messageId", "smsCount", "status"],
    ),
    (
        "GETTING DELIVERY REPORTS",
        &["bulkId", "messageId", "limit"],
    ),
    (
        "GETTING SMS LOGS",
        &[
            "from",
            "to",
            "bulkId",
            "messageId",
            "generalStatus",
            "sentSince",
            "sentUntil",
            "limit",
            "mcc",
            "mnc",
        ],
    ),
    (
        "PULL RECEIVED MESSAGE",
        &[
            "limit",
            "results",
            "messageId",
            "from",
            "to",
            "text",
            "cleanText",
            "keyword",
            "receivedAt",
            "smsCount",
        ],
    ),
    (
        "PUSH RECEIVED MESSAGE",
        &[
            "Sender",
            "Receiver",
            "Text",
            "Bin",
            "Datetime",
            "MessageId",
            "Datacoding",
            "Esmclass",
            "output",
        ],
    ),
    (
        "FULLY FEATURED TEXTUAL MESSAGE",
        &[
            "bulkId",
            "from",
            "to",
            "messageId",
            "text",
            "flash",
            "transliteration",
            "languageCode",
            "singleShift",
            "lockingShift",
            "intermediateReport",
            "notifyUrl",
            "notifyContentType",
            "callbackData",
            "validityPeriod",
            "sendAt",
            "track",
            "processKey",
            "type",
        ],
    ),
    ("NUMBER LOOKUP", &["to"]),
];

/// The number of samples (requests with their responses, or objects) in each section of the manual.
const SAMPLES: &[(&str, usize)] = &[
    ("Authorization", 1),
    ("SEND SMS", 1),
    ("Send SMS response", 1),
    ("GETTING DELIVERY REPORTS", 3),
    ("GETTING SMS LOGS", 2),
    ("PULL RECEIVED MESSAGE", 1),
    ("PUSH RECEIVED MESSAGE", 2),
    ("FULLY FEATURED TEXTUAL MESSAGE", 1),
    ("NUMBER LOOKUP", 1),
    ("RESPONSE CODES", 2),
    ("SMS to multiple destinations", 1),
    ("Multiple SMS to multiple destinations", 1),
    ("Schedule SMS and validity period", 2),
    ("Delivery reports on Notify URL", 1),
    ("Intermediate delivery reports", 1),
    ("Flash SMS", 1),
    ("URL shortening & tracking solution", 1),
];

struct Line {
    section: String,
    kind: String,
    what: String,
    tests: Vec<String>,
}

fn table() -> Vec<Line> {
    let document = read("docs/SIMULATOR.md").expect("docs/SIMULATOR.md");
    let (_, rest) = document
        .split_once("\n## The manual, line by line\n")
        .expect("the table's heading");
    let table = rest.split("\n## ").next().unwrap_or_default();
    rows(table)
        .map(|cells| {
            let [section, kind, what, tests] = cells[..] else {
                panic!("not four cells: {cells:?}")
            };
            Line {
                section: section.into(),
                kind: kind.into(),
                what: what.into(),
                tests: quoted(tests),
            }
        })
        .collect()
}

#[test]
fn every_test_that_the_table_names_exists() {
    for line in table() {
        let at = format!("{} | {} | {}", line.section, line.kind, line.what);
        assert!(!line.tests.is_empty(), "no test: {at}");
        for test in &line.tests {
            assert!(test_exists(test), "{test} is no test of this project: {at}");
        }
    }
}

#[test]
fn every_section_parameter_and_sample_of_the_manual_has_a_line() {
    let table = table();
    let lines = |section: &str, kind: &str| -> Vec<&str> {
        let named = table
            .iter()
            .filter(|line| line.section == section && line.kind == kind);
        named.map(|line| line.what.as_str()).collect()
    };
    let mut missing = BTreeSet::new();
    for section in SECTIONS {
        if lines(section, "section").len() != 1 {
            missing.insert(format!("{section}: the section"));
        }
    }
    for (section, parameters) in PARAMETERS {
        for parameter in *parameters {
            let start = format!("`{parameter}`");
            if !lines(section, "parameter")
                .iter()
                .any(|what| what.starts_with(&start))
            {
                missing.insert(format!("{section}: parameter {parameter}"));
            }
        }
    }
    for (section, count) in SAMPLES {
        if lines(section, "sample").len() != *count {
            missing.insert(format!("{section}: {count} samples"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
