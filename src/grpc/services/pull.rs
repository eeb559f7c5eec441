//! Pulls: the API returns each row once, so the response is stored before the caller gets it (P4, docs/RELIABILITY.md).
//!
//! Invariants: nothing is pulled while the event log is known to be unavailable; a response that was pulled is stored even if
//! the caller goes away. Neighbours: `inbox` and `report` pull, `intake` turns the response into events.

use std::time::Duration;

use tokio::time::Instant;

use crate::grpc::{ServiceContext, failure::Failure};
use crate::{
    events::AppendError,
    infobip::limits::{DEFAULT_ROWS, MAX_ROWS},
    intake::IntakeError,
    primitives::retry::RetryPolicy,
};

/// How long storing a pulled response is retried while the event log is unavailable.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);
const STORE_RETRY: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(2));

impl From<IntakeError> for Failure {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Log(error) => Self::Append(error),
            IntakeError::Unreadable(detail) => Self::UnreadableResponse(detail),
        }
    }
}

/// Checks the `limit` of a pull: 1 to 1000, or 0 for the API's default.
pub(in crate::grpc) fn limit(limit: i32) -> Result<u32, Failure> {
    match limit {
        0 => Ok(DEFAULT_ROWS),
        _ if (1..=MAX_ROWS.cast_signed()).contains(&limit) => Ok(limit.unsigned_abs()),
        _ => Err(Failure::invalid(
            "limit",
            format!("must be between 1 and {MAX_ROWS}"),
        )),
    }
}

/// Refuses a pull that could not be stored.
pub(in crate::grpc) fn check_log_is_ready(context: &ServiceContext) -> Result<(), Failure> {
    if context.log.is_ready() {
        Ok(())
    } else {
        let detail = "nothing was pulled from the API".to_owned();
        Err(Failure::Append(AppendError::Unavailable(detail)))
    }
}

/// Stores a pulled response, with retries while the event log is unavailable.
pub(in crate::grpc) async fn store_with_retries<T, F>(store: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, IntakeError>>,
{
    let deadline = Instant::now() + STORE_TIMEOUT;
    let is_transient =
        |error: &IntakeError| matches!(error, IntakeError::Log(AppendError::Unavailable(_)));
    Ok(STORE_RETRY.retry(deadline, is_transient, store).await?)
}
