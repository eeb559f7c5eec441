//! Errors for a whole request, and the JSON envelope in which the API returns them (docs/INFOBIP_API.md#errors).
//!
//! Neighbours: `validate` and `http` create them; `http` writes them in the format of the request.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Serialize;

use crate::request_log::Refusal;

/// Violations and characters of an error in the request log.
const MAX_LOGGED_VIOLATIONS: usize = 3;
const MAX_LOGGED_CHARACTERS: usize = 300;

#[derive(Debug, Clone, thiserror::Error)]
#[error("{status}: {text}")]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    message_id: &'static str,
    text: String,
    validation_errors: BTreeMap<String, Vec<String>>,
    /// Value of `Retry-After`, if the simulator is configured to send it.
    pub(crate) retry_after_seconds: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, message_id: &'static str, text: &str) -> Self {
        Self {
            status,
            message_id,
            text: text.to_owned(),
            validation_errors: BTreeMap::new(),
            retry_after_seconds: None,
        }
    }

    /// 400: the request cannot be read or is invalid.
    pub(crate) fn bad_request() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", "Bad request")
    }

    /// 400 with one reason for one field.
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::bad_request().and(field, reason)
    }

    #[must_use]
    pub(crate) fn and(mut self, field: impl Into<String>, reason: impl Into<String>) -> Self {
        self.validation_errors
            .entry(field.into())
            .or_default()
            .push(reason.into());
        self
    }

    /// An error of the simulator's own interface, not of the API.
    pub(crate) fn refused(status: StatusCode, message_id: &'static str, text: &str) -> Self {
        Self::new(status, message_id, text)
    }

    /// 401, with the text captured in live traffic.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "UNAUTHORIZED",
            "Invalid login details",
        )
    }

    pub(crate) fn not_found(text: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", text)
    }

    /// 405. No source has the API's response; the envelope is the usual one.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            "Method not allowed",
        )
    }

    /// 413: a limit of the simulator, not of the API.
    pub(crate) fn too_large(bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "BAD_REQUEST",
            &format!("The body exceeds {bytes} bytes"),
        )
    }

    pub(crate) fn too_many_requests() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TOO_MANY_REQUESTS",
            "Too many requests",
        )
    }

    /// The API's error for this status.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::bad_request(),
            401 => Self::unauthorized(),
            403 => Self::new(status, "FORBIDDEN", "Forbidden"),
            404 => Self::not_found("Not found"),
            405 => Self::method_not_allowed(),
            429 => Self::too_many_requests(),
            500 => Self::general(),
            // The bodies of other statuses are unknown (docs/INFOBIP_API.md#errors).
            _ => Self::new(
                status,
                "GENERAL_ERROR",
                status.canonical_reason().unwrap_or("Error"),
            ),
        }
    }

    /// 500, also the response to a missing Content-Type (manual "Content-Type & Accept header").
    pub(crate) fn general() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "GENERAL_ERROR",
            "Something went wrong. Please contact support.",
        )
    }

    /// The reason for the request log: the text, and the first violations.
    pub(crate) fn refusal(&self) -> Refusal {
        let violations = self
            .validation_errors
            .iter()
            .take(MAX_LOGGED_VIOLATIONS)
            .map(|(field, reasons)| format!("; {field} {}", reasons.join(", ")));
        let text = std::iter::once(self.text.clone()).chain(violations);
        Refusal {
            reason: self.message_id.to_owned(),
            text: text
                .collect::<String>()
                .chars()
                .take(MAX_LOGGED_CHARACTERS)
                .collect(),
        }
    }

    pub(crate) fn envelope(&self) -> impl Serialize + use<> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Envelope {
            request_error: RequestError,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct RequestError {
            service_exception: ServiceException,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct ServiceException {
            message_id: &'static str,
            text: String,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            validation_errors: BTreeMap<String, Vec<String>>,
        }
        Envelope {
            request_error: RequestError {
                service_exception: ServiceException {
                    message_id: self.message_id,
                    text: self.text.clone(),
                    validation_errors: self.validation_errors.clone(),
                },
            },
        }
    }
}
