//! `GET /_sim/messages/{id}`: everything that happened to one message.
//!
//! Neighbours: `story_request` finds its request in the request log, `bubble` shows its content.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    CONTROL_SERIALIZES,
    bubble::{self, MAX_CHARACTERS, MAX_HEX_DIGITS},
    json_response, story_request,
};
use crate::{
    acceptance,
    codes::id::{NO_ERROR, PENDING_ACCEPTED, PENDING_TIME_VIOLATION, PENDING_WAITING_DELIVERY},
    engine::Engine,
    envelope::ApiError,
    http::{ApiResponse, Query},
    push::PushId,
    render::{self, ErrorObject, StatusObject},
    state::{ReceivedMessage, RecordedClick, SimulatorState},
    store::{FinalReport, Message, Phase, RowId},
    submission::MessageBody,
    text::{self, Alphabet, Segment, TextOptions},
};

/// More parts than a message may have: what is longer was rejected, and only its beginning is shown.
const MAX_SEGMENTS: usize = 50;
const MAX_CLICKS: usize = 100;
/// Rows with one id that are named.
const MAX_ROWS: usize = 50;

pub(super) fn show(engine: &Arc<Engine>, id: &str, query: &Query) -> Result<ApiResponse, ApiError> {
    let wanted_row = query
        .number("row")?
        .map(|row| RowId::try_from(row).unwrap_or(RowId::MAX));
    let (mut story, found_by) = {
        let state = engine.lock();
        let rows = state.messages.with_id(id);
        let row = match wanted_row {
            Some(row) => rows.contains(&row).then_some(row),
            None => rows.last().copied(),
        };
        let message = row.and_then(|row| Some((row, state.messages.get(row)?)));
        match (message, state.inbox.with_message_id(id)) {
            (Some((row, message)), _) => {
                let mut story = sent_story(&state, row, message, engine);
                let first = rows.len().saturating_sub(MAX_ROWS);
                story["rows"] = json!(&rows[first..]);
                (story, Some(message.accepted_at_ms))
            }
            (None, Some(received)) if wanted_row.is_none() => {
                (received_story(&state, received), None)
            }
            _ => return Err(ApiError::not_found("No message with this id is stored")),
        }
    };
    let log = engine.request_log();
    let (request, others) = story_request::find(&log, id, found_by);
    story["request"] = request;
    story["otherRequests"] = others;
    Ok(json_response(&story))
}

fn sent_story(state: &SimulatorState, row: RowId, message: &Message, engine: &Engine) -> Value {
    let config = &engine.config;
    let bubble = bubble::sent_bubble(state, row, message, config);
    let answered = if message.accepted {
        acceptance::answered_status(message, config)
    } else {
        message.status
    };
    let reason = (!message.accepted).then(|| {
        let status = crate::codes::status(message.status);
        status.map_or("A status outside of the manual's table", |status| {
            status.description
        })
    });
    let (way, ready_at_ms, taken_at_ms) = report_times(message);
    json!({
        "message": bubble,
        "validation": {"answered": StatusObject(answered), "reason": reason},
        "segments": segments(row, message),
        "changes": changes(message),
        "report": {
            "way": way,
            "state": bubble::report_state(state, message),
            "readyAtMs": ready_at_ms,
            "takenAtMs": taken_at_ms,
        },
        "pushes": pushes(state, message),
        "clicks": clicks(state, message),
        "logs": logs(state, message, engine),
    })
}

fn received_story(state: &SimulatorState, received: &ReceivedMessage) -> Value {
    let way = if received.push.is_some() {
        "push"
    } else {
        "pull"
    };
    let segments = if received.binary {
        binary_json(text::binary_segments(
            &octets(&received.hex),
            received.data_coding,
            0,
        ))
    } else {
        let (text, _) = bubble::cut(&received.text, MAX_CHARACTERS);
        text_json(text::segments(text, &TextOptions::default(), 0))
    };
    json!({
        "message": bubble::received_bubble(state, received),
        "rows": [],
        "validation": null,
        "segments": segments,
        "changes": [{"atMs": received.received_at_ms, "what": "received", "status": null, "error": null}],
        "report": {
            "way": way,
            "state": bubble::inbound_report_state(state, received),
            "readyAtMs": received.received_at_ms,
            "takenAtMs": received.pulled_at_ms,
        },
        "pushes": with_duplicates(state, received.push.into_iter()),
        "clicks": [],
        "logs": {"row": null, "why": "A message from a phone is in /sms/1/inbox/logs, not in /sms/1/logs"},
    })
}

/// The statuses of a message, and when it had each of them.
fn changes(message: &Message) -> Vec<Value> {
    let change = |at_ms: i64, status: u16, error: u16, what: &str| json!({"atMs": at_ms, "status": StatusObject(status), "error": ErrorObject(error), "what": what});
    if !message.accepted {
        return vec![change(
            message.accepted_at_ms,
            message.status,
            message.error,
            "rejected",
        )];
    }
    let is_final = message.phase == Phase::Final;
    let waits = message.dispatched_at_ms != Some(message.accepted_at_ms);
    let what = if waits && message.sent_at_ms > message.accepted_at_ms {
        "scheduled"
    } else {
        "accepted"
    };
    let mut changes = vec![change(
        message.accepted_at_ms,
        PENDING_ACCEPTED,
        NO_ERROR,
        what,
    )];
    if let Some(at_ms) = message.rare.as_ref().and_then(|rare| rare.held_at_ms) {
        let what = "waits for its delivery window";
        changes.push(change(at_ms, PENDING_TIME_VIOLATION, NO_ERROR, what));
    }
    if let Some(at_ms) = message.dispatched_at_ms {
        changes.push(change(at_ms, PENDING_WAITING_DELIVERY, NO_ERROR, "sent"));
    }
    if let Some((at_ms, error)) = message.rare.as_ref().and_then(|rare| rare.temporary_error) {
        changes.push(change(
            at_ms,
            PENDING_WAITING_DELIVERY,
            error,
            "temporary error",
        ));
    }
    if is_final {
        changes.push(change(
            message.done_at_ms,
            message.status,
            message.error,
            "final",
        ));
    }
    changes
}

/// How the final report leaves, when it was ready, and when it was pulled.
fn report_times(message: &Message) -> (&'static str, Option<i64>, Option<i64>) {
    let way = match (message.accepted, &message.content.notify) {
        (false, _) => "none",
        (true, Some(_)) => "push",
        (true, None) => "pull",
    };
    let ready_at_ms = (message.report != FinalReport::None).then_some(message.done_at_ms);
    let taken_at_ms = match message.report {
        FinalReport::Pulled { at_ms } => Some(at_ms),
        _ => None,
    };
    (way, ready_at_ms, taken_at_ms)
}

fn segments(row: RowId, message: &Message) -> Value {
    // The number that the parts of one message have in common.
    let reference = row.to_le_bytes()[0];
    match (&message.content.body, render::handset_text(message)) {
        (
            MessageBody::Binary {
                hex, data_coding, ..
            },
            _,
        ) => binary_json(text::binary_segments(&octets(hex), *data_coding, reference)),
        (MessageBody::Text(_), text) => {
            let options = TextOptions {
                transliteration: None,
                ..message.content.text_options.clone()
            };
            let (text, _) = bubble::cut(text.unwrap_or_default(), MAX_CHARACTERS);
            text_json(text::segments(text, &options, reference))
        }
    }
}

/// The octets that are shown.
fn octets(hex: &str) -> Vec<u8> {
    hex::decode(&hex[..hex.len().min(MAX_HEX_DIGITS)]).unwrap_or_default()
}

fn text_json((alphabet, segments): (Alphabet, Vec<Segment>)) -> Value {
    let unit = match alphabet {
        Alphabet::Gsm7 => "septets",
        Alphabet::Ucs2 => "UTF-16 units",
    };
    segments_json(segments, "text", unit)
}

fn binary_json(segments: Vec<Segment>) -> Value {
    segments_json(segments, "hex", "octets")
}

fn segments_json(segments: Vec<Segment>, content: &str, unit: &str) -> Value {
    let segments = segments.into_iter().take(MAX_SEGMENTS).enumerate();
    segments
        .map(|(index, segment)| {
            let header = Some(segment.header).filter(|header| !header.is_empty());
            json!({
                "part": index + 1,
                content: segment.content,
                "units": segment.units,
                "unit": unit,
                "header": header,
            })
        })
        .collect()
}

/// The pushes of its reports and its clicks that are still stored, oldest first.
fn pushes(state: &SimulatorState, message: &Message) -> Value {
    let intermediate = message
        .rare
        .as_ref()
        .and_then(|rare| rare.intermediate_push);
    let last = match message.report {
        FinalReport::Pushed(push) => Some(push),
        _ => None,
    };
    let of_clicks = clicks_of(state, message).filter_map(|click| click.push);
    with_duplicates(state, intermediate.into_iter().chain(last).chain(of_clicks))
}

fn with_duplicates(state: &SimulatorState, ids: impl Iterator<Item = PushId>) -> Value {
    let stored = ids.filter_map(|id| state.pushes.get(id));
    let both = stored.flat_map(|push| {
        let duplicate = push.duplicate().and_then(|id| state.pushes.get(id));
        std::iter::once(push).chain(duplicate)
    });
    let pushes: Vec<_> = both.collect();
    serde_json::to_value(pushes).expect(CONTROL_SERIALIZES)
}

/// The latest clicks on its links, latest first.
fn clicks_of<'a>(
    state: &'a SimulatorState,
    message: &'a Message,
) -> impl Iterator<Item = &'a RecordedClick> {
    let links = message.shortened.as_ref().map_or(&[][..], |own| &own.links);
    let clicks = state
        .links
        .clicks
        .iter()
        .rev()
        .filter(move |click| links.iter().any(|(path, _)| *path == click.path));
    let of_links = if links.is_empty() { 0 } else { MAX_CLICKS };
    clicks.take(of_links)
}

/// The latest clicks on its links, oldest first.
fn clicks(state: &SimulatorState, message: &Message) -> Vec<Value> {
    let mut latest: Vec<_> = clicks_of(state, message).collect();
    latest.reverse();
    latest
        .into_iter()
        .map(|recorded| {
            let click = &recorded.click;
            json!({
                "atMs": click.clicked_at.0,
                "path": &*recorded.path,
                "target": click.url,
                "device": click.recipient_info.device_type,
                "os": click.recipient_info.os,
            })
        })
        .collect()
}

/// Its row in `/sms/1/logs` now, or why it has none.
fn logs(state: &SimulatorState, message: &Message, engine: &Engine) -> Value {
    let config = &engine.config;
    let now_ms = state.clock.now_ms();
    let why = if message.in_logs_from_ms > now_ms {
        Some("The fault log_lag hides it from the logs until later".to_owned())
    } else if message.sent_at_ms < now_ms - config.log_retention_ms {
        let hours = config.log_retention_ms / crate::clock::HOUR_MS;
        Some(format!("The logs reach back {hours} hours"))
    } else {
        None
    };
    let row = why.is_none().then(|| {
        let row = render::log_row(message, &config.currency);
        let mut row = serde_json::to_value(row).expect(CONTROL_SERIALIZES);
        for field in ["from", "to", "text"] {
            if let Some(Value::String(text)) = row.get_mut(field) {
                let (shown, is_cut) = bubble::cut(text, MAX_CHARACTERS);
                if is_cut {
                    *text = shown.to_owned();
                }
            }
        }
        row
    });
    json!({"row": row, "why": why})
}
