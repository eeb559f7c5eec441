//! Single values off the wire, whatever type they have there.
//!
//! A value of a wrong type never loses its row: a number may be a string and the other way round (WIRE.md, "Details that
//! break clients"; XML has strings only).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// A value that should be a string, a number or a boolean.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// Missing, null, or something that has no single value.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Integer(i64),
    Float(f64),
    Flag(bool),
}

impl<'a> Scalar<'a> {
    /// As text; empty where absent.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Text(text) => text.into_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }

    /// As text, where there is any.
    pub(crate) fn into_some_text(self) -> Option<String> {
        match self {
            Self::Absent => None,
            scalar => Some(scalar.into_text()).filter(|text| !text.is_empty()),
        }
    }

    /// As the first of two names of one field that has a value.
    pub(crate) fn or(self, other: Self) -> Self {
        match self {
            Self::Absent => other,
            scalar => scalar,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As a whole number that fits the contract.
    pub(crate) fn integer(&self) -> Option<i32> {
        i32::try_from(self.long()?).ok()
    }

    /// As a whole number.
    pub(crate) fn long(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                // Whole and well below 2^63: the conversion is exact.
                #[allow(clippy::cast_possible_truncation)]
                Some(*number as i64)
            }
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            Self::Integer(0) => Some(false),
            Self::Integer(1) => Some(true),
            Self::Text(text) => match text.trim() {
                text if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
                text if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Integer(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                // Ids of 19 and 20 digits do not fit i64, but their digits matter only.
                Ok(i64::try_from(number).map_or_else(
                    |_| Scalar::Text(Cow::Owned(number.to_string())),
                    Scalar::Integer,
                ))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Float(number))
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Flag(flag))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Absent)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Absent)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Absent)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// An object that may be missing, or be something else: then it is as if it were empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object<T>(pub(crate) Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Object(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Object(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Object(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Object(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Object(None))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Object(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Object(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
                let fields = serde::de::value::MapAccessDeserializer::new(entries);
                T::deserialize(fields).map(|object| Object(Some(object)))
            }
        }
        deserializer.deserialize_any(Any(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(json: &str) -> Scalar<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn values_of_other_types_are_read() {
        assert_eq!(scalar("\"7\"").integer(), Some(7));
        assert_eq!(scalar("7.0").integer(), Some(7));
        assert_eq!(scalar("7.5").integer(), None);
        assert_eq!(scalar("99999999999").integer(), None);
        assert_eq!(scalar("41793026727").into_text(), "41793026727");
        assert_eq!(
            scalar("18446744073709551615").into_text(),
            "18446744073709551615"
        );
        assert_eq!(scalar("\"TRUE\"").flag(), Some(true));
        assert_eq!(scalar("0").flag(), Some(false));
        for json in ["null", "[1,{}]", "{\"a\":[1]}"] {
            assert_eq!(scalar(json), Scalar::Absent, "{json}");
        }
    }
}
