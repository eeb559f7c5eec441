//! Reads the merged tree into typed values: a serde deserializer that records the path of a mistake, finds all unknown keys in
//! one pass, and parses values from the environment as the type of their key.
//!
//! Invariant: messages name the type of an invalid value, never the value itself. Neighbours: `layers` builds the tree; `load`
//! turns errors into mistakes.

use std::{cell::RefCell, collections::BTreeSet, fmt};

use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor, value::StrDeserializer,
};

use super::layers::{Node, Value, join, parse_loose, parse_loose_list};

/// The keys that one pass over the tree has met.
#[derive(Default)]
pub(super) struct KeysRead {
    /// All keys of the structs that were read, as `section.key`.
    pub(super) known: RefCell<BTreeSet<String>>,
    /// Paths in the tree for which no struct has a field.
    pub(super) unknown: RefCell<BTreeSet<Vec<String>>>,
    /// Keys that are not texts: a loose value of theirs is read as TOML.
    pub(super) not_texts: RefCell<BTreeSet<String>>,
}

/// A value of the wrong type for its key.
#[derive(Debug)]
pub(super) struct ValueError {
    /// Outermost segment first; items of lists by their position.
    pub(super) path: Vec<String>,
    pub(super) problem: String,
    /// What is expected, as an imperative.
    pub(super) wants: String,
}

impl ValueError {
    fn wrong(found: impl fmt::Display, wants: &str) -> Self {
        let wants = match wants {
            "u16" => "a whole number from 0 to 65535",
            "u32" => "a whole number from 0 to 4294967295",
            "u64" | "usize" => "a whole number, 0 or more",
            "a boolean" => "true or false",
            "a string" | "path string" => "a string",
            "socket address" => "an address and a port, such as \"127.0.0.1:50051\"",
            "a sequence" => "a list, such as [\"a\", \"b\"]",
            other => other,
        };
        Self {
            path: Vec::new(),
            problem: format!("is {found}"),
            wants: format!("give {wants}"),
        }
    }

    fn below(mut self, segment: &str) -> Self {
        self.path.insert(0, segment.to_owned());
        self
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.wants)
    }
}

impl std::error::Error for ValueError {}

impl de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        // The message of the standard library for an invalid address.
        if message.contains("socket address") {
            return Self::wrong("not an address with a port", "socket address");
        }
        Self {
            path: Vec::new(),
            problem: message,
            wants: "see defaults.toml for this key".to_owned(),
        }
    }

    fn invalid_type(found: Unexpected<'_>, wants: &dyn Expected) -> Self {
        Self::wrong(kind(found), &wants.to_string())
    }

    fn invalid_value(found: Unexpected<'_>, wants: &dyn Expected) -> Self {
        Self::wrong(
            format_args!("{} that is not allowed here", kind(found)),
            &wants.to_string(),
        )
    }

    fn unknown_variant(_found: &str, known: &'static [&'static str]) -> Self {
        Self::wrong(
            "not one of the allowed values",
            &format!("one of {}", known.join(", ")),
        )
    }
}

fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a decimal number",
        Unexpected::Seq => "a list",
        Unexpected::Map | Unexpected::StructVariant => "a table",
        _ => "a string",
    }
}

pub(super) struct Reader<'t> {
    node: &'t Node,
    key: String,
    keys_read: &'t KeysRead,
}

impl<'t> Reader<'t> {
    pub(super) fn root(node: &'t Node, keys_read: &'t KeysRead) -> Self {
        Self {
            node,
            key: String::new(),
            keys_read,
        }
    }

    fn inner(&self, node: &'t Node, segment: &str) -> Self {
        Self {
            node,
            key: join(&self.key, segment),
            keys_read: self.keys_read,
        }
    }

    /// Parses a loose value as TOML, else visits it as a string.
    fn visit_parsed<'de, V: Visitor<'de>>(
        &self,
        text: &str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match parse_loose(text, &self.node.origin) {
            Some(node) if !matches!(node.value, Value::Loose(_)) => {
                self.inner_of(&node).deserialize_any(visitor)
            }
            _ => visitor.visit_str(text),
        }
    }

    fn inner_of<'n>(&self, node: &'n Node) -> Reader<'n>
    where
        't: 'n,
    {
        Reader {
            node,
            key: self.key.clone(),
            keys_read: self.keys_read,
        }
    }
}

macro_rules! parsed_when_loose {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            self.keys_read.not_texts.borrow_mut().insert(self.key.clone());
            match &self.node.value {
                Value::Loose(text) => self.visit_parsed(text.trim(), visitor),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match &self.node.value {
            Value::Table(table) => visitor.visit_map(Entries::new(
                &self,
                table.iter().map(|(k, v)| (k.as_str(), v)),
            )),
            Value::Array(items) => visitor.visit_seq(Items {
                list: &self,
                items: items.iter().enumerate(),
            }),
            Value::Text(text) | Value::Loose(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(yes) => visitor.visit_bool(*yes),
            Value::Datetime => Err(ValueError::wrong(
                "a date",
                "another type, as no key is a date",
            )),
        }
    }

    parsed_when_loose! {
        deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64 deserialize_map
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.keys_read
            .not_texts
            .borrow_mut()
            .insert(self.key.clone());
        let Value::Loose(text) = &self.node.value else {
            return self.deserialize_any(visitor);
        };
        let list = parse_loose_list(text, &self.node.origin);
        self.inner_of(&list).deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.keys_read
            .known
            .borrow_mut()
            .extend(fields.iter().map(|field| join(&self.key, field)));
        self.keys_read
            .not_texts
            .borrow_mut()
            .insert(self.key.clone());
        let parsed = match &self.node.value {
            Value::Loose(text) => parse_loose(text.trim(), &self.node.origin),
            _ => None,
        };
        let reader = self.inner_of(parsed.as_ref().unwrap_or(self.node));
        let Value::Table(table) = &reader.node.value else {
            return reader.deserialize_any(visitor);
        };
        for key in table.keys().filter(|key| !fields.contains(&key.as_str())) {
            let path = self.key.split('.').filter(|segment| !segment.is_empty());
            let path = path.chain([key.as_str()]).map(str::to_owned);
            self.keys_read.unknown.borrow_mut().insert(path.collect());
        }
        let known = table.iter().map(|(key, node)| (key.as_str(), node));
        let known = known.filter(|(key, _)| fields.contains(key));
        visitor.visit_map(Entries::new(&reader, known))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match &self.node.value {
            Value::Text(text) | Value::Loose(text) => {
                let variant: StrDeserializer<'_, ValueError> = text.as_str().into_deserializer();
                visitor.visit_enum(variant)
            }
            _ => Err(de::Error::unknown_variant("", variants)),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Entries<'r, 't, I> {
    table: &'r Reader<'t>,
    entries: I,
    value: Option<(&'t str, &'t Node)>,
}

impl<'r, 't, I> Entries<'r, 't, I> {
    fn new(table: &'r Reader<'t>, entries: I) -> Self {
        Self {
            table,
            entries,
            value: None,
        }
    }
}

impl<'de, 't, I: Iterator<Item = (&'t str, &'t Node)>> MapAccess<'de> for Entries<'_, 't, I> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ValueError> {
        self.value = self.entries.next();
        match self.value {
            Some((key, _)) => {
                let deserializer: StrDeserializer<'_, ValueError> = key.into_deserializer();
                seed.deserialize(deserializer)
                    .map(Some)
                    .map_err(|error| error.below(key))
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ValueError> {
        let (key, node) = self
            .value
            .take()
            .expect("serde reads the key of an entry first");
        seed.deserialize(self.table.inner(node, key))
            .map_err(|error| error.below(key))
    }
}

struct Items<'r, 't, I> {
    list: &'r Reader<'t>,
    items: I,
}

impl<'de, 't, I: Iterator<Item = (usize, &'t Node)>> SeqAccess<'de> for Items<'_, 't, I> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        let Some((position, node)) = self.items.next() else {
            return Ok(None);
        };
        let position = position.to_string();
        seed.deserialize(self.list.inner(node, &position))
            .map(Some)
            .map_err(|error| error.below(&position))
    }
}
