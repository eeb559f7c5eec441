//! Single JSON values of any type.
//!
//! A value of an unexpected type does not make its row unreadable: a number may be sent as a string, or a string as a number
//! (docs/INFOBIP_API.md#tolerant-reading; XML has only strings). A value stays raw until it is read, so that digits are never
//! changed.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, de::Visitor};
use serde_json::value::RawValue;

/// A string, number or boolean.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// Absent, null, an object or an array.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    /// A number or a boolean, unparsed.
    Literal(&'a str),
}

impl<'a> Scalar<'a> {
    /// Empty if absent.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Text(text) => text.into_owned(),
            Self::Literal(literal) => literal.to_owned(),
        }
    }

    pub(crate) fn into_non_empty_text(self) -> Option<String> {
        Some(self.into_text()).filter(|text| !text.is_empty())
    }

    /// The value of `other` if this one is absent: for a field with two names.
    pub(crate) fn or(self, other: Self) -> Self {
        match self {
            Self::Absent => other,
            scalar => scalar,
        }
    }

    /// Borrowed, with surrounding whitespace.
    pub(crate) fn verbatim(&self) -> Option<&str> {
        match self {
            Self::Absent => None,
            Self::Text(text) => Some(text),
            Self::Literal(literal) => Some(literal),
        }
    }

    /// Borrowed, without surrounding whitespace.
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.verbatim().map(str::trim)
    }

    /// `None` if it is not a whole number within `i32`.
    pub(crate) fn integer(&self) -> Option<i32> {
        let text = self.as_str()?;
        text.parse().ok().or_else(|| {
            let number: f64 = text.parse().ok()?;
            let fits = number.fract() == 0.0 && number.abs() <= f64::from(i32::MAX);
            // Exact, because the number is whole and in range.
            #[allow(clippy::cast_possible_truncation)]
            fits.then_some(number as i32)
        })
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.as_str()? {
            text if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
            text if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        Ok(match raw.as_bytes().first() {
            Some(b'"') => unescape(raw).map_or(Self::Absent, Self::Text),
            None | Some(b'{' | b'[' | b'n') => Self::Absent,
            Some(_) => Self::Literal(raw),
        })
    }
}

/// The text of a JSON string. An unpaired surrogate, as in a text cut between two segments, becomes U+FFFD.
pub(crate) fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    let quoted = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !quoted.contains('\\') {
        return Some(Cow::Borrowed(quoted));
    }
    struct JsonBytes;
    impl Visitor<'_> for JsonBytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    // Deserialized as bytes, because serde_json refuses unpaired surrogates in strings.
    let bytes = serde_json::Deserializer::from_str(raw)
        .deserialize_bytes(JsonBytes)
        .ok()?;
    Some(Cow::Owned(String::from_utf8(bytes).unwrap_or_else(
        |error| String::from_utf8_lossy(error.as_bytes()).into_owned(),
    )))
}

/// An object. Any other value, or an object that `T` cannot be read from, counts as absent.
#[derive(Debug, Clone)]
pub(crate) struct Object<T>(pub(crate) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        let object = raw.starts_with('{').then(|| serde_json::from_str(raw));
        Ok(Self(object.and_then(Result::ok)))
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
            scalar("123456789012345678901234567890").into_text(),
            "123456789012345678901234567890"
        );
        assert_eq!(scalar("1e400").integer(), None);
        assert_eq!(scalar("\"TRUE\"").boolean(), Some(true));
        assert_eq!(scalar("0").boolean(), Some(false));
        for json in ["null", "[1,{}]", "{\"a\":[1]}"] {
            assert_eq!(scalar(json), Scalar::Absent, "{json}");
        }
    }

    #[test]
    fn an_unpaired_surrogate_does_not_lose_the_text() {
        assert_eq!(scalar(r#""Hi \ud83d\ude00 \u00e9""#).into_text(), "Hi 😀 é");
        let cut = scalar(r#""Hi \ud83d""#).into_text();
        assert!(cut.starts_with("Hi \u{fffd}"), "{cut}");
    }
}
