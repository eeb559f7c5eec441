//! Parses query parameters: numbers, dates and lists in the forms that clients send (docs/INFOBIP_API.md#endpoints).

use percent_encoding::percent_decode_str;

use crate::{dates, envelope::ApiError};

/// The query's parameters, decoded.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(raw: &str) -> Self {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(n, v)| (decode(n), decode(v)))
                .collect(),
        )
    }

    /// The first value that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// All values of a list parameter: repeated, separated by commas, with and without `[]` (docs/INFOBIP_API.md#endpoints).
    pub fn list(&self, name: &str) -> Vec<&str> {
        let values = self
            .0
            .iter()
            .filter(|(key, _)| key.strip_suffix("[]").unwrap_or(key) == name);
        values
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .collect()
    }

    pub fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|text| {
                text.trim()
                    .parse()
                    .map_err(|_| ApiError::invalid(name, "must be a whole number"))
            })
            .transpose()
    }

    pub fn date(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|text| dates::parse(text).ok_or_else(|| ApiError::invalid(name, "must be a date")))
            .transpose()
    }

    /// `limit`: 50 unless given, at most 1000 (docs/INFOBIP_API.md#limits).
    pub fn limit(&self) -> Result<usize, ApiError> {
        match self.number("limit")? {
            None => Ok(50),
            Some(limit) if limit < 1 => Err(ApiError::invalid("limit", "must be at least 1")),
            Some(limit) => Ok(usize::try_from(limit).unwrap_or(usize::MAX).min(1000)),
        }
    }
}
