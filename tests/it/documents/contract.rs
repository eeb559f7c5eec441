//! docs/CONTRACT.md lists every field of every message of an implemented method, beside an existing test that mentions the
//! field.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet, ServiceDescriptorProto};
use smsbridge::proto::DESCRIPTORS;

use crate::support::document::{quoted, read, rows, test_body};

/// Not implemented: their messages need no rows.
const NOT_BUILT: [&str; 1] = ["Reconcile"];
const PACKAGE: &str = "smsbridge.v1";

struct Contract {
    services: Vec<ServiceDescriptorProto>,
    messages: BTreeMap<String, DescriptorProto>,
}

impl Contract {
    fn read() -> Self {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let ours = files.into_iter().filter(|file| file.package() == PACKAGE);
        let mut contract = Self {
            services: Vec::new(),
            messages: BTreeMap::new(),
        };
        for file in ours {
            contract.services.extend(file.service);
            for message in file.message_type {
                contract.messages.insert(message.name().to_owned(), message);
            }
        }
        contract
    }

    /// The request and response messages of implemented methods, and the messages nested in them.
    fn built(&self) -> BTreeSet<&str> {
        let methods = self.services.iter().flat_map(|service| &service.method);
        let mut open: Vec<&str> = methods
            .filter(|method| !NOT_BUILT.contains(&method.name()))
            .flat_map(|method| [method.input_type(), method.output_type()])
            .collect();
        let mut found = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some((name, message)) = name
                .strip_prefix(&format!(".{PACKAGE}."))
                .and_then(|name| self.messages.get_key_value(name))
            else {
                continue;
            };
            if found.insert(name.as_str()) {
                open.extend(
                    message
                        .field
                        .iter()
                        .map(prost_types::FieldDescriptorProto::type_name),
                );
            }
        }
        found
    }
}

/// Whether the text of a test has the name of a field: as Rust writes it, as a variant of a oneof, or as proto JSON writes it.
fn speaks_of(body: &str, field: &str) -> bool {
    let camel: String = field
        .split('_')
        .flat_map(|word| {
            let (first, rest) = word.split_at(1);
            [first.to_uppercase(), rest.to_owned()]
        })
        .collect();
    let (first, rest) = camel.split_at(1);
    let json = format!("\"{}{rest}\"", first.to_lowercase());
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let says = |name: &str| body.split(|c| !is_part(c)).any(|word| word == name);
    says(field) || says(&camel) || body.contains(&json)
}

#[test]
fn the_contract_lists_every_field_and_a_test_that_mentions_it() {
    let document = read("docs/CONTRACT.md").expect("docs/CONTRACT.md");
    let contract = Contract::read();
    let mut documented = BTreeSet::new();
    let mut wrong = Vec::new();
    for cells in document.split("\n## ").flat_map(rows) {
        let [manual, fields, tests] = cells[..] else {
            panic!("not three cells: {cells:?}")
        };
        let mut bodies = String::new();
        for test in quoted(tests) {
            match test_body(&test) {
                Some(body) => bodies.push_str(&body),
                None => wrong.push(format!("{test} is no test of this project")),
            }
        }
        for path in quoted(fields) {
            let (message, field) = path.split_once('.').unwrap_or((&path, ""));
            let known = contract.messages.get(message);
            if !known.is_some_and(|known| known.field.iter().any(|one| one.name() == field)) {
                wrong.push(format!("{path} is no field ({manual})"));
            } else if !speaks_of(&bodies, field) {
                wrong.push(format!("{path}: {tests} say nothing of it"));
            }
            documented.insert(path);
        }
    }
    for message in contract.built() {
        let fields = contract.messages[message].field.iter();
        let paths = fields.map(|field| format!("{message}.{}", field.name()));
        wrong.extend(
            paths
                .filter(|path| !documented.contains(path))
                .map(|path| format!("{path} is left out")),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
