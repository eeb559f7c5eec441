//! Validates the fields of a message one by one; each violation is added to the request's [`Violations`].

use std::sync::Arc;

use serde_json::Value;

use crate::{
    dates,
    draft::{Body, Notify, Tracking, Window},
    envelope::ApiError,
    request::{
        BinaryRequest, LanguageRequest, Scalar, TimeRequest, TrackingRequest, WindowRequest,
    },
    text::{self, Language, TextOptions, Transliteration},
};

/// Length of the short URL that replaces a tracked URL (manual "URL shortening & tracking solution").
pub const SHORT_URL_CHARACTERS: usize = 25;
const MINUTE_MS: i64 = 60_000;
const LONGEST_VALIDITY_MINUTES: i64 = 2880;
const LONGEST_SCHEDULE_MS: i64 = 180 * 24 * 60 * MINUTE_MS;
const CALLBACK_CHARACTERS: usize = 4000;
const URL_CHARACTERS: usize = 2048;

/// Collects all violations of a request in one error.
#[derive(Default)]
pub(super) struct Violations(pub(super) Option<ApiError>);

impl Violations {
    pub(super) fn add(&mut self, field: String, reason: &str) {
        self.0 = Some(
            self.0
                .take()
                .unwrap_or_else(ApiError::bad_request)
                .and(field, reason),
        );
    }
}

/// Alphanumeric 3–11 characters, numeric 3–14 digits (docs/INFOBIP_API.md#limits).
pub(super) fn sender_is_valid(from: &str) -> bool {
    let digits = from.strip_prefix('+').unwrap_or(from);
    let length = digits.chars().count();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        (3..=14).contains(&length)
    } else {
        (3..=11).contains(&from.chars().count()) && !from.chars().any(char::is_control)
    }
}

/// With the UDHI bit of the ESM class set, the first octet is the length of the header, which must fit into the content.
pub(super) fn header_is_valid(hex: &str, esm_class: u8) -> bool {
    if esm_class & 0x40 == 0 {
        return true;
    }
    let length = hex
        .get(..2)
        .and_then(|first| usize::from_str_radix(first, 16).ok());
    length.is_some_and(|length| length < hex.len() / 2)
}

pub(super) fn check_binary(
    request: Option<&BinaryRequest>,
    path: &dyn Fn(&str) -> String,
    wrong: &mut Violations,
) -> (Body, u32) {
    let hex = request
        .and_then(|binary| binary.hex.as_ref())
        .map(|hex| hex.0.as_str())
        .unwrap_or_default();
    let hex: String = hex
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if hex.is_empty()
        || !hex.len().is_multiple_of(2)
        || !hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        wrong.add(
            path("binary.hex"),
            "must be octets in hexadecimal, like \"54 65 73 74\"",
        );
    }
    let mut octet = |value: Option<i64>, field: &str| {
        u8::try_from(value.unwrap_or(0)).unwrap_or_else(|_| {
            wrong.add(path(field), "must be from 0 to 255");
            0
        })
    };
    let data_coding = octet(
        request.and_then(|binary| binary.data_coding).map(|n| n.0),
        "binary.dataCoding",
    );
    let esm_class = octet(
        request.and_then(|binary| binary.esm_class).map(|n| n.0),
        "binary.esmClass",
    );
    let parts = text::binary_parts(hex.len() / 2, data_coding);
    (
        Body::Binary {
            hex,
            data_coding,
            esm_class,
        },
        parts,
    )
}

pub(super) fn check_text_options(
    language: Option<&LanguageRequest>,
    transliteration: Option<&Scalar>,
    path: &dyn Fn(&str) -> String,
    wrong: &mut Violations,
) -> TextOptions {
    TextOptions {
        language: check_language(
            language.and_then(|language| language.language_code.as_ref()),
            &path("language.languageCode"),
            wrong,
        ),
        single_shift: language
            .and_then(|language| language.single_shift)
            .is_some_and(|flag| flag.0),
        locking_shift: language
            .and_then(|language| language.locking_shift)
            .is_some_and(|flag| flag.0),
        transliteration: check_transliteration(transliteration, &path("transliteration"), wrong),
    }
}

fn check_language(code: Option<&Scalar>, field: &str, wrong: &mut Violations) -> Option<Language> {
    let code = code.filter(|code| !code.0.is_empty())?;
    let language = Language::parse(&code.0);
    if language.is_none() {
        wrong.add(field.to_owned(), "must be TR, ES or PT");
    }
    language
}

fn check_transliteration(
    word: Option<&Scalar>,
    field: &str,
    wrong: &mut Violations,
) -> Option<Transliteration> {
    let word = word.filter(|word| !word.0.is_empty())?;
    let transliteration = Transliteration::parse(&word.0);
    if transliteration.is_none() {
        wrong.add(
            field.to_owned(),
            "must be TURKISH, GREEK, CYRILLIC, CENTRAL_EUROPEAN or NON_UNICODE",
        );
    }
    transliteration
}

/// Validates the language and the transliteration of a preview.
pub fn preview_options(
    language: Option<&Scalar>,
    transliteration: Option<&Scalar>,
) -> Result<(Option<Language>, Option<Transliteration>), ApiError> {
    let mut wrong = Violations::default();
    let language = check_language(language, "languageCode", &mut wrong);
    let transliteration = check_transliteration(transliteration, "transliteration", &mut wrong);
    wrong.0.map_or(Ok((language, transliteration)), Err)
}

/// Validates the notify URL and content type of a lookup.
pub fn lookup_notify(
    url: Option<Scalar>,
    content_type: Option<&Scalar>,
) -> Result<Option<Notify>, ApiError> {
    let mut wrong = Violations::default();
    let notify = check_notify(url, content_type, &str::to_owned, &mut wrong);
    wrong.0.map_or(Ok(notify), Err)
}

/// Validates the new send time of a bulk.
pub fn schedule_ms(send_at: Option<&Scalar>, now_ms: i64) -> Result<i64, ApiError> {
    let mut wrong = Violations::default();
    let send_at = send_at.map(|at| at.0.as_str()).unwrap_or_default();
    match check_send_at(send_at, "sendAt", now_ms, &mut wrong) {
        Some(at) => Ok(at),
        None => Err(wrong.0.unwrap_or_else(ApiError::bad_request)),
    }
}

pub(super) fn check_notify(
    url: Option<Scalar>,
    content_type: Option<&Scalar>,
    path: &dyn Fn(&str) -> String,
    wrong: &mut Violations,
) -> Option<Notify> {
    let xml = match content_type.map(|scalar| scalar.0.trim()) {
        None | Some("") => false,
        Some(kind) if kind.starts_with("application/json") => false,
        Some(kind) if kind.starts_with("application/xml") => true,
        Some(_) => {
            wrong.add(
                path("notifyContentType"),
                "must be application/json or application/xml",
            );
            false
        }
    };
    let url = url.map(|url| url.0).filter(|url| !url.is_empty())?;
    let parsed = reqwest::Url::parse(&url)
        .ok()
        .filter(|parsed| matches!(parsed.scheme(), "http" | "https"));
    if url.chars().count() > URL_CHARACTERS || parsed.is_none() {
        wrong.add(
            path("notifyUrl"),
            "must be an http or https URL of at most 2048 characters",
        );
        return None;
    }
    Some(Notify {
        url: url.into(),
        xml,
    })
}

pub(super) fn check_callback(
    data: Option<Value>,
    path: &dyn Fn(&str) -> String,
    wrong: &mut Violations,
) -> Option<Value> {
    let data = data.filter(|data| !data.is_null())?;
    let too_long = match &data {
        Value::String(text) => text.chars().count() > CALLBACK_CHARACTERS,
        other => other.to_string().chars().count() > CALLBACK_CHARACTERS,
    };
    if too_long {
        wrong.add(path("callbackData"), "must not exceed 4000 characters");
    }
    Some(data)
}

/// Longer periods are reduced to 48 h (manual "Schedule SMS and validity period").
pub(super) fn check_validity(
    minutes: Option<i64>,
    path: &dyn Fn(&str) -> String,
    wrong: &mut Violations,
) -> i64 {
    let minutes = minutes.unwrap_or(LONGEST_VALIDITY_MINUTES);
    if minutes < 0 {
        wrong.add(path("validityPeriod"), "must not be negative");
    }
    // Many clients send an unset integer as zero; it means no limit.
    let minutes = if minutes == 0 {
        LONGEST_VALIDITY_MINUTES
    } else {
        minutes
    };
    minutes.clamp(0, LONGEST_VALIDITY_MINUTES) * MINUTE_MS
}

pub(super) fn check_send_at(
    text: &str,
    field: &str,
    now_ms: i64,
    wrong: &mut Violations,
) -> Option<i64> {
    let Some(at) = dates::parse(text) else {
        wrong.add(
            field.to_owned(),
            "must be a date like 2015-07-07T17:00:00.000+01:00",
        );
        return None;
    };
    if at > now_ms + LONGEST_SCHEDULE_MS {
        wrong.add(field.to_owned(), "must be at most 180 days from now");
        return None;
    }
    Some(at)
}

pub(super) fn check_window(
    request: &WindowRequest,
    path: &dyn Fn(&str) -> String,
    wrong: &mut Violations,
) -> Option<Window> {
    const DAYS: [&str; 7] = [
        "MONDAY",
        "TUESDAY",
        "WEDNESDAY",
        "THURSDAY",
        "FRIDAY",
        "SATURDAY",
        "SUNDAY",
    ];
    let minute = |time: Option<&TimeRequest>, default: i64| -> Option<i64> {
        let Some(time) = time else {
            return Some(default);
        };
        let (hour, minute) = (time.hour.map_or(0, |n| n.0), time.minute.map_or(0, |n| n.0));
        ((0..24).contains(&hour) && (0..60).contains(&minute)).then_some(hour * 60 + minute)
    };
    let mut days = 0_u8;
    for day in request
        .days
        .iter()
        .flat_map(|days| &days.0)
        .flat_map(|day| day.0.split(','))
    {
        match DAYS
            .iter()
            .position(|name| name.eq_ignore_ascii_case(day.trim()))
        {
            Some(at) => days |= 1 << at,
            None => wrong.add(
                path("deliveryTimeWindow.days"),
                "must be names of days like MONDAY",
            ),
        }
    }
    if days == 0 {
        wrong.add(
            path("deliveryTimeWindow.days"),
            "must name at least one day",
        );
    }
    match (
        minute(request.from.as_ref(), 0),
        minute(request.to.as_ref(), 24 * 60),
    ) {
        (Some(opens_minute), Some(closes_minute)) if opens_minute < closes_minute => Some(Window {
            opens_minute,
            closes_minute,
            days,
        }),
        _ => {
            wrong.add(
                path("deliveryTimeWindow"),
                "must open at an hour of 0 to 23 and close later that day",
            );
            None
        }
    }
}

pub(super) fn check_tracking(request: TrackingRequest, wrong: &mut Violations) -> Option<Tracking> {
    let urls = match request.track.as_ref().map(|track| track.0.as_str()) {
        None | Some("") => return None,
        Some("SMS") => false,
        Some("URL") => true,
        Some(_) => {
            wrong.add("tracking.track".into(), "must be SMS or URL");
            return None;
        }
    };
    let base_url = request
        .base_url
        .map(|url| url.0.trim_end_matches('/').to_owned())
        .filter(|url| !url.is_empty());
    if base_url
        .as_ref()
        .is_some_and(|url| reqwest::Url::parse(url).is_err())
    {
        wrong.add("tracking.baseUrl".into(), "must be a URL");
    }
    Some(Tracking {
        urls,
        process_key: request
            .process_key
            .map(|key| key.0)
            .filter(|key| !key.is_empty()),
        kind: request.kind.map(|kind| kind.0),
        base_url,
    })
}

/// Replaces each URL by a placeholder of 25 characters; the short URL of each message replaces the placeholder later.
pub(super) fn mark_links(text: &str, links: &mut Vec<(String, Arc<str>)>) -> String {
    let mut marked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = ["http://", "https://"]
        .iter()
        .filter_map(|scheme| rest.find(scheme))
        .min()
    {
        let (before, from) = rest.split_at(start);
        let end = from.find(char::is_whitespace).unwrap_or(from.len());
        let (url, after) = from.split_at(end);
        let url_only = url.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '"', '\'']);
        let stand_in = format!("http://short.invalid/{:04}", links.len());
        marked.push_str(before);
        marked.push_str(&stand_in);
        marked.push_str(&url[url_only.len()..]);
        links.push((stand_in, url_only.into()));
        rest = after;
    }
    marked.push_str(rest);
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_have_the_manuals_lengths() {
        for good in [
            "abc",
            "CompanyName",
            "123",
            "12345678901234",
            "+41793026700",
        ] {
            assert!(sender_is_valid(good), "{good}");
        }
        for bad in ["ab", "CompanyNames", "12", "123456789012345", "a\nbc"] {
            assert!(!sender_is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn each_url_gives_way_to_25_characters_and_keeps_its_punctuation() {
        let mut links = Vec::new();
        let marked = mark_links(
            "See http://www.example.com/awesomeApp/someUserId, or https://b.example/?q=1!",
            &mut links,
        );
        assert_eq!(
            marked,
            "See http://short.invalid/0000, or http://short.invalid/0001!"
        );
        assert_eq!(links[0].0.len(), SHORT_URL_CHARACTERS);
        assert_eq!(&*links[0].1, "http://www.example.com/awesomeApp/someUserId");
        assert_eq!(&*links[1].1, "https://b.example/?q=1");
    }
}
