//! Validates one message of a send request.
//!
//! Neighbours: the other files of `validate` check single fields.

use std::sync::Arc;

use super::{
    MAX_MESSAGE_ID_CHARACTERS, content, notify, schedule, tracking, violations::Violations,
};
use crate::{
    codes::id,
    config::SimulatorConfig,
    request::MessageRequest,
    submission::{MessageBody, MessageContent, SubmissionDestination, SubmissionMessage, Tracking},
    text::{self, TextOptions},
};

/// More parts than this are REJECTED_MESSAGE_TOO_LONG (docs/INFOBIP_API.md#limits).
const MAX_PARTS: u32 = 25;

/// Validates one message. A violation that makes the whole request invalid is added to `violations`.
pub(super) fn check_message(
    request: MessageRequest,
    field_path: &dyn Fn(&str) -> String,
    binary: bool,
    tracking: Option<&Arc<Tracking>>,
    now_ms: i64,
    config: &SimulatorConfig,
    violations: &mut Violations,
) -> SubmissionMessage {
    let from = request
        .from
        .map(|from| from.0)
        .filter(|from| !from.is_empty())
        .unwrap_or_else(|| config.default_sender.clone());
    let mut links = Vec::new();
    let mut text_options = TextOptions::default();
    let (body, parts) = if binary {
        content::check_binary(request.binary.as_ref(), field_path, violations)
    } else {
        let options = content::check_text_options(
            request.language.as_ref(),
            request.transliteration.as_ref(),
            field_path,
            violations,
        );
        let text = request.text.map(|text| text.0).unwrap_or_default();
        if text.is_empty() {
            violations.add(field_path("text"), "must not be empty");
        }
        let text = if tracking.is_some_and(|tracking| tracking.urls) {
            tracking::insert_placeholders(&text, &mut links)
        } else {
            text
        };
        let encoded = text::encode(&text, &options);
        text_options = options;
        (MessageBody::Text(encoded.text.into()), encoded.parts)
    };
    let rejection = if !content::sender_is_valid(&from) {
        Some(id::REJECTED_SOURCE)
    } else if parts > MAX_PARTS {
        Some(id::REJECTED_MESSAGE_TOO_LONG)
    } else if matches!(body, MessageBody::Binary { ref hex, esm_class, .. } if !content::header_is_valid(hex, esm_class))
    {
        Some(id::REJECTED_INVALID_UDH)
    } else {
        None
    };
    let destinations = request
        .destinations
        .map(|list| list.0)
        .unwrap_or_default()
        .into_iter()
        .map(|destination| SubmissionDestination {
            to: destination.to.map(|to| to.0).unwrap_or_default(),
            message_id: destination
                .message_id
                .map(|id| truncate(id.0, MAX_MESSAGE_ID_CHARACTERS))
                .filter(|id| !id.is_empty()),
        })
        .collect::<Vec<_>>();
    // A message without destinations is treated like one with an empty destination: MISSING_TO, no ids.
    let destinations = if destinations.is_empty() {
        vec![SubmissionDestination {
            to: String::new(),
            message_id: None,
        }]
    } else {
        destinations
    };
    let notify = notify::check_notify(
        request.notify_url,
        request.notify_content_type.as_ref(),
        field_path,
        violations,
    );
    SubmissionMessage {
        content: Arc::new(MessageContent {
            from,
            body,
            text_options,
            parts,
            flash: request.flash.is_some_and(|flag| flag.0),
            intermediate_report: request.intermediate_report.is_some_and(|flag| flag.0),
            notify: notify.filter(|_| request.notify.is_none_or(|flag| flag.0)),
            callback_data: notify::check_callback(request.callback_data, field_path, violations),
            validity_ms: schedule::check_validity(
                request.validity_period.map(|minutes| minutes.0),
                field_path,
                violations,
            ),
            window: request
                .delivery_time_window
                .as_ref()
                .and_then(|window| schedule::check_window(window, field_path, violations)),
            links,
            tracking: tracking.cloned(),
        }),
        rejection,
        send_at_ms: request.send_at.and_then(|at| {
            schedule::check_send_at(&at.0, &field_path("sendAt"), now_ms, violations)
        }),
        destinations,
    }
}

/// The first characters of a text.
pub(super) fn truncate(text: String, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    }
}
