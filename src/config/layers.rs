//! The layers of a configuration, merged into one tree in which every value has its origin.
//!
//! Invariant: a later layer replaces single values, never a whole section. Neighbours: `load` stacks the layers, `read`
//! turns the tree into a [`super::Config`].

use std::{collections::BTreeMap, path::Path};

use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Origin};

pub(super) const ENVIRONMENT_PREFIX: &str = "SMSBRIDGE_";

/// A value and its origin. Has no `Debug`, as it can be a secret.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Clone)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    Text(String),
    /// From the environment or a flag; parsed as the type of its key.
    Loose(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime,
}

impl Node {
    pub(super) fn empty_table() -> Self {
        Self {
            origin: Origin::Default,
            value: Value::Table(BTreeMap::new()),
        }
    }

    /// The deepest existing node on the way to `path`.
    pub(super) fn nearest(&self, path: &[String]) -> &Self {
        let mut node = self;
        for segment in path {
            let next = match &node.value {
                Value::Table(table) => table.get(segment),
                Value::Array(items) => segment.parse::<usize>().ok().and_then(|n| items.get(n)),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return node,
            }
        }
        node
    }

    /// The node at exactly `key`, such as `grpc.listen`.
    pub(super) fn at(&self, key: &str) -> Option<&Self> {
        key.split('.')
            .try_fold(self, |node, segment| match &node.value {
                Value::Table(table) => table.get(segment),
                _ => None,
            })
    }

    /// Replaces the value at `path`, or its closest existing ancestor below the root, by the one in `defaults`.
    pub(super) fn reset(&mut self, path: &[String], defaults: &Self) {
        let Value::Table(table) = &mut self.value else {
            return;
        };
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let default = match &defaults.value {
            Value::Table(defaults) => defaults.get(first),
            _ => None,
        };
        match table.get_mut(first) {
            Some(inner) if !rest.is_empty() && matches!(inner.value, Value::Table(_)) => {
                inner.reset(rest, default.unwrap_or(&Self::empty_table()));
            }
            _ => match default {
                Some(default) => {
                    table.insert(first.clone(), default.clone());
                }
                None => {
                    table.remove(first);
                }
            },
        }
    }

    /// Overrides the values of this tree by those in `over`.
    pub(super) fn overlay(&mut self, over: Self, path: &str, mistakes: &mut Vec<Mistake>) {
        match (&mut self.value, over.value) {
            (Value::Table(below), Value::Table(above)) => {
                for (key, node) in above {
                    let path = join(path, &key);
                    match below.get_mut(&key) {
                        Some(below) => below.overlay(node, &path, mistakes),
                        None => {
                            below.insert(key, node);
                        }
                    }
                }
            }
            (Value::Table(below), _) => mistakes.push(Mistake {
                key: path.to_owned(),
                origin: over.origin,
                problem: "is a section, not a value".to_owned(),
                remedy: match below.keys().next() {
                    Some(inner) => format!("set the keys in it, such as `{path}.{inner}`"),
                    None => "set the keys in it".to_owned(),
                },
            }),
            (_, value) => {
                *self = Self {
                    origin: over.origin,
                    value,
                };
            }
        }
    }

    /// Sets one value from the environment or a flag.
    pub(super) fn set(
        &mut self,
        path: &[String],
        text: String,
        origin: &Origin,
        mistakes: &mut Vec<Mistake>,
    ) {
        let leaf = Self {
            origin: origin.clone(),
            value: Value::Loose(text),
        };
        let layer = path.iter().rev().fold(leaf, |node, segment| Self {
            origin: origin.clone(),
            value: Value::Table(BTreeMap::from([(segment.clone(), node)])),
        });
        self.overlay(layer, "", mistakes);
    }
}

/// `grpc` and `listen` make `grpc.listen`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Reads a TOML document. Mistakes name the line and do not quote it, as it can contain a secret.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Node, Mistake> {
    let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|b| *b == b'\n').count();
    match DeTable::parse(text) {
        Ok(table) => Ok(table_node(table.into_inner(), Origin::Default, &|offset| {
            Origin::line_of(path, line_at(offset))
        })),
        Err(error) => Err(Mistake {
            key: "--config".to_owned(),
            origin: Origin::line_of(path, error.span().map_or(1, |span| line_at(span.start))),
            problem: format!("is not valid TOML: {}", error.message()),
            remedy: "correct this line; strings and durations need quotes".to_owned(),
        }),
    }
}

pub(super) fn parse_defaults(text: &str) -> Result<Node, Mistake> {
    let mut defaults = parse_file(Path::new("defaults.toml"), text)?;
    forget_origin(&mut defaults);
    Ok(defaults)
}

fn forget_origin(node: &mut Node) {
    node.origin = Origin::Default;
    match &mut node.value {
        Value::Table(table) => table.values_mut().for_each(forget_origin),
        Value::Array(items) => items.iter_mut().for_each(forget_origin),
        _ => {}
    }
}

/// Parses a value from the environment or a flag as TOML, for keys of lists and tables. `None` if it is not TOML.
pub(super) fn parse_loose(text: &str, origin: &Origin) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Some(value_node(value.into_inner(), origin.clone(), &|_| {
        origin.clone()
    }))
}

/// A loose list: as TOML, else `a, b`, as lists are usually written in environment variables.
pub(super) fn parse_loose_list(text: &str, origin: &Origin) -> Node {
    parse_loose(text.trim(), origin)
        .filter(|node| matches!(node.value, Value::Array(_)))
        .unwrap_or_else(|| Node {
            origin: origin.clone(),
            value: Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Node {
                        origin: origin.clone(),
                        value: Value::Loose(item.to_owned()),
                    })
                    .collect(),
            ),
        })
}

/// The texts of a list as an environment variable has it.
#[must_use]
pub fn list_of_text(text: &str) -> Vec<String> {
    let Value::Array(items) = parse_loose_list(text, &Origin::Default).value else {
        return Vec::new();
    };
    let texts = items.into_iter().filter_map(|node| match node.value {
        Value::Text(text) | Value::Loose(text) => Some(text),
        _ => None,
    });
    texts.collect()
}

fn table_node(table: DeTable<'_>, origin: Origin, origin_at: &dyn Fn(usize) -> Origin) -> Node {
    let entries = table.into_iter().map(|(key, value)| {
        let origin = origin_at(key.span().start);
        (
            key.into_inner().into_owned(),
            value_node(value.into_inner(), origin, origin_at),
        )
    });
    Node {
        origin,
        value: Value::Table(entries.collect()),
    }
}

fn value_node(value: DeValue<'_>, origin: Origin, origin_at: &dyn Fn(usize) -> Origin) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => {
            match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => Value::Integer(number),
                // Larger than 64 bits: the type of its key rejects it.
                Err(_) => Value::Loose(integer.as_str().to_owned()),
            }
        }
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Loose(float.as_str().to_owned()),
        },
        DeValue::Boolean(yes) => Value::Boolean(yes),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| {
                    let origin = origin_at(item.span().start);
                    value_node(item.into_inner(), origin, origin_at)
                })
                .collect(),
        ),
        DeValue::Table(table) => return table_node(table, origin, origin_at),
    };
    Node { origin, value }
}

/// The path of a variable: `SMSBRIDGE_GRPC__LISTEN` is `grpc.listen`. `None` if the variable is not part of the
/// configuration.
///
/// Application names have no `_`, and names of variables have no `-`, so `SMSBRIDGE_APPLICATIONS__BILLING_2__…` is
/// `applications.billing-2.…`.
pub(super) fn environment_path(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    if !rest.contains("__") {
        return None;
    }
    let mut path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
    if let [section, application, _, ..] = path.as_mut_slice()
        && section == "applications"
    {
        *application = application.replace('_', "-");
    }
    Some(path)
}
