//! docs/CONTRACT.md: every test that it names exists, every proto field that it names exists, and none of the messages
//! that it is about has a field that it leaves out.

use std::collections::BTreeSet;

use crate::support::document::{quoted, read, rows, test_exists};

/// The messages whose every field stands in the document.
const MESSAGES: &[(&str, &[&str])] = &[
    (
        "proto/smsbridge/v1/message.proto",
        &[
            "OutboundMessage",
            "Destination",
            "BinaryContent",
            "Language",
            "DeliveryTimeWindow",
            "TimeOfDay",
            "IndiaDlt",
            "Tracking",
            "SendResult",
            "DeliveryReport",
            "SmsLog",
            "ReceivedMessage",
            "LinkClick",
            "NumberLookup",
            "Network",
        ],
    ),
    (
        "proto/smsbridge/v1/code.proto",
        &["Status", "Error", "Price"],
    ),
    (
        "proto/smsbridge/v1/sms_service.proto",
        &[
            "ListSmsLogsRequest",
            "PreviewSmsRequest",
            "PreviewSmsResponse",
            "SmsPreview",
        ],
    ),
];

/// The fields of a message, as `Message.field`.
fn fields(proto: &str, message: &str) -> Vec<String> {
    let (_, body) = proto
        .split_once(&format!("\nmessage {message} {{\n"))
        .unwrap_or_else(|| panic!("no message {message}"));
    let body = body.split("\n}").next().unwrap_or_default();
    let declarations = body.lines().filter(|line| !line.trim().starts_with("//"));
    declarations
        .filter_map(|line| line.split_once(" = "))
        .filter_map(|(declaration, _)| declaration.rsplit(' ').next())
        .map(|field| format!("{message}.{field}"))
        .collect()
}

#[test]
fn the_contracts_matrix_is_whole_and_names_tests_that_exist() {
    let document = read("docs/CONTRACT.md").expect("docs/CONTRACT.md");
    let mut documented = BTreeSet::new();
    for cells in document.split("\n## ").flat_map(rows) {
        let [manual, proto, tests] = cells[..] else {
            panic!("not three cells: {cells:?}")
        };
        let tests = quoted(tests);
        assert!(!tests.is_empty(), "no test: {manual}");
        for test in tests {
            assert!(test_exists(&test), "{test} is no test of this project");
        }
        documented.extend(quoted(proto));
    }
    let mut left_out = Vec::new();
    for (path, messages) in MESSAGES {
        let proto = read(path).unwrap_or_else(|| panic!("no {path}"));
        for message in *messages {
            let fields = fields(&proto, message);
            assert!(!fields.is_empty(), "{message} has no fields");
            let missing = fields
                .into_iter()
                .filter(|field| !documented.contains(field));
            left_out.extend(missing);
        }
    }
    assert!(left_out.is_empty(), "{left_out:#?}");
}
