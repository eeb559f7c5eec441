//! The caller's deadline. Handlers answer a little before it, because a response sent at the deadline arrives too late.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// The time by which a handler must answer: the caller's deadline less 10% of the timeout, at least 20 ms and at most 200 ms.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Deadline(Option<Instant>);

impl Deadline {
    /// Reads `grpc-timeout`.
    pub(in crate::grpc) fn of(metadata: &MetadataMap) -> Self {
        Self(timeout(metadata.as_ref()).and_then(|timeout| {
            let margin =
                (timeout / 10).clamp(Duration::from_millis(20), Duration::from_millis(200));
            Instant::now().checked_add(timeout.saturating_sub(margin))
        }))
    }

    /// When the handler must answer; `None` if the caller set no deadline.
    pub(in crate::grpc) fn at(self) -> Option<Instant> {
        self.0
    }

    /// Waits for `future`. `None` if the deadline passed first.
    pub(in crate::grpc) async fn wait<F: Future>(self, future: F) -> Option<F::Output> {
        match self.0 {
            None => Some(future.await),
            Some(at) => tokio::time::timeout_at(at, future).await.ok(),
        }
    }
}

/// The value of `grpc-timeout`. `None` if it is missing or malformed.
pub(in crate::grpc) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// At most 8 digits and a unit (gRPC over HTTP/2, "Timeout").
fn parse(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            parse("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for wrong in ["", "5", "S", "123456789S", "5s", "-1S", "ä"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
