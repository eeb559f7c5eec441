//! Response bodies: statuses, errors, prices, report and log rows, received messages.
//!
//! Invariant: names and presence of fields follow docs/INFOBIP_API.md; fields without a value are omitted.
//! Neighbours: `http` sends them as JSON or XML, `push` pushes them.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{
    acceptance::Submitted,
    codes,
    dates::ApiDate,
    draft::Body,
    networks::Network,
    push::Report,
    state::Received,
    store::{Message, MessageStore, Phase},
};

/// A status by its id. An id outside the tables gets a made-up name in the group REJECTED: the real API adds
/// codes over time, and clients must handle unknown ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status(pub(crate) u16);

impl Status {
    /// The name of its group.
    pub(crate) fn group_name(self) -> &'static str {
        codes::status(self.0).map_or("REJECTED", |row| row.group_name)
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = codes::status(self.0);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("groupId", &row.map_or(5, |row| row.group_id))?;
        map.serialize_entry("groupName", self.group_name())?;
        map.serialize_entry("id", &self.0)?;
        match row {
            Some(row) => {
                map.serialize_entry("name", row.name)?;
                map.serialize_entry("description", row.description)?;
                if let Some(action) = row.action {
                    map.serialize_entry("action", action)?;
                }
            }
            None => {
                map.serialize_entry("name", &format_args!("REJECTED_CODE_{}", self.0))?;
                map.serialize_entry("description", "A status newer than the manual")?;
            }
        }
        map.end()
    }
}

/// A GSM error by its id; unknown ones as with [`Status`], in the group HANDSET_ERRORS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Error(pub(crate) u16);

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = codes::error(self.0);
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("groupId", &row.map_or(1, |row| row.group_id))?;
        map.serialize_entry(
            "groupName",
            row.map_or("HANDSET_ERRORS", |row| row.group_name),
        )?;
        map.serialize_entry("id", &self.0)?;
        match row {
            Some(row) => {
                map.serialize_entry("name", row.name)?;
                map.serialize_entry("description", row.description)?;
                map.serialize_entry("permanent", &row.permanent)?;
            }
            None => {
                map.serialize_entry("name", &format_args!("EC_CODE_{}", self.0))?;
                map.serialize_entry("description", "An error newer than the manual")?;
                map.serialize_entry("permanent", &false)?;
            }
        }
        map.end()
    }
}

/// A list of shared ids.
pub(crate) fn ids<S: Serializer>(ids: &[Arc<str>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(|id| &**id))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Price<'a> {
    #[serde(serialize_with = "write_amount")]
    price_per_message: f64,
    currency: &'a str,
}

impl Price<'_> {
    /// The amount, in the currency's unit.
    pub(crate) fn amount(&self) -> f64 {
        self.price_per_message
    }
}

/// Whole amounts are written without a point, as every source shows a price of `0`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, not negative, and far below 2^53"
)]
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(crate) fn write_amount<S: Serializer>(amount: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if amount.fract() == 0.0 {
        serializer.serialize_u64(*amount as u64)
    } else {
        serializer.serialize_f64(*amount)
    }
}

/// A price of millionths.
#[expect(
    clippy::cast_precision_loss,
    reason = "prices and balances are far below 2^53 millionths"
)]
pub(crate) fn price(micros: u64, currency: &str) -> Price<'_> {
    Price {
        price_per_message: micros as f64 / 1_000_000.0,
        currency,
    }
}

/// The answer to a send.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bulk_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_process_key: Option<&'a str>,
    messages: Vec<SendResult<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SendResult<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    to: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    sms_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
}

/// The answer to a send.
pub(crate) fn send_response(submitted: &Submitted) -> SendResponse<'_> {
    SendResponse {
        bulk_id: submitted.bulk_id.as_deref(),
        tracking_process_key: submitted.process_key.as_deref(),
        messages: submitted
            .results
            .iter()
            .map(|result| SendResult {
                to: &result.to,
                status: Status(result.status),
                sms_count: result.parts,
                message_id: result.message_id.as_deref(),
            })
            .collect(),
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Results<T> {
    pub(crate) results: Vec<T>,
}

/// A row of reports or logs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageRow<'a> {
    bulk_id: &'a str,
    message_id: &'a str,
    to: &'a str,
    from: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    sent_at: ApiDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_at: Option<ApiDate>,
    sms_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcc_mnc: Option<String>,
    price: Price<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_data: Option<&'a Value>,
    status: Status,
    error: Error,
}

/// A delivery report: callback data, no text.
pub(crate) fn report_row<'a>(
    message: &'a Message,
    report: &Report,
    currency: &'a str,
) -> MessageRow<'a> {
    MessageRow {
        bulk_id: &message.bulk_id,
        message_id: &message.id,
        to: &message.to,
        from: &message.content.from,
        text: None,
        sent_at: ApiDate(message.sent_at_ms),
        done_at: Some(ApiDate(report.done_at_ms)),
        sms_count: message.content.parts,
        mcc_mnc: message.network.map(Network::mcc_mnc),
        price: price(message.price_micros, currency),
        callback_data: message.content.callback_data.as_ref(),
        status: Status(report.status),
        error: Error(report.error),
    }
}

/// A row of the logs: the text, no callback data.
pub(crate) fn log_row<'a>(message: &'a Message, currency: &'a str) -> MessageRow<'a> {
    MessageRow {
        bulk_id: &message.bulk_id,
        message_id: &message.id,
        to: &message.to,
        from: &message.content.from,
        text: text_of(message),
        sent_at: ApiDate(message.sent_at_ms),
        done_at: (message.phase == Phase::Final).then_some(ApiDate(message.done_at_ms)),
        sms_count: message.content.parts,
        mcc_mnc: message.network.map(Network::mcc_mnc),
        price: price(message.price_micros, currency),
        callback_data: None,
        status: Status(message.status),
        error: Error(message.error),
    }
}

/// Rows of the reports whose messages are still stored.
pub(crate) fn report_rows<'a>(
    messages: &'a MessageStore,
    reports: &'a [Report],
    currency: &'a str,
) -> Results<MessageRow<'a>> {
    let rows = reports
        .iter()
        .filter_map(|report| Some(report_row(messages.get(report.row)?, report, currency)));
    Results {
        results: rows.collect(),
    }
}

/// The state of a message in the ledger.
pub(crate) fn ledger_state(message: &Message) -> &'static str {
    match (message.phase, Status(message.status).group_name()) {
        (Phase::Scheduled, _) => "scheduled",
        (Phase::Sent, _) => "pending",
        (Phase::Final, "DELIVERED") => "delivered",
        (Phase::Final, "UNDELIVERABLE") => "undeliverable",
        (Phase::Final, "EXPIRED") => "expired",
        (Phase::Final, _) => "rejected",
    }
}

/// What the handset shows.
pub(crate) fn text_of(message: &Message) -> Option<&str> {
    match (&message.own_text, &message.content.body) {
        (Some(own), _) => Some(own),
        (None, Body::Text(text)) => Some(text),
        (None, Body::Binary { .. }) => None,
    }
}

/// Received messages with their counts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InboxResponse<'a> {
    results: Vec<ReceivedRow<'a>>,
    message_count: usize,
    pending_message_count: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReceivedRow<'a> {
    message_id: &'a str,
    from: &'a str,
    to: &'a str,
    text: &'a str,
    clean_text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyword: Option<&'a str>,
    received_at: ApiDate,
    sms_count: u32,
    price: Price<'a>,
}

pub(crate) fn received_row<'a>(received: &'a Received, currency: &'a str) -> ReceivedRow<'a> {
    ReceivedRow {
        message_id: &received.id,
        from: &received.from,
        to: &received.to,
        text: &received.text,
        clean_text: &received.clean_text,
        keyword: received.keyword.as_deref(),
        received_at: ApiDate(received.received_at_ms),
        sms_count: received.parts,
        price: price(0, currency),
    }
}

/// Received messages, and how many are still unread.
pub(crate) fn inbox_response<'a>(
    received: &'a [Received],
    pending: usize,
    currency: &'a str,
) -> InboxResponse<'a> {
    InboxResponse {
        results: received
            .iter()
            .map(|one| received_row(one, currency))
            .collect(),
        message_count: received.len(),
        pending_message_count: pending,
    }
}
