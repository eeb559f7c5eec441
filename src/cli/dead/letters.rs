//! How `smsbridge dead` presents letters: as rows of a table, or one with its body.
//!
//! Neighbours: `dead` prints them, `cli::with_body` shows fields and body.

use crate::{
    cli::{output::Column, time::show, with_body},
    proto::v1::{DeadLetter, DeadLetterCause},
};

pub(super) const COLUMNS: &[Column] = &[
    Column::new("TIME").left_out(4),
    Column::new("ID"),
    Column::new("CAUSE").left_out(6),
    Column::new("APPLICATION").left_out(2),
    Column::new("ROUTING KEY").left_out(3),
    Column::new("REQUEST ID").left_out(5),
    Column::new("BYTES").left_out(1),
    Column::new("REASON"),
    Column::text("DETAIL"),
];

fn cause(letter: &DeadLetter) -> &'static str {
    match letter.cause() {
        DeadLetterCause::Caller => "caller",
        DeadLetterCause::GivenUp => "given_up",
        DeadLetterCause::Unspecified => "",
    }
}

pub(super) fn row(letter: &DeadLetter) -> Vec<String> {
    vec![
        show(letter.time.as_ref()),
        letter.id.clone(),
        cause(letter).to_owned(),
        letter.application.clone(),
        letter.routing_key.clone(),
        letter.request_id.clone(),
        letter.body_bytes.to_string(),
        letter.reason.clone(),
        letter.detail.clone(),
    ]
}

/// All fields and the body.
pub(super) fn shown(letter: &DeadLetter) -> String {
    let fields = [
        ("id", letter.id.clone()),
        ("time", show(letter.time.as_ref())),
        ("cause", cause(letter).to_owned()),
        ("reason", letter.reason.clone()),
        ("detail", letter.detail.clone()),
        ("application", letter.application.clone()),
        ("routing key", letter.routing_key.clone()),
        ("request id", letter.request_id.clone()),
        ("message ids", letter.message_ids.join(", ")),
        ("first seen", show(letter.first_seen.as_ref())),
        ("retries", letter.retries.to_string()),
        ("refusals", letter.refusals.to_string()),
        (
            "may be sent",
            if letter.may_be_sent { "yes" } else { "no" }.to_owned(),
        ),
        ("replayed from", letter.replayed_from.clone()),
        ("command type", letter.command_type.clone()),
        ("content type", letter.content_type.clone()),
    ];
    let said: Vec<_> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    with_body::show(&said, &letter.body)
}
