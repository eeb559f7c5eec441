//! Determines the formats of the request body and of the response, JSON or XML (manual "Content-Type & Accept header").

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};

use crate::envelope::ApiError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Xml,
}

/// Splits off the suffix `.json` or `.xml`, which acts like an Accept header (docs/INFOBIP_API.md#endpoints).
pub fn strip_suffix(path: &str) -> (&str, Option<Format>) {
    for (suffix, format) in [(".json", Format::Json), (".xml", Format::Xml)] {
        if let Some(path) = path.strip_suffix(suffix) {
            return (path, Some(format));
        }
    }
    (path, None)
}

/// The format of the response: the one that `Accept` prefers, else the format of the request body, else JSON.
pub fn response_format(headers: &HeaderMap) -> Format {
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
            .expect("a split has at least one part")
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
        .or_else(|| body_format(headers).ok())
        .unwrap_or(Format::Json)
}

/// Format of the request body. A missing Content-Type is the manual's "General error", an unknown one a bad request.
pub fn body_format(headers: &HeaderMap) -> Result<Format, ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Err(ApiError::general());
    };
    let value = value.to_str().unwrap_or_default();
    match value
        .split(';')
        .next()
        .expect("a split has at least one part")
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
