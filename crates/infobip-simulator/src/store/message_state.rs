//! The state of a message as people name it, and how many messages are in each.
//!
//! Invariant: [`MessageCounts`] equals a count of all stored messages. Neighbour: `store` calls it for every change.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Message, Phase};
use crate::codes;

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageState {
    Scheduled,
    Pending,
    Delivered,
    Undeliverable,
    Expired,
    Rejected,
}

impl MessageState {
    pub(crate) const ALL: [Self; 6] = [
        Self::Scheduled,
        Self::Pending,
        Self::Delivered,
        Self::Undeliverable,
        Self::Expired,
        Self::Rejected,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Undeliverable => "undeliverable",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl Message {
    pub(crate) fn state(&self) -> MessageState {
        match self.phase {
            Phase::Scheduled => MessageState::Scheduled,
            Phase::Sent => MessageState::Pending,
            Phase::Final => match codes::status(self.status).map(|row| row.group_id) {
                Some(2) => MessageState::Undeliverable,
                Some(3) => MessageState::Delivered,
                Some(4) => MessageState::Expired,
                _ => MessageState::Rejected,
            },
        }
    }
}

/// How many messages are in each state, as a JSON object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StateCounts([u32; MessageState::ALL.len()]);

impl StateCounts {
    pub(crate) fn get(&self, state: MessageState) -> u32 {
        self.0[state as usize]
    }

    pub(crate) fn add(&mut self, state: MessageState) {
        self.0[state as usize] += 1;
    }

    pub(crate) fn remove(&mut self, state: MessageState) {
        self.0[state as usize] -= 1;
    }
}

impl Serialize for StateCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for state in MessageState::ALL {
            map.serialize_entry(state.as_str(), &self.get(state))?;
        }
        map.end()
    }
}

/// A count for each status id.
#[derive(Debug, Default)]
pub(crate) struct StatusCounts(Vec<u32>);

impl StatusCounts {
    pub(crate) fn add(&mut self, status: u16) {
        let index = usize::from(status);
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        self.0[index] += 1;
    }

    fn remove(&mut self, status: u16) {
        self.0[usize::from(status)] -= 1;
    }

    /// The statuses that occur, with their counts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        (0_u16..)
            .zip(&self.0)
            .filter(|(_, count)| **count > 0)
            .map(|(status, count)| (status, *count))
    }
}

/// The counts of all stored messages.
#[derive(Debug, Default)]
pub(crate) struct MessageCounts {
    pub(crate) states: StateCounts,
    pub(crate) statuses: StatusCounts,
}

impl MessageCounts {
    pub(super) fn add(&mut self, message: &Message) {
        self.states.add(message.state());
        self.statuses.add(message.status);
    }

    pub(super) fn remove(&mut self, state: MessageState, status: u16) {
        self.states.remove(state);
        self.statuses.remove(status);
    }
}
