//! `GetMessage`: the events of one message.
//!
//! Invariants: a caller gets the events of its own application, unless it may see those of all; a search is bounded in time.
//! Neighbour: each engine of the event log finds them in its way.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    events::{MessageKey, SharedEventLog},
    grpc::{auth::caller::Caller, failure::Failure, middleware::deadline::Deadline},
    message::{
        id::{ApplicationName, FOREIGN_APPLICATION},
        time,
    },
    proto::v1::{FieldViolation, GetMessageRequest, GetMessageResponse},
};

/// The longest search. The embedded engine has an index and takes milliseconds.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest id: one of a caller, with the number of its destination.
const MAX_ID_BYTES: usize = 256;

pub(super) async fn get(
    log: &SharedEventLog,
    caller: &Caller,
    deadline: Deadline,
    request: GetMessageRequest,
) -> Result<GetMessageResponse, Failure> {
    let mut mistakes = Vec::new();
    let mut mistake = |field: &str, description: String| {
        mistakes.push(FieldViolation {
            field: field.to_owned(),
            description,
        });
    };
    if request.message_id.is_empty() || request.message_id.len() > MAX_ID_BYTES {
        mistake(
            "message_id",
            format!("must be 1 to {MAX_ID_BYTES} characters"),
        );
    }
    let application = match request.application.as_str() {
        "" => caller.application.to_string(),
        FOREIGN_APPLICATION => FOREIGN_APPLICATION.to_owned(),
        name => {
            if let Err(error) = ApplicationName::parse(name) {
                mistake("application", error.to_string());
            }
            name.to_owned()
        }
    };
    let since = request.since.as_ref().map(time::from_proto);
    if since == Some(None) {
        mistake("since", "is not a time".to_owned());
    }
    if !mistakes.is_empty() {
        return Err(Failure::Invalid(mistakes));
    }
    let not_found = |message_id: String, application: String| Failure::MessageNotFound {
        message_id,
        application,
    };
    // As if there were none: a caller learns nothing of the messages of others.
    if !caller.may_see(&application) {
        return Err(not_found(request.message_id, application));
    }
    let message = MessageKey {
        application,
        message_id: request.message_id,
    };
    let began = Instant::now();
    let until = began + LONGEST;
    let until = deadline.at().map_or(until, |at| at.min(until));
    let search = log.find_message(message.clone(), since.flatten());
    let found = match tokio::time::timeout_at(until, search).await {
        Ok(found) => found.map_err(Failure::Read)?,
        Err(_) => {
            let searched = began.elapsed();
            return Err(Failure::MessageSearch { searched });
        }
    };
    if found.events.is_empty() {
        return Err(not_found(message.message_id, message.application));
    }
    Ok(GetMessageResponse {
        events: found.events,
        has_more: found.is_cut,
    })
}
