//! Validates where and how results are pushed: URL, content type and callback data.

use serde_json::Value;

use super::violations::Violations;
use crate::{envelope::ApiError, request::LenientString, submission::NotifyTarget};

const MAX_CALLBACK_CHARACTERS: usize = 4000;
const MAX_URL_CHARACTERS: usize = 2048;

/// Validates the notify URL and content type of a look-up.
pub fn lookup_notify(
    url: Option<LenientString>,
    content_type: Option<&LenientString>,
) -> Result<Option<NotifyTarget>, ApiError> {
    let mut violations = Violations::default();
    let notify = check_notify(url, content_type, &str::to_owned, &mut violations);
    violations.0.map_or(Ok(notify), Err)
}

pub(super) fn check_notify(
    url: Option<LenientString>,
    content_type: Option<&LenientString>,
    field_path: &dyn Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<NotifyTarget> {
    let xml = match content_type.map(|scalar| scalar.0.trim()) {
        None | Some("") => false,
        Some(kind) if kind.starts_with("application/json") => false,
        Some(kind) if kind.starts_with("application/xml") => true,
        Some(_) => {
            violations.add(
                field_path("notifyContentType"),
                "must be application/json or application/xml",
            );
            false
        }
    };
    let url = url.map(|url| url.0).filter(|url| !url.is_empty())?;
    let parsed = reqwest::Url::parse(&url)
        .ok()
        .filter(|parsed| matches!(parsed.scheme(), "http" | "https"));
    if url.chars().count() > MAX_URL_CHARACTERS || parsed.is_none() {
        violations.add(
            field_path("notifyUrl"),
            "must be an http or https URL of at most 2048 characters",
        );
        return None;
    }
    Some(NotifyTarget {
        url: url.into(),
        xml,
    })
}

pub(super) fn check_callback(
    data: Option<Value>,
    field_path: &dyn Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<Value> {
    let data = data.filter(|data| !data.is_null())?;
    let too_long = match &data {
        Value::String(text) => text.chars().count() > MAX_CALLBACK_CHARACTERS,
        other => other.to_string().chars().count() > MAX_CALLBACK_CHARACTERS,
    };
    if too_long {
        violations.add(
            field_path("callbackData"),
            "must not exceed 4000 characters",
        );
    }
    Some(data)
}
