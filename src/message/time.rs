//! Converts timestamps and durations between protobuf and Rust types.

use std::time::Duration;

use crate::proto::Timestamp as ProtoTimestamp;

#[must_use]
pub fn to_proto(at: jiff::Timestamp) -> ProtoTimestamp {
    at.into()
}

/// `None` if the timestamp is out of range: before the year -9999, after 9999, or with invalid nanoseconds.
#[must_use]
pub fn from_proto(at: &ProtoTimestamp) -> Option<jiff::Timestamp> {
    at.to_jiff()
}

/// `None` if the duration is negative or has invalid nanoseconds.
#[must_use]
pub fn duration_from_proto(duration: &pbjson_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(duration.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(duration.seconds).ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_survive_a_round_trip() {
        for text in [
            "2015-02-12T08:51:43.123Z",
            "1969-12-31T23:59:59.25Z",
            "1970-01-01T00:00:00Z",
        ] {
            let at: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(from_proto(&to_proto(at)), Some(at), "{text}");
        }
    }

    #[test]
    fn invalid_timestamps_and_durations_are_none() {
        assert_eq!(
            from_proto(&ProtoTimestamp {
                seconds: i64::MAX,
                nanos: 0
            }),
            None
        );
        assert_eq!(
            from_proto(&ProtoTimestamp {
                seconds: 0,
                nanos: -1
            }),
            None
        );
        assert_eq!(
            duration_from_proto(&pbjson_types::Duration {
                seconds: -1,
                nanos: 0
            }),
            None
        );
    }
}
