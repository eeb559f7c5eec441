//! JSON or XML: what a body is in, and what its sender wants the answer in (manual "Content-Type & Accept header").

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};

use crate::envelope::ApiError;

/// JSON or XML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/xml`.
    Xml,
}

/// The path without `.json` or `.xml`, which are as good as an Accept (docs/INFOBIP_API.md#endpoints).
pub fn strip_suffix(path: &str) -> (&str, Option<Format>) {
    for (suffix, format) in [(".json", Format::Json), (".xml", Format::Xml)] {
        if let Some(path) = path.strip_suffix(suffix) {
            return (path, Some(format));
        }
    }
    (path, None)
}

/// The format of the answer: what `Accept` prefers; where it does not care, that of the request's body; else JSON.
pub fn asked_format(headers: &HeaderMap) -> Format {
    let mut best: Option<(f32, Format)> = None;
    for accept in headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','))
    {
        let mut parts = accept.split(';').map(str::trim);
        let format = match parts
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "application/json" => Format::Json,
            "application/xml" | "text/xml" => Format::Xml,
            _ => continue,
        };
        let quality = parts
            .find_map(|part| part.strip_prefix("q=")?.parse().ok())
            .unwrap_or(1.0);
        if best.is_none_or(|(other, _)| quality > other) {
            best = Some((quality, format));
        }
    }
    best.map(|(_, format)| format)
        .or_else(|| content_type(headers).ok())
        .unwrap_or(Format::Json)
}

/// The format of the body. A missing Content-Type is the manual's "General error"; another one is a bad request.
pub fn content_type(headers: &HeaderMap) -> Result<Format, ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Err(ApiError::general());
    };
    let value = value.to_str().unwrap_or_default();
    match value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "application/json" => Ok(Format::Json),
        "application/xml" | "text/xml" => Ok(Format::Xml),
        _ => Err(ApiError::invalid(
            "Content-Type",
            "must be application/json or application/xml",
        )),
    }
}
