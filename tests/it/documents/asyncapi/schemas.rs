//! JSON schemas of the contract's messages, as proto JSON writes them, in YAML.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use smsbridge::proto::DESCRIPTORS;

const PACKAGE: &str = ".smsbridge.v1.";

/// Field numbers of `FileDescriptorProto` and `DescriptorProto`, of which the paths of comments consist.
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const FIELDS: i32 = 2;

#[derive(Default)]
pub struct Schemas {
    messages: BTreeMap<String, (DescriptorProto, Vec<String>, String)>,
    enums: BTreeMap<String, (EnumDescriptorProto, String)>,
}

impl Schemas {
    pub fn read() -> Self {
        let mut schemas = Self::default();
        for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
            if format!(".{}.", file.package()) != PACKAGE {
                continue;
            }
            let comments: BTreeMap<Vec<i32>, String> = file
                .source_code_info
                .expect("the descriptors have comments")
                .location
                .into_iter()
                .map(|at| {
                    let words: Vec<_> = at.leading_comments().split_whitespace().collect();
                    (at.path.clone(), words.join(" "))
                })
                .collect();
            let comment = |path: &[i32]| comments.get(path).cloned().unwrap_or_default();
            for (at, message) in (0..).zip(file.message_type) {
                let fields = (0..)
                    .zip(&message.field)
                    .map(|(field, _)| comment(&[MESSAGES, at, FIELDS, field]))
                    .collect();
                let name = message.name().to_owned();
                let about = comment(&[MESSAGES, at]);
                schemas.messages.insert(name, (message, fields, about));
            }
            for (at, one) in (0..).zip(file.enum_type) {
                let name = one.name().to_owned();
                schemas.enums.insert(name, (one, comment(&[ENUMS, at])));
            }
        }
        schemas
    }

    /// The schemas of these messages and of all that are in them, in the order of their names. Those that only `closed` ones need
    /// refuse other fields, as the bridge does.
    pub fn yaml(&self, closed: &[&str], open: &[&str]) -> String {
        let open = self.reachable(open);
        let all = self.reachable(closed).into_iter().chain(open.clone());
        let mut text = String::new();
        for name in all.collect::<BTreeSet<_>>() {
            match self.messages.get(name) {
                Some(_) => self.message(&mut text, name, !open.contains(name)),
                None => self.enumeration(&mut text, name),
            }
        }
        text
    }

    fn reachable<'a>(&'a self, roots: &[&'a str]) -> BTreeSet<&'a str> {
        let mut left = roots.to_vec();
        let mut found = BTreeSet::new();
        while let Some(name) = left.pop() {
            if found.insert(name)
                && let Some((message, ..)) = self.messages.get(name)
            {
                let types = message.field.iter().map(FieldDescriptorProto::type_name);
                left.extend(types.filter_map(|name| name.strip_prefix(PACKAGE)));
            }
        }
        found
    }

    fn message(&self, text: &mut String, name: &str, is_closed: bool) {
        let (message, comments, about) = &self.messages[name];
        writeln!(text, "    {name}:").unwrap();
        writeln!(text, "      description: {}", quoted(about)).unwrap();
        writeln!(text, "      type: object").unwrap();
        if is_closed {
            writeln!(text, "      additionalProperties: false").unwrap();
        }
        writeln!(text, "      properties:").unwrap();
        for (field, comment) in message.field.iter().zip(comments) {
            let one = kind(field);
            let kind = match (field.label(), field.r#type()) {
                (Label::Repeated, _) => format!("type: array, items: {{{one}}}"),
                // A description beside `$ref` has no effect.
                (_, Type::Message | Type::Enum) if one.starts_with("$ref") => {
                    format!("allOf: [{{{one}}}]")
                }
                _ => one,
            };
            let (name, about) = (field.json_name(), quoted(comment));
            writeln!(text, "        {name}: {{{kind}, description: {about}}}").unwrap();
        }
    }

    fn enumeration(&self, text: &mut String, name: &str) {
        let (one, about) = &self.enums[name];
        let values: Vec<_> = one
            .value
            .iter()
            .map(EnumValueDescriptorProto::name)
            .collect();
        writeln!(text, "    {name}:").unwrap();
        writeln!(text, "      description: {}", quoted(about)).unwrap();
        writeln!(text, "      type: string").unwrap();
        writeln!(text, "      enum: [{}]", values.join(", ")).unwrap();
    }
}

/// The schema of one value, as a part of a YAML mapping.
fn kind(field: &FieldDescriptorProto) -> String {
    match (field.r#type(), field.type_name()) {
        (Type::String, _) => "type: string".into(),
        (Type::Bool, _) => "type: boolean".into(),
        (Type::Int32, _) => "type: integer, format: int32".into(),
        (Type::Bytes, _) => "type: string, contentEncoding: base64".into(),
        (Type::Message, ".google.protobuf.Timestamp") => "type: string, format: date-time".into(),
        (Type::Message, ".google.protobuf.Duration") => {
            r#"type: string, pattern: '^[0-9]+(\.[0-9]{1,9})?s$'"#.into()
        }
        (Type::Message | Type::Enum, name) => {
            let name = name
                .strip_prefix(PACKAGE)
                .expect("a message of the contract");
            format!("$ref: '#/components/schemas/{name}'")
        }
        other => panic!("proto JSON of {other:?} is not described yet"),
    }
}

/// A YAML string: JSON's are.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}
