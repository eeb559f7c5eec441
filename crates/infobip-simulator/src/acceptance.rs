//! Accepts or rejects each message of a send request. Accepted messages get an id, a price and a row in the store;
//! rejected ones get a status with the reason.
//!
//! Invariant: every destination gets exactly one result, in the order of the request. Neighbours: `validate` checks the
//! request before, [`super::life`] continues with the accepted messages.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::{
    codes,
    config::SimulatorConfig,
    draft::{Body, Content, MessageDraft, SendDraft},
    networks,
    outcome::{self, ByNumber},
    state::{Link, State, Timer},
    store::{Message, Phase, Row},
    validate::{self, SHORT_URL_CHARACTERS},
};

/// REJECTED_NETWORK. Its rows name the network all the same, as the manual's sample of the logs does.
const FORBIDDEN_NETWORK: u16 = 6;
/// PENDING_ACCEPTED: the immediate status of a scheduled message.
const SCHEDULED: u16 = 26;
const HOUR_MS: i64 = 3_600_000;

/// Changes that faults make to the acceptance of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Twist {
    /// Accept message ids that were used before.
    pub(crate) forget_ids: bool,
    /// Finish messages and push their reports before the request is answered.
    pub(crate) early_push: bool,
    /// Delay before the logs show the messages.
    pub(crate) log_lag_ms: i64,
}

/// What all messages of one request share.
struct Arrival<'a> {
    bulk_id: Arc<str>,
    process_key: Option<Arc<str>>,
    now_ms: i64,
    twist: Twist,
    config: &'a SimulatorConfig,
}

/// The results of a send request.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// Present when the API returns one: see [`State::submit`].
    pub(crate) bulk_id: Option<Arc<str>>,
    /// Key of the tracking process.
    pub(crate) process_key: Option<Arc<str>>,
    /// One for each destination.
    pub(crate) results: Vec<Answered>,
}

/// The result of one destination.
#[derive(Debug)]
pub(crate) struct Answered {
    /// As the caller wrote it.
    pub(crate) to: String,
    /// None for a missing destination.
    pub(crate) message_id: Option<Arc<str>>,
    pub(crate) status: u16,
    pub(crate) parts: Option<u32>,
}

impl State {
    /// Accepts or rejects each message of a request.
    pub(crate) fn submit(
        &mut self,
        draft: SendDraft,
        twist: Twist,
        config: &SimulatorConfig,
    ) -> Submitted {
        let now_ms = self.clock.now_ms();
        let several = draft
            .messages
            .iter()
            .map(|message| message.destinations.len())
            .sum::<usize>()
            > 1;
        let scheduled = draft
            .messages
            .iter()
            .any(|message| message.send_at_ms.is_some_and(|at| at > now_ms));
        // Present if asked for, if there are several, or if it is needed to reach a schedule (docs/INFOBIP_API.md#sending; manual's samples).
        let show_bulk_id = draft.bulk_id.is_some() || several || scheduled || config.always_bulk_id;
        let bulk_id: Arc<str> = match draft.bulk_id {
            Some(id) => id.into(),
            None => self.next_dice("bulk").uuid().into(),
        };
        let process_key: Option<Arc<str>> = draft.tracking.as_ref().map(|tracking| match &tracking
            .process_key
        {
            Some(key) => key.as_str().into(),
            None => self
                .next_dice("process")
                .uuid()
                .replace('-', "")
                .to_uppercase()
                .into(),
        });
        let arrival = Arrival {
            bulk_id,
            process_key,
            now_ms,
            twist,
            config,
        };
        let mut results =
            Vec::with_capacity(draft.messages.iter().map(|m| m.destinations.len()).sum());
        for message in draft.messages {
            self.submit_message(message, &arrival, &mut results);
        }
        if scheduled && let Some(bulk) = self.messages.bulk_mut(&arrival.bulk_id) {
            bulk.scheduled = true;
        }
        Submitted {
            bulk_id: show_bulk_id.then_some(arrival.bulk_id),
            process_key: arrival.process_key,
            results,
        }
    }

    fn submit_message(
        &mut self,
        draft: MessageDraft,
        arrival: &Arrival<'_>,
        results: &mut Vec<Answered>,
    ) {
        let (now_ms, config) = (arrival.now_ms, arrival.config);
        let content_bytes = size_of_content(&draft.content);
        for (at, destination) in draft.destinations.into_iter().enumerate() {
            if destination.to.trim().is_empty() {
                results.push(Answered {
                    to: destination.to,
                    message_id: None,
                    status: 51,
                    parts: None,
                });
                continue;
            }
            let id: Arc<str> = match destination.message_id {
                Some(id) => id.into(),
                None => self.next_dice("message").uuid().into(),
            };
            let digits = validate::destination_digits(&destination.to);
            let network = digits
                .as_ref()
                .ok()
                .and_then(|digits| networks::of_number(digits));
            let price_micros =
                network.map_or(config.default_price_micros, |network| network.price_micros);
            let refusal = self.refusal(
                &draft.content,
                draft.refusal,
                &id,
                digits.as_deref(),
                price_micros,
                arrival,
            );
            let parts = draft.content.parts;
            let send_at_ms = draft.send_at_ms.filter(|at| *at > now_ms).unwrap_or(now_ms);
            // A duplicate id adds no row: the logs keep showing the first message with that id.
            if refusal != Some(Refusal::Seen) {
                let to = digits.unwrap_or_else(|_| destination.to.clone());
                let message = Message {
                    id: id.clone(),
                    bulk_id: arrival.bulk_id.clone(),
                    bytes: 512 + 2 * id.len() + to.len() + if at == 0 { content_bytes } else { 0 },
                    to: to.into(),
                    content: draft.content.clone(),
                    own_text: None,
                    process_key: arrival.process_key.clone(),
                    accepted: refusal.is_none(),
                    accepted_at_ms: now_ms,
                    sent_at_ms: if refusal.is_none() {
                        send_at_ms
                    } else {
                        now_ms
                    },
                    done_at_ms: now_ms,
                    visible_at_ms: now_ms + arrival.twist.log_lag_ms,
                    status: refusal.map_or(SCHEDULED, Refusal::status),
                    error: 0,
                    phase: if refusal.is_none() {
                        Phase::Scheduled
                    } else {
                        Phase::Final
                    },
                    schedule: 0,
                    network,
                    price_micros: if refusal.is_none() { price_micros } else { 0 },
                    handset_deliveries: 0,
                    unread: None,
                };
                let row = self.messages.add(message);
                if refusal.is_none() {
                    self.shorten_links(row, config);
                    if send_at_ms > now_ms {
                        self.timers
                            .set(send_at_ms, Timer::Dispatch { row, schedule: 0 });
                    } else {
                        self.dispatch(row, now_ms, arrival.twist.early_push, config);
                    }
                }
            }
            let status = match refusal {
                Some(refusal) => refusal.status(),
                None if send_at_ms > now_ms => SCHEDULED,
                None => immediate_status(&destination.to, config),
            };
            results.push(Answered {
                to: destination.to,
                message_id: Some(id),
                status,
                parts: Some(parts),
            });
        }
    }

    fn refusal(
        &mut self,
        content: &Content,
        refused: Option<u16>,
        id: &str,
        digits: Result<&str, &u16>,
        price_micros: u64,
        arrival: &Arrival<'_>,
    ) -> Option<Refusal> {
        let (now_ms, config) = (arrival.now_ms, arrival.config);
        if !arrival.twist.forget_ids && self.messages.knows(id) {
            return Some(Refusal::Seen);
        }
        let digits = match digits {
            Ok(digits) => digits,
            Err(status) => return Some(Refusal::Status(*status)),
        };
        if let Some(status) = refused {
            return Some(Refusal::Status(status));
        }
        let forbidden = &config.forbidden_prefixes;
        if forbidden
            .iter()
            .any(|prefix| digits.starts_with(prefix.as_str()))
        {
            return Some(Refusal::Status(FORBIDDEN_NETWORK));
        }
        if let Some(ByNumber::Status(status)) = outcome::by_number(digits) {
            // With an accepted or pending status the message is accepted; the status only appears in the answer.
            if !matches!(codes::status(status).map(|row| row.group_id), Some(0 | 1)) {
                return Some(Refusal::Status(status));
            }
        }
        if config.require_known_prefix
            && networks::of_number(digits).is_none()
            && outcome::by_number(digits).is_none()
        {
            return Some(Refusal::Status(8));
        }
        if config.flooding && self.floods(digits, content, now_ms) {
            return Some(Refusal::Status(20));
        }
        let cost = price_micros.saturating_mul(u64::from(content.parts));
        match self.account.balance_micros.checked_sub(cost) {
            Some(left) => self.account.balance_micros = left,
            None => return Some(Refusal::Status(12)),
        }
        None
    }

    /// 20 different or 6 identical messages an hour to one number (docs/INFOBIP_API.md#limits).
    fn floods(&mut self, digits: &str, content: &Content, now_ms: i64) -> bool {
        let mut hasher = DefaultHasher::new();
        match &content.body {
            Body::Text(text) => text.hash(&mut hasher),
            Body::Binary { hex, .. } => hex.hash(&mut hasher),
        }
        let hash = hasher.finish();
        let recent: &mut VecDeque<(i64, u64)> = self.flooding.entry(digits.into()).or_default();
        while recent
            .front()
            .is_some_and(|(at, _)| *at + HOUR_MS <= now_ms)
        {
            recent.pop_front();
        }
        let floods =
            recent.len() >= 20 || recent.iter().filter(|(_, other)| *other == hash).count() >= 6;
        if !floods {
            recent.push_back((now_ms, hash));
        }
        floods
    }

    /// Replaces each tracked URL of a message by a short link of its own.
    fn shorten_links(&mut self, row: Row, config: &SimulatorConfig) {
        let Some(message) = self.messages.get(row) else {
            return;
        };
        let content = message.content.clone();
        let (Body::Text(text), false) = (&content.body, content.links.is_empty()) else {
            return;
        };
        let base = content
            .tracking
            .as_ref()
            .and_then(|tracking| tracking.base_url.as_deref());
        let base = base
            .unwrap_or(&config.short_url_base)
            .trim_end_matches('/')
            .to_owned();
        // Two words after the base, like the manual's http://eel.nu/NJxE/cJ9UH, 25 characters in all.
        let letters = SHORT_URL_CHARACTERS
            .saturating_sub(base.chars().count() + 2)
            .max(8);
        let mut own_text = text.to_string();
        for (stand_in, target) in &content.links {
            let mut dice = self.next_dice("link");
            let path = format!("/{}/{}", dice.word(4), dice.word(letters - 4));
            own_text = own_text.replacen(stand_in.as_str(), &format!("{base}{path}"), 1);
            self.links.by_path.insert(
                path.clone(),
                Link {
                    row,
                    target: target.clone(),
                },
            );
            self.links.order.push_back(path);
            while self.links.order.len() > config.bounds.links.max(1) {
                if let Some(oldest) = self.links.order.pop_front() {
                    self.links.by_path.remove(&oldest);
                }
            }
        }
        if let Some(message) = self.messages.get_mut(row) {
            message.own_text = Some(own_text.into());
        }
    }
}

/// Why a destination is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The message id was used before.
    Seen,
    Status(u16),
}

impl Refusal {
    fn status(self) -> u16 {
        match self {
            Self::Seen => 23,
            Self::Status(status) => status,
        }
    }
}

fn immediate_status(to: &str, config: &SimulatorConfig) -> u16 {
    match outcome::by_number(to.trim().trim_start_matches('+')) {
        Some(ByNumber::Status(status)) => status,
        _ => config.accepted_status,
    }
}

fn size_of_content(content: &Content) -> usize {
    let body = match &content.body {
        Body::Text(text) => text.len(),
        Body::Binary { hex, .. } => hex.len(),
    };
    let callback = content
        .callback_data
        .as_ref()
        .map_or(0, |data| data.as_str().map_or(256, str::len));
    let notify = content.notify.as_ref().map_or(0, |notify| notify.url.len());
    256 + body + callback + notify + content.from.len()
}
