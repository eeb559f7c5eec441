//! `google.protobuf.Timestamp`, in place of the one of pbjson: proto JSON writes times in UTC with a `Z`, as other languages do.
//!
//! Neighbour: `message::time`, by which all other code converts it.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// A point in time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Timestamp {
    /// Seconds since 1970 in UTC.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds since that second: never negative.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// `None` if it is out of range: before the year -9999, after 9999, or with invalid nanoseconds.
    pub fn to_jiff(self) -> Option<jiff::Timestamp> {
        if !(0..1_000_000_000).contains(&self.nanos) {
            return None;
        }
        jiff::Timestamp::new(self.seconds, self.nanos).ok()
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(at: jiff::Timestamp) -> Self {
        // Both types have seconds and nanoseconds, but protobuf's nanoseconds are never negative.
        let (seconds, nanos) = (at.as_second(), at.subsec_nanosecond());
        if nanos < 0 {
            Self {
                seconds: seconds - 1,
                nanos: nanos + 1_000_000_000,
            }
        } else {
            Self { seconds, nanos }
        }
    }
}

impl Serialize for Timestamp {
    /// With no, 3, 6 or 9 digits of the second, as many as are needed.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let at = self
            .to_jiff()
            .ok_or_else(|| ser::Error::custom("a time before the year -9999 or after 9999"))?;
        match self.nanos {
            0 => serializer.collect_str(&format_args!("{at:.0}")),
            nanos if nanos % 1_000_000 == 0 => serializer.collect_str(&format_args!("{at:.3}")),
            nanos if nanos % 1_000 == 0 => serializer.collect_str(&format_args!("{at:.6}")),
            _ => serializer.collect_str(&format_args!("{at:.9}")),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    /// RFC 3339, with any offset from UTC.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a time such as 2026-11-22T14:00:00Z")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                let at: jiff::Timestamp = text.parse().map_err(E::custom)?;
                Ok(at.into())
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Timestamp, serde_json::Error> {
        serde_json::from_value(text.into())
    }

    #[test]
    fn times_are_written_as_other_languages_write_them() {
        for (text, written) in [
            ("2026-11-22T14:00:00Z", "2026-11-22T14:00:00Z"),
            ("2026-11-22T15:00:00.25+01:00", "2026-11-22T14:00:00.250Z"),
            ("1969-12-31T23:59:59.000001Z", "1969-12-31T23:59:59.000001Z"),
            (
                "2026-11-22T14:00:00.1234567Z",
                "2026-11-22T14:00:00.123456700Z",
            ),
        ] {
            let at = read(text).unwrap();
            assert_eq!(serde_json::to_value(at).unwrap(), written);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T14:00:00",
            "2026-13-22T14:00:00Z",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
            assert!(serde_json::to_value(Timestamp { seconds, nanos }).is_err());
        }
    }

    proptest! {
        #[test]
        fn times_survive_a_round_trip(
            seconds in jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second(),
            nanos in 0..1_000_000_000_i32,
        ) {
            let at = Timestamp { seconds, nanos };
            let written = serde_json::to_value(at).unwrap();
            prop_assert_eq!(serde_json::from_value::<Timestamp>(written).unwrap(), at);
        }
    }
}
