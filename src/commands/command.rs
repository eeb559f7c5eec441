//! From a delivery to a command, or to what is wrong with it.

use std::borrow::Cow;

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

use super::headers::{EXPIRES_AT, FIRST_SEEN, IN_DOUBT, ROUTING_KEY, USER_ID};
use crate::{
    amqp::{
        codec,
        frame::{MAX_TEXT_BYTES, cut},
    },
    config::ApplicationFrom,
    message::{
        id::{ApplicationName, check_caller_id},
        reason::Reason,
        time,
    },
    proto::v1::{self, FieldViolation},
    send::{Arrival, SendCommand},
};

/// After this a command that may have been sent is never sent again (docs/RELIABILITY.md#how-a-send-stays-single).
const LONGEST_DOUBT_MS: i64 = 24 * 3600 * 1000;

/// Violations that the event of an invalid command names at most; its detail says how many there are.
const MAX_VIOLATIONS: usize = 100;

/// Which queue a delivery came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// `send.normal`
    Normal,
    /// `send.urgent`
    Urgent,
    Returned,
}

/// The body that a command came with, which the reply has the counterpart of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `SendSmsRequest`
    Single,
    /// `SendSmsBulkRequest`
    Bulk,
}

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Proto JSON.
    Json,
    /// Binary.
    Protobuf,
}

/// A command that can be read.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) kind: Kind,
    pub(super) encoding: Encoding,
    pub(super) send: SendCommand,
}

/// Why a command can't be carried out, ever.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Invalid {
    /// The stable reason, as in docs/ERRORS.md.
    pub(super) reason: Reason,
    /// For people.
    pub(super) detail: String,
    pub(super) violations: Vec<FieldViolation>,
}

impl Invalid {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            violations: Vec::new(),
        }
    }

    /// With the texts and the number of violations that an event has at most: both may repeat what the publisher wrote.
    pub(super) fn bounded(mut self) -> Self {
        let shorten = |text: &mut String| {
            if let Cow::Owned(cut) = cut(text, MAX_TEXT_BYTES) {
                *text = cut;
            }
        };
        shorten(&mut self.detail);
        self.violations.truncate(MAX_VIOLATIONS);
        for violation in &mut self.violations {
            shorten(&mut violation.field);
            shorten(&mut violation.description);
        }
        self
    }
}

/// What a delivery says of itself beside its body.
pub(super) struct Envelope<'a> {
    delivery: &'a Delivery,
    headers: Option<&'a FieldTable>,
}

impl<'a> Envelope<'a> {
    pub(super) fn new(delivery: &'a Delivery) -> Self {
        Self {
            delivery,
            headers: delivery.properties.headers().as_ref(),
        }
    }

    fn properties(&self) -> &'a BasicProperties {
        &self.delivery.properties
    }

    /// Whose it is. A command that the bridge itself put back carries the user who published it in a header, which counts
    /// only where the broker vouches for the bridge.
    pub(super) fn application(
        &self,
        from: ApplicationFrom,
        bridge_user: &str,
    ) -> Result<ApplicationName, Invalid> {
        let name = match from {
            ApplicationFrom::AppId => property(self.properties().app_id()),
            ApplicationFrom::UserId => {
                let user = property(self.properties().user_id());
                if user == bridge_user {
                    codec::text_header(self.headers, USER_ID).unwrap_or(user)
                } else {
                    user
                }
            }
        };
        if name.is_empty() {
            return Ok(ApplicationName::default_application());
        }
        ApplicationName::parse(&name).map_err(|error| {
            Invalid::new(
                Reason::InvalidApplication,
                format!("the application name {error}"),
            )
        })
    }

    /// The id of the request, as the property says it. Not checked.
    pub(super) fn request_id(&self) -> String {
        property(self.properties().message_id())
    }

    /// The routing key that the publisher used.
    pub(super) fn routing_key(&self) -> String {
        codec::text_header(self.headers, ROUTING_KEY)
            .or_else(|| self.death().and_then(|death| death.routing_key))
            .unwrap_or_else(|| self.delivery.routing_key.to_string())
    }

    /// Whether it may have been tried before.
    pub(super) fn arrival(&self) -> Arrival {
        let delivered_before = codec::number_header(self.headers, "x-delivery-count");
        let tried = self.delivery.redelivered
            || delivered_before.is_some_and(|count| count > 0)
            || self.in_doubt();
        if tried {
            Arrival::Redelivered
        } else {
            Arrival::First
        }
    }

    fn in_doubt(&self) -> bool {
        self.headers
            .and_then(|headers| headers.inner().get(IN_DOUBT))
            .is_some()
    }

    /// When the bridge first saw it, in milliseconds since 1970.
    pub(super) fn first_seen_ms(&self) -> i64 {
        codec::number_header(self.headers, FIRST_SEEN).unwrap_or_else(now_ms)
    }

    /// Since when its age counts: its `timestamp`, unless that is to come, else first sight.
    fn since_ms(&self) -> i64 {
        let published = self.properties().timestamp().and_then(|at| {
            // Seconds by the protocol; some publishers write milliseconds.
            let ms = if at > 100_000_000_000 { at } else { at * 1000 };
            i64::try_from(ms).ok()
        });
        let first_seen = self.first_seen_ms();
        published.map_or(first_seen, |published| published.min(first_seen))
    }

    /// When `expiration` makes it lapse, in milliseconds since 1970.
    pub(super) fn lapses_at_ms(&self) -> Option<i64> {
        if let Some(at) = codec::number_header(self.headers, EXPIRES_AT) {
            return Some(at);
        }
        let expiration = self
            .properties()
            .expiration()
            .as_ref()
            .map(|expiration| expiration.as_str().to_owned())
            .or_else(|| self.death().and_then(|death| death.original_expiration))?;
        Some(self.since_ms().saturating_add(expiration.parse().ok()?))
    }

    /// Why and from where the broker moved it here.
    pub(super) fn death(&self) -> Option<Death> {
        let AMQPValue::FieldArray(deaths) = self.headers?.inner().get("x-death")? else {
            return None;
        };
        // The newest comes first.
        let AMQPValue::FieldTable(death) = deaths.as_slice().first()? else {
            return None;
        };
        let routing_key = match death.inner().get("routing-keys") {
            Some(AMQPValue::FieldArray(keys)) => keys.as_slice().first().and_then(as_text),
            _ => None,
        };
        Some(Death {
            reason: codec::text_header(Some(death), "reason").unwrap_or_default(),
            original_expiration: codec::text_header(Some(death), "original-expiration"),
            routing_key,
        })
    }

    /// Reads the whole command.
    pub(super) fn read(
        &self,
        source: Source,
        from: ApplicationFrom,
        bridge_user: &str,
    ) -> Result<Command, Invalid> {
        let application = self.application(from, bridge_user)?;
        let (encoding, kind) = (self.encoding()?, self.kind()?);
        let mut request = self.body(encoding, kind)?;
        self.adopt_request_id(&mut request)?;
        let arrival = self.arrival();
        let mut deadline = self.lapses_at_ms();
        if arrival == Arrival::Redelivered {
            let latest = self.since_ms().saturating_add(LONGEST_DOUBT_MS);
            deadline = Some(deadline.map_or(latest, |deadline| deadline.min(latest)));
        }
        if source == Source::Returned {
            deadline = Some(deadline.map_or_else(now_ms, |deadline| deadline.min(now_ms())));
        }
        for message in &mut request.messages {
            if let Some(deadline) = deadline {
                lapse(message, deadline);
            }
            if source == Source::Urgent && message.priority() == v1::Priority::Unspecified {
                message.set_priority(v1::Priority::Urgent);
            }
        }
        Ok(Command {
            kind,
            encoding,
            send: SendCommand {
                application,
                request,
                arrival,
            },
        })
    }

    fn encoding(&self) -> Result<Encoding, Invalid> {
        let coding = property(self.properties().content_encoding());
        if !coding.is_empty()
            && !coding.eq_ignore_ascii_case("identity")
            && !coding.eq_ignore_ascii_case("utf-8")
        {
            return Err(Invalid::new(
                Reason::UnsupportedEncoding,
                format!("content_encoding `{coding}` is not supported: send the body as it is"),
            ));
        }
        let content_type = property(self.properties().content_type());
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "" | codec::JSON => Ok(Encoding::Json),
            codec::PROTOBUF | "application/x-protobuf" => Ok(Encoding::Protobuf),
            _ => Err(Invalid::new(
                Reason::UnsupportedEncoding,
                format!(
                    "content_type `{content_type}` is not supported: use {} or {}",
                    codec::JSON,
                    codec::PROTOBUF
                ),
            )),
        }
    }

    fn kind(&self) -> Result<Kind, Invalid> {
        let name = property(self.properties().kind());
        match name.strip_prefix("smsbridge.v1.").unwrap_or(&name) {
            "" | "SendSmsRequest" => Ok(Kind::Single),
            "SendSmsBulkRequest" => Ok(Kind::Bulk),
            _ => Err(Invalid::new(
                Reason::UnknownType,
                format!(
                    "the type `{name}` is no command: use smsbridge.v1.SendSmsRequest or smsbridge.v1.SendSmsBulkRequest"
                ),
            )),
        }
    }

    fn body(&self, encoding: Encoding, kind: Kind) -> Result<v1::SendSmsBulkRequest, Invalid> {
        match kind {
            Kind::Bulk => decode(encoding, &self.delivery.data),
            Kind::Single => {
                let single: v1::SendSmsRequest = decode(encoding, &self.delivery.data)?;
                let message = single.message.ok_or_else(|| Invalid {
                    reason: Reason::InvalidRequest,
                    detail: "the command has no message".into(),
                    violations: vec![FieldViolation {
                        field: "message".into(),
                        description: "is required".into(),
                    }],
                })?;
                Ok(v1::SendSmsBulkRequest {
                    request_id: single.request_id,
                    bulk_id: single.bulk_id,
                    messages: vec![message],
                    tracking: single.tracking,
                })
            }
        }
    }

    /// The property `message_id` is the request id.
    fn adopt_request_id(&self, request: &mut v1::SendSmsBulkRequest) -> Result<(), Invalid> {
        let from_property = self.request_id();
        if request.request_id.is_empty() {
            request.request_id = from_property;
        } else if !from_property.is_empty() && from_property != request.request_id {
            return Err(Invalid::new(
                Reason::InvalidRequestId,
                "the property message_id and the body's request_id differ: give one of them",
            ));
        }
        if request.request_id.is_empty() {
            return Ok(());
        }
        check_caller_id(&request.request_id).map_err(|error| {
            Invalid::new(Reason::InvalidRequestId, format!("the request_id {error}"))
        })
    }
}

/// Why a message was dead-lettered.
pub(super) struct Death {
    /// `expired`, `delivery_limit`, `rejected`, `maxlen`.
    pub(super) reason: String,
    original_expiration: Option<String>,
    routing_key: Option<String>,
}

fn decode<M>(encoding: Encoding, body: &[u8]) -> Result<M, Invalid>
where
    M: prost::Message + Default + for<'de> serde::Deserialize<'de>,
{
    match encoding {
        Encoding::Json => serde_json::from_slice(body).map_err(|error| {
            Invalid::new(
                Reason::UnreadableRequest,
                format!("not proto JSON: {error}"),
            )
        }),
        Encoding::Protobuf => M::decode(body).map_err(|error| {
            Invalid::new(Reason::UnreadableRequest, format!("not protobuf: {error}"))
        }),
    }
}

/// Makes a message lapse at a moment, unless it does so earlier.
fn lapse(message: &mut v1::OutboundMessage, at_ms: i64) {
    let Ok(at) = jiff::Timestamp::from_millisecond(at_ms) else {
        return;
    };
    let own = message.expires_at.as_ref().and_then(time::from_proto);
    // An impossible time of the caller's stays: it is a mistake to be told.
    if message.expires_at.is_none() || own.is_some_and(|own| at < own) {
        message.expires_at = Some(time::to_proto(at));
    }
}

fn property(property: &Option<lapin::types::ShortString>) -> String {
    property
        .as_ref()
        .map(|value| value.as_str().to_owned())
        .unwrap_or_default()
}

fn as_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => None,
    }
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
