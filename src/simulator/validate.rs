//! From a request as sent to messages that can be accepted: the manual's limits, before anything is stored.
//!
//! Two kinds of wrong (WIRE.md "Details that break clients"): what spoils the request is an [`ApiError`] (400) with
//! every reason at once; what spoils one message is a status of its own in an answer of 200.

use std::sync::Arc;

use serde_json::Value;

use crate::simulator::config::SimulatorConfig;
use crate::simulator::dates;
use crate::simulator::envelope::ApiError;
use crate::simulator::request::{
    AdvancedRequest, BinaryRequest, LanguageRequest, MessageRequest, MultiRequest, OneOrMany,
    Scalar, SingleRequest, TimeRequest, TrackingRequest, WindowRequest,
};
use crate::simulator::text::{self, Language, TextOptions, Transliteration};

/// More parts than this are REJECTED_MESSAGE_TOO_LONG (WIRE.md "Limits").
const MOST_PARTS: u32 = 25;
/// A tracked URL takes so many characters (manual "URL shortening & tracking solution").
pub const SHORT_URL_CHARACTERS: usize = 25;
const MINUTE_MS: i64 = 60_000;
const LONGEST_VALIDITY_MINUTES: i64 = 2880;
const LONGEST_SCHEDULE_MS: i64 = 180 * 24 * 60 * MINUTE_MS;
const BULK_ID_CHARACTERS: usize = 100;
const MESSAGE_ID_CHARACTERS: usize = 200;
const CALLBACK_CHARACTERS: usize = 4000;
const URL_CHARACTERS: usize = 2048;
const DESTINATION_CHARACTERS: usize = 64;

/// A send request that may be carried out.
#[derive(Debug)]
pub struct SendDraft {
    /// The caller's bulk id, clipped to 100 characters.
    pub bulk_id: Option<String>,
    /// The messages.
    pub messages: Vec<MessageDraft>,
    /// What is tracked.
    pub tracking: Option<Arc<Tracking>>,
}

/// One message for its destinations.
#[derive(Debug)]
pub struct MessageDraft {
    /// What all destinations get.
    pub content: Arc<Content>,
    /// A status that rejects the message for all of them.
    pub refusal: Option<u16>,
    /// When to send, virtual milliseconds.
    pub send_at_ms: Option<i64>,
    /// Where to.
    pub destinations: Vec<DestinationDraft>,
}

/// A destination as the caller wrote it.
#[derive(Debug)]
pub struct DestinationDraft {
    /// The number as written; empty if missing.
    pub to: String,
    /// The caller's message id, clipped to 200 characters.
    pub message_id: Option<String>,
}

/// What all destinations of a message share.
#[derive(Debug)]
pub struct Content {
    /// Sender.
    pub from: String,
    /// Text or octets.
    pub body: Body,
    /// Parts of one message.
    pub parts: u32,
    /// Shows at once.
    pub flash: bool,
    /// Pushes intermediate reports.
    pub intermediate_report: bool,
    /// Where reports are pushed; none: they are pulled.
    pub notify: Option<Notify>,
    /// Comes back with reports.
    pub callback_data: Option<Value>,
    /// How long delivery may be tried, from the time of sending.
    pub validity_ms: i64,
    /// When delivery is allowed.
    pub window: Option<Window>,
    /// URLs to shorten: the stand-in within the text, and the URL.
    pub links: Vec<(String, Arc<str>)>,
    /// What is tracked.
    pub tracking: Option<Arc<Tracking>>,
}

/// Text or octets.
#[derive(Debug)]
pub enum Body {
    /// The text that the handset shows (after transliteration).
    Text(Arc<str>),
    /// Octets in hexadecimal, with their coding.
    Binary {
        /// Lower case, no spaces.
        hex: String,
        /// GSM data coding scheme.
        data_coding: u8,
        /// GSM ESM class.
        esm_class: u8,
    },
}

/// Where and how reports are pushed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notify {
    /// URL.
    pub url: Arc<str>,
    /// XML instead of JSON.
    pub xml: bool,
}

/// Conversion and URL tracking.
#[derive(Debug)]
pub struct Tracking {
    /// URLs are shortened.
    pub urls: bool,
    /// The caller's key, or a generated one.
    pub process_key: Option<String>,
    /// The caller's name for the flow or the type of message.
    pub kind: Option<String>,
    /// What short links begin with.
    pub base_url: Option<String>,
}

/// `deliveryTimeWindow`: minutes of the day in UTC, on some days of the week.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    opens_minute: i64,
    closes_minute: i64,
    /// Bit 0 is Monday.
    days: u8,
}

impl Window {
    /// The first moment from `at_ms` on at which delivery is allowed.
    pub fn next_open_ms(self, at_ms: i64) -> i64 {
        let start_of_day = at_ms - at_ms.rem_euclid(24 * 60 * MINUTE_MS);
        for day in 0..=7 {
            let midnight = start_of_day + day * 24 * 60 * MINUTE_MS;
            let (weekday, _) = dates::weekday_and_minute(midnight);
            if self.days & (1 << weekday) == 0 {
                continue;
            }
            let opens = midnight + self.opens_minute * MINUTE_MS;
            let closes = midnight + self.closes_minute * MINUTE_MS;
            if at_ms < closes {
                return at_ms.max(opens);
            }
        }
        at_ms
    }
}

/// What the request's violations are collected in.
#[derive(Default)]
struct Violations(Option<ApiError>);

impl Violations {
    fn add(&mut self, field: String, reason: &str) {
        self.0 = Some(
            self.0
                .take()
                .unwrap_or_else(ApiError::bad_request)
                .and(field, reason),
        );
    }
}

/// A destination as digits, or the status that refuses it.
pub fn destination_digits(to: &str) -> Result<String, u16> {
    let trimmed = to.trim();
    let digits = trimmed.strip_prefix('+').unwrap_or(trimmed);
    // E.164: at most fifteen digits (manual "SEND SMS").
    if to.len() > DESTINATION_CHARACTERS
        || !(5..=15).contains(&digits.len())
        || !digits.bytes().all(|byte| byte.is_ascii_digit())
        || digits.starts_with('0')
    {
        return Err(52);
    }
    Ok(digits.to_owned())
}

/// `single`: `from`, `to` (one or many), `text`.
pub fn single(
    request: SingleRequest,
    binary: bool,
    now_ms: i64,
    config: &SimulatorConfig,
) -> Result<SendDraft, ApiError> {
    let message = plain(request);
    send(
        None,
        vec![message],
        None,
        &|_| String::new(),
        binary,
        now_ms,
        config,
    )
}

/// `multi`: several of those.
pub fn multi(
    request: MultiRequest,
    binary: bool,
    now_ms: i64,
    config: &SimulatorConfig,
) -> Result<SendDraft, ApiError> {
    let messages = request.messages.map(|list| list.0).unwrap_or_default();
    let messages = messages.into_iter().map(plain).collect();
    send(
        None,
        messages,
        None,
        &|at| format!("messages[{at}]."),
        binary,
        now_ms,
        config,
    )
}

/// `advanced`: every feature.
pub fn advanced(
    request: AdvancedRequest,
    binary: bool,
    now_ms: i64,
    config: &SimulatorConfig,
) -> Result<SendDraft, ApiError> {
    let messages = request.messages.map(|list| list.0).unwrap_or_default();
    let bulk_id = request.bulk_id.map(|id| id.0);
    send(
        bulk_id,
        messages,
        request.tracking,
        &|at| format!("messages[{at}]."),
        binary,
        now_ms,
        config,
    )
}

fn plain(request: SingleRequest) -> MessageRequest {
    let destinations = request
        .to
        .map(|list| list.0)
        .unwrap_or_default()
        .into_iter()
        .map(|to| crate::simulator::request::DestinationRequest {
            to: Some(to),
            message_id: None,
        })
        .collect();
    MessageRequest {
        from: request.from,
        destinations: Some(OneOrMany(destinations)),
        text: request.text,
        binary: request.binary,
        ..MessageRequest::default()
    }
}

/// The messages of a request, or everything that is wrong with it.
pub fn send(
    bulk_id: Option<String>,
    messages: Vec<MessageRequest>,
    tracking: Option<TrackingRequest>,
    path: &dyn Fn(usize) -> String,
    binary: bool,
    now_ms: i64,
    config: &SimulatorConfig,
) -> Result<SendDraft, ApiError> {
    let mut wrong = Violations::default();
    if messages.is_empty() {
        wrong.add("messages".into(), "must not be empty");
    }
    let tracking = tracking
        .and_then(|request| check_tracking(request, &mut wrong))
        .map(Arc::new);
    let messages = messages
        .into_iter()
        .enumerate()
        .map(|(at, message)| {
            check_message(
                message,
                &|field| format!("{}{field}", path(at)),
                binary,
                tracking.as_ref(),
                now_ms,
                config,
                &mut wrong,
            )
        })
        .collect();
    match wrong.0 {
        Some(error) => Err(error),
        None => Ok(SendDraft {
            bulk_id: bulk_id
                .filter(|id| !id.is_empty())
                .map(|id| clip(id, BULK_ID_CHARACTERS)),
            messages,
            tracking,
        }),
    }
}

fn check_message(
    request: MessageRequest,
    path: &dyn Fn(&str) -> String,
    binary: bool,
    tracking: Option<&Arc<Tracking>>,
    now_ms: i64,
    config: &SimulatorConfig,
    wrong: &mut Violations,
) -> MessageDraft {
    let from = request
        .from
        .map(|from| from.0)
        .filter(|from| !from.is_empty())
        .unwrap_or_else(|| config.default_sender.clone());
    let mut links = Vec::new();
    let (body, parts) = if binary {
        check_binary(request.binary.as_ref(), path, wrong)
    } else {
        let options = check_text_options(
            request.language.as_ref(),
            request.transliteration.as_ref(),
            path,
            wrong,
        );
        let text = request.text.map(|text| text.0).unwrap_or_default();
        if text.is_empty() {
            wrong.add(path("text"), "must not be empty");
        }
        let text = if tracking.is_some_and(|tracking| tracking.urls) {
            mark_links(&text, &mut links)
        } else {
            text
        };
        let encoded = text::encode(&text, &options);
        (Body::Text(encoded.text.into()), encoded.parts)
    };
    let refusal = if !sender_is_valid(&from) {
        Some(11)
    } else if parts > MOST_PARTS {
        Some(25)
    } else if matches!(body, Body::Binary { ref hex, esm_class, .. } if !header_is_valid(hex, esm_class))
    {
        Some(24)
    } else {
        None
    };
    let destinations = request
        .destinations
        .map(|list| list.0)
        .unwrap_or_default()
        .into_iter()
        .map(|destination| DestinationDraft {
            to: destination.to.map(|to| to.0).unwrap_or_default(),
            message_id: destination
                .message_id
                .map(|id| clip(id.0, MESSAGE_ID_CHARACTERS))
                .filter(|id| !id.is_empty()),
        })
        .collect::<Vec<_>>();
    // A message without any destination is answered like one with an empty destination: MISSING_TO, no ids.
    let destinations = if destinations.is_empty() {
        vec![DestinationDraft {
            to: String::new(),
            message_id: None,
        }]
    } else {
        destinations
    };
    let notify = check_notify(
        request.notify_url,
        request.notify_content_type.as_ref(),
        path,
        wrong,
    );
    MessageDraft {
        content: Arc::new(Content {
            from,
            body,
            parts,
            flash: request.flash.is_some_and(|flag| flag.0),
            intermediate_report: request.intermediate_report.is_some_and(|flag| flag.0),
            notify: notify.filter(|_| request.notify.is_none_or(|flag| flag.0)),
            callback_data: check_callback(request.callback_data, path, wrong),
            validity_ms: check_validity(
                request.validity_period.map(|minutes| minutes.0),
                path,
                wrong,
            ),
            window: request
                .delivery_time_window
                .as_ref()
                .and_then(|window| check_window(window, path, wrong)),
            links,
            tracking: tracking.cloned(),
        }),
        refusal,
        send_at_ms: request
            .send_at
            .and_then(|at| check_send_at(&at.0, &path("sendAt"), now_ms, wrong)),
        destinations,
    }
}

/// Alphanumeric 3–11 characters, numeric 3–14 digits (WIRE.md "Limits").
fn sender_is_valid(from: &str) -> bool {
    let digits = from.strip_prefix('+').unwrap_or(from);
    let length = digits.chars().count();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        (3..=14).contains(&length)
    } else {
        (3..=11).contains(&from.chars().count()) && !from.chars().any(char::is_control)
    }
}

/// With the UDHI bit of the ESM class the first octet says how long the header is; it must fit into the content.
fn header_is_valid(hex: &str, esm_class: u8) -> bool {
    if esm_class & 0x40 == 0 {
        return true;
    }
    let length = hex
        .get(..2)
        .and_then(|first| usize::from_str_radix(first, 16).ok());
    length.is_some_and(|length| length < hex.len() / 2)
}

fn check_binary(
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

fn check_text_options(
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

/// The language and transliteration of a preview.
pub fn preview_options(
    language: Option<&Scalar>,
    transliteration: Option<&Scalar>,
) -> Result<(Option<Language>, Option<Transliteration>), ApiError> {
    let mut wrong = Violations::default();
    let language = check_language(language, "languageCode", &mut wrong);
    let transliteration = check_transliteration(transliteration, "transliteration", &mut wrong);
    wrong.0.map_or(Ok((language, transliteration)), Err)
}

/// Where answers are pushed, of a lookup.
pub fn lookup_notify(
    url: Option<Scalar>,
    content_type: Option<&Scalar>,
) -> Result<Option<Notify>, ApiError> {
    let mut wrong = Violations::default();
    let notify = check_notify(url, content_type, &str::to_owned, &mut wrong);
    wrong.0.map_or(Ok(notify), Err)
}

/// The time of a schedule, of a bulk.
pub fn schedule_ms(send_at: Option<&Scalar>, now_ms: i64) -> Result<i64, ApiError> {
    let mut wrong = Violations::default();
    let send_at = send_at.map(|at| at.0.as_str()).unwrap_or_default();
    match check_send_at(send_at, "sendAt", now_ms, &mut wrong) {
        Some(at) => Ok(at),
        None => Err(wrong.0.unwrap_or_else(ApiError::bad_request)),
    }
}

fn check_notify(
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

fn check_callback(
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

/// More than 48 h is cut to that (manual "Schedule SMS and validity period").
fn check_validity(
    minutes: Option<i64>,
    path: &dyn Fn(&str) -> String,
    wrong: &mut Violations,
) -> i64 {
    let minutes = minutes.unwrap_or(LONGEST_VALIDITY_MINUTES);
    if minutes < 0 {
        wrong.add(path("validityPeriod"), "must not be negative");
    }
    // Zero is what an unset integer becomes in many clients; it asks for no limit.
    let minutes = if minutes == 0 {
        LONGEST_VALIDITY_MINUTES
    } else {
        minutes
    };
    minutes.clamp(0, LONGEST_VALIDITY_MINUTES) * MINUTE_MS
}

fn check_send_at(text: &str, field: &str, now_ms: i64, wrong: &mut Violations) -> Option<i64> {
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

fn check_window(
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

fn check_tracking(request: TrackingRequest, wrong: &mut Violations) -> Option<Tracking> {
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

/// Puts a stand-in of 25 characters in place of each URL; each message gets its own short URL later.
fn mark_links(text: &str, links: &mut Vec<(String, Arc<str>)>) -> String {
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

fn clip(text: String, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    }
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
    fn destinations_are_e164() {
        assert_eq!(destination_digits("+41793026727"), Ok("41793026727".into()));
        assert_eq!(destination_digits("1234567890123456"), Err(52));
        assert_eq!(destination_digits("4179-3026727"), Err(52));
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

    #[test]
    fn a_window_opens_on_its_days_and_hours() {
        // 2015-02-12 was a Thursday; the window is Monday and Thursday, 9 to 17.
        let window = Window {
            opens_minute: 9 * 60,
            closes_minute: 17 * 60,
            days: 0b0000_1001,
        };
        let at = |text: &str| dates::parse(text).unwrap();
        assert_eq!(
            window.next_open_ms(at("2015-02-12T08:00:00Z")),
            at("2015-02-12T09:00:00Z")
        );
        assert_eq!(
            window.next_open_ms(at("2015-02-12T10:00:00Z")),
            at("2015-02-12T10:00:00Z")
        );
        assert_eq!(
            window.next_open_ms(at("2015-02-12T17:00:00Z")),
            at("2015-02-16T09:00:00Z")
        );
    }
}
