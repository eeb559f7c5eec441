//! Pushes delivery reports, received messages, clicks and number look-ups to the customer's servers, with retries.
//!
//! Only a 200 accepts a push (docs/INFOBIP_API.md#push). The retry cycle is the manual's: the wait before retry n is 1 min + n² min
//! for n = 0…19; after that the push is lost. Waits are virtual and start at the time the attempt was due.
//! Invariant: the content of a push is fixed when it is created. Neighbour: `engine` decides when to send.

mod content;
mod request;
mod template;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;

use crate::{
    clock::MINUTE_MS,
    dates::ApiDate,
    render,
    state::{SimulatorState, Timer},
};

pub(crate) use self::{
    content::{DeliveryReport, PushContent, ReportBatch},
    request::send_request,
};

/// The number of a push.
pub(crate) type PushId = u64;

const MAX_RETRIES: u64 = 20;

/// A push and its history.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Push {
    id: PushId,
    kind: &'static str,
    url: String,
    state: PushState,
    #[serde(serialize_with = "render::serialize_ids")]
    message_ids: Vec<Arc<str>>,
    attempts: Vec<PushAttempt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate_of: Option<PushId>,
    /// When it is tried next; `None` once the push is finished.
    next_attempt_ms: Option<i64>,
    attempts_left: u64,
    /// Its duplicate, if a fault made one.
    #[serde(skip)]
    duplicate: Option<PushId>,
    /// `None` once the push is finished.
    #[serde(skip)]
    content: Option<Arc<PushContent>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum PushState {
    Pending,
    Delivered,
    /// All attempts failed.
    Lost,
}

impl Push {
    pub(crate) fn state_name(&self) -> &'static str {
        self.state.as_str()
    }

    /// The push that repeats it.
    pub(crate) fn duplicate(&self) -> Option<PushId> {
        self.duplicate
    }
}

impl PushState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Lost => "lost",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct PushAttempt {
    at: ApiDate,
    at_ms: i64,
    /// HTTP status; `None` without a response.
    status: Option<u16>,
}

/// All pending pushes, and the most recent finished ones.
#[derive(Debug)]
pub(crate) struct Pushes {
    by_id: BTreeMap<PushId, Push>,
    /// Finished pushes, oldest first.
    finished: VecDeque<PushId>,
    next_id: PushId,
    max_finished: usize,
}

/// A push to attempt now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DuePush {
    pub(crate) id: PushId,
    /// The virtual time at which the attempt was due.
    pub(crate) due_ms: i64,
}

/// Pushes to attempt now.
#[derive(Debug)]
pub(crate) struct DuePushes {
    pub(crate) pushes: Vec<DuePush>,
    /// The generation of the state that they belong to.
    pub(crate) generation: u64,
}

impl Pushes {
    /// An empty collection that keeps up to `max_finished` finished pushes.
    pub(crate) fn new(max_finished: usize) -> Self {
        Self {
            by_id: BTreeMap::new(),
            finished: VecDeque::new(),
            next_id: 0,
            max_finished,
        }
    }

    /// Adds a push of this content.
    pub(crate) fn create(&mut self, content: PushContent) -> PushId {
        let (kind, url, message_ids) = match &content {
            PushContent::Reports { notify, .. } => ("reports", notify.url.to_string(), Vec::new()),
            PushContent::InboundGet { template, received } => (
                "inbound",
                template::fill(template, received),
                vec![received.id.clone()],
            ),
            PushContent::InboundPost { url, received } => {
                ("inbound", url.clone(), vec![received.id.clone()])
            }
            PushContent::Click { url, click } => {
                ("click", url.clone(), vec![click.message_id.as_str().into()])
            }
            PushContent::Lookups { notify, .. } => ("lookups", notify.url.to_string(), Vec::new()),
        };
        self.insert(kind, url, message_ids, None, Arc::new(content))
    }

    fn insert(
        &mut self,
        kind: &'static str,
        url: String,
        message_ids: Vec<Arc<str>>,
        duplicate_of: Option<PushId>,
        content: Arc<PushContent>,
    ) -> PushId {
        let id = self.next_id;
        self.next_id += 1;
        self.by_id.insert(
            id,
            Push {
                id,
                kind,
                url,
                state: PushState::Pending,
                message_ids,
                attempts: Vec::new(),
                duplicate_of,
                next_attempt_ms: None,
                attempts_left: MAX_RETRIES + 1,
                duplicate: None,
                content: Some(content),
            },
        );
        id
    }

    /// The pushes with lower numbers that are still stored, oldest first.
    pub(crate) fn before(&self, id: PushId) -> impl DoubleEndedIterator<Item = &Push> {
        self.by_id.range(..id).map(|(_, push)| push)
    }

    /// Number of pushes that are neither delivered nor lost.
    pub(crate) fn pending(&self) -> usize {
        self.by_id.len() - self.finished.len()
    }

    /// A push, if it is still stored.
    pub(crate) fn get(&self, id: PushId) -> Option<&Push> {
        self.by_id.get(&id)
    }

    /// `pending`, `delivered` or `lost`.
    pub(crate) fn state_name(&self, id: PushId) -> Option<&'static str> {
        Some(self.get(id)?.state_name())
    }

    pub(crate) fn url(&self, id: PushId) -> Option<&str> {
        self.by_id.get(&id).map(|push| push.url.as_str())
    }

    /// Ends a push and removes the oldest finished ones beyond the limit.
    fn finish(&mut self, id: PushId, state: PushState) {
        if let Some(push) = self.by_id.get_mut(&id) {
            push.state = state;
            push.content = None;
            push.next_attempt_ms = None;
            push.attempts_left = 0;
            self.finished.push_back(id);
        }
        while self.finished.len() > self.max_finished {
            if let Some(oldest) = self.finished.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
    }
}

impl SimulatorState {
    /// Records the result of an attempt that was due at `due_ms`: the push is delivered, retried later or lost.
    pub(crate) fn record_attempt(&mut self, id: PushId, due_ms: i64, status: Option<u16>) {
        let Some(push) = self.pushes.by_id.get_mut(&id) else {
            return;
        };
        let failed_before = push.attempts.len() as u64;
        push.attempts.push(PushAttempt {
            at: ApiDate(due_ms),
            at_ms: due_ms,
            status,
        });
        push.attempts_left = MAX_RETRIES.saturating_sub(failed_before);
        self.changes.pushes();
        if status == Some(200) {
            self.pushes.finish(id, PushState::Delivered);
            return;
        }
        match retry_wait_ms(failed_before) {
            Some(wait_ms) => {
                let next_ms = due_ms.saturating_add(wait_ms);
                push.next_attempt_ms = Some(next_ms);
                self.timers.set(next_ms, Timer::Push(id));
            }
            None => self.pushes.finish(id, PushState::Lost),
        }
    }

    /// Creates a second push of the same content, for the fault `duplicate_push`.
    pub(crate) fn duplicate_push(&mut self, id: PushId) -> Option<PushId> {
        let push = self.pushes.by_id.get(&id)?;
        let (kind, url, ids, content) = (
            push.kind,
            push.url.clone(),
            push.message_ids.clone(),
            push.content.clone()?,
        );
        let duplicate = self.pushes.insert(kind, url, ids, Some(id), content);
        if let Some(push) = self.pushes.by_id.get_mut(&id) {
            push.duplicate = Some(duplicate);
        }
        Some(duplicate)
    }
}

/// The wait before retry `n`: 1 min + n² min, for n = 0…19.
fn retry_wait_ms(n: u64) -> Option<i64> {
    (n < MAX_RETRIES).then(|| MINUTE_MS * i64::try_from(1 + n * n).expect("n is below 20"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_retries_take_41_hours_and_30_minutes() {
        let waits: Vec<i64> = (0..)
            .map_while(retry_wait_ms)
            .map(|ms| ms / MINUTE_MS)
            .collect();
        assert_eq!(&waits[..7], [1, 2, 5, 10, 17, 26, 37]);
        assert_eq!(waits.len(), 20);
        assert_eq!(waits.iter().sum::<i64>(), 41 * 60 + 30);
    }
}
