//! Accepts or rejects each message of a send request. Accepted messages get an id, a price and a row in the store;
//! rejected ones get a status with the reason.
//!
//! Invariant: every destination gets exactly one result, in the order of the request. Neighbours: `validate` checks the
//! request before, [`super::lifecycle`] continues with the accepted messages.

mod rejection;
mod short_links;

use std::sync::Arc;

use self::rejection::Rejection;
use crate::{
    codes::id,
    config::SimulatorConfig,
    faults::SendFaults,
    networks,
    outcome::{self, SpecialNumber},
    state::{SimulatorState, Timer},
    store::{FinalReport, Message, Phase},
    submission::{MessageBody, MessageContent, Submission, SubmissionMessage},
    validate,
};

/// The values that are the same for all messages of a request.
struct SubmitContext<'a> {
    bulk_id: Arc<str>,
    process_key: Option<Arc<str>>,
    now_ms: i64,
    send_faults: SendFaults,
    config: &'a SimulatorConfig,
}

/// The results of a send request.
#[derive(Debug)]
pub(crate) struct SubmitResult {
    /// Present when the API returns one: see [`SimulatorState::submit`].
    pub(crate) bulk_id: Option<Arc<str>>,
    /// Key of the tracking process.
    pub(crate) process_key: Option<Arc<str>>,
    /// One for each destination, in the order of the request.
    pub(crate) results: Vec<DestinationResult>,
}

/// The result of one destination.
#[derive(Debug)]
pub(crate) struct DestinationResult {
    /// As the caller wrote it.
    pub(crate) to: String,
    /// `None` for a missing destination.
    pub(crate) message_id: Option<Arc<str>>,
    pub(crate) status: u16,
    /// `None` for a missing destination.
    pub(crate) parts: Option<u32>,
}

impl SimulatorState {
    /// Accepts or rejects each message of a request.
    pub(crate) fn submit(
        &mut self,
        submission: Submission,
        send_faults: SendFaults,
        config: &SimulatorConfig,
    ) -> SubmitResult {
        let now_ms = self.clock.now_ms();
        let several_destinations = submission
            .messages
            .iter()
            .map(|message| message.destinations.len())
            .sum::<usize>()
            > 1;
        let scheduled = submission
            .messages
            .iter()
            .any(|message| message.send_at_ms.is_some_and(|at| at > now_ms));
        // Returned if the caller gave one, for several destinations, and for a schedule, because the bulk endpoints
        // need it (docs/INFOBIP_API.md#sending; the manual's samples).
        let returns_bulk_id = submission.bulk_id.is_some()
            || several_destinations
            || scheduled
            || config.always_bulk_id;
        let bulk_id: Arc<str> = match submission.bulk_id {
            Some(id) => id.into(),
            None => self.next_random("bulk").uuid().into(),
        };
        let process_key: Option<Arc<str>> =
            submission
                .tracking
                .as_ref()
                .map(|tracking| match &tracking.process_key {
                    Some(key) => key.as_str().into(),
                    None => self
                        .next_random("process")
                        .uuid()
                        .replace('-', "")
                        .to_uppercase()
                        .into(),
                });
        let context = SubmitContext {
            bulk_id,
            process_key,
            now_ms,
            send_faults,
            config,
        };
        let mut results = Vec::with_capacity(
            submission
                .messages
                .iter()
                .map(|m| m.destinations.len())
                .sum(),
        );
        for message in submission.messages {
            self.submit_message(message, &context, &mut results);
        }
        if scheduled && let Some(bulk) = self.messages.bulk_mut(&context.bulk_id) {
            bulk.scheduled = true;
        }
        SubmitResult {
            bulk_id: returns_bulk_id.then_some(context.bulk_id),
            process_key: context.process_key,
            results,
        }
    }

    fn submit_message(
        &mut self,
        submitted: SubmissionMessage,
        context: &SubmitContext<'_>,
        results: &mut Vec<DestinationResult>,
    ) {
        let (now_ms, config) = (context.now_ms, context.config);
        let content_bytes = estimated_content_bytes(&submitted.content);
        for (index, destination) in submitted.destinations.into_iter().enumerate() {
            if destination.to.trim().is_empty() {
                self.account.rejections.add(id::MISSING_TO);
                results.push(DestinationResult {
                    to: destination.to,
                    message_id: None,
                    status: id::MISSING_TO,
                    parts: None,
                });
                continue;
            }
            let message_id: Arc<str> = match destination.message_id {
                Some(id) => id.into(),
                None => self.next_random("message").uuid().into(),
            };
            let digits = validate::destination_digits(&destination.to);
            let network = digits
                .as_ref()
                .ok()
                .and_then(|digits| networks::of_number(digits));
            let price_micros =
                network.map_or(config.default_price_micros, |network| network.price_micros);
            let rejection = self.rejection(
                &submitted.content,
                submitted.rejection,
                &message_id,
                digits.as_deref(),
                price_micros,
                context,
            );
            let parts = submitted.content.parts;
            let send_at_ms = submitted
                .send_at_ms
                .filter(|at| *at > now_ms)
                .unwrap_or(now_ms);
            if let Some(rejection) = rejection {
                self.account.rejections.add(rejection.status());
            }
            // A duplicate id adds no row: the logs show the first message with that id.
            if rejection != Some(Rejection::DuplicateId) {
                let to = digits.unwrap_or_else(|_| destination.to.clone());
                let message = Message {
                    id: message_id.clone(),
                    bulk_id: context.bulk_id.clone(),
                    estimated_bytes: 512
                        + 2 * message_id.len()
                        + to.len()
                        + if index == 0 { content_bytes } else { 0 },
                    to: to.into(),
                    content: submitted.content.clone(),
                    shortened: None,
                    process_key: context.process_key.clone(),
                    accepted: rejection.is_none(),
                    accepted_at_ms: now_ms,
                    sent_at_ms: if rejection.is_none() {
                        send_at_ms
                    } else {
                        now_ms
                    },
                    dispatched_at_ms: None,
                    done_at_ms: now_ms,
                    in_logs_from_ms: now_ms + context.send_faults.log_lag_ms,
                    status: rejection.map_or(id::PENDING_ACCEPTED, Rejection::status),
                    error: 0,
                    phase: if rejection.is_none() {
                        Phase::Scheduled
                    } else {
                        Phase::Final
                    },
                    schedule_version: 0,
                    // A rejected message names its network too, as the manual's sample of the logs does.
                    network,
                    price_micros: if rejection.is_none() { price_micros } else { 0 },
                    handset_deliveries: 0,
                    report: FinalReport::None,
                    rare: None,
                    phone: None,
                    older_of_phone: None,
                    unread_seq: None,
                };
                let row = self.messages.add(message, &mut self.phones);
                self.message_changed(row);
                if rejection.is_none() {
                    self.shorten_links(row, config);
                    if send_at_ms > now_ms {
                        self.timers.set(
                            send_at_ms,
                            Timer::Dispatch {
                                row,
                                schedule_version: 0,
                            },
                        );
                    } else {
                        self.dispatch(row, now_ms, context.send_faults.early_push, config);
                    }
                }
            }
            let status = match rejection {
                Some(rejection) => rejection.status(),
                None if send_at_ms > now_ms => id::PENDING_ACCEPTED,
                None => immediate_status(&destination.to, config),
            };
            results.push(DestinationResult {
                to: destination.to,
                message_id: Some(message_id),
                status,
                parts: Some(parts),
            });
        }
    }
}

/// The status in the response to the request that sent an accepted message.
pub(crate) fn answered_status(message: &Message, config: &SimulatorConfig) -> u16 {
    if message.sent_at_ms > message.accepted_at_ms {
        id::PENDING_ACCEPTED
    } else {
        immediate_status(&message.to, config)
    }
}

/// The status in the response of an accepted message that is not scheduled.
fn immediate_status(to: &str, config: &SimulatorConfig) -> u16 {
    match outcome::special_number(to.trim().trim_start_matches('+')) {
        Some(SpecialNumber::Status(status)) => status,
        _ => config.accepted_status,
    }
}

fn estimated_content_bytes(content: &MessageContent) -> usize {
    let body = match &content.body {
        MessageBody::Text(text) => text.len(),
        MessageBody::Binary { hex, .. } => hex.len(),
    };
    let callback = content
        .callback_data
        .as_ref()
        .map_or(0, |data| data.as_str().map_or(256, str::len));
    let notify = content.notify.as_ref().map_or(0, |notify| notify.url.len());
    256 + body + callback + notify + content.from.len()
}
