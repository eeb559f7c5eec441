//! Validates the tracking of a request and replaces the URLs of tracked texts by placeholders of the same length as
//! short URLs.

use std::sync::Arc;

use super::violations::Violations;
use crate::{request::TrackingRequest, submission::Tracking};

/// Length of the short URL that replaces a tracked URL (manual "URL shortening & tracking solution").
pub const SHORT_URL_CHARACTERS: usize = 25;

pub(super) fn check_tracking(
    request: TrackingRequest,
    violations: &mut Violations,
) -> Option<Tracking> {
    let urls = match request.track.as_ref().map(|track| track.0.as_str()) {
        None | Some("") => return None,
        Some("SMS") => false,
        Some("URL") => true,
        Some(_) => {
            violations.add("tracking.track".into(), "must be SMS or URL");
            return None;
        }
    };
    let base_url = request
        .base_url
        .map(|url| url.0.trim_end_matches('/').to_owned())
        .filter(|url| !url.is_empty());
    if base_url
        .as_ref()
        .is_some_and(|url| reqwest::Url::parse(url).is_err())
    {
        violations.add("tracking.baseUrl".into(), "must be a URL");
    }
    Some(Tracking {
        urls,
        process_key: request
            .process_key
            .map(|key| key.0)
            .filter(|key| !key.is_empty()),
        kind: request.kind.map(|kind| kind.0),
        base_url,
    })
}

/// Replaces each URL by a placeholder of 25 characters. `acceptance` replaces the placeholder by the short URL of a message.
pub(super) fn insert_placeholders(text: &str, links: &mut Vec<(String, Arc<str>)>) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = ["http://", "https://"]
        .iter()
        .filter_map(|scheme| rest.find(scheme))
        .min()
    {
        let (before, from) = rest.split_at(start);
        let end = from.find(char::is_whitespace).unwrap_or(from.len());
        let (url, after) = from.split_at(end);
        let url_only = url.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '"', '\'']);
        let placeholder = format!("http://short.invalid/{:04}", links.len());
        replaced.push_str(before);
        replaced.push_str(&placeholder);
        replaced.push_str(&url[url_only.len()..]);
        links.push((placeholder, url_only.into()));
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_url_gives_way_to_25_characters_and_keeps_its_punctuation() {
        let mut links = Vec::new();
        let replaced = insert_placeholders(
            "See http://www.example.com/awesomeApp/someUserId, or https://b.example/?q=1!",
            &mut links,
        );
        assert_eq!(
            replaced,
            "See http://short.invalid/0000, or http://short.invalid/0001!"
        );
        assert_eq!(links[0].0.len(), SHORT_URL_CHARACTERS);
        assert_eq!(&*links[0].1, "http://www.example.com/awesomeApp/someUserId");
        assert_eq!(&*links[1].1, "https://b.example/?q=1");
    }
}
