//! The HTTP endpoints to which Infobip pushes reports, received messages, clicks and look-up results.
//!
//! Invariants: a push is answered 200 only when it is durable, as events or in quarantine (P4 and P5, docs/RELIABILITY.md), and
//! 503 if that fails, so that Infobip repeats it; a body is read only after authentication, except where its own signature is the
//! authentication: of those a quarter of all bodies are read at once, so that strangers keep the others from no place; bodies in
//! progress are bounded in number and size; every request is answered within `http.request_timeout`; phone numbers and texts are
//! never logged.
//! Neighbours: [`routes`] has the paths, `intake` stores the pushes, `ops::http_server` bounds the connections, `app` binds the port.

mod authenticator;
mod client_network;
mod outcome;
mod routes;
mod signature;
mod unauthorized;

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::{
    authenticator::WebhookAuthenticator,
    client_network::{ClientNetworks, NotAllowed},
    outcome::{WebhookOutcome, stored_by, unauthorized, unavailable},
    signature::{Presented, Signatures},
    unauthorized::{Cause, UnauthorizedPushes},
};
use crate::{
    config,
    intake::{Intake, IntakeError},
    ops::{
        http_server::{self, Limits, PeerAddress},
        metrics::{Metrics, Webhook, WebhookResult},
        milliseconds,
    },
};

/// The state of the handlers.
struct Webhooks {
    intake: Intake,
    networks: ClientNetworks,
    authenticator: WebhookAuthenticator,
    /// `None`: there is no key, so nothing is read on the path of subscriptions.
    signatures: Option<Signatures>,
    max_body_bytes: usize,
    /// Limits the requests whose body is being read or stored.
    permits: Arc<Semaphore>,
    /// Limits those of them whose signature is not verified yet.
    unverified: Arc<Semaphore>,
    request_timeout: Duration,
    unauthorized: UnauthorizedPushes,
    metrics: Metrics,
}

/// What admits a push.
#[derive(Clone, Copy)]
enum Credentials<'a> {
    /// The segment of the path, or HTTP Basic.
    Secret(&'a str),
    /// The signature of the body: the path of subscriptions.
    Signature,
}

/// The places of a request until it is answered.
struct Admitted {
    _permit: OwnedSemaphorePermit,
    /// Its signature, with the place of its unverified body.
    unverified: Option<(Presented, OwnedSemaphorePermit)>,
}

/// Serves until `stop`, then finishes the requests in progress.
pub async fn serve(
    listener: TcpListener,
    config: &config::Http,
    intake: Intake,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let places = config.max_concurrent_requests.min(Semaphore::MAX_PERMITS);
    let state = Arc::new(Webhooks {
        intake,
        networks: ClientNetworks::new(config),
        authenticator: WebhookAuthenticator::new(config),
        signatures: Signatures::new(config),
        max_body_bytes: config.max_body_bytes,
        permits: Arc::new(Semaphore::new(places)),
        unverified: Arc::new(Semaphore::new((places / 4).max(1))),
        request_timeout: config.request_timeout,
        unauthorized: UnauthorizedPushes::default(),
        metrics,
    });
    let limits = Limits {
        max_connections: config.max_connections,
        keep_alive: true,
        header_timeout: config.header_timeout,
        request_timeout: config.request_timeout,
    };
    http_server::serve(listener, routes::of(state), limits, stop).await;
}

impl Webhooks {
    /// Handles a push by POST: authenticates, reads, stores and counts it.
    async fn push<T, F>(
        &self,
        endpoint: Webhook,
        credentials: Credentials<'_>,
        request: Request,
        store: impl FnOnce(String, Bytes) -> F,
    ) -> Response
    where
        F: Future<Output = Result<T, IntakeError>>,
    {
        let began = Instant::now();
        let deadline = began + self.request_timeout;
        let pushed = async {
            let Admitted {
                _permit,
                unverified,
            } = self.admit(endpoint, credentials, &request)?;
            let (content_type, body) = self.read(endpoint, request, deadline).await?;
            if let Some((signature, _place)) = unverified {
                self.verify(endpoint, &signature, &body)?;
            }
            tracing::debug!(%endpoint, bytes = body.len(), "a push was received");
            Ok(stored_by(deadline, store(content_type, body)).await)
        };
        let outcome = pushed.await.unwrap_or_else(|refused| refused);
        self.count(endpoint, began, outcome)
    }

    /// Authenticates the request, checks that it can be stored, and acquires its places, which are held until it is answered.
    #[allow(clippy::result_large_err, reason = "the error is the whole response")]
    fn admit(
        &self,
        endpoint: Webhook,
        credentials: Credentials<'_>,
        request: &Request,
    ) -> Result<Admitted, WebhookOutcome> {
        let signature = self.authorize(endpoint, credentials, request)?;
        // Its body could not be stored. The outage is logged where it is noticed.
        if !self.intake.is_ready() {
            return Err(unavailable());
        }
        let place = |of: &Arc<Semaphore>| {
            Arc::clone(of).try_acquire_owned().map_err(|_| {
                tracing::warn!(
                    %endpoint,
                    "a push was refused because http.max_concurrent_requests are in progress (of signed ones a quarter); Infobip repeats it"
                );
                unavailable()
            })
        };
        let unverified = match signature {
            Some(signature) => Some((signature, place(&self.unverified)?)),
            None => None,
        };
        Ok(Admitted {
            _permit: place(&self.permits)?,
            unverified,
        })
    }

    /// Checks all that the head of a request tells of its sender. Returns the signature that its body must have.
    #[allow(clippy::result_large_err, reason = "the error is the whole response")]
    fn authorize(
        &self,
        endpoint: Webhook,
        credentials: Credentials<'_>,
        request: &Request,
    ) -> Result<Option<Presented>, WebhookOutcome> {
        let refuse = |cause, response| {
            self.unauthorized.count(endpoint, cause);
            Err(unauthorized(response))
        };
        let headers = request.headers();
        let peer = request.extensions().get::<PeerAddress>();
        let allowed = self.networks.check(peer.map(|peer| peer.0), headers);
        if let Err(NotAllowed { client }) = allowed {
            let forbidden = StatusCode::FORBIDDEN.into_response();
            return refuse(Cause::Network(client), forbidden);
        }
        match (credentials, &self.signatures) {
            (Credentials::Secret(secret), _) => match self.authenticator.check(secret, headers) {
                Ok(()) => Ok(None),
                Err(response) => refuse(Cause::Credentials, response),
            },
            (Credentials::Signature, None) => {
                refuse(Cause::Credentials, StatusCode::NOT_FOUND.into_response())
            }
            (Credentials::Signature, Some(signatures)) => match signatures.presented(headers) {
                Some(signature) => Ok(Some(signature)),
                None => refuse(Cause::Signature, StatusCode::UNAUTHORIZED.into_response()),
            },
        }
    }

    #[allow(clippy::result_large_err, reason = "the error is the whole response")]
    fn verify(
        &self,
        endpoint: Webhook,
        signature: &Presented,
        body: &[u8],
    ) -> Result<(), WebhookOutcome> {
        let signatures = self.signatures.as_ref();
        if signatures.is_some_and(|signatures| signatures.verify(signature, body)) {
            return Ok(());
        }
        self.unauthorized.count(endpoint, Cause::Signature);
        Err(unauthorized(StatusCode::UNAUTHORIZED.into_response()))
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
