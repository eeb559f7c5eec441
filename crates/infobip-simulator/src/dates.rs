//! Dates as the API writes and reads them, as milliseconds since 1970.
//!
//! Writes `2015-02-12T09:51:43.123+0000`, without a colon in the offset. Reads offsets with and without the colon, seconds
//! with and without a fraction, and `Z` (docs/INFOBIP_API.md#dates).

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    fmt::rfc2822::DateTimePrinter,
    tz::{Offset, TimeZone},
};
use serde::{Serialize, Serializer};

/// 1 January 9000: the latest time of the virtual clock.
pub(crate) const LATEST_MS: i64 = 221_845_392_000_000;

const ASCII_ONLY: &str = "only ASCII digits replace bytes of an ASCII template";

/// A date in the API's own format, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ApiDate(pub(crate) i64);

impl ApiDate {
    fn ascii(self) -> [u8; 28] {
        let at = civil(self.0);
        let mut out = *b"0000-00-00T00:00:00.000+0000";
        write_digits(&mut out[0..4], i64::from(at.year()));
        write_digits(&mut out[5..7], i64::from(at.month()));
        write_digits(&mut out[8..10], i64::from(at.day()));
        write_digits(&mut out[11..13], i64::from(at.hour()));
        write_digits(&mut out[14..16], i64::from(at.minute()));
        write_digits(&mut out[17..19], i64::from(at.second()));
        write_digits(&mut out[20..23], self.0.rem_euclid(1000));
        out
    }
}

impl std::fmt::Display for ApiDate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.ascii()).expect(ASCII_ONLY))
    }
}

impl Serialize for ApiDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.ascii()).expect(ASCII_ONLY))
    }
}

fn write_digits(field: &mut [u8], mut value: i64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value.rem_euclid(10)).expect("one digit fits in a byte");
        value /= 10;
    }
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms.clamp(0, LATEST_MS))
        .expect("the years 1970 to 9000 are in jiff's range")
}

fn civil(ms: i64) -> DateTime {
    Offset::UTC.to_datetime(timestamp(ms))
}

/// Day of the week (0 Monday … 6 Sunday) and minute of the day, in UTC.
pub(crate) fn weekday_and_minute(ms: i64) -> (u8, i64) {
    let at = civil(ms);
    let day = u8::try_from(at.weekday().to_monday_zero_offset()).expect("the offset is 0 to 6");
    (day, i64::from(at.hour()) * 60 + i64::from(at.minute()))
}

/// The `Date` header: `Thu, 12 Feb 2015 08:51:43 GMT`.
pub(crate) fn http_date(ms: i64) -> String {
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&timestamp(ms))
        .expect("the years 1970 to 9000 can be written in RFC 9110")
}

/// Parses a date; without an offset it is UTC. A space before the offset is read as `+`, because an unescaped `+` of a query
/// string is decoded to a space.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0_i64, |sum, digit| {
            digit
                .is_ascii_digit()
                .then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let byte_at_is =
        |index: usize, allowed: &[u8]| bytes.get(index).is_some_and(|b| allowed.contains(b));
    if !(byte_at_is(4, b"-")
        && byte_at_is(7, b"-")
        && byte_at_is(10, b"Tt ")
        && byte_at_is(13, b":"))
    {
        return None;
    }
    let (seconds, mut rest) = if byte_at_is(16, b":") {
        (number(17, 19)?, 19)
    } else {
        (0, 16)
    };
    let mut millis = 0;
    if byte_at_is(rest, b".,") {
        let start = rest + 1;
        rest = start;
        while bytes.get(rest).is_some_and(u8::is_ascii_digit) {
            rest += 1;
        }
        if rest == start {
            return None;
        }
        for digit_index in 0..3 {
            millis = millis * 10
                + if start + digit_index < rest {
                    number(start + digit_index, start + digit_index + 1)?
                } else {
                    0
                };
        }
    }
    let offset_minutes = match bytes.get(rest..)? {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-' | b' '), offset @ ..] => {
            let (hours, minutes) = match offset.len() {
                2 => (number(rest + 1, rest + 3)?, 0),
                4 => (number(rest + 1, rest + 3)?, number(rest + 3, rest + 5)?),
                5 if offset[2] == b':' => {
                    (number(rest + 1, rest + 3)?, number(rest + 4, rest + 6)?)
                }
                _ => return None,
            };
            if hours > 18 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let to_i8 = |value: i64| i8::try_from(value).ok();
    let at = DateTime::new(
        i16::try_from(number(0, 4)?).ok()?,
        to_i8(number(5, 7)?)?,
        to_i8(number(8, 10)?)?,
        to_i8(number(11, 13)?)?,
        to_i8(number(14, 16)?)?,
        to_i8(seconds)?,
        0,
    )
    .ok()?;
    let utc = at
        .to_zoned(TimeZone::UTC)
        .ok()?
        .timestamp()
        .checked_sub(SignedDuration::from_mins(offset_minutes))
        .ok()?;
    Some(utc.as_millisecond() + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_in_the_captures() {
        assert_eq!(
            ApiDate(1_423_731_103_123).to_string(),
            "2015-02-12T08:51:43.123+0000"
        );
    }

    #[test]
    fn dates_are_read_in_every_form_of_the_sources() {
        let wanted = Some(1_423_731_103_123);
        for text in [
            "2015-02-12T09:51:43.123+0100",
            "2015-02-12T09:51:43.123+01:00",
            "2015-02-12T09:51:43.123 0100",
            "2015-02-12T08:51:43.123Z",
            "2015-02-12T08:51:43.1230000+00:00",
            "2015-02-12T08:51:43.123",
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
        assert_eq!(parse("2015-02-12T08:51:43Z"), Some(1_423_731_103_000));
    }

    #[test]
    fn text_that_is_not_a_date_is_refused() {
        for text in [
            "",
            "tomorrow",
            "2015-02-30T00:00:00Z",
            "2015-02-12T08:51:43.Z",
            "2015-02-12T08:51:43+99:00",
            "٢٠١٥-02-12T08:51:43Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_date_header_is_an_imf_fixdate() {
        assert_eq!(
            http_date(1_423_731_103_123),
            "Thu, 12 Feb 2015 08:51:43 GMT"
        );
    }
}
