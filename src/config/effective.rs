//! The values that are set, as TOML, each with its origin.
//!
//! Invariant: a value never shows a secret.

use std::collections::BTreeSet;

use super::{
    layers::{self, Node, Value, parse_loose, parse_loose_list},
    mistake::Origin,
};

/// One value that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveValue {
    /// Such as `grpc.listen`.
    pub key: String,
    /// As TOML. `None`: it is a secret.
    pub value: Option<String>,
    pub origin: Origin,
}

/// Whether the value of a key must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    matches!(
        key,
        "infobip.password"
            | "infobip.api_key"
            | "http.secret"
            | "http.basic_password"
            | "http.hmac_key"
            | "http.hmac_previous_key"
            | "amqp.url"
    )
}

/// Every value of the tree, by key. `not_texts` are the keys that are not texts.
pub(super) fn list(tree: &Node, not_texts: &BTreeSet<String>) -> Vec<EffectiveValue> {
    let mut effective = Vec::new();
    add(tree, "", not_texts, &mut effective);
    effective
}

fn add(node: &Node, key: &str, not_texts: &BTreeSet<String>, effective: &mut Vec<EffectiveValue>) {
    match &node.value {
        Value::Table(table) if !key.ends_with(']') => {
            for (name, node) in table {
                add(node, &layers::join(key, name), not_texts, effective);
            }
        }
        value => {
            let shown = match value {
                Value::Loose(text) if not_texts.contains(key) => show_loose(text, &node.origin),
                value => show(value),
            };
            effective.push(EffectiveValue {
                key: key.to_owned(),
                value: (!is_secret(key)).then_some(shown),
                origin: node.origin.clone(),
            });
        }
    }
}

/// A value from the environment or a flag, of a key that is not a text.
fn show_loose(text: &str, origin: &Origin) -> String {
    match parse_loose(text.trim(), origin) {
        Some(node) => show(&node.value),
        // The other types than lists have passed their checks as TOML.
        None => show(&parse_loose_list(text, origin).value),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, node)| format!("{key} = {}", show(&node.value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            let items = items.iter().map(|node| show(&node.value));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        Value::Text(text) | Value::Loose(text) => toml::Value::from(text.as_str()).to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(yes) => yes.to_string(),
        // No key accepts a date, so a configuration with a date has already been refused.
        Value::Datetime => "\"(a date)\"".to_owned(),
    }
}
