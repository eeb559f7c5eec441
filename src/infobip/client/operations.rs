//! The operations of the API: one method each, with its path, its request body and the reader of its response.
//!
//! Neighbours: [`super`] sends the requests, `infobip::wire` writes and reads the bodies.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;

use super::{
    ApiResponse, Client,
    query::{InboxLogsQuery, LogsQuery, Pairs, ReportsQuery},
    read_json, with_json,
};
use crate::{
    infobip::{
        error::ApiError,
        wire::{
            self, LookupRow, Rows, other,
            send::{BatchKind, OutboundBatch},
            send_response::{SendResponse, read_send_response},
            timestamp::WireTimestamp,
        },
    },
    message::traceparent::TRACEPARENT,
    ops::metrics::Endpoint,
    proto::v1,
};

/// The time at which a scheduled bulk will be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkSchedule {
    /// API: `bulkId`, a wire id.
    pub bulk_id: String,
    /// API: `sendAt`.
    pub send_at: jiff::Timestamp,
}

impl Client {
    /// Sends a batch: `POST /sms/1/text/advanced` or `/sms/1/binary/advanced`.
    ///
    /// # Errors
    /// [`ApiError`]. A response that cannot be read is [`ApiError::InDoubt`].
    pub async fn send(&self, batch: &OutboundBatch<'_>) -> Result<SendResponse, ApiError> {
        let url = match batch.kind {
            BatchKind::Text => &self.inner.text_url,
            BatchKind::Binary => &self.inner.binary_url,
        };
        let body = batch.to_json().map_err(|_| ApiError::NotSent {
            detail: "the request body could not be serialized".to_owned(),
        })?;
        let mut request = with_json(self.inner.http.post(url.clone()), body);
        if let Some(traceparent) = batch.traceparent.filter(|_| self.inner.sends_traceparent) {
            request = request.header(TRACEPARENT, traceparent.to_string());
        }
        self.call(Endpoint::Send, request, |response| {
            read_json(&response, |body| {
                read_send_response(body, batch.destinations())
            })
        })
        .await
    }

    /// Reads the logs: `GET /sms/1/logs`. Read the body with [`wire::read_logs`]. `Account` keeps the quota.
    ///
    /// # Errors
    /// [`ApiError`]
    pub(in crate::infobip) async fn logs(
        &self,
        query: &LogsQuery,
    ) -> Result<ApiResponse, ApiError> {
        self.get(Endpoint::Logs, "/sms/1/logs", &query.pairs(), Ok)
            .await
    }

    /// Reads unread reports: `GET /sms/1/reports`. Destructive: the API returns each report once, so reports are lost if the
    /// response does not arrive completely. Read the body with [`wire::read_reports`].
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn reports(&self, query: &ReportsQuery) -> Result<ApiResponse, ApiError> {
        self.get(Endpoint::Reports, "/sms/1/reports", &query.pairs(), Ok)
            .await
    }

    /// Reads unread received messages: `GET /sms/1/inbox/reports`. Destructive like [`Client::reports`]. `limit` is at most
    /// [`limits::MAX_ROWS`](crate::infobip::limits::MAX_ROWS). Read the body with [`wire::read_inbox`].
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn inbox(&self, limit: Option<u32>) -> Result<ApiResponse, ApiError> {
        let mut pairs = Pairs::default();
        pairs.number("limit", limit);
        self.get(Endpoint::Inbox, "/sms/1/inbox/reports", &pairs, Ok)
            .await
    }

    /// Reads the log of received messages: `GET /sms/1/inbox/logs`. Read the body with [`wire::read_inbox`].
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn inbox_logs(&self, query: &InboxLogsQuery) -> Result<ApiResponse, ApiError> {
        self.get(Endpoint::InboxLogs, "/sms/1/inbox/logs", &query.pairs(), Ok)
            .await
    }

    /// Looks up at most [`limits::MAX_LOOKUP_NUMBERS`](crate::infobip::limits::MAX_LOOKUP_NUMBERS) numbers:
    /// `POST /number/1/query`. Each number costs money, so a look-up in doubt should not be repeated.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn lookup(&self, numbers: &[String]) -> Result<Rows<LookupRow>, ApiError> {
        let request = other::LookupRequest {
            to: numbers,
            notify_url: None,
            notify_content_type: None,
        };
        let request = self.with_body(Method::POST, "/number/1/query", &request)?;
        self.call(Endpoint::Lookup, request, read_lookups).await
    }

    /// Requests an asynchronous lookup: `POST /number/1/notify`. The API pushes the results to `notify_url` as JSON.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn lookup_async(
        &self,
        numbers: &[String],
        notify_url: &str,
    ) -> Result<Rows<LookupRow>, ApiError> {
        let request = other::LookupRequest {
            to: numbers,
            notify_url: Some(notify_url),
            notify_content_type: Some("application/json"),
        };
        let request = self.with_body(Method::POST, "/number/1/notify", &request)?;
        self.call(Endpoint::Lookup, request, read_lookups).await
    }

    /// Previews how a text is split into segments: `POST /sms/1/preview`.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn preview(
        &self,
        request: &v1::PreviewSmsRequest,
    ) -> Result<v1::PreviewSmsResponse, ApiError> {
        let request = other::PreviewRequest {
            text: &request.text,
            language_code: &request.language_code,
            transliteration: &request.transliteration,
        };
        let request = self.with_body(Method::POST, "/sms/1/preview", &request)?;
        self.call(Endpoint::Preview, request, |response| {
            read_json(&response, other::read_previews)
        })
        .await
    }

    /// Reads the schedule of a bulk: `GET /sms/1/bulks`. `bulk_id` is a wire id.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn get_bulk(&self, bulk_id: &str) -> Result<BulkSchedule, ApiError> {
        let mut pairs = Pairs::default();
        pairs.text("bulkId", Some(bulk_id));
        self.get(Endpoint::Bulks, "/sms/1/bulks", &pairs, |response| {
            read_schedule(&response, bulk_id)
        })
        .await
    }

    /// Reschedules a bulk: `PUT /sms/1/bulks`. Idempotent.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn put_bulk(
        &self,
        bulk_id: &str,
        send_at: jiff::Timestamp,
    ) -> Result<BulkSchedule, ApiError> {
        let path = bulk_path("/sms/1/bulks", bulk_id);
        let request = other::Reschedule {
            send_at: WireTimestamp(send_at),
        };
        let request = self.with_body(Method::PUT, &path, &request)?;
        self.call(Endpoint::Bulks, request, |response| {
            read_schedule(&response, bulk_id)
        })
        .await
    }

    /// Reads the status of a scheduled bulk: `GET /sms/1/bulks/status`.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn get_bulk_status(&self, bulk_id: &str) -> Result<v1::BulkStatus, ApiError> {
        let mut pairs = Pairs::default();
        pairs.text("bulkId", Some(bulk_id));
        self.get(Endpoint::Bulks, "/sms/1/bulks/status", &pairs, |response| {
            read_json(&response, other::read_bulk_status)
        })
        .await
    }

    /// Pauses, resumes or cancels a scheduled bulk: `PUT /sms/1/bulks/status`. Idempotent.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn put_bulk_status(
        &self,
        bulk_id: &str,
        status: v1::BulkStatus,
    ) -> Result<v1::BulkStatus, ApiError> {
        let status = other::bulk_status_name(status).ok_or_else(|| ApiError::NotSent {
            detail: "the bulk status is unspecified".to_owned(),
        })?;
        let path = bulk_path("/sms/1/bulks/status", bulk_id);
        let request = self.with_body(Method::PUT, &path, &other::UpdateStatus { status })?;
        self.call(Endpoint::Bulks, request, |response| {
            read_json(&response, other::read_bulk_status)
        })
        .await
    }

    /// Reports a conversion for a tracked message: `POST /ct/1/log/end/{messageId}`. Returns the process key.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn confirm_conversion(&self, wire_id: &str) -> Result<String, ApiError> {
        let path = format!(
            "/ct/1/log/end/{}",
            utf8_percent_encode(wire_id, NON_ALPHANUMERIC)
        );
        let request = self.inner.http.post(self.url(&path));
        self.call(Endpoint::Conversion, request, |response| {
            read_json(&response, other::read_conversion)
        })
        .await
    }

    /// Reads the account balance: `GET /account/1/balance`.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn balance(&self) -> Result<v1::GetBalanceResponse, ApiError> {
        let pairs = Pairs::default();
        self.get(
            Endpoint::Balance,
            "/account/1/balance",
            &pairs,
            |response| read_json(&response, other::read_balance),
        )
        .await
    }
}

fn read_lookups(response: ApiResponse) -> Result<Rows<LookupRow>, ApiError> {
    read_json(&response, wire::read_lookups)
}

fn read_schedule(
    response: &ApiResponse,
    requested_bulk_id: &str,
) -> Result<BulkSchedule, ApiError> {
    let (bulk_id, send_at) = read_json(response, other::read_schedule)?;
    let bulk_id = if bulk_id.is_empty() {
        requested_bulk_id.to_owned()
    } else {
        bulk_id
    };
    Ok(BulkSchedule { bulk_id, send_at })
}

fn bulk_path(path: &str, bulk_id: &str) -> String {
    format!(
        "{path}?bulkId={}",
        utf8_percent_encode(bulk_id, NON_ALPHANUMERIC)
    )
}
