//! Reads that the API answers only once: what it gave is kept before a caller sees it (P4, docs/RELIABILITY.md).
//!
//! Invariants: nothing is read while the event log is known not to take it; what was read goes on being stored when its
//! caller went away. Neighbours: `inbox` and `report` pull, `intake` makes events of it.

use std::time::Duration;

use tokio::time::Instant;

use crate::grpc::{Context, failure::Failure};
use crate::{
    events::AppendError,
    infobip::limits::{DEFAULT_ROWS, MAX_ROWS},
    intake::IntakeError,
};

/// How long storing what was read is tried: a full disk or a broker that restarts.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

impl From<IntakeError> for Failure {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Log(error) => Self::Append(error),
            IntakeError::Unreadable(detail) => Self::UnreadableAnswer(detail),
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

/// Whether what is read now can be kept.
pub(in crate::grpc) fn can_be_kept(context: &Context) -> Result<(), Failure> {
    if context.log.is_ready() {
        Ok(())
    } else {
        let detail = "nothing was read at the API".to_owned();
        Err(Failure::Append(AppendError::Unavailable(detail)))
    }
}

/// Stores what was read, again and again while the log does not take it.
pub(in crate::grpc) async fn keep<T, F>(store: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, IntakeError>>,
{
    let begun = Instant::now();
    loop {
        match store().await {
            Err(IntakeError::Log(AppendError::Unavailable(_))) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            ended => return Ok(ended?),
        }
    }
}
