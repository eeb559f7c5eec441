//! Field types that accept every form in which clients write a value.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{
        self, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};

/// A string; numbers and booleans are converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LenientString(pub(crate) String);

/// `true`, `false`, or either as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LenientBool(pub(crate) bool);

/// A whole number, or one as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LenientInteger(pub(crate) i64);

/// A list, or one bare element of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<'de> Deserialize<'de> for LenientString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LenientStringVisitor;
        impl Visitor<'_> for LenientStringVisitor {
            type Value = LenientString;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LenientString, E> {
                Ok(LenientString(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<LenientString, E> {
                Ok(LenientString(text))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<LenientString, E> {
                Ok(LenientString(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<LenientString, E> {
                Ok(LenientString(value.to_string()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<LenientString, E> {
                Ok(LenientString(value.to_string()))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<LenientString, E> {
                Ok(LenientString(value.to_string()))
            }
        }
        deserializer.deserialize_any(LenientStringVisitor)
    }
}

impl<'de> Deserialize<'de> for LenientBool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LenientBoolVisitor;
        impl Visitor<'_> for LenientBoolVisitor {
            type Value = LenientBool;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<LenientBool, E> {
                Ok(LenientBool(value))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LenientBool, E> {
                match text.trim() {
                    t if t.eq_ignore_ascii_case("true") => Ok(LenientBool(true)),
                    t if t.eq_ignore_ascii_case("false") => Ok(LenientBool(false)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(LenientBoolVisitor)
    }
}

impl<'de> Deserialize<'de> for LenientInteger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LenientIntegerVisitor;
        impl Visitor<'_> for LenientIntegerVisitor {
            type Value = LenientInteger;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<LenientInteger, E> {
                Ok(LenientInteger(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<LenientInteger, E> {
                Ok(LenientInteger(i64::try_from(value).unwrap_or(i64::MAX)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LenientInteger, E> {
                text.trim()
                    .parse()
                    .map(LenientInteger)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(LenientIntegerVisitor)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ManyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany<T>, A::Error> {
                let mut many = Vec::with_capacity(list.size_hint().unwrap_or(0).min(1024));
                while let Some(one) = list.next_element()? {
                    many.push(one);
                }
                Ok(OneOrMany(many))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany<T>, E> {
                T::deserialize(StrDeserializer::new(text)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<OneOrMany<T>, E> {
                T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
            }
        }
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}
