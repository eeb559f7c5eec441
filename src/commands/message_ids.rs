//! The message ids of a copy without a request id: the copy and its twin have the same ids, so the second one is looked up and not
//! sent again.
//!
//! Neighbours: `handle` encodes the copy; with a request id the ids derive from it, and the body stays as it is.

use crate::{
    message::id::derive_message_id,
    proto::v1,
    send::{Sent, request::SendRequest},
};

/// Gives each destination without an id the one that it has in the results.
pub(super) fn set_from_results(request: &mut SendRequest, sent: &Sent) {
    let mut results = sent.results.iter();
    for message in &mut request.bulk.messages {
        if message.destinations.is_empty() {
            // A message without destinations has one result.
            results.next();
        }
        for destination in &mut message.destinations {
            if let Some(result) = results.next()
                && destination.message_id.is_empty()
            {
                destination.message_id.clone_from(&result.message_id);
            }
        }
    }
}

/// Whether each destination has an id.
pub(super) fn has_all(request: &v1::SendSmsBulkRequest) -> bool {
    let mut destinations = request.messages.iter().flat_map(|one| &one.destinations);
    destinations.all(|one| !one.message_id.is_empty())
}

/// Gives each destination without an id a new one.
pub(super) fn set_new(request: &mut SendRequest) {
    let messages = request.bulk.messages.iter_mut();
    let destinations = messages.flat_map(|message| &mut message.destinations);
    for v1::Destination { message_id, .. } in destinations {
        if message_id.is_empty() {
            *message_id = derive_message_id("", 0, 1);
        }
    }
}
