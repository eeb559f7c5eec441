//! A message to one destination, and the bulk of a request's messages.
//!
//! Neighbour: `store` keeps both and their indexes.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    codes::id::INVALID_DESTINATION, networks::Network, phones::PhoneId, push::PushId,
    submission::MessageContent,
};

/// The number of a message's row.
pub(crate) type RowId = u64;

/// Where a message is in its life cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for its send time.
    Scheduled,
    Sent,
    /// Has its final status.
    Final,
}

/// A message to one destination.
#[derive(Debug)]
pub(crate) struct Message {
    /// The caller's or a generated one.
    pub(crate) id: Arc<str>,
    /// Id of the request.
    pub(crate) bulk_id: Arc<str>,
    pub(crate) to: Box<str>,
    /// The content, shared with the other destinations.
    pub(crate) content: Arc<MessageContent>,
    /// The text with this message's own short links, if it has any.
    pub(crate) shortened: Option<Box<ShortenedText>>,
    /// Key of the tracking process.
    pub(crate) process_key: Option<Arc<str>>,
    /// False: it was rejected at once.
    pub(crate) accepted: bool,
    pub(crate) accepted_at_ms: i64,
    /// When it was sent, or is scheduled to be sent.
    pub(crate) sent_at_ms: i64,
    /// When it left for the handset: with its send time, or later if its delivery window was closed.
    pub(crate) dispatched_at_ms: Option<i64>,
    /// When the status changed last.
    pub(crate) done_at_ms: i64,
    /// From when on the logs show it.
    pub(crate) in_logs_from_ms: i64,
    pub(crate) status: u16,
    pub(crate) error: u16,
    pub(crate) phase: Phase,
    /// Incremented by each reschedule: timers of an earlier schedule are ignored.
    pub(crate) schedule_version: u32,
    pub(crate) network: Option<&'static Network>,
    /// Price of each part in millionths of the currency.
    pub(crate) price_micros: u64,
    /// How often the handset received it.
    pub(crate) handset_deliveries: u32,
    /// What became of its final report.
    pub(crate) report: FinalReport,
    /// What happens to few messages only.
    pub(crate) rare: Option<Box<RareEvents>>,
    /// The phone of its number.
    pub(crate) phone: Option<PhoneId>,
    /// The message before it to the same phone.
    pub(crate) older_of_phone: Option<RowId>,
    /// The key of its final report among the unread ones; `None`: there is no unread report.
    pub(crate) unread_seq: Option<u64>,
    /// Estimated memory use.
    pub(crate) estimated_bytes: usize,
}

/// A text in which each tracked URL is a short link.
#[derive(Debug)]
pub(crate) struct ShortenedText {
    pub(crate) text: Arc<str>,
    /// The paths of the links, and their targets.
    pub(crate) links: Vec<(Arc<str>, Arc<str>)>,
    /// What comes before each path in the text.
    pub(crate) base: Box<str>,
}

/// What became of the final report of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FinalReport {
    /// The message is not final.
    #[default]
    None,
    /// Waits to be pulled.
    Unread,
    Pulled {
        at_ms: i64,
    },
    /// Nobody pulled it within the retention period.
    Dropped,
    /// Waits for other reports to be pushed together.
    Batched,
    Pushed(PushId),
}

/// Events in the life of a message that most messages do not have.
#[derive(Debug, Default)]
pub(crate) struct RareEvents {
    /// When its delivery window was found closed, last.
    pub(crate) held_at_ms: Option<i64>,
    /// A temporary error, and when.
    pub(crate) temporary_error: Option<(i64, u16)>,
    /// The push of its intermediate report.
    pub(crate) intermediate_push: Option<PushId>,
}

impl Message {
    /// Whether its destination is a number: then it is a message to a phone.
    pub(super) fn has_number(&self) -> bool {
        self.status != INVALID_DESTINATION
    }

    pub(crate) fn rare_mut(&mut self) -> &mut RareEvents {
        self.rare.get_or_insert_default()
    }
}

/// A request's messages, and its schedule if it has one.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    /// First row and number of rows, oldest first.
    pub(super) ranges: VecDeque<(RowId, u64)>,
    /// The bulk endpoints find only scheduled bulks.
    pub(crate) scheduled: bool,
    pub(crate) paused: bool,
    pub(crate) canceled: bool,
}

impl Bulk {
    pub(crate) fn rows(&self) -> impl Iterator<Item = RowId> + '_ {
        self.ranges
            .iter()
            .flat_map(|(first, count)| *first..first + count)
    }
}
