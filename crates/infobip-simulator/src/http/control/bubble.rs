//! A message in a conversation of the page.
//!
//! Invariant: every text is cut to a bound, so that an answer is bounded by its number of rows.
//! Neighbours: `conversation` and `story` send it; `phone_row` has the latest one of a phone.

use serde::Serialize;

use crate::{
    config::SimulatorConfig,
    phones::phone_number,
    push::PushId,
    render::{self, ErrorObject, StatusObject},
    state::{ReceivedMessage, SimulatorState},
    store::{FinalReport, Message, Phase, RowId},
    submission::MessageBody,
    text::{self, Alphabet, TextOptions, Transliteration},
};

/// Characters of a text in a list, and in a conversation.
pub(super) const MAX_LISTED_CHARACTERS: usize = 160;
pub(super) const MAX_CHARACTERS: usize = 10_000;
/// A longer text is counted up to here.
const MAX_COUNTED_CHARACTERS: usize = 100_000;
/// Digits of the octets of a binary content.
pub(super) const MAX_HEX_DIGITS: usize = 20_000;

/// A message in a conversation.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Bubble<'a> {
    Sent(Box<SentBubble<'a>>),
    Received(Box<ReceivedBubble<'a>>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentBubble<'a> {
    direction: &'static str,
    row: RowId,
    message_id: &'a str,
    bulk_id: &'a str,
    sender: &'a str,
    number: &'a str,
    text: Option<&'a str>,
    text_cut: bool,
    characters: usize,
    binary: Option<Binary<'a>>,
    flash: bool,
    encoding: Encoding,
    parts: u32,
    characters_remaining: Option<u32>,
    state: &'static str,
    accepted: bool,
    status: StatusObject,
    error: ErrorObject,
    accepted_at_ms: i64,
    sent_at_ms: i64,
    scheduled_for_ms: Option<i64>,
    done_at_ms: Option<i64>,
    expires_at_ms: Option<i64>,
    handset_deliveries: u32,
    price_per_message: f64,
    currency: &'a str,
    links: Vec<Link<'a>>,
    report: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReceivedBubble<'a> {
    direction: &'static str,
    message_id: &'a str,
    number: &'a str,
    receiver: &'a str,
    text: &'a str,
    text_cut: bool,
    characters: usize,
    clean_text: &'a str,
    keyword: Option<&'a str>,
    binary: Option<Binary<'a>>,
    encoding: Encoding,
    parts: u32,
    state: &'static str,
    received_at_ms: i64,
    report: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Binary<'a> {
    hex: &'a str,
    cut: bool,
    octets: usize,
    data_coding: u8,
    esm_class: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encoding {
    alphabet: &'static str,
    name: &'static str,
    data_coding: u8,
    table: Option<&'static str>,
    transliteration: Option<&'static str>,
}

#[derive(Serialize)]
struct Link<'a> {
    path: &'a str,
    short: String,
    target: &'a str,
    clicks: u64,
    /// Whether the link was evicted.
    gone: bool,
}

pub(super) fn sent_bubble<'a>(
    state: &'a SimulatorState,
    row: RowId,
    message: &'a Message,
    config: &'a SimulatorConfig,
) -> Bubble<'a> {
    let content = &message.content;
    let full_text = render::handset_text(message);
    let text = full_text.map(|text| cut(text, MAX_CHARACTERS));
    let (encoding, characters_remaining) = match (&content.body, text) {
        (MessageBody::Binary { data_coding, .. }, _) => (binary_encoding(*data_coding), None),
        (MessageBody::Text(_), text) => {
            let (shown, _) = text.unwrap_or_default();
            let (encoding, remaining) = text_encoding(shown, &content.text_options);
            (encoding, Some(remaining))
        }
    };
    let scheduled = message.phase == Phase::Scheduled;
    Bubble::Sent(Box::new(SentBubble {
        direction: "out",
        row,
        message_id: &message.id,
        bulk_id: &message.bulk_id,
        sender: cut(&content.from, MAX_CHARACTERS).0,
        number: cut(&message.to, MAX_CHARACTERS).0,
        text: text.map(|(text, _)| text),
        text_cut: text.is_some_and(|(_, is_cut)| is_cut),
        characters: full_text.map_or(0, count),
        binary: match &content.body {
            MessageBody::Binary {
                hex,
                data_coding,
                esm_class,
            } => Some(binary(hex, *data_coding, *esm_class)),
            MessageBody::Text(_) => None,
        },
        flash: content.flash,
        encoding,
        parts: content.parts,
        characters_remaining,
        state: message.state().as_str(),
        accepted: message.accepted,
        status: StatusObject(message.status),
        error: ErrorObject(message.error),
        accepted_at_ms: message.accepted_at_ms,
        sent_at_ms: message.sent_at_ms,
        scheduled_for_ms: scheduled.then_some(message.sent_at_ms),
        done_at_ms: (!scheduled).then_some(message.done_at_ms),
        expires_at_ms: message
            .accepted
            .then(|| message.sent_at_ms.saturating_add(content.validity_ms)),
        handset_deliveries: message.handset_deliveries,
        price_per_message: render::price(message.price_micros, "").amount(),
        currency: &config.currency,
        links: links(state, message),
        report: report_state(state, message),
    }))
}

pub(super) fn received_bubble<'a>(
    state: &'a SimulatorState,
    received: &'a ReceivedMessage,
) -> Bubble<'a> {
    let (text, text_cut) = cut(&received.text, MAX_CHARACTERS);
    let encoding = if received.binary {
        binary_encoding(received.data_coding)
    } else {
        text_encoding(text, &TextOptions::default()).0
    };
    Bubble::Received(Box::new(ReceivedBubble {
        direction: "in",
        message_id: &received.id,
        number: cut(phone_number(&received.from), MAX_CHARACTERS).0,
        receiver: cut(&received.to, MAX_CHARACTERS).0,
        text,
        text_cut,
        characters: count(&received.text),
        clean_text: cut(&received.clean_text, MAX_CHARACTERS).0,
        keyword: received.keyword.as_deref(),
        binary: received
            .binary
            .then(|| binary(&received.hex, received.data_coding, received.esm_class)),
        encoding,
        parts: received.parts,
        state: "received",
        received_at_ms: received.received_at_ms,
        report: inbound_report_state(state, received),
    }))
}

/// What became of the final report of a message.
pub(super) fn report_state(state: &SimulatorState, message: &Message) -> &'static str {
    match message.report {
        FinalReport::None => "none",
        FinalReport::Unread => "waiting",
        FinalReport::Pulled { .. } => "pulled",
        FinalReport::Dropped => "dropped",
        FinalReport::Batched => "pushing",
        FinalReport::Pushed(push) => push_state(state, push),
    }
}

/// What became of a received message on its way to the customer.
pub(super) fn inbound_report_state(
    state: &SimulatorState,
    received: &ReceivedMessage,
) -> &'static str {
    match (received.push, received.unread, received.pulled_at_ms) {
        (Some(push), ..) => push_state(state, push),
        (None, true, _) => "waiting",
        (None, false, Some(_)) => "pulled",
        (None, false, None) => "dropped",
    }
}

fn push_state(state: &SimulatorState, push: PushId) -> &'static str {
    match state.pushes.state_name(push) {
        Some("pending") => "pushing",
        Some("lost") => "lost",
        // The oldest finished pushes are evicted: most of them were delivered.
        _ => "pushed",
    }
}

fn links<'a>(state: &SimulatorState, message: &'a Message) -> Vec<Link<'a>> {
    let Some(shortened) = &message.shortened else {
        return Vec::new();
    };
    let links = shortened.links.iter().map(|(path, target)| {
        let link = state.links.by_path.get(path);
        Link {
            path,
            short: format!("{}{path}", shortened.base),
            target: cut(target, MAX_CHARACTERS).0,
            clicks: link.map_or(0, |link| link.clicks),
            gone: link.is_none(),
        }
    });
    links.collect()
}

fn text_encoding(text: &str, options: &TextOptions) -> (Encoding, u32) {
    // The stored text is transliterated already.
    let encoded = text::encode(
        text,
        &TextOptions {
            transliteration: None,
            ..options.clone()
        },
    );
    let (alphabet, name, data_coding) = match encoded.alphabet {
        Alphabet::Gsm7 => ("gsm7", "GSM-7", 0),
        Alphabet::Ucs2 => ("ucs2", "UCS-2", 8),
    };
    let encoding = Encoding {
        alphabet,
        name,
        data_coding,
        table: encoded.tables,
        transliteration: options.transliteration.map(Transliteration::as_str),
    };
    (encoding, encoded.characters_remaining)
}

fn binary_encoding(data_coding: u8) -> Encoding {
    Encoding {
        alphabet: "binary",
        name: "binary",
        data_coding,
        table: None,
        transliteration: None,
    }
}

fn binary(hex: &str, data_coding: u8, esm_class: u8) -> Binary<'_> {
    Binary {
        hex: &hex[..hex.len().min(MAX_HEX_DIGITS)],
        cut: hex.len() > MAX_HEX_DIGITS,
        octets: hex.len() / 2,
        data_coding,
        esm_class,
    }
}

fn count(text: &str) -> usize {
    text.chars().take(MAX_COUNTED_CHARACTERS).count()
}

/// The first characters of a text, and whether that is not all of it.
pub(super) fn cut(text: &str, characters: usize) -> (&str, bool) {
    match text.char_indices().nth(characters) {
        Some((at, _)) => (&text[..at], true),
        None => (text, false),
    }
}
