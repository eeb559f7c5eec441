//! Tokens of gRPC callers, and the code and reason of a refusal.

use secrecy::{ExposeSecret as _, SecretString};
use smsbridge::config::tokens::hash;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// An entry of the tokens file; `rest` has its optional keys.
pub fn token_entry(name: &str, token: &SecretString, application: &str, rest: &str) -> String {
    let hash = hash(token);
    format!(
        "[[token]]\nname = \"{name}\"\nhash = \"{hash}\"\napplication = \"{application}\"\n{rest}\n"
    )
}

pub fn with_token<T>(message: T, token: &SecretString) -> Request<T> {
    with_metadata(
        message,
        "authorization",
        &format!("Bearer {}", token.expose_secret()),
    )
}

pub fn with_metadata<T>(message: T, key: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(key, value.parse().unwrap());
    request
}

/// The code and the stable reason of an error.
pub fn refusal<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().expect("it is refused");
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "smsbridge");
    (status.code(), info.reason)
}

pub fn refused(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}
