//! Waiting for conditions, with a deadline instead of a fixed sleep.

use std::time::Duration;

/// Time limit for a condition: far more than a loaded machine needs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Polls `condition` until it returns a value; panics with `what` at the deadline.
pub async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let looking = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking)
        .await
        .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}
