//! Validates where and how results are pushed: URL, content type and callback data.

use serde_json::Value;

use super::violations::Violations;
use crate::{draft::Notify, envelope::ApiError, request::Scalar};

const CALLBACK_CHARACTERS: usize = 4000;
const URL_CHARACTERS: usize = 2048;

/// Validates the notify URL and content type of a lookup.
pub fn lookup_notify(
    url: Option<Scalar>,
    content_type: Option<&Scalar>,
) -> Result<Option<Notify>, ApiError> {
    let mut wrong = Violations::default();
    let notify = check_notify(url, content_type, &str::to_owned, &mut wrong);
    wrong.0.map_or(Ok(notify), Err)
}

pub(super) fn check_notify(
    url: Option<Scalar>,
    content_type: Option<&Scalar>,
    path: &dyn Fn(&str) -> String,
    wrong: &mut Violations,
) -> Option<Notify> {
    let xml = match content_type.map(|scalar| scalar.0.trim()) {
        None | Some("") => false,
        Some(kind) if kind.starts_with("application/json") => false,
        Some(kind) if kind.starts_with("application/xml") => true,
        Some(_) => {
            wrong.add(
                path("notifyContentType"),
                "must be application/json or application/xml",
            );
            false
        }
    };
    let url = url.map(|url| url.0).filter(|url| !url.is_empty())?;
    let parsed = reqwest::Url::parse(&url)
        .ok()
        .filter(|parsed| matches!(parsed.scheme(), "http" | "https"));
    if url.chars().count() > URL_CHARACTERS || parsed.is_none() {
        wrong.add(
            path("notifyUrl"),
            "must be an http or https URL of at most 2048 characters",
        );
        return None;
    }
    Some(Notify {
        url: url.into(),
        xml,
    })
}

pub(super) fn check_callback(
    data: Option<Value>,
    path: &dyn Fn(&str) -> String,
    wrong: &mut Violations,
) -> Option<Value> {
    let data = data.filter(|data| !data.is_null())?;
    let too_long = match &data {
        Value::String(text) => text.chars().count() > CALLBACK_CHARACTERS,
        other => other.to_string().chars().count() > CALLBACK_CHARACTERS,
    };
    if too_long {
        wrong.add(path("callbackData"), "must not exceed 4000 characters");
    }
    Some(data)
}
