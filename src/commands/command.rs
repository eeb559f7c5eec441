//! Reads a command: decodes its body, and sets request id, expiration and priority from its envelope.
//!
//! Neighbours: `envelope` reads properties and headers, `encoding` decodes the body.

use std::time::Duration;

use jiff::Timestamp;
use lapin::message::Delivery;

use super::{
    Commands,
    decoded_size::decoded_bytes,
    encoding::Encoding,
    envelope::{Envelope, History, now_ms},
    invalid::Invalid,
    message_ids,
};
use crate::{
    amqp::{Topology, codec, headers::property},
    message::{reason::Reason, time},
    proto::v1::{self, FieldViolation},
    send::{
        Arrival, SendCommand,
        request::{RequestForm, SendRequest},
        validate,
    },
};

pub(super) const REQUEST_ID: &str = "request_id";
/// The type of a look-up.
pub(super) const LOOKUP_NUMBERS: &str = "LookupNumbersRequest";

/// The queue that a delivery came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Normal,
    Urgent,
    Returned,
    Lookup,
}

impl Source {
    /// The name of the queue.
    pub(super) fn queue(self, topology: &Topology) -> String {
        match self {
            Self::Normal => topology.send_normal(),
            Self::Urgent => topology.send_urgent(),
            Self::Returned => topology.returned(),
            Self::Lookup => topology.lookup(),
        }
    }
}

/// A decoded command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) form: RequestForm,
    pub(super) encoding: Encoding,
    pub(super) history: History,
    pub(super) send: SendCommand,
    /// Why its queue gave it up: what was not sent of it is a dead letter.
    pub(super) given_up: Option<Invalid>,
}

impl Command {
    pub(super) fn read(
        envelope: &Envelope<'_>,
        source: Source,
        commands: &Commands,
    ) -> Result<Self, Invalid> {
        let application = envelope.application(commands)?;
        let encoding = Encoding::of(envelope.properties())?;
        let form = form(envelope)?;
        let SendRequest {
            form,
            bulk: mut request,
        } = decode(form, encoding, envelope.body())?;
        let found = set_request_id(&mut request.request_id, envelope.request_id());
        check_request(&request, form, found)?;
        let history = envelope.history();
        let arrival = arrival(envelope, source, history, &request);
        let expires_at_ms = expires_at_ms(envelope, source, commands.max_age);
        for message in &mut request.messages {
            if let Some(at_ms) = expires_at_ms {
                limit_expiry(message, at_ms);
            }
            if source == Source::Urgent && message.priority() == v1::Priority::Unspecified {
                message.set_priority(v1::Priority::Urgent);
            }
        }
        Ok(Self {
            form,
            encoding,
            history,
            send: SendCommand {
                application,
                form,
                request,
                violations: Vec::new(),
                arrival,
                traceparent: envelope.traceparent(),
                delivery: None,
            },
            given_up: None,
        })
    }

    /// A command that its queue gave up. `None` if it cannot be looked up: it has neither a request id nor a message id of each
    /// destination, or cannot be read.
    pub(super) fn read_given_up(
        envelope: &Envelope<'_>,
        commands: &Commands,
        why: Invalid,
    ) -> Result<Self, Invalid> {
        // With the deadline of any other queue: in `returned` a command has expired.
        let Ok(mut command) = Self::read(envelope, Source::Normal, commands) else {
            return Err(why);
        };
        let request = &command.send.request;
        if request.request_id.is_empty() && !message_ids::has_all(request) {
            return Err(why);
        }
        let at = Timestamp::from_millisecond(envelope.returned_ms());
        command.send.arrival = Arrival::GivenUp {
            at: at.unwrap_or_else(|_| Timestamp::now()),
        };
        command.given_up = Some(why);
        Ok(command)
    }

    pub(super) fn into_request(self) -> SendRequest {
        SendRequest {
            form: self.form,
            bulk: self.send.request,
        }
    }
}

/// Whether the command is looked up before it is sent. A copy that was not tried is looked up for its twin, if it has an id.
fn arrival(
    envelope: &Envelope<'_>,
    source: Source,
    history: History,
    request: &v1::SendSmsBulkRequest,
) -> Arrival {
    let mut destinations = request.messages.iter().flat_map(|one| &one.destinations);
    let has_id =
        !request.request_id.is_empty() || destinations.any(|one| !one.message_id.is_empty());
    if source == Source::Returned && has_id {
        let at = Timestamp::from_millisecond(envelope.returned_ms());
        Arrival::Returned {
            at: at.unwrap_or_else(|_| Timestamp::now()),
        }
    } else if history.may_be_sent(source) {
        Arrival::Redelivered
    } else if history.may_have_twin && has_id {
        Arrival::LookUpFirst
    } else {
        Arrival::First
    }
}

/// The time after which the command is not sent any more, in milliseconds since 1970.
pub(super) fn expires_at_ms(
    envelope: &Envelope<'_>,
    source: Source,
    max_age: Duration,
) -> Option<i64> {
    // A command that the broker returned has expired.
    let returned_at = (source == Source::Returned).then(now_ms);
    let too_old_at = (!max_age.is_zero()).then(|| {
        let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        envelope.published_ms().saturating_add(max_age_ms)
    });
    let all = [envelope.expires_at_ms(), returned_at, too_old_at];
    all.into_iter().flatten().min()
}

/// The message that the property `type` names, without the package. Empty if there is no such property.
pub(super) fn type_name<'a>(envelope: &Envelope<'a>) -> &'a str {
    let name = property(envelope.properties().kind());
    name.strip_prefix("smsbridge.v1.").unwrap_or(name)
}

/// The form that the property `type` names.
fn form(envelope: &Envelope<'_>) -> Result<RequestForm, Invalid> {
    match type_name(envelope) {
        "" | "SendSmsRequest" => Ok(RequestForm::Single),
        "SendSmsBulkRequest" => Ok(RequestForm::Bulk),
        LOOKUP_NUMBERS => Err(Invalid::new(
            Reason::UnknownType,
            format!(
                "publish a {LOOKUP_NUMBERS} with the routing key {}",
                codec::LOOKUP
            ),
        )),
        codec::AMQP_1_0 => Err(Invalid::not_a_data_section()),
        name => Err(Invalid::new(
            Reason::UnknownType,
            format!(
                "unknown command type `{name}`: use smsbridge.v1.SendSmsRequest or smsbridge.v1.SendSmsBulkRequest"
            ),
        )),
    }
}

/// The request in the body of a dead letter; `None` if it cannot be read.
pub(super) fn decoded(delivery: &Delivery) -> Option<SendRequest> {
    decoded_bytes(delivery).ok()?;
    let envelope = Envelope::new(delivery);
    let encoding = Encoding::of(envelope.properties()).ok()?;
    let form = form(&envelope).ok()?;
    decode(form, encoding, envelope.body()).ok()
}

fn decode(form: RequestForm, encoding: Encoding, body: &[u8]) -> Result<SendRequest, Invalid> {
    match form {
        RequestForm::Bulk => encoding.decode(body).map(SendRequest::from_bulk),
        RequestForm::Single => encoding.decode(body).map(SendRequest::from_single),
    }
}

/// Sets the request id from the property `message_id`, if the body has none. Returns a violation if both have one and they differ.
pub(super) fn set_request_id(in_body: &mut String, from_property: &str) -> Vec<FieldViolation> {
    if in_body.is_empty() {
        from_property.clone_into(in_body);
    } else if !from_property.is_empty() && from_property != in_body {
        return vec![FieldViolation {
            field: REQUEST_ID.into(),
            description: "differs from the property message_id: set only one of them".into(),
        }];
    }
    Vec::new()
}

/// Checks the request as a whole, before anything is decided by its request id. Invalid messages are the sender's concern.
fn check_request(
    request: &v1::SendSmsBulkRequest,
    form: RequestForm,
    found: Vec<FieldViolation>,
) -> Result<(), Invalid> {
    let violations = validate::check_request(request, form, found, Timestamp::now());
    if violations.is_empty() {
        return Ok(());
    }
    let is_about_id = violations.iter().any(|one| one.field == REQUEST_ID);
    let reason = if is_about_id {
        Reason::InvalidRequestId
    } else {
        Reason::InvalidRequest
    };
    Err(Invalid::request(reason, violations))
}

/// Makes a message expire at the given time, unless it expires earlier.
fn limit_expiry(message: &mut v1::OutboundMessage, at_ms: i64) {
    let Ok(at) = Timestamp::from_millisecond(at_ms) else {
        return;
    };
    let own = message.expires_at.as_ref().and_then(time::from_proto);
    // An `expires_at` that is not a valid time is kept, because validation reports it.
    if message.expires_at.is_none() || own.is_some_and(|own| at < own) {
        message.expires_at = Some(time::to_proto(at));
    }
}
