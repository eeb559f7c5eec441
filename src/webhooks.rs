//! The HTTP endpoints to which Infobip pushes reports, received messages, clicks and look-up results.
//!
//! Invariants: a push is answered 200 only when it is durable, as events or in quarantine (P4 and P5, docs/RELIABILITY.md), and
//! 503 if that fails, so that Infobip repeats it; a body is read only after authentication; bodies in progress are bounded in
//! number and size; every request is answered within `http.request_timeout`; phone numbers and texts are never logged.
//! Neighbours: `intake` stores the pushes, `ops::http_server` bounds the connections, `app` binds the port.

mod authenticator;
mod outcome;
mod unauthorized;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::{
    authenticator::WebhookAuthenticator,
    outcome::{WebhookOutcome, stored_by, unavailable},
    unauthorized::UnauthorizedPushes,
};
use crate::{
    config,
    intake::{Intake, IntakeError},
    message::id::ApplicationName,
    ops::{
        http_server::{self, Limits},
        metrics::{Metrics, Webhook, WebhookResult},
        milliseconds,
    },
    proto::v1::ReportSource,
};

/// The state of the handlers.
struct Webhooks {
    intake: Intake,
    authenticator: WebhookAuthenticator,
    max_body_bytes: usize,
    /// Limits the requests whose body is being read or stored.
    permits: Arc<Semaphore>,
    request_timeout: Duration,
    unauthorized: UnauthorizedPushes,
    metrics: Metrics,
}

/// Serves until `stop`, then finishes the requests in progress.
pub async fn serve(
    listener: TcpListener,
    config: &config::Http,
    intake: Intake,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let state = Arc::new(Webhooks {
        intake,
        authenticator: WebhookAuthenticator::new(config),
        max_body_bytes: config.max_body_bytes,
        permits: Arc::new(Semaphore::new(
            config.max_concurrent_requests.min(Semaphore::MAX_PERMITS),
        )),
        request_timeout: config.request_timeout,
        unauthorized: UnauthorizedPushes::default(),
        metrics,
    });
    let routes = Router::new()
        .route("/infobip/{secret}/reports", post(reports))
        .route(
            "/infobip/{secret}/inbound",
            get(inbound_by_query).post(inbound),
        )
        .route("/infobip/{secret}/clicks", post(clicks))
        .route("/infobip/{secret}/lookups", post(lookups))
        .with_state(state);
    let limits = Limits {
        max_connections: config.max_connections,
        keep_alive: true,
        header_timeout: config.header_timeout,
        request_timeout: config.request_timeout,
    };
    http_server::serve(listener, routes, limits, stop).await;
}

impl Webhooks {
    /// Handles a push by POST: authenticates, reads, stores and counts it.
    async fn push<T, F>(
        &self,
        endpoint: Webhook,
        secret: &str,
        request: Request,
        store: impl FnOnce(String, Bytes) -> F,
    ) -> Response
    where
        F: Future<Output = Result<T, IntakeError>>,
    {
        let began = Instant::now();
        let deadline = began + self.request_timeout;
        let outcome = match self.admit(secret, request.headers()) {
            Ok(_permit) => match self.read(endpoint, request, deadline).await {
                Ok((content_type, body)) => {
                    tracing::debug!(%endpoint, bytes = body.len(), "a push was received");
                    stored_by(deadline, store(content_type, body)).await
                }
                Err(refused) => refused,
            },
            Err(refused) => refused,
        };
        self.count(endpoint, began, outcome)
    }

    /// Authenticates the request, checks that it can be stored, and acquires a permit, which is held until it is answered.
    #[allow(clippy::result_large_err, reason = "the error is the whole response")]
    fn admit(
        &self,
        secret: &str,
        headers: &HeaderMap,
    ) -> Result<OwnedSemaphorePermit, WebhookOutcome> {
        self.authenticator.check(secret, headers)?;
        // Its body could not be stored. The outage is logged where it is noticed.
        if !self.intake.is_ready() {
            return Err(unavailable());
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.map_err(|_| {
            tracing::warn!(
                "a push was refused because http.max_concurrent_requests are in progress; Infobip repeats it"
            );
            unavailable()
        })
    }

    async fn read(
        &self,
        endpoint: Webhook,
        request: Request,
        deadline: Instant,
    ) -> Result<(String, Bytes), WebhookOutcome> {
        let encoding = request.headers().get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            tracing::warn!(%endpoint, "a push was refused: its body is compressed, which the bridge does not read");
            let response = StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
            return Err((WebhookResult::Refused, response));
        }
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("application/json")
            .to_owned();
        let body: Body = request.into_body();
        match timeout_at(deadline, axum::body::to_bytes(body, self.max_body_bytes)).await {
            Ok(Ok(body)) => Ok((content_type, body)),
            Ok(Err(_)) => {
                tracing::warn!(
                    %endpoint,
                    max_body_bytes = self.max_body_bytes,
                    "a push was refused: its body has more bytes than http.max_body_bytes, or broke off"
                );
                let detail = format!(
                    "the body has more than {} bytes (http.max_body_bytes), or broke off",
                    self.max_body_bytes
                );
                let response = (StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
                Err((WebhookResult::Refused, response))
            }
            Err(_) => {
                tracing::warn!(
                    %endpoint,
                    "a push was refused: its body did not arrive within http.request_timeout; Infobip repeats it"
                );
                let response = StatusCode::REQUEST_TIMEOUT.into_response();
                Err((WebhookResult::Refused, response))
            }
        }
    }

    /// Counts and logs an answered push.
    fn count(
        &self,
        endpoint: Webhook,
        began: Instant,
        (result, response): WebhookOutcome,
    ) -> Response {
        self.metrics.webhook_body(endpoint, result);
        if result == WebhookResult::Unauthorized {
            self.unauthorized.count(endpoint);
        }
        tracing::debug!(
            target: "smsbridge::access::webhooks",
            %endpoint,
            %result,
            status = response.status().as_u16(),
            ms = milliseconds(began.elapsed()),
            "a push was answered"
        );
        response
    }
}

type Shared = State<Arc<Webhooks>>;

async fn reports(
    State(webhooks): Shared,
    Path(secret): Path<String>,
    request: Request,
) -> Response {
    let intake = &webhooks.intake;
    let store = async |content_type: String, body| {
        intake
            .reports(ReportSource::Push, &content_type, body)
            .await
    };
    webhooks
        .push(Webhook::Reports, &secret, request, store)
        .await
}

async fn inbound(
    State(webhooks): Shared,
    Path(secret): Path<String>,
    request: Request,
) -> Response {
    let intake = &webhooks.intake;
    let store = async |content_type: String, body| intake.received(&content_type, body).await;
    webhooks
        .push(Webhook::Inbound, &secret, request, store)
        .await
}

/// A received message that Infobip pushes by GET (docs/INFOBIP_API.md#push).
async fn inbound_by_query(
    State(webhooks): Shared,
    Path(secret): Path<String>,
    RawQuery(query): RawQuery,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let began = Instant::now();
    let deadline = began + webhooks.request_timeout;
    let outcome = match webhooks.admit(&secret, &headers) {
        Ok(_permit) => {
            let query = query.unwrap_or_default();
            let storing = webhooks.intake.received_by_query(&query, &parameters);
            stored_by(deadline, storing).await
        }
        Err(refused) => refused,
    };
    webhooks.count(Webhook::Inbound, began, outcome)
}

async fn clicks(State(webhooks): Shared, Path(secret): Path<String>, request: Request) -> Response {
    let intake = &webhooks.intake;
    let store = async |content_type: String, body| intake.clicks(&content_type, body).await;
    webhooks
        .push(Webhook::Clicks, &secret, request, store)
        .await
}

#[derive(serde::Deserialize)]
struct LookupParameters {
    application: Option<String>,
    request: Option<String>,
}

/// The `notifyUrl` that the bridge gives Infobip names the application that requested the look-up, and identifies the request;
/// without a valid name the result belongs to the default application.
async fn lookups(
    State(webhooks): Shared,
    Path(secret): Path<String>,
    Query(parameters): Query<LookupParameters>,
    request: Request,
) -> Response {
    let application = parameters
        .application
        .and_then(|name| ApplicationName::parse(&name).ok())
        .unwrap_or_else(ApplicationName::default_application);
    let request_token = parameters.request.unwrap_or_default();
    let (intake, application) = (&webhooks.intake, &application);
    let store = async |content_type: String, body| {
        intake
            .lookups(application, &request_token, &content_type, body)
            .await
    };
    webhooks
        .push(Webhook::Lookups, &secret, request, store)
        .await
}
