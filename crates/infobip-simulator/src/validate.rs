//! Validates send requests by the manual's limits, before anything is stored.
//!
//! There are two kinds of errors (docs/INFOBIP_API.md#sending): an invalid request is refused with one [`ApiError`] (400)
//! that lists every violation; an invalid message gets a status of its own in a 200 response.

mod content;
mod notify;
mod schedule;
mod tracking;
mod violations;

use std::sync::Arc;

use self::violations::Violations;
use crate::{
    config::SimulatorConfig,
    draft::{Body, Content, DestinationDraft, MessageDraft, SendDraft, Tracking},
    envelope::ApiError,
    request::{
        AdvancedRequest, DestinationRequest, MessageRequest, MultiRequest, OneOrMany,
        SingleRequest, TrackingRequest,
    },
    text,
};

pub use self::{
    content::preview_options, notify::lookup_notify, schedule::schedule_ms,
    tracking::SHORT_URL_CHARACTERS,
};

/// More parts than this are REJECTED_MESSAGE_TOO_LONG (docs/INFOBIP_API.md#limits).
const MOST_PARTS: u32 = 25;
const BULK_ID_CHARACTERS: usize = 100;
const MESSAGE_ID_CHARACTERS: usize = 200;
const DESTINATION_CHARACTERS: usize = 64;

/// Returns the digits of a destination, or the id of the status that rejects it.
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

/// `multi`: several messages as in `single`.
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

/// `advanced`: messages with all features.
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
        .map(|to| DestinationRequest {
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

/// Returns the messages of a request, or all of its violations.
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
        .and_then(|request| tracking::check_tracking(request, &mut wrong))
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
        content::check_binary(request.binary.as_ref(), path, wrong)
    } else {
        let options = content::check_text_options(
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
            tracking::mark_links(&text, &mut links)
        } else {
            text
        };
        let encoded = text::encode(&text, &options);
        (Body::Text(encoded.text.into()), encoded.parts)
    };
    let refusal = if !content::sender_is_valid(&from) {
        Some(11)
    } else if parts > MOST_PARTS {
        Some(25)
    } else if matches!(body, Body::Binary { ref hex, esm_class, .. } if !content::header_is_valid(hex, esm_class))
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
    let notify = notify::check_notify(
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
            callback_data: notify::check_callback(request.callback_data, path, wrong),
            validity_ms: schedule::check_validity(
                request.validity_period.map(|minutes| minutes.0),
                path,
                wrong,
            ),
            window: request
                .delivery_time_window
                .as_ref()
                .and_then(|window| schedule::check_window(window, path, wrong)),
            links,
            tracking: tracking.cloned(),
        }),
        refusal,
        send_at_ms: request
            .send_at
            .and_then(|at| schedule::check_send_at(&at.0, &path("sendAt"), now_ms, wrong)),
        destinations,
    }
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
    fn destinations_are_e164() {
        assert_eq!(destination_digits("+41793026727"), Ok("41793026727".into()));
        assert_eq!(destination_digits("1234567890123456"), Err(52));
        assert_eq!(destination_digits("4179-3026727"), Err(52));
    }
}
