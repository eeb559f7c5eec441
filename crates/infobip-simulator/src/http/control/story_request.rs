//! Finds the requests that name a message: the one that sent it, repeats of it, and reads of its report.

use serde::Serialize;
use serde_json::{Value, json};

use super::CONTROL_SERIALIZES;
use crate::request_log::{RequestLog, RequestRecord};

/// Requests looked at, from the acceptance of a message on, and from now back.
const MAX_SEARCHED: usize = 20_000;
const MAX_SEARCHED_BACK: usize = 2000;
/// The ids of messages that are compared at most, in each direction.
const MAX_SEARCHED_IDS: usize = 500_000;
const MAX_OTHERS: usize = 20;

/// A request without the ids of its other messages.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OtherRequest<'a> {
    seq: u64,
    at_ms: i64,
    method: &'a str,
    path: &'a str,
    query: &'a str,
    status: Option<u16>,
    processed: bool,
    fault: Option<&'static str>,
}

fn other(record: &RequestRecord) -> OtherRequest<'_> {
    OtherRequest {
        seq: record.seq,
        at_ms: record.at_ms,
        method: record.method.as_str(),
        path: &record.path,
        query: &record.query,
        status: record.status,
        processed: record.processed,
        fault: record.fault,
    }
}

/// The request that sent the message accepted at this time, and the other requests that name it, oldest first.
pub(super) fn find(log: &RequestLog, id: &str, accepted_at_ms: Option<i64>) -> (Value, Value) {
    let names_it = |record: &&RequestRecord| record.message_ids.iter().any(|other| **other == *id);
    // The log is locked, and a request may have thousands of ids.
    let bounded = || {
        let mut ids = 0;
        move |record: &&RequestRecord| {
            let has_room = ids < MAX_SEARCHED_IDS;
            ids += record.message_ids.len();
            has_room
        }
    };
    let sender = accepted_at_ms.and_then(|at_ms| {
        log.since(at_ms)
            .take(MAX_SEARCHED)
            .take_while(bounded())
            .filter(|record| record.processed && is_send(&record.path))
            .find(names_it)
    });
    let sender_seq = sender.map(|record| record.seq);
    let mut others: Vec<_> = log
        .iter()
        .rev()
        .take(MAX_SEARCHED_BACK)
        .take_while(bounded())
        .filter(names_it)
        .filter(|record| Some(record.seq) != sender_seq)
        .take(MAX_OTHERS)
        .map(other)
        .collect();
    others.reverse();
    let request = sender.map(|record| {
        let mut request = serde_json::to_value(other(record)).expect(CONTROL_SERIALIZES);
        let exchange = log.exchange(record.seq);
        let body = exchange.and_then(|exchange| exchange.request.as_ref());
        let answer = exchange.and_then(|exchange| exchange.answer.as_ref());
        request["destination"] = destination(record, id, body.and_then(|body| body.whole()));
        request["body"] = json!(body);
        request["answer"] = json!(answer);
        request
    });
    (json!(request), json!(others))
}

fn is_send(path: &str) -> bool {
    path.starts_with("/sms/1/text/") || path.starts_with("/sms/1/binary/")
}

/// Which destination of the request it is.
fn destination(record: &RequestRecord, id: &str, body: Option<&[u8]>) -> Value {
    let index = record.message_ids.iter().position(|other| **other == *id);
    let pointer = index.and_then(|index| {
        let body: Value = serde_json::from_slice(body?).ok()?;
        destinations(&body).into_iter().nth(index)
    });
    json!({"index": index, "of": record.message_ids.len(), "pointer": pointer})
}

/// The JSON pointers of all destinations that have an id in the answer, in their order.
fn destinations(body: &Value) -> Vec<String> {
    let mut pointers = Vec::new();
    match body.get("messages") {
        Some(messages) => {
            for (pointer, message) in elements("/messages", messages) {
                add(&pointer, message, &mut pointers);
            }
        }
        None => add("", body, &mut pointers),
    }
    pointers
}

fn add(pointer: &str, message: &Value, pointers: &mut Vec<String>) {
    if let Some(destinations) = message.get("destinations") {
        for (pointer, destination) in elements(&format!("{pointer}/destinations"), destinations) {
            add_if_given(pointer, destination.get("to"), pointers);
        }
    } else if let Some(to) = message.get("to") {
        for (pointer, to) in elements(&format!("{pointer}/to"), to) {
            add_if_given(pointer, Some(to), pointers);
        }
    }
}

/// A destination without a number gets no message id.
fn add_if_given(pointer: String, to: Option<&Value>, pointers: &mut Vec<String>) {
    let is_given = match to {
        None | Some(Value::Null) => false,
        Some(Value::String(to)) => !to.trim().is_empty(),
        Some(_) => true,
    };
    if is_given {
        pointers.push(pointer);
    }
}

/// The elements of a list, or the one value that stands for it.
fn elements<'a>(pointer: &str, value: &'a Value) -> Vec<(String, &'a Value)> {
    match value {
        Value::Array(values) => values
            .iter()
            .enumerate()
            .map(|(index, value)| (format!("{pointer}/{index}"), value))
            .collect(),
        value => vec![(pointer.to_owned(), value)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_found_in_every_form_of_a_request() {
        for (body, wanted) in [
            (json!({"to": "1"}), vec!["/to"]),
            (json!({"to": ["1", "", 2]}), vec!["/to/0", "/to/2"]),
            (
                json!({"messages": [{"to": "1"}, {"to": ["2"]}]}),
                vec!["/messages/0/to", "/messages/1/to/0"],
            ),
            (
                json!({"messages": {"destinations": [{"to": "1"}, {"messageId": "x"}, {"to": 3}]}}),
                vec!["/messages/destinations/0", "/messages/destinations/2"],
            ),
        ] {
            assert_eq!(destinations(&body), wanted, "{body}");
        }
    }
}
