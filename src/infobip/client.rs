//! The client: one method for each operation of the API, one request for each call.
//!
//! Invariants: nothing is retried or redirected here; bodies are read up to `infobip.max_response_bytes`; the time of a call
//! is bounded by `infobip.request_timeout`, body included; credentials are in one header value, marked sensitive. (hyper puts
//! a request on a second connection by itself only where it knows that it wrote nothing of it on the first.)

mod header;
mod query;
mod setup;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use serde::Serialize;

use self::{
    header::{header, http_date, retry_after},
    query::Pairs,
    setup::{authorization, base_url, tls},
};
pub use self::{
    query::{InboxLogsQuery, LogsQuery, ReportsQuery},
    setup::ClientBuildError,
};
use super::{
    error::CallError,
    wire::{
        self, LookupRow, Rows,
        answer::{SendAnswer, read_send_answer},
        moment::WireMoment,
        other,
        rows::UnreadableBody,
        send::{BatchKind, OutboundBatch},
    },
};
use crate::{
    config,
    ops::metrics::{Classification, Endpoint, Metrics},
    proto::v1,
};

/// The most of an error's body that is read, in bytes: what is longer is no envelope of the API.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// How long an idle connection is kept: shorter than servers do, so that few requests meet a connection that just closes.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// A client of the API. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    /// Without a slash at the end.
    base_url: String,
    text_url: Url,
    binary_url: Url,
    max_response_bytes: usize,
    metrics: Metrics,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.inner.base_url)
            .finish_non_exhaustive()
    }
}

/// A response as it came, for those who store it before they read it.
#[derive(Clone)]
pub struct Answer {
    /// The whole body.
    pub body: Bytes,
    /// `Content-Type`. Empty where it is missing.
    pub content_type: String,
    /// `Date`: the present as the API sees it.
    pub server_time: Option<jiff::Timestamp>,
}

impl fmt::Debug for Answer {
    /// Without the body: numbers and texts are in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("body_bytes", &self.body.len())
            .field("content_type", &self.content_type)
            .field("server_time", &self.server_time)
            .finish()
    }
}

/// When a scheduled bulk is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkSchedule {
    /// API: `bulkId`, as Infobip knows it.
    pub bulk_id: String,
    /// API: `sendAt`.
    pub send_at: jiff::Timestamp,
}

impl Client {
    /// Makes a client that counts its requests. Connects to nothing.
    ///
    /// # Errors
    /// [`ClientBuildError`] where the base URL or the credentials are missing or wrong.
    pub fn new(config: &config::Infobip, metrics: Metrics) -> Result<Self, ClientBuildError> {
        let base_url = base_url(&config.base_url)?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization(config)?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls()?)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("smsbridge/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(config.connect_timeout)
            .timeout(config.request_timeout)
            .tcp_nodelay(true)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            // As many as there were requests at once: those who call bound that (`send.max_requests_in_flight`).
            .pool_max_idle_per_host(usize::MAX)
            .build()
            .map_err(|error| ClientBuildError::Http(error.to_string()))?;
        let url = |path: &str| {
            Url::parse(&format!("{base_url}{path}"))
                .map_err(|error| ClientBuildError::Http(error.to_string()))
        };
        Ok(Self {
            inner: Arc::new(Inner {
                text_url: url("/sms/1/text/advanced")?,
                binary_url: url("/sms/1/binary/advanced")?,
                base_url,
                http,
                max_response_bytes: config.max_response_bytes,
                metrics,
            }),
        })
    }

    /// Sends a batch: `POST /sms/1/text/advanced` or `/sms/1/binary/advanced`.
    ///
    /// # Errors
    /// [`CallError`]; an answer that can't be read is in doubt.
    pub async fn send(&self, batch: &OutboundBatch<'_>) -> Result<SendAnswer, CallError> {
        let url = match batch.kind {
            BatchKind::Text => &self.inner.text_url,
            BatchKind::Binary => &self.inner.binary_url,
        };
        let body = batch.to_json().map_err(|_| CallError::NotSent {
            detail: "the request could not be written".to_owned(),
        })?;
        let request = with_json(self.inner.http.post(url.clone()), body);
        self.call(Endpoint::Send, request, |answer| {
            read_answer(&answer, |body| read_send_answer(body, batch.wire_ids()))
        })
        .await
    }

    /// Reads the logs: `GET /sms/1/logs`. Read the answer with [`wire::read_logs`].
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn logs(&self, query: &LogsQuery) -> Result<Answer, CallError> {
        self.get(Endpoint::Logs, "/sms/1/logs", &query.pairs(), Ok)
            .await
    }

    /// Reads unread reports: `GET /sms/1/reports`. The API gives each once: where the answer does not arrive whole, what was
    /// read is lost there. Read the answer with [`wire::read_reports`].
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn reports(&self, query: &ReportsQuery) -> Result<Answer, CallError> {
        self.get(Endpoint::Reports, "/sms/1/reports", &query.pairs(), Ok)
            .await
    }

    /// Reads unread received messages: `GET /sms/1/inbox/reports`, destructive as [`Client::reports`]. `limit` at most 1000;
    /// `None`: the API's default. Read the answer with [`wire::read_inbox`].
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn inbox(&self, limit: Option<u32>) -> Result<Answer, CallError> {
        let mut pairs = Pairs::default();
        pairs.number("limit", limit);
        self.get(Endpoint::Inbox, "/sms/1/inbox/reports", &pairs, Ok)
            .await
    }

    /// Reads the log of received messages: `GET /sms/1/inbox/logs`. Read the answer with [`wire::read_inbox`].
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn inbox_logs(&self, query: &InboxLogsQuery) -> Result<Answer, CallError> {
        self.get(Endpoint::InboxLogs, "/sms/1/inbox/logs", &query.pairs(), Ok)
            .await
    }

    /// Looks numbers up, at most 1000: `POST /number/1/query`. Each costs, so nothing that is in doubt should be asked again.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn lookup(&self, numbers: &[String]) -> Result<Rows<LookupRow>, CallError> {
        let request = other::LookupRequest {
            to: numbers,
            notify_url: None,
            notify_content_type: None,
        };
        let request = self.with_body(Method::POST, "/number/1/query", &request)?;
        self.call(Endpoint::Lookup, request, read_lookups).await
    }

    /// Asks for numbers to be looked up, the answers to be pushed to `notify_url` as JSON: `POST /number/1/notify`.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn lookup_async(
        &self,
        numbers: &[String],
        notify_url: &str,
    ) -> Result<Rows<LookupRow>, CallError> {
        let request = other::LookupRequest {
            to: numbers,
            notify_url: Some(notify_url),
            notify_content_type: Some("application/json"),
        };
        let request = self.with_body(Method::POST, "/number/1/notify", &request)?;
        self.call(Endpoint::Lookup, request, read_lookups).await
    }

    /// Shows how a text would be split: `POST /sms/1/preview`.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn preview(
        &self,
        request: &v1::PreviewSmsRequest,
    ) -> Result<v1::PreviewSmsResponse, CallError> {
        let request = other::PreviewRequest {
            text: &request.text,
            language_code: &request.language_code,
            transliteration: &request.transliteration,
        };
        let request = self.with_body(Method::POST, "/sms/1/preview", &request)?;
        self.call(Endpoint::Preview, request, |answer| {
            read_answer(&answer, other::read_previews)
        })
        .await
    }

    /// When a scheduled bulk is to be sent: `GET /sms/1/bulks`. `bulk_id` as Infobip knows it.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn get_bulk(&self, bulk_id: &str) -> Result<BulkSchedule, CallError> {
        let mut pairs = Pairs::default();
        pairs.text("bulkId", Some(bulk_id));
        self.get(Endpoint::Bulks, "/sms/1/bulks", &pairs, |answer| {
            read_schedule(&answer, bulk_id)
        })
        .await
    }

    /// Moves a scheduled bulk: `PUT /sms/1/bulks`. Trying again is safe.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn put_bulk(
        &self,
        bulk_id: &str,
        send_at: jiff::Timestamp,
    ) -> Result<BulkSchedule, CallError> {
        let path = bulk_path("/sms/1/bulks", bulk_id);
        let request = other::Reschedule {
            send_at: WireMoment(send_at),
        };
        let request = self.with_body(Method::PUT, &path, &request)?;
        self.call(Endpoint::Bulks, request, |answer| {
            read_schedule(&answer, bulk_id)
        })
        .await
    }

    /// The state of a scheduled bulk: `GET /sms/1/bulks/status`.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn get_bulk_status(&self, bulk_id: &str) -> Result<v1::BulkStatus, CallError> {
        let mut pairs = Pairs::default();
        pairs.text("bulkId", Some(bulk_id));
        self.get(Endpoint::Bulks, "/sms/1/bulks/status", &pairs, |answer| {
            read_answer(&answer, other::read_bulk_status)
        })
        .await
    }

    /// Pauses, resumes or cancels a scheduled bulk: `PUT /sms/1/bulks/status`. Trying again is safe.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn put_bulk_status(
        &self,
        bulk_id: &str,
        status: v1::BulkStatus,
    ) -> Result<v1::BulkStatus, CallError> {
        let status = other::bulk_status_name(status).ok_or_else(|| CallError::NotSent {
            detail: "no state of a bulk was given".to_owned(),
        })?;
        let path = bulk_path("/sms/1/bulks/status", bulk_id);
        let request = self.with_body(Method::PUT, &path, &other::UpdateStatus { status })?;
        self.call(Endpoint::Bulks, request, |answer| {
            read_answer(&answer, other::read_bulk_status)
        })
        .await
    }

    /// Says that a message led to a conversion: `POST /ct/1/log/end/{messageId}`. Answers the process key.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn confirm_conversion(&self, wire_id: &str) -> Result<String, CallError> {
        let path = format!(
            "/ct/1/log/end/{}",
            utf8_percent_encode(wire_id, NON_ALPHANUMERIC)
        );
        let request = self.inner.http.post(self.url(&path));
        self.call(Endpoint::Conversion, request, |answer| {
            read_answer(&answer, other::read_conversion)
        })
        .await
    }

    /// What is left of the credit: `GET /account/1/balance`.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn balance(&self) -> Result<v1::GetBalanceResponse, CallError> {
        let pairs = Pairs::default();
        self.get(Endpoint::Balance, "/account/1/balance", &pairs, |answer| {
            read_answer(&answer, other::read_balance)
        })
        .await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.inner.base_url)
    }

    async fn get<T>(
        &self,
        endpoint: Endpoint,
        path: &str,
        pairs: &Pairs,
        read: impl FnOnce(Answer) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let request = self.inner.http.get(self.url(path)).query(&pairs.0);
        self.call(endpoint, request, read).await
    }

    fn with_body(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<RequestBuilder, CallError> {
        let body = serde_json::to_vec(body).map_err(|_| CallError::NotSent {
            detail: "the request could not be written".to_owned(),
        })?;
        let request = self.inner.http.request(method, self.url(path));
        Ok(with_json(request, body))
    }

    /// Makes the request, reads the answer, and counts what came of both.
    async fn call<T>(
        &self,
        endpoint: Endpoint,
        request: RequestBuilder,
        read: impl FnOnce(Answer) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let begun = Instant::now();
        let outcome = self.exchange(request).await.and_then(read);
        let classification = match &outcome {
            Ok(_) => Classification::Ok,
            Err(CallError::NotSent { .. }) => Classification::NotSent,
            Err(CallError::RateLimited { .. }) => Classification::RateLimited,
            Err(CallError::Refused { .. }) => Classification::Refused,
            Err(CallError::CredentialsRefused { .. }) => Classification::CredentialsRefused,
            Err(CallError::InDoubt { .. }) => Classification::InDoubt,
        };
        let took = begun.elapsed();
        self.inner.metrics.request(endpoint, classification, took);
        outcome
    }

    /// Only an answer with a 2xx that arrived whole is `Ok`.
    async fn exchange(&self, request: RequestBuilder) -> Result<Answer, CallError> {
        let response = request
            .send()
            .await
            .map_err(|error| CallError::from_exchange(&error))?;
        let status = response.status();
        let server_time = header(&response, DATE.as_str()).and_then(http_date);
        if !status.is_success() {
            let retry_after = header(&response, RETRY_AFTER.as_str())
                .and_then(|said| retry_after(said, server_time));
            // The status line decides: what is missing of the body does not matter.
            let (body, _) = read_body(response, MAX_ERROR_BYTES).await;
            return Err(CallError::from_status(status, retry_after, &body));
        }
        let content_type = header(&response, CONTENT_TYPE.as_str())
            .unwrap_or_default()
            .to_owned();
        let (body, end) = read_body(response, self.inner.max_response_bytes).await;
        end?;
        Ok(Answer {
            body,
            content_type,
            server_time,
        })
    }
}

fn with_json(request: RequestBuilder, body: Vec<u8>) -> RequestBuilder {
    request
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(body)
}

/// Reads a body up to `limit`. What was read so far comes with the error.
async fn read_body(mut response: Response, limit: usize) -> (Bytes, Result<(), CallError>) {
    // Most bodies are one chunk: that one is not copied.
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let end = loop {
        match response.chunk().await {
            Ok(None) => break Ok(()),
            Ok(Some(chunk)) if first.len().max(all.len()) + chunk.len() > limit => {
                break Err(CallError::in_doubt(
                    "the response is larger than infobip.max_response_bytes",
                ));
            }
            Ok(Some(chunk)) if first.is_empty() => first = chunk,
            Ok(Some(chunk)) => {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&chunk);
            }
            Err(error) => break Err(CallError::from_exchange(&error)),
        }
    };
    let body = if all.is_empty() { first } else { all.freeze() };
    (body, end)
}

fn read_answer<T>(
    answer: &Answer,
    read: impl FnOnce(&[u8]) -> Result<T, UnreadableBody>,
) -> Result<T, CallError> {
    read(&answer.body).map_err(|unreadable| CallError::in_doubt(unreadable.to_string()))
}

fn read_lookups(answer: Answer) -> Result<Rows<LookupRow>, CallError> {
    read_answer(&answer, |body| {
        wire::read_lookups(&answer.content_type, body)
    })
}

fn read_schedule(answer: &Answer, asked_for: &str) -> Result<BulkSchedule, CallError> {
    let (bulk_id, send_at) = read_answer(answer, other::read_schedule)?;
    let bulk_id = if bulk_id.is_empty() {
        asked_for.to_owned()
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
