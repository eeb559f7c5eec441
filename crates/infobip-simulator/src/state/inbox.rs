//! The inbox: messages that phones sent, keywords of numbers, and where messages are pushed.
//!
//! Invariants: the inbox is bounded; `unread` counts the messages that wait to be pulled.
//! Neighbours: `http::inbox` reads it, `push` pushes messages.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::SimulatorState;
use crate::{
    config::{InboundPush, Keyword, SimulatorConfig},
    phones::{PhoneId, Phones, ReceivedId},
    push::{PushContent, PushId},
    store::RowId,
    text::{self, Alphabet, TextOptions},
};

/// A mobile-originated message: one that a phone sends.
#[derive(Debug)]
pub(crate) struct MoMessage {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) content: MoContent,
    pub(crate) esm_class: u8,
}

/// Text or octets of a mobile-originated message.
#[derive(Debug)]
pub(crate) enum MoContent {
    /// Text; characters outside GSM 7-bit make it data coding 8.
    Text(String),
    /// Octets and their data coding.
    Octets(Vec<u8>, u8),
}

/// A received message, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReceivedMessage {
    pub(crate) id: Arc<str>,
    pub(crate) from: String,
    /// The receiving number.
    pub(crate) to: String,
    /// The text; for octets a printable form.
    pub(crate) text: String,
    /// The text without the keyword.
    pub(crate) clean_text: String,
    pub(crate) keyword: Option<String>,
    pub(crate) received_at_ms: i64,
    pub(crate) parts: u32,
    /// The octets in hexadecimal.
    pub(crate) hex: String,
    /// GSM data coding scheme.
    pub(crate) data_coding: u8,
    pub(crate) esm_class: u8,
    /// Whether it was given as octets.
    pub(crate) binary: bool,
    /// Whether it waits to be pulled.
    pub(crate) unread: bool,
    pub(crate) pulled_at_ms: Option<i64>,
    /// The push that it is in.
    pub(crate) push: Option<PushId>,
    /// The phone that sent it.
    pub(crate) phone: Option<PhoneId>,
    /// The message before it from the same phone.
    pub(crate) older_of_phone: Option<ReceivedId>,
    /// The first row of the message store that came after it.
    pub(crate) next_row: RowId,
}

/// Received messages, keywords and push settings.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) received: VecDeque<ReceivedMessage>,
    /// The id of the first of them.
    first_id: ReceivedId,
    by_message_id: HashMap<Arc<str>, ReceivedId>,
    /// Number of unread messages, including those past the retention period.
    pub(crate) unread: usize,
    pub(crate) keywords: Vec<Keyword>,
    /// Where received messages are pushed; `None`: they are pulled.
    pub(crate) push: Option<InboundPush>,
    capacity: usize,
}

impl SimulatorState {
    /// Receives a message: it is pushed if a push URL is configured, else it stays in the inbox until it is pulled.
    pub(crate) fn receive(&mut self, message: MoMessage, at_ms: i64) -> Arc<str> {
        let id: Arc<str> = self.next_random("received").uuid().into();
        let binary = matches!(message.content, MoContent::Octets(..));
        let (text, hex, data_coding, parts) = match message.content {
            MoContent::Text(text) => {
                let encoded = text::encode(&text, &TextOptions::default());
                match encoded.alphabet {
                    Alphabet::Gsm7 => (text.clone(), hex::encode(text), 0, encoded.parts),
                    Alphabet::Ucs2 => (
                        text.clone(),
                        hex::encode(to_utf16_be(&text)),
                        8,
                        encoded.parts,
                    ),
                }
            }
            MoContent::Octets(octets, data_coding) => {
                let parts = text::binary_parts(octets.len(), data_coding);
                (
                    printable_text(&octets, data_coding),
                    hex::encode(octets),
                    data_coding,
                    parts,
                )
            }
        };
        let keyword = self.inbox.keyword_of(&message.to, &text);
        let clean_text = match &keyword {
            Some(word) => text
                .trim_start()
                .strip_prefix(word.as_str())
                .expect("the keyword is the first word of the text")
                .trim_start()
                .to_owned(),
            None => text.clone(),
        };
        let mut received = ReceivedMessage {
            id: id.clone(),
            from: message.from,
            to: message.to,
            text,
            clean_text,
            keyword,
            received_at_ms: at_ms,
            parts,
            hex,
            data_coding,
            esm_class: message.esm_class,
            binary,
            unread: self.inbox.push.is_none(),
            pulled_at_ms: None,
            push: None,
            phone: None,
            older_of_phone: None,
            next_row: self.messages.rows().end,
        };
        let added = self
            .phones
            .add_received(&received.from, self.inbox.next_id());
        if let Some((phone, older)) = added {
            (received.phone, received.older_of_phone) = (Some(phone), older);
        }
        if let Some(push) = self.inbox.push.clone() {
            let content = match push {
                InboundPush::Get(template) => PushContent::InboundGet {
                    template,
                    received: Box::new(received.clone()),
                },
                InboundPush::Post(url) => PushContent::InboundPost {
                    url,
                    received: Box::new(received.clone()),
                },
            };
            received.push = Some(self.schedule_push(content, at_ms));
        }
        self.changes.phone(&mut self.phones, received.phone);
        self.inbox.add(received, &mut self.phones);
        id
    }
}

impl Inbox {
    pub(super) fn new(config: &SimulatorConfig) -> Self {
        Self {
            received: VecDeque::new(),
            first_id: 0,
            by_message_id: HashMap::new(),
            unread: 0,
            keywords: config.keywords.clone(),
            push: config.inbound.clone(),
            capacity: config.bounds.received.max(1),
        }
    }

    /// Adds a message and removes the oldest beyond the capacity.
    fn add(&mut self, received: ReceivedMessage, phones: &mut Phones) {
        self.unread += usize::from(received.unread);
        self.by_message_id
            .insert(received.id.clone(), self.next_id());
        self.received.push_back(received);
        while self.received.len() > self.capacity {
            if let Some(removed) = self.received.pop_front() {
                self.unread -= usize::from(removed.unread);
                self.first_id += 1;
                self.by_message_id.remove(&removed.id);
                if let Some(phone) = removed.phone {
                    phones.evict_received(phone);
                }
            }
        }
    }

    /// The id of the next received message.
    pub(crate) fn next_id(&self) -> ReceivedId {
        self.first_id + self.received.len() as u64
    }

    /// A received message, if it is still stored.
    pub(crate) fn get(&self, id: ReceivedId) -> Option<&ReceivedMessage> {
        self.received
            .get(usize::try_from(id.checked_sub(self.first_id)?).ok()?)
    }

    pub(crate) fn with_message_id(&self, message_id: &str) -> Option<&ReceivedMessage> {
        self.get(*self.by_message_id.get(message_id)?)
    }

    /// The keyword of this number with which the text begins, as written in the text.
    fn keyword_of(&self, to: &str, text: &str) -> Option<String> {
        let first_word = text.split_whitespace().next()?;
        self.keywords
            .iter()
            .find(|keyword| keyword.to == to && keyword.word.eq_ignore_ascii_case(first_word))
            .map(|_| first_word.to_owned())
    }

    /// Takes up to `limit` unread messages not older than `oldest_ms`, and counts the remaining ones. Each message is
    /// returned once.
    pub(crate) fn take_unread(
        &mut self,
        oldest_ms: i64,
        now_ms: i64,
        limit: usize,
    ) -> (Vec<ReceivedMessage>, usize) {
        let mut taken = Vec::new();
        let mut pending = 0;
        if self.unread == 0 {
            return (taken, pending);
        }
        for received in self.received.iter_mut().filter(|received| received.unread) {
            if received.received_at_ms < oldest_ms {
                received.unread = false;
                self.unread -= 1;
            } else if taken.len() < limit {
                received.unread = false;
                self.unread -= 1;
                received.pulled_at_ms = Some(now_ms);
                taken.push(received.clone());
            } else {
                pending += 1;
            }
        }
        (taken, pending)
    }
}

fn to_utf16_be(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A printable form of octets: UCS-2 for data coding 8, else ASCII with a point for any other octet.
fn printable_text(octets: &[u8], data_coding: u8) -> String {
    if data_coding & 0x0c == 0x08 {
        let units: Vec<u16> = octets
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        return String::from_utf16_lossy(&units);
    }
    octets
        .iter()
        .map(|byte| {
            if byte.is_ascii_graphic() || *byte == b' ' {
                char::from(*byte)
            } else {
                '.'
            }
        })
        .collect()
}
