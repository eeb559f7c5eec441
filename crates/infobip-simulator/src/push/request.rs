//! The HTTP request of a push attempt: builds it from the content of the push, and sends it.
//!
//! Invariant: the content is serialized for each attempt, so that pending pushes stay small.
//! Neighbours: `engine` decides when to send, `render` has the bodies.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::Serialize;

use super::{PushContent, PushId};
use crate::{render, state::SimulatorState, xml};

const PUSH_SERIALIZES: &str = "push bodies have only string keys and no failing serializer";
/// A response to a push needs no larger body.
const MAX_DISCARDED_BYTES: usize = 64 * 1024;

/// The HTTP request of one attempt.
#[derive(Debug)]
pub(crate) struct PushRequest {
    url: String,
    /// Content type and body of a POST; `None`: a GET.
    body: Option<(&'static str, Bytes)>,
}

impl SimulatorState {
    /// Builds the request of a push's next attempt; `None` if the push is finished or removed.
    pub(crate) fn push_request(&mut self, id: PushId, currency: &str) -> Option<PushRequest> {
        let push = self.pushes.by_id.get_mut(&id)?;
        let content = push.content.clone()?;
        let body = match &*content {
            PushContent::Reports { notify, reports } => {
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
            PushContent::InboundGet { .. } => None,
            PushContent::InboundPost { received, .. } => json_body(&render::inbox_response(
                std::slice::from_ref(received),
                0,
                currency,
            )),
            PushContent::Click { click, .. } => json_body(&**click),
            PushContent::Lookups { notify, body } => {
                if notify.xml {
                    xml_body("ncResponse", body)
                } else {
                    json_body(body)
                }
            }
        };
        Some(PushRequest {
            url: push.url.clone(),
            body,
        })
    }
}

fn json_body(value: &impl Serialize) -> Option<(&'static str, Bytes)> {
    Some((
        "application/json;charset=UTF-8",
        Bytes::from(serde_json::to_vec(value).expect(PUSH_SERIALIZES)),
    ))
}

fn xml_body(root: &str, value: &impl Serialize) -> Option<(&'static str, Bytes)> {
    let value = serde_json::to_value(value).expect(PUSH_SERIALIZES);
    Some((
        "application/xml;charset=UTF-8",
        Bytes::from(xml::from_json(root, &value)),
    ))
}

/// Sends the request. Returns the status of the response, or `None` if there is no response in time.
pub(crate) async fn send_request(
    client: &reqwest::Client,
    timeout: Duration,
    request: PushRequest,
) -> Option<u16> {
    let request = match request.body {
        Some((content_type, body)) => client
            .post(request.url)
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT, "*/*")
            .body(body),
        None => client.get(request.url),
    };
    let response = request.timeout(timeout).send().await.ok()?;
    let status = response.status().as_u16();
    // Read the body so that the connection can be reused. A truncated body does not change the status.
    let _ = tokio::time::timeout(timeout, discard_body(response)).await;
    Some(status)
}

/// Reads a response to its end, or gives up on the connection if the body is large.
async fn discard_body(mut response: reqwest::Response) {
    let mut remaining = MAX_DISCARDED_BYTES;
    while let Ok(Some(chunk)) = response.chunk().await {
        match remaining.checked_sub(chunk.len()) {
            Some(after_chunk) => remaining = after_chunk,
            None => return,
        }
    }
}
