//! The HTTP transport to the API: authenticated requests, bounded responses, one classification of every failure.
//!
//! Invariants: every call makes exactly one request and never retries or follows a redirect; a response body is read up to
//! `infobip.max_response_bytes`; `infobip.request_timeout` bounds a call including its response body; the credentials are in
//! one header value that is marked sensitive. (hyper moves a request to another connection by itself only if it has written
//! nothing of it to the first one.)
//! Neighbours: [`operations`] has one method per operation of the API, [`setup`] the TLS and credentials, `error` the
//! classification, [`health`] logs outages.

mod clock_skew;
mod header;
mod health;
mod operations;
mod query;
mod setup;

use std::{fmt, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER},
};
use serde::Serialize;

use self::{
    clock_skew::ClockSkew,
    header::{header, http_date, retry_after},
    health::Health,
    query::Pairs,
    setup::{base_url, http_client},
};
pub use self::{
    operations::BulkSchedule,
    query::{InboxLogsQuery, LogsQuery, ReportsQuery},
    setup::ClientBuildError,
};
use super::{error::ApiError, wire::rows::UnreadableBody};
use crate::{
    config,
    ops::{
        metrics::{Classification, Endpoint, Metrics},
        milliseconds,
    },
};

/// Bytes of an error response that are read. The API's error envelope is far smaller.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// A client of the API. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    /// Without a trailing slash.
    base_url: String,
    text_url: Url,
    binary_url: Url,
    max_response_bytes: usize,
    sends_traceparent: bool,
    metrics: Metrics,
    health: Health,
    clock_skew: ClockSkew,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.inner.base_url)
            .finish_non_exhaustive()
    }
}

/// A successful response with its unread body, for callers that store the body before they read it.
#[derive(Clone)]
pub struct ApiResponse {
    pub body: Bytes,
    /// The `Content-Type` header. Empty if absent.
    pub content_type: String,
    /// The `Date` header: the API's clock.
    pub server_time: Option<jiff::Timestamp>,
}

impl fmt::Debug for ApiResponse {
    /// Omits the body, which contains phone numbers and texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiResponse")
            .field("body_bytes", &self.body.len())
            .field("content_type", &self.content_type)
            .field("server_time", &self.server_time)
            .finish()
    }
}

impl Client {
    /// Creates a client that counts its requests in `metrics`. Opens no connection.
    ///
    /// # Errors
    /// [`ClientBuildError`] if the base URL or the credentials are missing or invalid.
    pub fn new(config: &config::Infobip, metrics: Metrics) -> Result<Self, ClientBuildError> {
        let base_url = base_url(&config.base_url)?;
        let http = http_client(config)?;
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
                sends_traceparent: config.send_traceparent,
                metrics,
                health: Health::default(),
                clock_skew: ClockSkew::default(),
            }),
        })
    }

    /// By how many seconds this machine's clock is ahead of the API's (negative: behind), if that is more than a minute.
    #[must_use]
    pub fn clock_ahead_s(&self) -> Option<i64> {
        self.inner.clock_skew.ahead_s()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.inner.base_url)
    }

    async fn get<T>(
        &self,
        endpoint: Endpoint,
        path: &str,
        pairs: &Pairs,
        read: impl FnOnce(ApiResponse) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let request = self.inner.http.get(self.url(path)).query(&pairs.0);
        self.call(endpoint, request, read).await
    }

    fn with_body(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<RequestBuilder, ApiError> {
        let body = serde_json::to_vec(body).map_err(|_| ApiError::NotSent {
            detail: "the request body could not be serialized".to_owned(),
        })?;
        let request = self.inner.http.request(method, self.url(path));
        Ok(with_json(request, body))
    }

    /// Sends the request, reads the response with `read`, and counts the outcome of both.
    async fn call<T>(
        &self,
        endpoint: Endpoint,
        request: RequestBuilder,
        read: impl FnOnce(ApiResponse) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let started = Instant::now();
        let outcome = self.exchange(request).await.and_then(read);
        let classification = match &outcome {
            Ok(_) => Classification::Ok,
            Err(ApiError::NotSent { .. }) => Classification::NotSent,
            Err(ApiError::RateLimited { .. }) => Classification::RateLimited,
            Err(ApiError::Refused { .. }) => Classification::Refused,
            Err(ApiError::CredentialsRefused { .. }) => Classification::CredentialsRefused,
            Err(ApiError::InDoubt { .. }) => Classification::InDoubt,
        };
        let took = started.elapsed();
        self.inner.metrics.request(endpoint, classification, took);
        tracing::debug!(
            %endpoint,
            %classification,
            ms = milliseconds(took),
            "a request to the API"
        );
        self.inner.health.note(
            &self.inner.base_url,
            endpoint,
            started,
            outcome.as_ref().err(),
        );
        outcome
    }

    /// `Ok` only for a 2xx response whose body arrived completely.
    async fn exchange(&self, request: RequestBuilder) -> Result<ApiResponse, ApiError> {
        let response = request
            .send()
            .await
            .map_err(|error| ApiError::classify_exchange(&error))?;
        let status = response.status();
        let server_time = header(&response, DATE.as_str()).and_then(http_date);
        if let Some(server_time) = server_time {
            let (skew, now) = (&self.inner.clock_skew, jiff::Timestamp::now());
            skew.note(&self.inner.base_url, server_time, now);
        }
        if !status.is_success() {
            let retry_after = header(&response, RETRY_AFTER.as_str())
                .and_then(|value| retry_after(value, server_time));
            // The status line decides, so an incomplete body does not matter.
            let (body, _) = read_body(response, MAX_ERROR_BYTES).await;
            return Err(ApiError::classify_status(status, retry_after, &body));
        }
        let content_type = header(&response, CONTENT_TYPE.as_str())
            .unwrap_or_default()
            .to_owned();
        let (body, end) = read_body(response, self.inner.max_response_bytes).await;
        end?;
        Ok(ApiResponse {
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

/// Reads a body of at most `limit` bytes. Also returns what was read before an error.
async fn read_body(mut response: Response, limit: usize) -> (Bytes, Result<(), ApiError>) {
    // Most bodies are a single chunk, which is returned without copying.
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let end = loop {
        match response.chunk().await {
            Ok(None) => break Ok(()),
            Ok(Some(chunk)) if first.len().max(all.len()) + chunk.len() > limit => {
                break Err(ApiError::in_doubt(
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
            Err(error) => break Err(ApiError::classify_exchange(&error)),
        }
    };
    let body = if all.is_empty() { first } else { all.freeze() };
    (body, end)
}

fn read_json<T>(
    response: &ApiResponse,
    read: impl FnOnce(&[u8]) -> Result<T, UnreadableBody>,
) -> Result<T, ApiError> {
    read(&response.body).map_err(|unreadable| ApiError::in_doubt(unreadable.to_string()))
}
