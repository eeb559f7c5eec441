//! Converts values of the API to types of the contract: timestamps, prices, codes.

use std::borrow::Cow;

use jiff::{civil, tz::Offset};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::wire::scalar::{Object, Scalar, unescape};
use crate::{
    message::{codes, time},
    proto::v1,
};

/// Parses a timestamp of the API, `2015-02-12T09:51:43.123+0100`, and its known variants (docs/INFOBIP_API.md#dates): with a
/// colon in the offset, with `Z`, without an offset (UTC), with a space for the `T` or for the `+` of a decoded query string,
/// with any number of fractional digits, as `20150212095143` (UTC), and as milliseconds since 1970 (clicks). `None` also for a time
/// before the year 1, which JSON of the contract cannot express.
pub(super) fn parse_timestamp(text: &str) -> Option<jiff::Timestamp> {
    let text = text.trim();
    let parsed = match text.len() {
        // As milliseconds it would be after the year 2286.
        14 if is_digits(text) => compact(text)?,
        11.. if is_digits(text) => jiff::Timestamp::from_millisecond(text.parse().ok()?).ok()?,
        _ => parse_date_time(text)?,
    };
    // Not by its second, which is rounded towards 1970.
    (parsed.as_nanosecond() >= FIRST_NANOSECOND).then_some(parsed)
}

/// 0001-01-01T00:00:00Z.
const FIRST_NANOSECOND: i128 = -62_135_596_800 * 1_000_000_000;

fn is_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// `YYYYMMDDhhmmss`.
fn compact(text: &str) -> Option<jiff::Timestamp> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    let mut next = || digits(&mut rest, 2);
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    let date_time = date_time(year, month, day, hour, minute, second, 0)?;
    Offset::UTC.to_timestamp(date_time).ok()
}

fn parse_date_time(text: &str) -> Option<jiff::Timestamp> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    skip(&mut rest, b"-")?;
    let month = digits(&mut rest, 2)?;
    skip(&mut rest, b"-")?;
    let day = digits(&mut rest, 2)?;
    skip(&mut rest, b"Tt ")?;
    let hour = digits(&mut rest, 2)?;
    skip(&mut rest, b":")?;
    let minute = digits(&mut rest, 2)?;
    let second = match skip(&mut rest, b":") {
        Some(_) => digits(&mut rest, 2)?,
        None => 0,
    };
    let nanosecond = match skip(&mut rest, b".,") {
        Some(_) => fraction(&mut rest)?,
        None => 0,
    };
    let date_time = date_time(year, month, day, hour, minute, second, nanosecond)?;
    offset(rest)?.to_timestamp(date_time).ok()
}

fn date_time(
    year: i32,
    month: i32,
    day: i32,
    hour: i32,
    minute: i32,
    second: i32,
    nanosecond: i32,
) -> Option<civil::DateTime> {
    civil::DateTime::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
        i8::try_from(hour).ok()?,
        i8::try_from(minute).ok()?,
        // A leap second becomes the last second of its minute.
        i8::try_from(second.min(59)).ok()?,
        nanosecond,
    )
    .ok()
}

fn offset(mut rest: &[u8]) -> Option<Offset> {
    if matches!(rest, b"" | b"Z" | b"z") {
        return Some(Offset::UTC);
    }
    let sign = if skip(&mut rest, b"+- ")? == b'-' {
        -1
    } else {
        1
    };
    let hours = digits(&mut rest, 2)?;
    let minutes = match skip(&mut rest, b":") {
        Some(_) => digits(&mut rest, 2)?,
        None if rest.is_empty() => 0,
        None => digits(&mut rest, 2)?,
    };
    if !rest.is_empty() || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

fn digits(rest: &mut &[u8], count: usize) -> Option<i32> {
    let (number, after) = rest.split_at_checked(count)?;
    *rest = after;
    number.iter().try_fold(0, |value, b| {
        b.is_ascii_digit()
            .then(|| value * 10 + i32::from(*b - b'0'))
    })
}

/// The fraction of a second in nanoseconds; further digits are dropped.
fn fraction(rest: &mut &[u8]) -> Option<i32> {
    let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, after) = rest.split_at_checked(count)?;
    *rest = after;
    let known = number.iter().copied().chain(std::iter::repeat(b'0'));
    (count > 0).then(|| {
        known
            .take(9)
            .fold(0, |nanos, b| nanos * 10 + i32::from(b - b'0'))
    })
}

fn skip(rest: &mut &[u8], any_of: &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    any_of.contains(first).then(|| *rest = after)?;
    Some(*first)
}

/// `None` if the value is absent or not a timestamp.
pub(super) fn proto_timestamp(text: &Scalar<'_>) -> Option<crate::proto::Timestamp> {
    parse_timestamp(text.as_str()?).map(time::to_proto)
}

/// An unparsed value of any type: callback data, decimals.
pub(super) type Raw<'a> = Option<&'a RawValue>;

/// The text of a string, or the JSON of any other value: callback data may be an object. Empty if absent or null.
pub(super) fn raw_text(raw: Raw<'_>) -> String {
    let Some(raw) = raw.map(RawValue::get) else {
        return String::new();
    };
    match raw.as_bytes().first() {
        Some(b'"') => unescape(raw).map(Cow::into_owned).unwrap_or_default(),
        Some(b'n') => String::new(),
        _ => raw.to_owned(),
    }
}

/// A decimal with the digits of the API: it is never converted to a float. Only an exponent is expanded.
pub(super) fn decimal(raw: Raw<'_>) -> String {
    let text = raw_text(raw);
    let trimmed = text.trim();
    match trimmed.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            expand_exponent(mantissa, exponent).unwrap_or_else(|| trimmed.to_owned())
        }
        None => trimmed.to_owned(),
    }
}

/// Expands `1.25` and `-3` to `0.00125`. `None` if it is not a decimal or the exponent is beyond ±40.
fn expand_exponent(mantissa: &str, exponent: &str) -> Option<String> {
    let exponent: i64 = exponent.parse().ok().filter(|e| (-40..=40).contains(e))?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty()
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).ok()? + exponent;
    let written = match usize::try_from(point) {
        Err(_) | Ok(0) => {
            let zeros = usize::try_from(-point).ok()?;
            format!("0.{}{digits}", "0".repeat(zeros))
        }
        Ok(point) if point >= digits.len() => {
            let padded = format!("{digits:0<point$}");
            match padded.trim_start_matches('0') {
                "" => "0".to_owned(),
                significant => significant.to_owned(),
            }
        }
        Ok(point) => {
            let (whole, fraction) = digits.split_at(point);
            let significant = whole.trim_start_matches('0');
            let whole = if significant.is_empty() {
                "0"
            } else {
                significant
            };
            format!("{whole}.{fraction}")
        }
    };
    Some(format!("{sign}{written}"))
}

/// The code of a network. The API sometimes sends the string "null", which counts as absent.
pub(super) fn mcc_mnc(text: Scalar<'_>) -> String {
    let text = text.into_text();
    if text.trim().eq_ignore_ascii_case("null") {
        String::new()
    } else {
        text
    }
}

/// API: `price`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WirePrice<'a> {
    #[serde(borrow, rename = "pricePerMessage")]
    price_per_message: Raw<'a>,
    #[serde(borrow)]
    currency: Scalar<'a>,
}

pub(super) fn price(price: Object<WirePrice<'_>>) -> Option<v1::Price> {
    let price = price.0?;
    Some(v1::Price {
        price_per_message: decimal(price.price_per_message),
        currency: price.currency.into_text(),
    })
}

/// API: a status or an error, which have the same fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireCode<'a> {
    #[serde(borrow, rename = "groupId")]
    group_id: Scalar<'a>,
    #[serde(borrow, rename = "groupName")]
    group_name: Scalar<'a>,
    #[serde(borrow)]
    id: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    description: Scalar<'a>,
    #[serde(borrow)]
    action: Scalar<'a>,
    #[serde(borrow)]
    permanent: Scalar<'a>,
}

/// Reads the status of a row. Where it is a text instead of an object, that is the name of the status or of its group.
pub(super) fn status_or_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Object<WireCode<'de>>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?.get();
    if raw.starts_with('{') {
        return Ok(Object(serde_json::from_str(raw).ok()));
    }
    let Some(text) = unescape(raw).filter(|text| !text.trim().is_empty()) else {
        return Ok(Object(None));
    };
    let of_group = codes::status(codes::StatusFields {
        group_name: text.clone().into_owned(),
        ..codes::StatusFields::default()
    });
    let text = Scalar::Text(text);
    let code = if of_group.group() == v1::StatusGroup::Unspecified {
        WireCode {
            name: text,
            ..WireCode::default()
        }
    } else {
        WireCode {
            group_name: text,
            ..WireCode::default()
        }
    };
    Ok(Object(Some(code)))
}

pub(super) fn status(code: Object<WireCode<'_>>) -> Option<v1::Status> {
    let code = code.0?;
    Some(codes::status(codes::StatusFields {
        group_id: code.group_id.integer(),
        group_name: code.group_name.into_text(),
        id: code.id.integer(),
        name: code.name.into_text(),
        description: code.description.into_text(),
        action: code.action.into_text(),
    }))
}

pub(super) fn error(code: Object<WireCode<'_>>) -> Option<v1::Error> {
    let code = code.0?;
    Some(codes::error(codes::ErrorFields {
        group_id: code.group_id.integer(),
        group_name: code.group_name.into_text(),
        id: code.id.integer(),
        name: code.name.into_text(),
        description: code.description.into_text(),
        permanent: code.permanent.boolean(),
    }))
}

/// Decodes hexadecimal digits, with or without spaces between them.
pub(super) fn decode_hex(hexadecimal: &str) -> Result<Vec<u8>, hex::FromHexError> {
    let digits: Cow<'_, str> = if hexadecimal.contains(char::is_whitespace) {
        hexadecimal.split_whitespace().collect::<String>().into()
    } else {
        hexadecimal.into()
    };
    hex::decode(digits.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_in_every_known_format() {
        let expected: jiff::Timestamp = "2015-02-12T08:51:43.123Z".parse().unwrap();
        for text in [
            "2015-02-12T09:51:43.123+0100",
            "2015-02-12T09:51:43.123+01:00",
            "2015-02-12T09:51:43.1230000+01:00",
            "2015-02-12T09:51:43.123000000000+01",
            "2015-02-12T08:51:43.123Z",
            "2015-02-12 08:51:43.123",
            "2015-02-12T09:51:43.123 0100",
            "2015-02-12T03:51:43,123-0500",
            "1423731103123",
        ] {
            assert_eq!(parse_timestamp(text), Some(expected), "{text}");
        }
        assert_eq!(
            parse_timestamp("2021-08-25T16:00+0000"),
            Some("2021-08-25T16:00:00Z".parse().unwrap())
        );
        assert_eq!(
            parse_timestamp("20150212085143"),
            Some("2015-02-12T08:51:43Z".parse().unwrap())
        );
    }

    /// JSON of the contract, which the stream on the broker has, allows the years 1 to 9999.
    #[test]
    fn times_that_json_cannot_express_are_none() {
        for text in [
            "0000-01-01T00:00:00.000+0000",
            "0001-01-01T00:30:00+0100",
            "0000-12-31T23:59:59.500+0000",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        for text in ["0001-01-01T00:00:00Z", "9999-12-30T00:00:00Z"] {
            let time = time::to_proto(parse_timestamp(text).unwrap());
            let event = v1::Event {
                time: Some(time),
                ..v1::Event::default()
            };
            let json = serde_json::to_string(&event).unwrap();
            let read: v1::Event = serde_json::from_str(&json).unwrap();
            assert_eq!(read, event, "{json}");
        }
    }

    #[test]
    fn invalid_timestamps_are_none() {
        for text in [
            "",
            "null",
            "yesterday",
            "2015-02-30T00:00:00.000+0000",
            "2015-02-12",
            "2015-02-12T09:51:43.+0100",
            "2015-02-12T09:51:43.123+99:00",
            "2015-02-12T09:51:43.123+01:00x",
            "20150212095143123999999999999",
            "20151312095143",
            "2015-02-12Tä9:51:43.123+0100",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (text, expected) in [
            ("0.0001000000", "0.0001000000"),
            ("0.01", "0.01"),
            ("\"0.0100\"", "0.0100"),
            ("0", "0"),
            (
                "123456789012345678901234567890.12",
                "123456789012345678901234567890.12",
            ),
            ("1.000000E-4", "0.0001000000"),
            ("1E-10", "0.0000000001"),
            ("12.5e1", "125"),
            ("0E+3", "0"),
            ("-1.25e-1", "-0.125"),
            ("null", ""),
            ("1e999999999", "1e999999999"),
        ] {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            assert_eq!(decimal(Some(raw)), expected, "{text}");
        }
    }
}
