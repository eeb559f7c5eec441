//! The HTTP edge that Infobip calls: reports, received messages, clicks and answers to look-ups.
//!
//! Invariants: 200 is said only when what came is durable, as events or in quarantine (promises 4 and 5); 503 where it can't
//! be, so that Infobip tries again; bodies are bounded and read under a deadline; numbers and texts are never logged.
//! Neighbours: `intake` does the work, `app` binds it.

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
};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Who may call.
#[derive(Clone)]
struct Gate {
    secret: Option<SecretString>,
    basic: Option<(String, SecretString)>,
}

/// What the handlers stand on.
struct Webhooks {
    intake: Intake,
    gate: Gate,
    max_body_bytes: usize,
    metrics: Metrics,
}

/// What became of a body, and what Infobip is told.
type Answered = (WebhookResult, Response);

/// Serves until `stop`, then finishes what came.
///
/// # Errors
/// What the system says when accepting ends.
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
        gate: Gate {
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

impl Gate {
    #[allow(clippy::result_large_err, reason = "the error is the whole answer")]
    fn check(&self, secret: &str, headers: &HeaderMap) -> Result<(), Answered> {
        let same = |one: &str, other: &str| bool::from(one.as_bytes().ct_eq(other.as_bytes()));
        if let Some((username, password)) = &self.basic {
            let expected = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
            let given = headers
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.strip_prefix("Basic "));
            if given.is_some_and(|given| same(given, &expected)) {
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
            Some(expected) if same(secret, expected.expose_secret()) => Ok(()),
            // Not 401: whoever guesses learns nothing.
            Some(_) => Err((
                WebhookResult::Unauthorized,
                StatusCode::NOT_FOUND.into_response(),
            )),
        }
    }
}

impl Webhooks {
    /// Checks who calls and reads the body.
    async fn admit(&self, secret: &str, request: Request) -> Result<(String, Bytes), Answered> {
        self.gate.check(secret, request.headers())?;
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
                    "the body has more than {} bytes (http.max_body_bytes), or broke off",
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

    fn counted(&self, endpoint: Webhook, (result, response): Answered) -> Response {
        self.metrics.webhook_body(endpoint, result);
        response
    }
}

/// 200 only where it is durable.
fn answer<T>(done: Result<T, IntakeError>) -> Answered {
    match done {
        Ok(_) => (WebhookResult::Stored, StatusCode::OK.into_response()),
        // It is in quarantine: to get it again would not help.
        Err(IntakeError::Unreadable(_)) => {
            (WebhookResult::Quarantined, StatusCode::OK.into_response())
        }
        Err(IntakeError::Log(error)) => {
            tracing::error!(%error, "a push could not be stored: Infobip is asked to try again");
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
    let answered = match webhooks.admit(&secret, request).await {
        Ok((content_type, body)) => {
            answer(webhooks.intake.pushed_reports(&content_type, body).await)
        }
        Err(refused) => refused,
    };
    webhooks.counted(Webhook::Reports, answered)
}

async fn inbound(
    State(webhooks): Shared,
    Path(secret): Path<String>,
    request: Request,
) -> Response {
    let answered = match webhooks.admit(&secret, request).await {
        Ok((content_type, body)) => answer(webhooks.intake.pulled_inbox(&content_type, body).await),
        Err(refused) => refused,
    };
    webhooks.counted(Webhook::Inbound, answered)
}

/// Infobip pushes a received message by GET (manual, "Push received messages").
async fn inbound_by_query(
    State(webhooks): Shared,
    Path(secret): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let answered = match webhooks.gate.check(&secret, &headers) {
        Ok(()) => answer(webhooks.intake.pushed_query(&parameters).await),
        Err(refused) => refused,
    };
    webhooks.counted(Webhook::Inbound, answered)
}

async fn clicks(State(webhooks): Shared, Path(secret): Path<String>, request: Request) -> Response {
    let answered = match webhooks.admit(&secret, request).await {
        Ok((content_type, body)) => {
            answer(webhooks.intake.pushed_clicks(&content_type, body).await)
        }
        Err(refused) => refused,
    };
    webhooks.counted(Webhook::Clicks, answered)
}

#[derive(serde::Deserialize)]
struct LookupParameters {
    application: Option<String>,
}

/// The bridge's own `notifyUrl` says which application asked.
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
    let answered = match webhooks.admit(&secret, request).await {
        Ok((content_type, body)) => answer(
            webhooks
                .intake
                .pushed_lookups(&application, &content_type, body)
                .await,
        ),
        Err(refused) => refused,
    };
    webhooks.counted(Webhook::Lookups, answered)
}
