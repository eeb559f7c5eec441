//! A row of the list of phones: a number with its latest message.
//!
//! Invariant: every text is cut to a bound, so that an answer is bounded by its number of rows.
//! Neighbours: `phones`, `conversation` and `search` send it; `bubble` has the messages of a conversation.

use std::borrow::Cow;

use serde::Serialize;

use super::bubble::{MAX_LISTED_CHARACTERS, cut};
use crate::{
    networks,
    outcome::{self, SpecialNumber},
    phones::Phone,
    render,
    state::{ReceivedMessage, SimulatorState},
    store::{Message, RowId, StateCounts},
    submission::MessageBody,
};

/// A phone in the list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PhoneRow<'a> {
    number: &'a str,
    activity: u64,
    last_at_ms: Option<i64>,
    last: Option<LastMessage<'a>>,
    sent: u32,
    received: u32,
    states: StateCounts,
    country: Option<&'static str>,
    network: Option<&'static str>,
    outcome: Option<String>,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub(super) matched: Option<Match<'a>>,
}

/// The latest message of a phone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LastMessage<'a> {
    direction: &'static str,
    message_id: &'a str,
    sender: &'a str,
    text: Option<&'a str>,
    text_cut: bool,
    binary: bool,
    flash: bool,
    state: &'static str,
}

/// Why a phone was found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Match<'a> {
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) row: Option<RowId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<Cow<'a, str>>,
}

/// The latest of the messages of a phone in both directions.
enum Latest<'a> {
    Sent(&'a Message),
    Received(&'a ReceivedMessage),
}

fn latest<'a>(state: &'a SimulatorState, phone: &Phone) -> Option<Latest<'a>> {
    let sent = phone
        .last_sent
        .and_then(|row| Some((row, state.messages.get(row)?)));
    let received = phone.last_received.and_then(|id| state.inbox.get(id));
    match (sent, received) {
        (Some((row, _)), Some(received)) if received.next_row > row => {
            Some(Latest::Received(received))
        }
        (Some((_, message)), _) => Some(Latest::Sent(message)),
        (None, received) => received.map(Latest::Received),
    }
}

pub(super) fn phone_row<'a>(state: &'a SimulatorState, phone: &'a Phone) -> PhoneRow<'a> {
    let latest = latest(state, phone);
    let network = networks::of_number(&phone.number);
    PhoneRow {
        number: &phone.number,
        activity: phone.activity,
        last_at_ms: latest.as_ref().map(|latest| match latest {
            Latest::Sent(message) => message.accepted_at_ms,
            Latest::Received(received) => received.received_at_ms,
        }),
        last: latest.map(|latest| match latest {
            Latest::Sent(message) => {
                let text =
                    render::handset_text(message).map(|text| cut(text, MAX_LISTED_CHARACTERS));
                LastMessage {
                    direction: "out",
                    message_id: &message.id,
                    sender: cut(&message.content.from, MAX_LISTED_CHARACTERS).0,
                    text: text.map(|(text, _)| text),
                    text_cut: text.is_some_and(|(_, is_cut)| is_cut),
                    binary: matches!(message.content.body, MessageBody::Binary { .. }),
                    flash: message.content.flash,
                    state: message.state().as_str(),
                }
            }
            Latest::Received(received) => {
                let (text, text_cut) = cut(&received.text, MAX_LISTED_CHARACTERS);
                LastMessage {
                    direction: "in",
                    message_id: &received.id,
                    sender: cut(&received.to, MAX_LISTED_CHARACTERS).0,
                    text: (!received.binary).then_some(text),
                    text_cut,
                    binary: received.binary,
                    flash: false,
                    state: "received",
                }
            }
        }),
        sent: phone.sent,
        received: phone.received,
        states: phone.states,
        country: network.map(|network| network.country_name),
        network: network.map(|network| network.network_name),
        outcome: outcome_of(&phone.number),
        matched: None,
    }
}

/// What a special number does, in words.
fn outcome_of(number: &str) -> Option<String> {
    let name = |error: u16| crate::codes::error(error).map_or("an unknown error", |row| row.name);
    Some(match outcome::special_number(number)? {
        SpecialNumber::Status(status) => {
            let row = crate::codes::status(status);
            format!(
                "A message is answered with {}",
                row.map_or("an unknown status", |row| row.name)
            )
        }
        SpecialNumber::FinalError(error) => format!("A message ends with {}", name(error)),
        SpecialNumber::IntermediateError(error) => {
            format!("A message has {}, then it is delivered", name(error))
        }
        SpecialNumber::DelayMinutes(minutes) => {
            format!("A message is delivered after {minutes} minutes")
        }
        SpecialNumber::NeverFinal => {
            "A message is never delivered; it expires at the end of its validity".to_owned()
        }
    })
}
