//! The text of a gRPC error, with its `google.rpc` details.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{CliError, connect::root_cause, time::show_duration};

/// Printed if calls fail although the connection was made.
const NO_GRPC: &str = "If this happens every time: check that --address is the bridge's gRPC port, that http or https is right, and whether the bridge requires a client certificate (--cert-file)";

/// A gRPC error: code and message, then the `google.rpc` details, each on a line.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct RpcError {
    pub code: Code,
    /// When to try again, if the bridge says so.
    pub retry_after: Option<Duration>,
    text: String,
}

impl From<Status> for RpcError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let mut text = code_name(status.code());
        let mut metadata = Vec::new();
        if let Some(info) = details.error_info() {
            text.push_str(&format!(" ({})", info.reason));
            metadata.extend(info.metadata.iter());
            metadata.sort();
        }
        // tonic sets a source if the connection failed; a status that the bridge sent has none.
        match std::error::Error::source(&status) {
            Some(broken) => text.push_str(&format!(
                ": the connection broke: {}\n  {NO_GRPC}",
                root_cause(broken)
            )),
            None if status.message().is_empty() => {}
            // tonic's own status for a response of another HTTP server, such as the bridge's admin port.
            None if status.message().starts_with("grpc-status header missing") => {
                let message = status.message();
                text.push_str(&format!(": this is no gRPC server: {message}\n  {NO_GRPC}"));
            }
            None => text.push_str(&format!(": {}", status.message())),
        }
        let violations: Vec<_> = details
            .bad_request()
            .iter()
            .flat_map(|bad| &bad.field_violations)
            .collect();
        // If there is one mistake, the message contains it already.
        let is_printed = |description: &str| violations.len() == 1 && text.contains(description);
        let missing: Vec<_> = violations
            .iter()
            .filter(|violation| !is_printed(&violation.description))
            .collect();
        for violation in missing {
            text.push_str(&format!(
                "\n  {}: {}",
                violation.field, violation.description
            ));
        }
        for (key, value) in metadata {
            text.push_str(&format!("\n  {key} = {value}"));
        }
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        if let Some(delay) = retry_after {
            text.push_str(&format!("\n  try again in {}", show_duration(delay)));
        }
        Self {
            code: status.code(),
            retry_after,
            text,
        }
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Rpc(status.into())
    }
}

/// A code as gRPC's documentation writes it: `INVALID_ARGUMENT`.
fn code_name(code: Code) -> String {
    if code == Code::Cancelled {
        return "CANCELLED".into();
    }
    let mut name = String::new();
    for character in format!("{code:?}").chars() {
        if character.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(character.to_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn code_names_match_the_names_of_grpc() {
        assert_eq!(code_name(Code::InvalidArgument), "INVALID_ARGUMENT");
        assert_eq!(code_name(Code::Cancelled), "CANCELLED");
        assert_eq!(code_name(Code::Ok), "OK");
    }

    #[test]
    fn the_answer_of_another_http_server_has_a_hint() {
        let status =
            Status::unimplemented("grpc-status header missing, mapped from HTTP status code 404");
        let text = RpcError::from(status).to_string();
        assert!(
            text.starts_with("UNIMPLEMENTED: this is no gRPC server: "),
            "{text}"
        );
        assert!(text.contains(NO_GRPC), "{text}");
    }

    #[test]
    fn error_text_contains_all_details() {
        let mut details = ErrorDetails::with_error_info(
            "INVALID_REQUEST",
            "smsbridge",
            [("request_id".to_owned(), "r1".to_owned())],
        );
        details.set_bad_request(vec![
            FieldViolation::new("message.text", "is empty"),
            FieldViolation::new("message.destinations[1].to", "has no digits"),
        ]);
        details.set_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::InvalidArgument, "2 mistakes", details);
        assert_eq!(
            RpcError::from(status).to_string(),
            "INVALID_ARGUMENT (INVALID_REQUEST): 2 mistakes\n  message.text: is empty\n  message.destinations[1].to: has no digits\n  request_id = r1\n  try again in 2 s"
        );
    }
}
