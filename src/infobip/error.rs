//! Classifies requests that did not succeed (docs/RELIABILITY.md#how-a-send-stays-single).
//!
//! Invariants: a request that may have been carried out is [`ApiError::InDoubt`]; no error contains a phone number, a text of a
//! message or a credential. Neighbours: `client` makes the requests; `send`, `intake` and `grpc` act on the classes.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use super::wire::scalar::Scalar;
use crate::primitives::masked_text::mask_digits;

/// The code of a refusal because of a redirect, which the bridge sets itself.
pub(super) const REDIRECTED: &str = "REDIRECTED";

/// Why a request did not succeed, and whether it may have been carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No connection could be made: nothing was sent. A retry is safe.
    #[error("the API can't be reached, nothing was sent: {detail}")]
    NotSent { detail: String },
    /// HTTP 429: nothing was done. A retry after the wait is safe.
    #[error("the API's rate limit is used up")]
    RateLimited {
        /// The `Retry-After` header of the response.
        retry_after: Option<Duration>,
    },
    /// The request was refused: nothing was done, and the same request would be refused again.
    #[error("the API refused the request: HTTP {http_status} {code} {text}")]
    Refused {
        http_status: u16,
        /// API: `messageId` of the service exception, such as `BAD_REQUEST`. Empty if the body could not be read.
        code: String,
        /// API: `text` of the service exception, digits and URLs masked. Empty if the body could not be read.
        text: String,
        /// API: `validationErrors`: each field with its problems.
        validation_errors: Vec<(String, Vec<String>)>,
    },
    /// HTTP 401 or 403: nothing was done.
    #[error("the API refuses the bridge's credentials: {}", refused_credentials(*http_status, text))]
    CredentialsRefused {
        http_status: u16,
        /// API: `text` of the service exception, digits and URLs masked. Empty if the body could not be read.
        text: String,
    },
    /// The request was sent, or may have been, and its outcome is unknown.
    #[error("the outcome of the request is in doubt: {detail}")]
    InDoubt {
        detail: String,
        /// Whether the answer was a redirect (302, 303 …): a login or maintenance page, which the next request would get too.
        redirected: bool,
    },
}

/// The answer that refuses the bridge's credentials, and the remedy.
#[must_use]
pub fn refused_credentials(http_status: u16, text: &str) -> String {
    let answer = format!("HTTP {http_status} {text}");
    format!(
        "{}: check infobip.username and infobip.password, or infobip.api_key",
        answer.trim_end()
    )
}

impl ApiError {
    /// Classifies an exchange that did not end with a response. Only a failure to connect is certain: a pooled connection that
    /// was reset, or whose request timed out, may have carried the request. (hyper itself uses another connection if it has
    /// written nothing on the first one.)
    pub(super) fn classify_exchange(error: &reqwest::Error) -> Self {
        if error.is_connect() {
            Self::NotSent {
                detail: if error.is_timeout() {
                    "no connection within infobip.connect_timeout".to_owned()
                } else {
                    format!("no connection: {}", root_cause(error))
                },
            }
        } else if error.is_builder() {
            // The URL or a header is invalid.
            Self::NotSent {
                detail: "the request could not be built".to_owned(),
            }
        } else if error.is_timeout() {
            Self::in_doubt("no response within infobip.request_timeout")
        } else {
            Self::in_doubt(format!("the connection failed: {}", root_cause(error)))
        }
    }

    /// Classifies a response whose status is not 2xx.
    ///
    /// A 4xx means that the request was not carried out. That includes an HTML page of a proxy: a proxy that forwarded the
    /// request and got no response answers 5xx. The exception is 408, which a proxy also sends when the API was too slow: it is
    /// in doubt, like a 5xx. Redirects are not followed. After 301, 307 and 308 the request was not carried out, because these
    /// ask for the same request at another address. After 302 and 303 it may have been: they are in doubt.
    pub(super) fn classify_status(
        status: StatusCode,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Self {
        let http_status = status.as_u16();
        match http_status {
            401 | 403 => Self::CredentialsRefused {
                http_status,
                text: ErrorBody::read(body).text,
            },
            408 => Self::in_doubt("HTTP 408"),
            429 => Self::RateLimited { retry_after },
            400..=499 => {
                let envelope = ErrorBody::read(body);
                Self::Refused {
                    http_status,
                    code: envelope.code,
                    text: envelope.text,
                    validation_errors: envelope.validation_errors,
                }
            }
            301 | 307 | 308 => Self::Refused {
                http_status,
                code: REDIRECTED.to_owned(),
                text: "the address redirects: check infobip.base_url".to_owned(),
                validation_errors: Vec::new(),
            },
            _ => Self::InDoubt {
                detail: format!("HTTP {http_status}"),
                redirected: status.is_redirection(),
            },
        }
    }

    /// Whether the API refused the request because of its content: 400 and 422 of the API, and 413, which a smaller request may avoid.
    /// Without the API's error envelope (`code` is empty) a proxy or a wrong address answers, and so with any other status (404, 405,
    /// 407, 415, 451, a redirect …): every send would get it, and it counts as an outage of the API.
    #[must_use]
    pub fn is_about_the_request(&self) -> bool {
        match self {
            Self::Refused {
                http_status, code, ..
            } => match http_status {
                400 | 422 => !code.is_empty(),
                413 => true,
                _ => false,
            },
            _ => false,
        }
    }

    pub(super) fn in_doubt(detail: impl Into<String>) -> Self {
        Self::InDoubt {
            detail: detail.into(),
            redirected: false,
        }
    }
}

/// The innermost cause, such as "connection refused". reqwest's own text contains the URL, whose query has phone numbers.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::addr_eq(std::ptr::from_ref(cause), std::ptr::from_ref(error)) {
        return "no cause given".to_owned();
    }
    cause.to_string()
}

/// The API's service exception (docs/INFOBIP_API.md#errors).
#[derive(Debug, Default)]
struct ErrorBody {
    code: String,
    text: String,
    validation_errors: Vec<(String, Vec<String>)>,
}

impl ErrorBody {
    /// The fields that are present. All are empty if the body is not an error envelope.
    fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow, rename = "requestError")]
            request_error: RequestError<'a>,
        }
        #[derive(Deserialize)]
        struct RequestError<'a> {
            #[serde(borrow, rename = "serviceException")]
            service_exception: ServiceException<'a>,
        }
        #[derive(Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        struct ServiceException<'a> {
            #[serde(borrow, rename = "messageId")]
            message_id: Scalar<'a>,
            #[serde(borrow)]
            text: Scalar<'a>,
            #[serde(rename = "validationErrors")]
            validation_errors: serde_json::Value,
        }
        let text = String::from_utf8_lossy(body);
        let json = if text.trim_start().starts_with('<') {
            super::xml::document_to_json(&text)
        } else {
            None
        };
        let text = json.as_deref().unwrap_or(&text);
        let exception = match serde_json::from_str::<Body<'_>>(text) {
            Ok(body) => body.request_error.service_exception,
            Err(_) => return Self::default(),
        };
        Self {
            code: presentable(&exception.message_id.into_text()),
            text: presentable(&exception.text.into_text()),
            validation_errors: validation_errors(&exception.validation_errors),
        }
    }
}

fn validation_errors(errors: &serde_json::Value) -> Vec<(String, Vec<String>)> {
    let Some(fields) = errors.as_object() else {
        return Vec::new();
    };
    fields
        .iter()
        .take(100)
        .map(|(field, problems)| {
            let problems = match problems {
                serde_json::Value::Array(problems) => {
                    problems.iter().take(20).map(problem_text).collect()
                }
                problem => vec![problem_text(problem)],
            };
            (presentable(field), problems)
        })
        .collect()
}

fn problem_text(problem: &serde_json::Value) -> String {
    problem
        .as_str()
        .map_or_else(|| presentable(&problem.to_string()), presentable)
}

/// At most 500 characters, without control characters, and without what a validation error may quote: runs of five or more
/// digits are masked because of phone numbers, and URLs because a `notifyUrl` has the path secret or credentials.
fn presentable(text: &str) -> String {
    let start: String = text.chars().take(500).collect();
    mask_digits(&mask_urls(&start))
}

/// Masks each URL from its `://` to the next whitespace, quote or angle bracket.
fn mask_urls(text: &str) -> String {
    const SEPARATOR: &str = "://";
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
    let mut masked = String::new();
    let mut rest = text;
    while let Some((before, url)) = rest.split_once(SEPARATOR) {
        masked.extend([before, SEPARATOR, "…"]);
        rest = url.find(is_end).map_or("", |end| &url[end..]);
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> ApiError {
        ApiError::classify_status(StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
    }

    #[test]
    fn an_envelope_is_read_from_json_and_xml() {
        let json = r#"{"requestError":{"serviceException":{"messageId":"BAD_REQUEST","text":"Bad request",
            "validationErrors":{"to":["number 41793026727 is bad","must not be empty"],"text":"missing"}}}}"#;
        assert_eq!(
            refused(400, json),
            ApiError::Refused {
                http_status: 400,
                code: "BAD_REQUEST".into(),
                text: "Bad request".into(),
                validation_errors: vec![
                    ("text".into(), vec!["missing".into()]),
                    (
                        "to".into(),
                        vec!["number … is bad".into(), "must not be empty".into()]
                    ),
                ],
            }
        );
        let xml = "<ApiException><requestError><serviceException><messageId>UNAUTHORIZED</messageId>\
                   <text>Invalid login details</text></serviceException></requestError></ApiException>";
        assert_eq!(
            refused(401, xml),
            ApiError::CredentialsRefused {
                http_status: 401,
                text: "Invalid login details".into()
            }
        );
    }

    /// The API may quote the `notifyUrl` of the bridge, which has the path secret or the credentials of HTTP Basic.
    #[test]
    fn quoted_urls_are_masked() {
        let quoted = r#"{"requestError":{"serviceException":{"messageId":"BAD_REQUEST",
            "text":"bad http://h/infobip/s3cret/reports here and HTTPS://h/infobip/s3cret",
            "validationErrors":{"https://u:p%40ss@h":"\"https://u:p%40ss@h/infobip/s3cret/reports\" is not a URL",
                "x":{"value":"https://u:p%40ss@h/infobip/s3cret/reports"}}}}}"#;
        let error = refused(400, quoted);
        let shown = format!("{error} {error:?}");
        for secret in ["p%40", "s3cret", "u:p"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let ApiError::Refused {
            text,
            validation_errors,
            ..
        } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(text, "bad http://… here and HTTPS://…");
        assert!(
            validation_errors
                .iter()
                .any(|(_, problems)| problems[0].ends_with("\" is not a URL")),
            "{validation_errors:?}"
        );
        let text = refused(401, &quoted.replace("BAD_REQUEST", "UNAUTHORIZED")).to_string();
        assert!(!text.contains("s3cret"), "{text}");
    }

    #[test]
    fn uncertain_statuses_are_in_doubt_and_others_are_refusals() {
        for status in [302, 303, 304, 408, 500, 502, 503, 504, 599] {
            assert!(
                matches!(refused(status, "<html>"), ApiError::InDoubt { .. }),
                "{status}"
            );
        }
        for status in [301, 307, 308, 400, 404, 405, 413, 415, 422] {
            for body in [
                "",
                "<html><body>nginx</body></html>",
                "\u{0}",
                "{\"requestError\":7}",
            ] {
                assert!(
                    matches!(refused(status, body), ApiError::Refused { .. }),
                    "{status}"
                );
            }
        }
    }
}
