//! Generated requests to send, valid and invalid, for tests of what the contract promises about every request.
//!
//! [`Case::mistakes`] states the mistakes of a request independently of the bridge's validation.

use proptest::{prelude::*, sample::select, test_runner::TestCaseError};
use smsbridge::proto::v1::{self, Outcome, outbound_message::Content};

/// Rows of the generated requests: the value, and whether it is valid.
const NUMBERS: [(&str, bool); 6] = [
    ("41793026727", true),
    ("+385 91 123-4567", true),
    ("41793026728", true),
    ("41793026729", true),
    ("nobody", false),
    ("", false),
];
const TEXTS: [(&str, bool); 4] = [
    ("Hello", true),
    ("Здравей", true),
    ("Hi", true),
    ("", false),
];
const SENDERS: [(&str, bool); 4] = [("InfoSMS", true), ("", true), ("4179", true), ("x", false)];

/// What the caller does with an id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Id {
    Absent,
    Unique,
    /// The same in every case of the test, so it was used before with other content.
    Reused,
    Invalid,
}

/// What the API does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Api {
    Works,
    RefusesCredentials,
    LosesTheResponse,
}

#[derive(Debug, Clone)]
struct Destination {
    to: (&'static str, bool),
    id: Id,
}

#[derive(Debug, Clone)]
struct Message {
    from: (&'static str, bool),
    text: (&'static str, bool),
    destinations: Vec<Destination>,
}

#[derive(Debug, Clone)]
pub struct Case {
    request_id: Id,
    bulk_id: Id,
    messages: Vec<Message>,
    pub api: Api,
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![5 => Just(Id::Absent), 3 => Just(Id::Unique), 1 => Just(Id::Reused), 1 => Just(Id::Invalid)]
}

fn message() -> impl Strategy<Value = Message> {
    let destination = (select(&NUMBERS[..]), id()).prop_map(|(to, id)| Destination { to, id });
    let destinations = prop::collection::vec(destination, 0..4);
    let parts = (select(&SENDERS[..]), select(&TEXTS[..]), destinations);
    parts.prop_map(|(from, text, destinations)| Message {
        from,
        text,
        destinations,
    })
}

pub fn cases(messages: std::ops::Range<usize>) -> impl Strategy<Value = Case> {
    let api = prop_oneof![6 => Just(Api::Works), 1 => Just(Api::RefusesCredentials), 1 => Just(Api::LosesTheResponse)];
    let messages = prop::collection::vec(message(), messages);
    let parts = (id(), id(), messages, api);
    parts.prop_map(|(request_id, bulk_id, messages, api)| Case {
        request_id,
        bulk_id,
        messages,
        api,
    })
}

/// The text of an id: empty, `unique`, the one that all cases share, or an invalid one.
fn spelled(id: Id, unique: String) -> String {
    match id {
        Id::Absent => String::new(),
        Id::Unique => unique,
        Id::Reused => "reused".to_owned(),
        Id::Invalid => "~".to_owned(),
    }
}

impl Case {
    pub fn bulk(&self, number: u32) -> v1::SendSmsBulkRequest {
        let message = |(index, message): (usize, &Message)| v1::OutboundMessage {
            from: message.from.0.to_owned(),
            destinations: message
                .destinations
                .iter()
                .enumerate()
                .map(|(position, one)| v1::Destination {
                    to: one.to.0.to_owned(),
                    message_id: spelled(one.id, format!("m{number}-{index}-{position}")),
                })
                .collect(),
            content: Some(Content::Text(message.text.0.to_owned())),
            // Without it, a reused id with the content of a case that was rejected would get that case's result.
            callback_data: number.to_string(),
            ..Default::default()
        };
        v1::SendSmsBulkRequest {
            request_id: spelled(self.request_id, format!("r{number}")),
            bulk_id: spelled(self.bulk_id, format!("b{number}")),
            messages: self.messages.iter().enumerate().map(message).collect(),
            tracking: None,
        }
    }

    /// Results of the request, each of which takes a place in the queue.
    pub fn results(&self) -> usize {
        self.rows().len()
    }

    /// Whether an id that stands for content was used in another case.
    pub fn reuses_an_id(&self) -> bool {
        let mut destinations = self.messages.iter().flat_map(|one| &one.destinations);
        self.request_id == Id::Reused || destinations.any(|one| one.id == Id::Reused)
    }

    /// The case of a request with the first message only.
    pub fn first_message(&self) -> Self {
        Self {
            messages: self.messages[..1].to_vec(),
            ..self.clone()
        }
    }

    /// A request with the first message.
    pub fn single(&self, number: u32) -> v1::SendSmsRequest {
        let bulk = self.bulk(number);
        v1::SendSmsRequest {
            request_id: bulk.request_id,
            bulk_id: bulk.bulk_id,
            message: bulk.messages.into_iter().next(),
            tracking: None,
        }
    }

    /// The fields with a mistake: of the request itself, and of each message. `path` is the path of a message.
    pub fn mistakes(&self, path: impl Fn(usize) -> String) -> (Vec<String>, Vec<Vec<String>>) {
        let mut of_request = Vec::new();
        for (field, id) in [("request_id", self.request_id), ("bulk_id", self.bulk_id)] {
            if id == Id::Invalid {
                of_request.push(field.to_owned());
            }
        }
        if self.messages.is_empty() {
            of_request.push("messages".to_owned());
        }
        let mut is_reused_seen = false;
        let of_messages = self.messages.iter().enumerate();
        let of_messages = of_messages.map(|(index, message)| {
            let mut fields = Vec::new();
            let mut add = |field: String| fields.push(format!("{}.{field}", path(index)));
            if !message.from.1 {
                add("from".into());
            }
            if message.destinations.is_empty() {
                add("destinations".into());
            }
            for (position, one) in message.destinations.iter().enumerate() {
                if !one.to.1 {
                    add(format!("destinations[{position}].to"));
                }
                let is_used_twice = one.id == Id::Reused && is_reused_seen;
                is_reused_seen |= one.id == Id::Reused;
                if one.id == Id::Invalid || is_used_twice {
                    add(format!("destinations[{position}].message_id"));
                }
            }
            if !message.text.1 {
                add("text".into());
            }
            fields
        });
        (of_request, of_messages.collect())
    }

    /// The message index and the number of each result. A message without destinations has one result.
    fn rows(&self) -> Vec<(i32, String)> {
        let mut rows = Vec::new();
        for (index, message) in self.messages.iter().enumerate() {
            let index = i32::try_from(index).unwrap();
            if message.destinations.is_empty() {
                rows.push((index, String::new()));
            }
            for one in &message.destinations {
                let digits = || one.to.0.chars().filter(char::is_ascii_digit).collect();
                let to = if one.to.1 {
                    digits()
                } else {
                    one.to.0.to_owned()
                };
                rows.push((index, to));
            }
        }
        rows
    }

    /// Each destination has one result, and each invalid message its mistakes in them. A request that is invalid as a whole has
    /// results on a stream only: all mistakes in each.
    pub fn check_results(
        &self,
        of_request: &[String],
        of_messages: &[Vec<String>],
        results: &[v1::SendResult],
    ) -> Result<(), TestCaseError> {
        let rows: Vec<_> = results
            .iter()
            .map(|one| (one.message_index, one.to.clone()))
            .collect();
        prop_assert_eq!(rows, self.rows());
        for result in results {
            let index = usize::try_from(result.message_index).unwrap();
            let mistakes = if of_request.is_empty() {
                of_messages[index].clone()
            } else {
                [of_request, &of_messages.concat()].concat()
            };
            prop_assert_ne!(result.outcome(), Outcome::Unspecified);
            let refusal = result.refusal.as_deref();
            let told = refusal.map_or(&[][..], |one| &one.violations);
            let told: Vec<_> = told.iter().map(|one| one.field.clone()).collect();
            prop_assert_eq!(&told, &mistakes);
            if !mistakes.is_empty() {
                let reason = refusal.map_or("", |one| &one.reason);
                prop_assert!(["INVALID_REQUEST", "ID_REUSED"].contains(&reason));
            }
        }
        Ok(())
    }
}
