//! The simulator's data, behind one lock: clock, timers, messages, inbox, pushes, account.
//!
//! Invariant: nothing here awaits. A push that has to be sent is queued in [`State::ready`] and sent by `engine` once the
//! lock is released. Neighbours: [`super::life`] changes messages, `engine` holds the lock.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;

use crate::{
    clock::{Clock, Timers},
    config::{InboundPush, Keyword, SimulatorConfig},
    dates::ApiDate,
    dice::Dice,
    draft::Notify,
    push::{Outbox, Payload, PushId, Pushes},
    store::{MessageStore, Row},
    text::{self, Alphabet, TextOptions},
};

/// An action at a virtual time.
#[derive(Debug)]
pub(crate) enum Timer {
    /// Sends a scheduled message, unless it was rescheduled since the timer was set.
    Dispatch {
        row: Row,
        /// The message's schedule number when the timer was set.
        schedule: u32,
    },
    Intermediate {
        row: Row,
        error: u16,
    },
    End {
        row: Row,
        status: u16,
        error: u16,
    },
    /// Pushes the reports collected for a URL.
    Flush(Notify),
    /// Attempts a push, for the first time or again.
    Push(PushId),
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) timers: Timers<Timer>,
    pub(crate) messages: MessageStore,
    pub(crate) inbox: Inbox,
    /// Reports that wait to be batched.
    pub(crate) outboxes: BTreeMap<Notify, Outbox>,
    pub(crate) pushes: Pushes,
    /// Pushes to try now, each with its virtual time.
    pub(crate) ready: Vec<(PushId, i64)>,
    /// Short links and clicks.
    pub(crate) links: Links,
    /// Credits, tokens and quotas.
    pub(crate) account: Account,
    /// What was sent to each number in the last hour, where the flooding filter is on.
    pub(crate) flooding: HashMap<Box<str>, VecDeque<(i64, u64)>>,
    /// Incremented by each reset. A push that began in another generation is discarded.
    pub(crate) generation: u64,
    /// When the clock loop will wake up: it is notified only for earlier timers.
    pub(crate) wakes_at_ms: i64,
    drawn: u64,
    seed: u64,
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) balance_micros: u64,
    /// Times of the requests to the logs in the last minute.
    pub(crate) log_requests: VecDeque<i64>,
    /// Bearer and IBSSO tokens with their expiry times.
    pub(crate) tokens: HashMap<String, i64>,
    /// Messages whose conversion was confirmed, with the time.
    pub(crate) conversions: VecDeque<(Arc<str>, i64)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) id: Arc<str>,
    pub(crate) from: String,
    /// The receiving number.
    pub(crate) to: String,
    /// Text; for octets a printable form.
    pub(crate) text: String,
    /// Text without the keyword.
    pub(crate) clean_text: String,
    pub(crate) keyword: Option<String>,
    pub(crate) received_at_ms: i64,
    pub(crate) parts: u32,
    pub(crate) hex: String,
    /// GSM data coding scheme.
    pub(crate) data_coding: u8,
    pub(crate) esm_class: u8,
    /// Waits to be pulled.
    pub(crate) unread: bool,
}

/// Received messages, keywords and push settings.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) received: VecDeque<Received>,
    /// Number of unread messages, including those past the retention period.
    pub(crate) unread: usize,
    pub(crate) keywords: Vec<Keyword>,
    /// Where messages are pushed.
    pub(crate) push: Option<InboundPush>,
    most: usize,
}

/// A short link of one message.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) row: Row,
    pub(crate) target: Arc<str>,
}

/// Short links by path, and clicks on them.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) by_path: HashMap<String, Link>,
    /// Paths in order of creation, to remove the oldest.
    pub(crate) order: VecDeque<String>,
    pub(crate) clicks: VecDeque<Arc<Click>>,
}

/// A click, as it is pushed and listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Click {
    pub(crate) notification_type: &'static str,
    /// The number that received the link.
    pub(crate) recipient: String,
    /// Where the link leads.
    pub(crate) url: String,
    /// When the message was sent, milliseconds since 1970.
    pub(crate) send_date_time: i64,
    /// Id of the message.
    pub(crate) message_id: String,
    /// Id of its request.
    pub(crate) bulk_id: String,
    /// The message's callback data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) callback_data: Option<serde_json::Value>,
    /// The device that clicked.
    pub(crate) recipient_info: Device,
    pub(crate) geo_location_info: Place,
    /// When, virtual. Not in the official sample.
    pub(crate) clicked_at: ApiDate,
}

/// What the click's User-Agent says, and the operator by the number.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    /// Phone, Tablet or Desktop.
    pub(crate) device_type: &'static str,
    /// Operating system, with its major version where it is known.
    pub(crate) os: String,
    pub(crate) device_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_prefix: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country_prefix: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_name: Option<&'static str>,
}

/// The country of the number.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country_name: Option<&'static str>,
}

/// An inbound message as `/_sim/inbound` takes it.
#[derive(Debug)]
pub(crate) struct InboundDraft {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) content: InboundContent,
    pub(crate) esm_class: u8,
}

/// Text or octets of an inbound message.
#[derive(Debug)]
pub(crate) enum InboundContent {
    /// Text; characters outside GSM 7-bit make it data coding 8.
    Text(String),
    /// Octets and their data coding.
    Octets(Vec<u8>, u8),
}

impl State {
    /// A fresh account at `start_ms`.
    pub(crate) fn new(config: &SimulatorConfig, start_ms: i64) -> Self {
        Self {
            clock: Clock::new(start_ms, config.speed, config.frozen),
            timers: Timers::default(),
            messages: MessageStore::new(config.bounds),
            inbox: Inbox {
                received: VecDeque::new(),
                unread: 0,
                keywords: config.keywords.clone(),
                push: config.inbound.clone(),
                most: config.bounds.received.max(1),
            },
            outboxes: BTreeMap::new(),
            pushes: Pushes::new(config.bounds.pushes),
            ready: Vec::new(),
            links: Links::default(),
            account: Account {
                balance_micros: config.balance_micros,
                log_requests: VecDeque::new(),
                tokens: HashMap::new(),
                conversions: VecDeque::new(),
            },
            flooding: HashMap::new(),
            generation: 0,
            wakes_at_ms: i64::MAX,
            drawn: 0,
            seed: config.seed,
        }
    }

    /// Dice for the next thing that needs an id.
    pub(crate) fn next_dice(&mut self, kind: &str) -> Dice {
        self.drawn += 1;
        Dice::nth(self.seed, kind, self.drawn)
    }

    /// Counts a request to the logs; false if the minute's quota is used up.
    pub(crate) fn admit_log_request(&mut self, per_minute: usize) -> bool {
        let now_ms = self.clock.now_ms();
        let recent = &mut self.account.log_requests;
        while recent.front().is_some_and(|at| *at + 60_000 <= now_ms) {
            recent.pop_front();
        }
        if per_minute == 0 {
            return true;
        }
        let admitted = recent.len() < per_minute;
        if admitted {
            recent.push_back(now_ms);
        }
        admitted
    }

    /// Receives a message: it is pushed if a push URL is configured, else it stays in the inbox until it is pulled.
    pub(crate) fn receive(&mut self, draft: InboundDraft, at_ms: i64) -> Arc<str> {
        let id: Arc<str> = self.next_dice("received").uuid().into();
        let (text, hex, data_coding, parts) = match draft.content {
            InboundContent::Text(text) => {
                let encoded = text::encode(&text, &TextOptions::default());
                match encoded.alphabet {
                    Alphabet::Gsm7 => (text.clone(), hex::encode(text), 0, encoded.parts),
                    Alphabet::Ucs2 => (
                        text.clone(),
                        hex::encode(utf16_big_endian(&text)),
                        8,
                        encoded.parts,
                    ),
                }
            }
            InboundContent::Octets(octets, data_coding) => {
                let parts = text::binary_parts(octets.len(), data_coding);
                (
                    shown(&octets, data_coding),
                    hex::encode(octets),
                    data_coding,
                    parts,
                )
            }
        };
        let keyword = self.inbox.keyword_of(&draft.to, &text);
        let clean_text = match &keyword {
            Some(word) => text
                .trim_start()
                .get(word.len()..)
                .unwrap_or_default()
                .trim_start()
                .to_owned(),
            None => text.clone(),
        };
        let received = Received {
            id: id.clone(),
            from: draft.from,
            to: draft.to,
            text,
            clean_text,
            keyword,
            received_at_ms: at_ms,
            parts,
            hex,
            data_coding,
            esm_class: draft.esm_class,
            unread: self.inbox.push.is_none(),
        };
        if let Some(push) = self.inbox.push.clone() {
            let payload = match push {
                InboundPush::Get(template) => Payload::InboundGet {
                    template,
                    received: Box::new(received.clone()),
                },
                InboundPush::Post(url) => Payload::InboundPost {
                    url,
                    received: Box::new(received.clone()),
                },
            };
            self.push_at(payload, at_ms);
        }
        self.inbox.add(received);
        id
    }

    /// Opens a push and schedules its first attempt.
    pub(crate) fn push_at(&mut self, payload: Payload, at_ms: i64) {
        let id = self.pushes.open(payload);
        self.timers.set(at_ms, Timer::Push(id));
    }
}

impl Inbox {
    fn add(&mut self, received: Received) {
        self.unread += usize::from(received.unread);
        self.received.push_back(received);
        while self.received.len() > self.most {
            if let Some(gone) = self.received.pop_front() {
                self.unread -= usize::from(gone.unread);
            }
        }
    }

    /// The keyword of this number with which the text begins, as written in the text.
    fn keyword_of(&self, to: &str, text: &str) -> Option<String> {
        let first = text.split_whitespace().next()?;
        self.keywords
            .iter()
            .find(|keyword| keyword.to == to && keyword.word.eq_ignore_ascii_case(first))
            .map(|_| first.to_owned())
    }

    /// Takes up to `limit` unread messages not older than `oldest_ms`, and counts the rest. Each message is returned once.
    pub(crate) fn take_unread(&mut self, oldest_ms: i64, limit: usize) -> (Vec<Received>, usize) {
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
                taken.push(received.clone());
            } else {
                pending += 1;
            }
        }
        (taken, pending)
    }
}

fn utf16_big_endian(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A printable form of octets: UCS-2 for data coding 8, else the octets that are ASCII.
fn shown(octets: &[u8], data_coding: u8) -> String {
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
