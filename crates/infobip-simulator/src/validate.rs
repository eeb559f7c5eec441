//! Validates send requests by the manual's limits, before anything is stored.
//!
//! There are two kinds of errors (docs/INFOBIP_API.md#sending): an invalid request is refused with one [`ApiError`] (400)
//! that lists every violation; an invalid message gets a status of its own in a 200 response.

mod content;
mod message;
mod notify;
mod schedule;
mod tracking;
mod violations;

use std::sync::Arc;

use self::{
    message::{check_message, truncate},
    violations::Violations,
};
use crate::{
    codes::id,
    config::SimulatorConfig,
    envelope::ApiError,
    request::{
        AdvancedRequest, DestinationRequest, MessageRequest, MultiRequest, OneOrMany,
        SingleRequest, TrackingRequest,
    },
    submission::Submission,
};

pub use self::{
    content::preview_options, notify::lookup_notify, schedule::schedule_ms,
    tracking::SHORT_URL_CHARACTERS,
};

const MAX_BULK_ID_CHARACTERS: usize = 100;
const MAX_MESSAGE_ID_CHARACTERS: usize = 200;
const MAX_DESTINATION_CHARACTERS: usize = 64;

/// Returns the digits of a destination, or the id of the status that rejects it.
pub fn destination_digits(to: &str) -> Result<String, u16> {
    let trimmed = to.trim();
    let digits = trimmed.strip_prefix('+').unwrap_or(trimmed);
    // E.164: at most fifteen digits (manual "SEND SMS").
    if to.len() > MAX_DESTINATION_CHARACTERS
        || !(5..=15).contains(&digits.len())
        || !digits.bytes().all(|byte| byte.is_ascii_digit())
        || digits.starts_with('0')
    {
        return Err(id::INVALID_DESTINATION);
    }
    Ok(digits.to_owned())
}

/// `single`: `from`, `to` (one or many), `text`.
pub fn single(
    request: SingleRequest,
    binary: bool,
    now_ms: i64,
    config: &SimulatorConfig,
) -> Result<Submission, ApiError> {
    let message = to_message_request(request);
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
) -> Result<Submission, ApiError> {
    let messages = request.messages.map(|list| list.0).unwrap_or_default();
    let messages = messages.into_iter().map(to_message_request).collect();
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
) -> Result<Submission, ApiError> {
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

/// A message of `single` or `multi` in the form of `advanced`.
fn to_message_request(request: SingleRequest) -> MessageRequest {
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

/// Validates the messages of a request. `field_path` is the prefix of the field names of one message.
///
/// # Errors
/// All violations of the request.
pub fn send(
    bulk_id: Option<String>,
    messages: Vec<MessageRequest>,
    tracking: Option<TrackingRequest>,
    field_path: &dyn Fn(usize) -> String,
    binary: bool,
    now_ms: i64,
    config: &SimulatorConfig,
) -> Result<Submission, ApiError> {
    let mut violations = Violations::default();
    if messages.is_empty() {
        violations.add("messages".into(), "must not be empty");
    }
    let tracking = tracking
        .and_then(|request| tracking::check_tracking(request, &mut violations))
        .map(Arc::new);
    let messages = messages
        .into_iter()
        .enumerate()
        .map(|(at, message)| {
            check_message(
                message,
                &|field| format!("{}{field}", field_path(at)),
                binary,
                tracking.as_ref(),
                now_ms,
                config,
                &mut violations,
            )
        })
        .collect();
    match violations.0 {
        Some(error) => Err(error),
        None => Ok(Submission {
            bulk_id: bulk_id
                .filter(|id| !id.is_empty())
                .map(|id| truncate(id, MAX_BULK_ID_CHARACTERS)),
            messages,
            tracking,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_e164() {
        assert_eq!(destination_digits("+41793026727"), Ok("41793026727".into()));
        assert_eq!(
            destination_digits("1234567890123456"),
            Err(id::INVALID_DESTINATION)
        );
        assert_eq!(
            destination_digits("4179-3026727"),
            Err(id::INVALID_DESTINATION)
        );
    }
}
