//! Pushes delivery reports, received messages, clicks and number lookups to the customer's servers, with retries.
//!
//! Only a 200 accepts a push (docs/INFOBIP_API.md#push). The retry cycle is the manual's: the wait before retry n is 1 min + n² min
//! for n = 0…19; after that the push is lost. Waits are virtual and start at the time the attempt was due.
//! Invariant: the content of a push is fixed when it is opened; it is serialized for each attempt, so that waiting pushes stay small.
//! Neighbour: `engine` decides when to send.

mod template;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::Serialize;
use serde_json::Value;

use crate::{
    dates::ApiDate,
    draft::Notify,
    render,
    state::{Click, Received, State, Timer},
    store::Row,
    xml,
};

/// The number of a push.
pub(crate) type PushId = u64;

const RETRIES: u64 = 20;
const MINUTE_MS: i64 = 60_000;
const SERIALIZABLE: &str = "push bodies have only string keys and no failing serializer";

/// A snapshot of a message's status at the time of the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) row: Row,
    pub(crate) status: u16,
    pub(crate) error: u16,
    pub(crate) done_at_ms: i64,
}

/// Reports for one URL that wait to be batched.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) reports: Vec<Report>,
}

#[derive(Debug)]
pub(crate) enum Payload {
    Reports {
        /// Where to and in which format.
        notify: Notify,
        reports: Vec<Report>,
    },
    /// A received message by GET.
    InboundGet {
        template: String,
        received: Box<Received>,
    },
    /// A received message by POST.
    InboundPost {
        url: String,
        received: Box<Received>,
    },
    Click {
        url: String,
        click: Arc<Click>,
    },
    /// The answer to an asynchronous lookup.
    Lookups {
        /// Where to and in which format.
        notify: Notify,
        body: Box<Value>,
    },
}

/// A push and its history.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Push {
    id: PushId,
    kind: &'static str,
    pub(crate) url: String,
    state: PushState,
    #[serde(serialize_with = "render::ids")]
    message_ids: Vec<Arc<str>>,
    attempts: Vec<Attempt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate_of: Option<PushId>,
    #[serde(skip)]
    payload: Option<Arc<Payload>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum PushState {
    Pending,
    Delivered,
    Lost,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attempt {
    at: ApiDate,
    at_ms: i64,
    /// HTTP status; none if there was no answer.
    status: Option<u16>,
}

/// All pending pushes, and the most recent finished ones.
#[derive(Debug)]
pub(crate) struct Pushes {
    all: BTreeMap<PushId, Push>,
    done: VecDeque<PushId>,
    next: PushId,
    most_done: usize,
}

/// A request to make.
#[derive(Debug)]
pub(crate) struct Outgoing {
    url: String,
    /// Content type and body of a POST; none: a GET.
    body: Option<(&'static str, Bytes)>,
}

impl Pushes {
    /// An empty collection that keeps up to `most_done` finished pushes.
    pub(crate) fn new(most_done: usize) -> Self {
        Self {
            all: BTreeMap::new(),
            done: VecDeque::new(),
            next: 0,
            most_done,
        }
    }

    pub(crate) fn open(&mut self, payload: Payload) -> PushId {
        let (kind, url, message_ids) = match &payload {
            Payload::Reports { notify, .. } => ("reports", notify.url.to_string(), Vec::new()),
            Payload::InboundGet { template, received } => (
                "inbound",
                template::fill(template, received),
                vec![received.id.clone()],
            ),
            Payload::InboundPost { url, received } => {
                ("inbound", url.clone(), vec![received.id.clone()])
            }
            Payload::Click { url, click } => {
                ("click", url.clone(), vec![click.message_id.as_str().into()])
            }
            Payload::Lookups { notify, .. } => ("lookups", notify.url.to_string(), Vec::new()),
        };
        self.insert(kind, url, message_ids, None, Arc::new(payload))
    }

    fn insert(
        &mut self,
        kind: &'static str,
        url: String,
        message_ids: Vec<Arc<str>>,
        duplicate_of: Option<PushId>,
        payload: Arc<Payload>,
    ) -> PushId {
        let id = self.next;
        self.next += 1;
        self.all.insert(
            id,
            Push {
                id,
                kind,
                url,
                state: PushState::Pending,
                message_ids,
                attempts: Vec::new(),
                duplicate_of,
                payload: Some(payload),
            },
        );
        id
    }

    /// All that are remembered, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Push> {
        self.all.values()
    }

    /// How many wait for an attempt.
    pub(crate) fn pending(&self) -> usize {
        self.all.len() - self.done.len()
    }

    /// The URL of a push.
    pub(crate) fn url(&self, id: PushId) -> Option<&str> {
        self.all.get(&id).map(|push| push.url.as_str())
    }

    fn finish(&mut self, id: PushId, state: PushState) {
        if let Some(push) = self.all.get_mut(&id) {
            push.state = state;
            push.payload = None;
            self.done.push_back(id);
        }
        while self.done.len() > self.most_done {
            if let Some(oldest) = self.done.pop_front() {
                self.all.remove(&oldest);
            }
        }
    }
}

impl State {
    /// The request of a push's next attempt.
    pub(crate) fn outgoing(&mut self, id: PushId, currency: &str) -> Option<Outgoing> {
        let push = self.pushes.all.get_mut(&id)?;
        let payload = push.payload.clone()?;
        let body = match &*payload {
            Payload::Reports { notify, reports } => {
                if push.message_ids.is_empty() {
                    let ids = reports
                        .iter()
                        .filter_map(|report| self.messages.get(report.row));
                    push.message_ids = ids.map(|message| message.id.clone()).collect();
                }
                let rows = render::report_rows(&self.messages, reports, currency);
                if notify.xml {
                    xml_body("reportResponse", &rows)
                } else {
                    json_body(&rows)
                }
            }
            Payload::InboundGet { .. } => None,
            Payload::InboundPost { received, .. } => json_body(&render::inbox_response(
                std::slice::from_ref(received),
                0,
                currency,
            )),
            Payload::Click { click, .. } => json_body(&**click),
            Payload::Lookups { notify, body } => {
                if notify.xml {
                    xml_body("ncResponse", body)
                } else {
                    json_body(body)
                }
            }
        };
        Some(Outgoing {
            url: push.url.clone(),
            body,
        })
    }

    /// Records the result of an attempt: the push is delivered, retried later or lost. True if it was accepted.
    pub(crate) fn settle(&mut self, id: PushId, at_ms: i64, status: Option<u16>) -> bool {
        let Some(push) = self.pushes.all.get_mut(&id) else {
            return false;
        };
        let failed_before = push.attempts.len() as u64;
        push.attempts.push(Attempt {
            at: ApiDate(at_ms),
            at_ms,
            status,
        });
        if status == Some(200) {
            self.pushes.finish(id, PushState::Delivered);
            return true;
        }
        match retry_wait_ms(failed_before) {
            Some(wait_ms) => {
                self.timers
                    .set(at_ms.saturating_add(wait_ms), Timer::Push(id));
            }
            None => self.pushes.finish(id, PushState::Lost),
        }
        false
    }

    /// Opens a second push of the same content, for the fault that sends pushes twice.
    pub(crate) fn duplicate(&mut self, id: PushId) -> Option<PushId> {
        let push = self.pushes.all.get(&id)?;
        let (kind, url, ids, payload) = (
            push.kind,
            push.url.clone(),
            push.message_ids.clone(),
            push.payload.clone()?,
        );
        Some(self.pushes.insert(kind, url, ids, Some(id), payload))
    }
}

/// The wait before retry `n`: 1 min + n² min, for n = 0…19.
fn retry_wait_ms(n: u64) -> Option<i64> {
    (n < RETRIES).then(|| MINUTE_MS * i64::try_from(1 + n * n).expect("n is below 20"))
}

fn json_body(value: &impl Serialize) -> Option<(&'static str, Bytes)> {
    Some((
        "application/json;charset=UTF-8",
        Bytes::from(serde_json::to_vec(value).expect(SERIALIZABLE)),
    ))
}

fn xml_body(root: &str, value: &impl Serialize) -> Option<(&'static str, Bytes)> {
    let value = serde_json::to_value(value).expect(SERIALIZABLE);
    Some((
        "application/xml;charset=UTF-8",
        Bytes::from(xml::from_json(root, &value)),
    ))
}

/// Sends the request. Returns the response status, or `None` without a response in time.
pub(crate) async fn attempt(
    client: &reqwest::Client,
    timeout: Duration,
    outgoing: Outgoing,
) -> Option<u16> {
    let request = match outgoing.body {
        Some((content_type, body)) => client
            .post(outgoing.url)
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT, "*/*")
            .body(body),
        None => client.get(outgoing.url),
    };
    let response = request.timeout(timeout).send().await.ok()?;
    let status = response.status().as_u16();
    // Read the body so that the connection can be reused. A truncated body does not change the status.
    let _ = tokio::time::timeout(timeout, drain(response)).await;
    Some(status)
}

async fn drain(mut response: reqwest::Response) {
    // A response to a push needs no large body: give up on the connection beyond this.
    let mut left = 64 * 1024_usize;
    while let Ok(Some(chunk)) = response.chunk().await {
        match left.checked_sub(chunk.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
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
