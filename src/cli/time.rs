//! Parses times and durations of the command line, and formats times for tables.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil, fmt::friendly::SpanParser, tz::TimeZone};

use crate::message::time::from_proto;

/// Parses a time in the past: `1h` (ago), `2026-11-22T14:00:00Z`, or `2026-11-22[ 14:00]` in UTC.
///
/// # Errors
/// The expected format.
pub fn parse_past(text: &str) -> Result<Timestamp, String> {
    parse_time(text, Timestamp::checked_sub)
}

/// Parses a time in the future: `2h` (from now), or as [`parse_past`].
///
/// # Errors
/// The expected format.
pub fn parse_future(text: &str) -> Result<Timestamp, String> {
    parse_time(text, Timestamp::checked_add)
}

/// Parses a duration such as `30s`, `5m`, `48h`.
///
/// # Errors
/// The expected format.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    SpanParser::new()
        .parse_unsigned_duration(text)
        .map_err(|_| "expected a duration such as 30s, 5m or 48h".to_owned())
}

/// Formats a time in UTC, in seconds. Empty if there is none.
#[must_use]
pub fn show(at: Option<&crate::proto::Timestamp>) -> String {
    at.and_then(from_proto).map_or_else(String::new, |at| {
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    })
}

/// Formats a duration for people: `4.3 s`, `30 s`, `2 min`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..9.95 if (seconds.round() - seconds).abs() >= 0.05 => format!("{seconds:.1} s"),
        ..120.0 => format!("{seconds:.0} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

fn parse_time(
    text: &str,
    relative: impl Fn(Timestamp, SignedDuration) -> Result<Timestamp, jiff::Error>,
) -> Result<Timestamp, String> {
    const EXPECTED: &str = "expected a duration such as 90s, 1h or 2d, or a time such as 2026-11-22T14:00:00Z (without an offset: UTC)";
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(local) = text.parse::<civil::DateTime>() {
        return local
            .to_zoned(TimeZone::UTC)
            .map(|zoned| zoned.timestamp())
            .map_err(|error| error.to_string());
    }
    // A day has 24 hours: the time zone is UTC.
    let duration = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<i64>().ok())
        .and_then(|days| days.checked_mul(24))
        .filter(|hours| (0..=24 * 36_500).contains(hours))
        .map(SignedDuration::from_hours)
        .or_else(|| SpanParser::new().parse_duration(text).ok())
        .filter(|duration| !duration.is_negative())
        .ok_or(EXPECTED)?;
    relative(Timestamp::now(), duration).map_err(|_| EXPECTED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative() {
        let exact: Timestamp = "2026-11-22T14:00:00Z".parse().unwrap();
        for text in [
            "2026-11-22T14:00:00Z",
            "2026-11-22T15:00:00+01:00",
            "2026-11-22T14:00",
            "2026-11-22 14:00:00",
        ] {
            assert_eq!(parse_past(text), Ok(exact), "{text}");
        }
        let hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
        let parsed = parse_past("1h").unwrap();
        assert!((parsed - hour_ago).total(jiff::Unit::Second).unwrap().abs() < 5.0);
        let in_two_days = Timestamp::now() + SignedDuration::from_hours(48);
        let parsed = parse_future("2d").unwrap();
        assert!(
            (parsed - in_two_days)
                .total(jiff::Unit::Second)
                .unwrap()
                .abs()
                < 5.0
        );
    }

    #[test]
    fn durations_are_rounded() {
        for (ms, expected) in [
            (0, "0 s"),
            (4_271, "4.3 s"),
            (4_980, "5 s"),
            (30_400, "30 s"),
            (150_000, "2 min"),
        ] {
            assert_eq!(show_duration(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "yesterday", "-1h", "12", "2026-13-01", "9999999999999d"] {
            assert!(parse_past(text).is_err(), "{text}");
        }
        assert!(parse_duration("-5s").is_err());
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
    }
}
