//! Reads a command that looks numbers up: its numbers, its request id, and when it expires.
//!
//! Neighbours: `envelope` reads properties and headers, `encoding` decodes the body, `query::lookup` checks the numbers.

use bytes::Bytes;
use lapin::message::Delivery;

use crate::{
    amqp::codec,
    commands::{
        Commands,
        command::{LOOKUP_NUMBERS, REQUEST_ID, Source, expires_at_ms, set_request_id, type_name},
        encoding::Encoding,
        envelope::{Envelope, History},
        invalid::Invalid,
        ledger::Key,
    },
    message::{
        id::{ApplicationName, check_caller_id},
        reason::Reason,
        traceparent::Traceparent,
    },
    proto::v1::{self, FieldViolation},
    query::lookup::Numbers,
};

/// The largest body. 10,000 numbers take some 150 KB; more numbers than are allowed are decoded before they are refused.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A decoded command.
pub(super) struct LookupCommand {
    pub(super) application: ApplicationName,
    /// Empty if it has none.
    pub(super) request_id: String,
    /// Without repetitions.
    pub(super) numbers: Vec<String>,
    /// How many of them there were.
    count: usize,
    pub(super) encoding: Encoding,
    pub(super) history: History,
    pub(super) expires_at_ms: Option<i64>,
    pub(super) traceparent: Option<Traceparent>,
}

impl LookupCommand {
    pub(super) fn read(
        envelope: &Envelope<'_>,
        source: Source,
        commands: &Commands,
    ) -> Result<Self, Invalid> {
        let application = envelope.application(commands)?;
        let encoding = Encoding::of(envelope.properties())?;
        check_type(type_name(envelope))?;
        let body = envelope.body();
        if body.len() > MAX_BODY_BYTES {
            return Err(Invalid::new(
                Reason::MessageTooLarge,
                format!(
                    "the body has {} bytes and may have {MAX_BODY_BYTES}: split the command",
                    body.len()
                ),
            ));
        }
        let v1::LookupNumbersRequest { to, mut request_id } = encoding.decode(body)?;
        let of_id = check_request_id(&mut request_id, envelope.request_id());
        let numbers = Numbers::parse(&to);
        let numbers = match (of_id.is_empty(), numbers) {
            (true, Ok(numbers)) => numbers.into_distinct(),
            (true, Err(violations)) => {
                return Err(Invalid::request(Reason::InvalidRequest, violations));
            }
            (false, numbers) => {
                let of_numbers = numbers.err().unwrap_or_default();
                let violations = of_id.into_iter().chain(of_numbers).collect();
                return Err(Invalid::request(Reason::InvalidRequestId, violations));
            }
        };
        Ok(Self {
            application,
            request_id,
            count: numbers.len(),
            numbers,
            encoding,
            history: envelope.history(),
            expires_at_ms: expires_at_ms(envelope, source, commands.max_age),
            traceparent: envelope.traceparent(),
        })
    }

    /// `None` if it has no request id. A send with the same request id has another key.
    pub(super) fn key(&self) -> Option<Key> {
        let has_id = !self.request_id.is_empty();
        has_id.then(|| {
            let id = format!("{} {}", codec::LOOKUP, self.request_id);
            (self.application.to_string(), id)
        })
    }

    /// The body of a copy with the numbers that are left.
    pub(super) fn body(&self, delivery: &Delivery) -> Bytes {
        if self.numbers.len() == self.count {
            return Bytes::copy_from_slice(&delivery.data);
        }
        self.encoding.encode(&v1::LookupNumbersRequest {
            to: self.numbers.clone(),
            request_id: self.request_id.clone(),
        })
    }
}

fn check_type(name: &str) -> Result<(), Invalid> {
    if name.is_empty() || name == LOOKUP_NUMBERS {
        return Ok(());
    }
    if name == codec::AMQP_1_0 {
        return Err(Invalid::not_a_data_section());
    }
    Err(Invalid::new(
        Reason::UnknownType,
        format!(
            "unknown command type `{name}`: the routing key {} is for smsbridge.v1.{LOOKUP_NUMBERS}",
            codec::LOOKUP
        ),
    ))
}

/// Sets the request id from the property if the body has none, and returns its mistakes.
fn check_request_id(request_id: &mut String, from_property: &str) -> Vec<FieldViolation> {
    let mut violations = set_request_id(request_id, from_property);
    if !request_id.is_empty()
        && let Err(error) = check_caller_id(request_id)
    {
        violations.push(FieldViolation {
            field: REQUEST_ID.into(),
            description: error.to_string(),
        });
    }
    violations
}
