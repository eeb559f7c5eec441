//! Decides whether a destination is rejected, and with which status.
//!
//! Invariant: the account is charged if and only if the destination is accepted.
//! Neighbour: `validate` has already chosen the status of an invalid sender or content.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::SubmitContext;
use crate::{
    clock::HOUR_MS,
    codes::{self, id},
    networks,
    outcome::{self, SpecialNumber},
    state::SimulatorState,
    submission::{MessageBody, MessageContent},
};

/// Why a destination is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The message id was used before.
    DuplicateId,
    /// The id of the status that names the reason.
    Status(u16),
}

impl Rejection {
    pub(super) fn status(self) -> u16 {
        match self {
            Self::DuplicateId => id::REJECTED_DUPLICATE_MESSAGE_ID,
            Self::Status(status) => status,
        }
    }
}

impl SimulatorState {
    /// Checks one destination; charges the account if it is accepted. Returns the reason of a rejection.
    pub(super) fn rejection(
        &mut self,
        content: &MessageContent,
        sender_or_content_status: Option<u16>,
        message_id: &str,
        digits: Result<&str, &u16>,
        price_micros: u64,
        context: &SubmitContext<'_>,
    ) -> Option<Rejection> {
        let (now_ms, config) = (context.now_ms, context.config);
        if !context.send_faults.forget_ids && self.messages.contains_id(message_id) {
            return Some(Rejection::DuplicateId);
        }
        let digits = match digits {
            Ok(digits) => digits,
            Err(status) => return Some(Rejection::Status(*status)),
        };
        if let Some(status) = sender_or_content_status {
            return Some(Rejection::Status(status));
        }
        if config
            .forbidden_prefixes
            .iter()
            .any(|prefix| digits.starts_with(prefix.as_str()))
        {
            return Some(Rejection::Status(id::REJECTED_NETWORK));
        }
        if let Some(SpecialNumber::Status(status)) = outcome::special_number(digits) {
            // With an accepted or pending status the message is accepted: the status is only in the response.
            if !matches!(codes::status(status).map(|row| row.group_id), Some(0 | 1)) {
                return Some(Rejection::Status(status));
            }
        }
        if config.require_known_prefix
            && networks::of_number(digits).is_none()
            && outcome::special_number(digits).is_none()
        {
            return Some(Rejection::Status(id::REJECTED_PREFIX_MISSING));
        }
        if config.flooding && self.exceeds_flood_limit(digits, content, now_ms) {
            return Some(Rejection::Status(id::REJECTED_FLOODING_FILTER));
        }
        let cost = price_micros.saturating_mul(u64::from(content.parts));
        match self.account.balance_micros.checked_sub(cost) {
            Some(remaining) => self.account.balance_micros = remaining,
            None => return Some(Rejection::Status(id::REJECTED_NOT_ENOUGH_CREDIT)),
        }
        None
    }

    /// Whether the message would exceed 20 different or 6 identical messages an hour to one number (docs/INFOBIP_API.md#limits). If
    /// not, it is counted.
    fn exceeds_flood_limit(&mut self, digits: &str, content: &MessageContent, now_ms: i64) -> bool {
        let mut hasher = DefaultHasher::new();
        match &content.body {
            MessageBody::Text(text) => text.hash(&mut hasher),
            MessageBody::Binary { hex, .. } => hex.hash(&mut hasher),
        }
        let hash = hasher.finish();
        let recent: &mut VecDeque<(i64, u64)> = self.recent_sends.entry(digits.into()).or_default();
        while recent
            .front()
            .is_some_and(|(at, _)| *at + HOUR_MS <= now_ms)
        {
            recent.pop_front();
        }
        let identical = recent.iter().filter(|(_, other)| *other == hash).count();
        let different: HashSet<u64> = recent.iter().map(|(_, other)| *other).collect();
        let exceeded = identical >= 6 || (identical == 0 && different.len() >= 20);
        if !exceeded {
            recent.push_back((now_ms, hash));
        }
        exceeded
    }
}
