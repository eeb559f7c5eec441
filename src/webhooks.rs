//! The HTTP endpoints to which Infobip pushes reports, received messages, clicks and lookup results.
//!
//! Invariants: a push is answered 200 only when it is durable, as events or in quarantine (docs/RELIABILITY.md), and 503 if
//! that fails, so that Infobip repeats it; bodies are bounded and have a deadline; phone numbers and texts are never logged.
//! Neighbours: `intake` stores the pushes, `app` binds the port.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    config,
    intake::{Intake, IntakeError},
    message::id::ApplicationName,
    ops::metrics::{Metrics, Webhook, WebhookResult},
    proto::v1::ReportSource,
};

/// Longest time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Checks the secret of the path or HTTP basic credentials.
#[derive(Clone)]
struct Authenticator {
    secret: Option<SecretString>,
    basic: Option<(String, SecretString)>,
}

/// The state of the handlers.
struct Webhooks {
    intake: Intake,
    authenticator: Authenticator,
    max_body_bytes: usize,
    metrics: Metrics,
}

/// The outcome of a push for the metrics, and the response to Infobip.
type WebhookOutcome = (WebhookResult, Response);

/// Serves until `stop`, then finishes the requests in progress.
///
/// # Errors
/// The error that ended accepting connections.
pub async fn serve(
    listener: TcpListener,
    config: &config::Http,
    intake: Intake,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let basic = config
        .basic_username
        .clone()
        .zip(config.basic_password.clone());
    let state = Arc::new(Webhooks {
        intake,
        authenticator: Authenticator {
            secret: config.secret.clone(),
            basic,
        },
        max_body_bytes: config.max_body_bytes,
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
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

impl Authenticator {
    #[allow(clippy::result_large_err, reason = "the error is the whole response")]
    fn check(&self, secret: &str, headers: &HeaderMap) -> Result<(), WebhookOutcome> {
        let equal = |one: &str, other: &str| bool::from(one.as_bytes().ct_eq(other.as_bytes()));
        if let Some((username, password)) = &self.basic {
            let expected = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
            let given = headers
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.strip_prefix("Basic "));
            if given.is_some_and(|given| equal(given, &expected)) {
                return Ok(());
            }
            if self.secret.is_none() {
                let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"smsbridge\"")];
                let response = (StatusCode::UNAUTHORIZED, challenge).into_response();
                return Err((WebhookResult::Unauthorized, response));
            }
        }
        match &self.secret {
            None => Ok(()),
            Some(expected) if equal(secret, expected.expose_secret()) => Ok(()),
            // Not 401, which would reveal that the path exists.
            Some(_) => Err((
                WebhookResult::Unauthorized,
                StatusCode::NOT_FOUND.into_response(),
            )),
        }
    }
}

impl Webhooks {
    /// Authenticates the request and reads its content type and body.
    async fn read_request(
        &self,
        secret: &str,
        request: Request,
    ) -> Result<(String, Bytes), WebhookOutcome> {
        self.authenticator.check(secret, request.headers())?;
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("application/json")
            .to_owned();
        let body: Body = request.into_body();
        match tokio::time::timeout(
            BODY_TIMEOUT,
            axum::body::to_bytes(body, self.max_body_bytes),
        )
        .await
        {
            Ok(Ok(body)) => Ok((content_type, body)),
            Ok(Err(_)) => {
                let detail = format!(
                    "the body has more than {} bytes (http.max_body_bytes), or the connection broke",
                    self.max_body_bytes
                );
                let response = (StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
                Err((WebhookResult::Refused, response))
            }
            Err(_) => Err((
                WebhookResult::Refused,
                StatusCode::REQUEST_TIMEOUT.into_response(),
            )),
        }
    }

    /// Handles a push by POST: authenticates, reads, stores and counts it.
    async fn push<T>(
        &self,
        endpoint: Webhook,
        secret: &str,
        request: Request,
        store: impl AsyncFnOnce(&str, Bytes) -> Result<T, IntakeError>,
    ) -> Response {
        let outcome = match self.read_request(secret, request).await {
            Ok((content_type, body)) => outcome(store(&content_type, body).await),
            Err(refused) => refused,
        };
        self.count(endpoint, outcome)
    }

    fn count(&self, endpoint: Webhook, (result, response): WebhookOutcome) -> Response {
        self.metrics.webhook_body(endpoint, result);
        response
    }
}

fn outcome<T>(stored: Result<T, IntakeError>) -> WebhookOutcome {
    match stored {
        Ok(_) => (WebhookResult::Stored, StatusCode::OK.into_response()),
        // It is in quarantine, so a repeated push would not help.
        Err(IntakeError::Unreadable(_)) => {
            (WebhookResult::Quarantined, StatusCode::OK.into_response())
        }
        Err(IntakeError::Log(error)) => {
            tracing::error!(%error, "a push could not be stored: Infobip is asked to repeat it");
            let later = [(header::RETRY_AFTER, "5")];
            let response = (StatusCode::SERVICE_UNAVAILABLE, later).into_response();
            (WebhookResult::Unavailable, response)
        }
    }
}

type Shared = State<Arc<Webhooks>>;

async fn reports(
    State(webhooks): Shared,
    Path(secret): Path<String>,
    request: Request,
) -> Response {
    let store = async |content_type: &str, body: Bytes| {
        let intake = &webhooks.intake;
        intake.reports(ReportSource::Push, content_type, body).await
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
    let store =
        async |content_type: &str, body: Bytes| webhooks.intake.received(content_type, body).await;
    webhooks
        .push(Webhook::Inbound, &secret, request, store)
        .await
}

/// A received message that Infobip pushes by GET (docs/INFOBIP_API.md#push).
async fn inbound_by_query(
    State(webhooks): Shared,
    Path(secret): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let outcome = match webhooks.authenticator.check(&secret, &headers) {
        Ok(()) => outcome(webhooks.intake.received_by_query(&parameters).await),
        Err(refused) => refused,
    };
    webhooks.count(Webhook::Inbound, outcome)
}

async fn clicks(State(webhooks): Shared, Path(secret): Path<String>, request: Request) -> Response {
    let store =
        async |content_type: &str, body: Bytes| webhooks.intake.clicks(content_type, body).await;
    webhooks
        .push(Webhook::Clicks, &secret, request, store)
        .await
}

#[derive(serde::Deserialize)]
struct LookupParameters {
    application: Option<String>,
}

/// The `notifyUrl` that the bridge gives Infobip names the application that requested the lookup; without a valid name the
/// result belongs to the default application.
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
    let store = async |content_type: &str, body: Bytes| {
        let intake = &webhooks.intake;
        intake.lookups(&application, content_type, body).await
    };
    webhooks
        .push(Webhook::Lookups, &secret, request, store)
        .await
}
