//! The answers to pushes: 200 once a push is durable, 503 so that Infobip repeats it.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use tokio::time::{Instant, timeout_at};

use crate::{intake::IntakeError, ops::metrics::WebhookResult};

/// The outcome of a push for the metrics, and the response to Infobip.
pub(super) type WebhookOutcome = (WebhookResult, Response);

/// 503: Infobip repeats the push.
pub(super) fn unavailable() -> WebhookOutcome {
    let later = [(header::RETRY_AFTER, "5")];
    let response = (StatusCode::SERVICE_UNAVAILABLE, later).into_response();
    (WebhookResult::Unavailable, response)
}

/// The sender is not one that may push.
pub(super) fn unauthorized(response: Response) -> WebhookOutcome {
    (WebhookResult::Unauthorized, response)
}

/// The outcome of storing, or 503 at the deadline. It may be stored later after all. The events of the repeated push then have the
/// same ids, except where the push gives none: a received message without id and time, and a body in quarantine, are stored twice.
pub(super) async fn stored_by<T>(
    deadline: Instant,
    storing: impl Future<Output = Result<T, IntakeError>>,
) -> WebhookOutcome {
    match timeout_at(deadline, storing).await {
        Ok(stored) => outcome_of(stored),
        Err(_) => {
            tracing::error!(
                "a push was not stored within http.request_timeout; Infobip repeats it; check the event log"
            );
            unavailable()
        }
    }
}

/// 200 only if the push is durable.
fn outcome_of<T>(stored: Result<T, IntakeError>) -> WebhookOutcome {
    match stored {
        Ok(_) => (WebhookResult::Stored, StatusCode::OK.into_response()),
        // It is in quarantine, so a repeated push would not help.
        Err(IntakeError::Unreadable(_)) => {
            (WebhookResult::Quarantined, StatusCode::OK.into_response())
        }
        Err(IntakeError::Log(error)) => {
            tracing::error!(%error, "a push could not be stored; Infobip repeats it");
            unavailable()
        }
    }
}
