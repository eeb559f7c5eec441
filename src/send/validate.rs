//! Validates requests before anything is sent. Finds all mistakes at once, each with the path of its field.
//!
//! Only what cannot be a number or a message at all is refused. Unusual numbers, unknown languages and transliterations are
//! passed on, because Infobip decides (docs/INFOBIP_API.md#sending).
//! Neighbours: `plan` calls it; `request` checks what is not in a message, `times` the times; `infobip::limits` has the API's limits.

mod request;
mod times;

use std::{collections::HashSet, fmt::Display};

use jiff::Timestamp;

pub use self::request::check_request;
pub(super) use self::request::{MAX_DESTINATIONS_OF_CALL, count_results};
use self::times::{check_times, check_window, is_past};
use super::request::RequestForm;
use crate::{
    infobip::limits::{MAX_BINARY_BYTES, MAX_CALLBACK_DATA_CHARACTERS, MAX_TEXT_CHARACTERS},
    message::{
        MAX_NOTIFY_URL_CHARACTERS,
        address::{check_sender, normalize_number},
        id::check_caller_id,
    },
    proto::v1::{self, FieldViolation, outbound_message::Content},
};

/// Collects mistakes. Field paths are formatted only if there is one.
#[derive(Default)]
struct Violations {
    /// The form of the request and the index of the message that the fields belong to; `None` for fields of the request.
    message: Option<(RequestForm, usize)>,
    found: Vec<FieldViolation>,
}

impl Violations {
    fn add(&mut self, field: impl Display, description: impl ToString) {
        let field = match self.message {
            None => field.to_string(),
            Some((form, index)) => form.message_field(index, field),
        };
        self.found.push(FieldViolation {
            field,
            description: description.to_string(),
        });
    }
}

/// The mistakes of a message. `index` is its position in the request; `seen_ids` has the message ids of the request so far.
pub(super) fn check_message(
    message: &v1::OutboundMessage,
    form: RequestForm,
    index: usize,
    seen_ids: &mut HashSet<String>,
    now: Timestamp,
) -> Vec<FieldViolation> {
    let mut violations = Violations {
        message: Some((form, index)),
        ..Violations::default()
    };
    if !message.from.is_empty()
        && let Err(error) = check_sender(&message.from)
    {
        violations.add("from", error);
    }
    check_destinations(&mut violations, message, seen_ids);
    check_content(&mut violations, message);
    check_names(&mut violations, message);
    check_notification(&mut violations, message);
    check_times(&mut violations, message, now);
    check_window(&mut violations, message);
    violations.found
}

/// The mistake of a message whose `send_at` has passed. It is none of a message that was sent before that.
pub(super) fn check_past(
    message: &v1::OutboundMessage,
    form: RequestForm,
    index: usize,
    now: Timestamp,
) -> Option<FieldViolation> {
    is_past(message, now).then(|| FieldViolation {
        field: form.message_field(index, "send_at"),
        description: "is in the past".into(),
    })
}

fn check_destinations(
    violations: &mut Violations,
    message: &v1::OutboundMessage,
    seen_ids: &mut HashSet<String>,
) {
    if message.destinations.is_empty() {
        violations.add("destinations", "is empty: give at least one destination");
    }
    for (index, destination) in message.destinations.iter().enumerate() {
        if let Err(error) = normalize_number(&destination.to) {
            violations.add(format_args!("destinations[{index}].to"), error);
        }
        if destination.message_id.is_empty() {
            continue;
        }
        let field = format_args!("destinations[{index}].message_id");
        if let Err(error) = check_caller_id(&destination.message_id) {
            violations.add(field, error);
        } else if !seen_ids.insert(destination.message_id.clone()) {
            violations.add(
                field,
                "is used twice in this request; message ids must be unique",
            );
        }
    }
}

fn check_content(violations: &mut Violations, message: &v1::OutboundMessage) {
    match &message.content {
        None => violations.add("text", "is missing: give a text or binary content"),
        Some(Content::Text(text)) if text.is_empty() => {
            violations.add("text", "is empty: give at least one character");
        }
        Some(Content::Text(text)) => {
            check_length(violations, "text", text, MAX_TEXT_CHARACTERS);
        }
        Some(Content::Binary(binary)) => {
            if !(1..=MAX_BINARY_BYTES).contains(&binary.data.len()) {
                violations.add(
                    "binary.data",
                    format!(
                        "has {} octets: must have 1 to {MAX_BINARY_BYTES}",
                        binary.data.len()
                    ),
                );
            }
            for (field, value) in [
                ("data_coding", binary.data_coding),
                ("esm_class", binary.esm_class),
            ] {
                if !(0..=255).contains(&value) {
                    violations.add(
                        format_args!("binary.{field}"),
                        format!("is {value}: must be 0 to 255"),
                    );
                }
            }
        }
    }
}

/// Values that the API defines and may extend: only their form is checked.
fn check_names(violations: &mut Violations, message: &v1::OutboundMessage) {
    if let Some(language) = &message.language {
        check_name(
            violations,
            "language.language_code",
            &language.language_code,
            "TR, ES or PT",
        );
        if language.language_code.is_empty() {
            violations.add(
                "language.language_code",
                "is empty: must be a code such as TR, ES or PT",
            );
        }
    }
    check_name(
        violations,
        "transliteration",
        &message.transliteration,
        "TURKISH, GREEK, CYRILLIC, CENTRAL_EUROPEAN or NON_UNICODE",
    );
    check_length(violations, "campaign_id", &message.campaign_id, 255);
    check_length(
        violations,
        "operator_client_id",
        &message.operator_client_id,
        255,
    );
    if let Some(india) = message
        .regional
        .as_ref()
        .and_then(|regional| regional.india_dlt.as_ref())
        && india.principal_entity_id.is_empty()
    {
        violations.add(
            "regional.india_dlt.principal_entity_id",
            "is empty: India's DLT registry requires it",
        );
    }
    if v1::Priority::try_from(message.priority).is_err() {
        violations.add("priority", "is not a known priority");
    }
}

fn check_name(violations: &mut Violations, field: &str, value: &str, known: &str) {
    let fits = value.len() <= 32
        && value
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b == b'_' || b == b'-');
    if !fits {
        violations.add(
            field,
            format!("is not a name in capital letters, such as {known}"),
        );
    }
}

fn check_notification(violations: &mut Violations, message: &v1::OutboundMessage) {
    let url = &message.notify_url;
    if !url.is_empty() {
        let field = "notify_url";
        if !(url.starts_with("http://") || url.starts_with("https://"))
            || url.contains(char::is_whitespace)
        {
            violations.add(field, "is not an http or https address");
        }
        check_length(violations, field, url, MAX_NOTIFY_URL_CHARACTERS);
    }
    if !matches!(
        message.notify_content_type.as_str(),
        "" | "application/json" | "application/xml"
    ) {
        violations.add(
            "notify_content_type",
            "must be application/json or application/xml",
        );
    }
    check_length(
        violations,
        "callback_data",
        &message.callback_data,
        MAX_CALLBACK_DATA_CHARACTERS,
    );
}

fn check_length(violations: &mut Violations, field: &str, value: &str, max: usize) {
    // A text never has more characters than bytes, so most values need no counting.
    if value.len() > max && value.chars().count() > max {
        violations.add(field, format!("has more than {max} characters"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::OutboundMessage {
        v1::OutboundMessage {
            from: "InfoSMS".into(),
            destinations: vec![v1::Destination {
                to: "+41793026727".into(),
                message_id: String::new(),
            }],
            content: Some(Content::Text("Hello".into())),
            ..Default::default()
        }
    }

    fn fields(message: &v1::OutboundMessage) -> Vec<String> {
        let now = Timestamp::now();
        check_message(message, RequestForm::Bulk, 0, &mut HashSet::new(), now)
            .into_iter()
            .chain(check_past(message, RequestForm::Bulk, 0, now))
            .map(|v| v.field)
            .collect()
    }

    #[test]
    fn a_valid_message_has_no_violations() {
        assert_eq!(fields(&message()), Vec::<String>::new());
    }

    #[test]
    fn all_violations_are_reported_at_once() {
        let wrong = v1::OutboundMessage {
            from: "ab".into(),
            destinations: vec![
                v1::Destination {
                    to: "nobody".into(),
                    message_id: "a~b".into(),
                },
                v1::Destination {
                    to: "1".into(),
                    message_id: "same".into(),
                },
                v1::Destination {
                    to: "2".into(),
                    message_id: "same".into(),
                },
            ],
            content: Some(Content::Binary(v1::BinaryContent {
                data_coding: 256,
                ..Default::default()
            })),
            language: Some(Box::new(v1::Language::default())),
            transliteration: "greek!".into(),
            notify_url: "ftp://x".into(),
            notify_content_type: "text/plain".into(),
            callback_data: "x".repeat(4001),
            validity_period: Some(pbjson_types::Duration {
                seconds: 90,
                nanos: 0,
            }),
            send_at: Some(crate::proto::Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            delivery_time_window: Some(Box::new(v1::DeliveryTimeWindow {
                days: vec![0],
                from: Some(v1::TimeOfDay {
                    hour: 10,
                    minute: 0,
                }),
                to: Some(v1::TimeOfDay {
                    hour: 10,
                    minute: 59,
                }),
            })),
            expires_at: Some(crate::proto::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            }),
            ..Default::default()
        };
        assert_eq!(
            fields(&wrong),
            [
                "messages[0].from",
                "messages[0].destinations[0].to",
                "messages[0].destinations[0].message_id",
                "messages[0].destinations[2].message_id",
                "messages[0].binary.data",
                "messages[0].binary.data_coding",
                "messages[0].language.language_code",
                "messages[0].transliteration",
                "messages[0].notify_url",
                "messages[0].notify_content_type",
                "messages[0].callback_data",
                "messages[0].validity_period",
                "messages[0].expires_at",
                "messages[0].delivery_time_window.days[0]",
                "messages[0].delivery_time_window",
                "messages[0].send_at",
            ]
        );
    }

    #[test]
    fn unknown_languages_and_transliterations_are_passed_on() {
        let open = v1::OutboundMessage {
            language: Some(Box::new(v1::Language {
                language_code: "KLINGON".into(),
                ..Default::default()
            })),
            transliteration: "ALL".into(),
            ..message()
        };
        assert_eq!(fields(&open), Vec::<String>::new());
    }
}
