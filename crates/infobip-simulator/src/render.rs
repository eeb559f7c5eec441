//! Response bodies: statuses, errors, prices, report and log rows, received messages.
//!
//! Invariant: names and presence of fields follow docs/INFOBIP_API.md; fields without a value are omitted.
//! Neighbours: `http` sends them as JSON or XML, `push` pushes them.

mod code;
mod price;

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    acceptance::SubmitResult,
    dates::ApiDate,
    networks::Network,
    push::DeliveryReport,
    state::ReceivedMessage,
    store::{Message, MessageStore, Phase},
    submission::MessageBody,
};

pub(crate) use self::{
    code::{ErrorObject, StatusObject},
    price::{Price, price, serialize_amount},
};

/// A list of shared ids.
pub(crate) fn serialize_ids<S: Serializer>(
    ids: &[Arc<str>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(|id| &**id))
}

/// The response to a send request.
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
    status: StatusObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    sms_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
}

pub(crate) fn send_response(result: &SubmitResult) -> SendResponse<'_> {
    SendResponse {
        bulk_id: result.bulk_id.as_deref(),
        tracking_process_key: result.process_key.as_deref(),
        messages: result
            .results
            .iter()
            .map(|destination| SendResult {
                to: &destination.to,
                status: StatusObject(destination.status),
                sms_count: destination.parts,
                message_id: destination.message_id.as_deref(),
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
    status: StatusObject,
    error: ErrorObject,
}

/// A delivery report: callback data, no text.
pub(crate) fn report_row<'a>(
    message: &'a Message,
    report: &DeliveryReport,
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
        status: StatusObject(report.status),
        error: ErrorObject(report.error),
    }
}

/// A row of the logs: the text, no callback data.
pub(crate) fn log_row<'a>(message: &'a Message, currency: &'a str) -> MessageRow<'a> {
    MessageRow {
        bulk_id: &message.bulk_id,
        message_id: &message.id,
        to: &message.to,
        from: &message.content.from,
        text: handset_text(message),
        sent_at: ApiDate(message.sent_at_ms),
        done_at: (message.phase == Phase::Final).then_some(ApiDate(message.done_at_ms)),
        sms_count: message.content.parts,
        mcc_mnc: message.network.map(Network::mcc_mnc),
        price: price(message.price_micros, currency),
        callback_data: None,
        status: StatusObject(message.status),
        error: ErrorObject(message.error),
    }
}

/// Rows of the reports whose messages are still stored.
pub(crate) fn report_rows<'a>(
    messages: &'a MessageStore,
    reports: &'a [DeliveryReport],
    currency: &'a str,
) -> Results<MessageRow<'a>> {
    let rows = reports
        .iter()
        .filter_map(|report| Some(report_row(messages.get(report.row)?, report, currency)));
    Results {
        results: rows.collect(),
    }
}

/// The `state` of a message in the ledger.
pub(crate) fn ledger_state(message: &Message) -> &'static str {
    message.state().as_str()
}

/// The text that the handset shows; `None` for binary content.
pub(crate) fn handset_text(message: &Message) -> Option<&str> {
    match (&message.shortened, &message.content.body) {
        (Some(own), _) => Some(&own.text),
        (None, MessageBody::Text(text)) => Some(text),
        (None, MessageBody::Binary { .. }) => None,
    }
}

/// Received messages with their numbers.
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

pub(crate) fn received_row<'a>(
    received: &'a ReceivedMessage,
    currency: &'a str,
) -> ReceivedRow<'a> {
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

/// Received messages; `pending` is the number of those that are still unread.
pub(crate) fn inbox_response<'a>(
    received: &'a [ReceivedMessage],
    pending: usize,
    currency: &'a str,
) -> InboxResponse<'a> {
    InboxResponse {
        results: received
            .iter()
            .map(|message| received_row(message, currency))
            .collect(),
        message_count: received.len(),
        pending_message_count: pending,
    }
}
