//! Times: between the contract's timestamps and the clock's.

use std::time::Duration;

use pbjson_types::Timestamp as ProtoTimestamp;

/// A moment as the contract carries it.
#[must_use]
pub fn to_proto(at: jiff::Timestamp) -> ProtoTimestamp {
    // Both count whole seconds and nanoseconds, but protobuf's nanoseconds always count forward.
    let (seconds, nanos) = (at.as_second(), at.subsec_nanosecond());
    if nanos < 0 {
        ProtoTimestamp {
            seconds: seconds - 1,
            nanos: nanos + 1_000_000_000,
        }
    } else {
        ProtoTimestamp { seconds, nanos }
    }
}

/// A moment of the contract; `None` where it is out of range (before year -9999 or after 9999, or impossible nanoseconds).
#[must_use]
pub fn from_proto(at: &ProtoTimestamp) -> Option<jiff::Timestamp> {
    if !(0..1_000_000_000).contains(&at.nanos) {
        return None;
    }
    jiff::Timestamp::new(at.seconds, at.nanos).ok()
}

/// A duration of the contract; `None` where it is negative or impossible.
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
    fn moments_survive_both_ways() {
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
    fn impossible_moments_are_none() {
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
