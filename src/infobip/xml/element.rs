//! One XML element while it is being read, and its JSON.

use serde_json::{Map, Value};

/// Elements whose text people or callers have written: its spaces belong to it.
const VERBATIM: [&str; 3] = ["text", "cleanText", "callbackData"];

/// An open element, with the JSON of its closed children.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: String,
    /// The name with its namespace prefix.
    pub(super) qualified_name: String,
    pub(super) text: String,
    pub(super) children: Map<String, Value>,
    /// Offset of the element in the text, in bytes.
    pub(super) start: usize,
    /// Whether it contains rows.
    pub(super) has_list: bool,
}

impl Element {
    /// `<result>` and `<results>` are rows or contain rows.
    pub(super) fn is_list_or_row(&self) -> bool {
        self.name.eq_ignore_ascii_case("result") || self.name.eq_ignore_ascii_case("results")
    }

    /// Whether it is a row so far: it has fields and contains no rows.
    pub(super) fn is_row(&self) -> bool {
        self.is_list_or_row() && !self.children.is_empty() && !self.has_list
    }

    pub(super) fn into_json(self) -> Value {
        if self.children.is_empty() {
            let is_verbatim = VERBATIM
                .iter()
                .any(|name| self.name.eq_ignore_ascii_case(name));
            let text = if is_verbatim {
                &self.text
            } else {
                self.text.trim()
            };
            Value::String(text.to_owned())
        } else {
            Value::Object(self.children)
        }
    }

    /// Adds a child. Children with the same name become an array.
    pub(super) fn add(&mut self, name: String, value: Value) {
        match self.children.get_mut(&name) {
            Some(Value::Array(values)) => values.push(value),
            Some(first) => {
                let first_value = first.take();
                *first = Value::Array(vec![first_value, value]);
            }
            None => {
                self.children.insert(name, value);
            }
        }
    }
}
