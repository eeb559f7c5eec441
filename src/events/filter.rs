//! Selects the events that a reader wants: by patterns of types (as in AMQP binding keys), applications and message ids.
//!
//! Invariant: a checked filter is bounded, because every event is compared with it, and a subscription's is kept.

use std::collections::HashSet;

use prost::Message as _;

use crate::proto::v1;

/// Maximum number of patterns: each event is compared with all of them.
pub const MAX_TYPES: usize = 50;
/// Maximum number of words of a pattern. The types of events have two.
pub const MAX_PATTERN_WORDS: usize = 8;
/// Maximum size of an encoded filter.
pub const MAX_FILTER_BYTES: usize = 64 * 1024;

/// Why a filter is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("has more than {MAX_TYPES} patterns in `types`")]
    TooManyTypes,
    #[error("has a pattern of more than {MAX_PATTERN_WORDS} words in `types`")]
    TooManyWords,
    #[error(
        "has {bytes} bytes and may have {MAX_FILTER_BYTES}: leave names and ids out, and skip what you do not want"
    )]
    TooLong { bytes: usize },
}

/// Checks the bounds of a filter.
///
/// # Errors
/// [`FilterError`]
pub fn check(filter: &v1::EventFilter) -> Result<(), FilterError> {
    let bytes = filter.encoded_len();
    if filter.types.len() > MAX_TYPES {
        return Err(FilterError::TooManyTypes);
    }
    if bytes > MAX_FILTER_BYTES {
        return Err(FilterError::TooLong { bytes });
    }
    let is_long = |pattern: &String| pattern.split('.').count() > MAX_PATTERN_WORDS;
    if filter.types.iter().any(is_long) {
        return Err(FilterError::TooManyWords);
    }
    Ok(())
}

/// A compiled `EventFilter`. An empty list matches every event.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    types: Vec<TypePattern>,
    applications: Option<HashSet<String>>,
    message_ids: HashSet<String>,
}

/// A binding key of a topic exchange: words separated by dots, `*` for one word, `#` for any number of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypePattern(Vec<String>);

impl TypePattern {
    /// Compiles a pattern. Every string is valid.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.split('.').map(str::to_owned).collect())
    }

    /// Whether the pattern matches an event type.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        let words: Vec<&str> = event_type.split('.').collect();
        // `reachable[i]`: the pattern so far can match the first i words.
        let mut reachable = vec![false; words.len() + 1];
        reachable[0] = true;
        for part in &self.0 {
            let mut next = vec![false; words.len() + 1];
            let mut any_before = false;
            for i in 0..=words.len() {
                any_before |= reachable[i];
                next[i] = match part.as_str() {
                    "#" => any_before,
                    "*" => i > 0 && reachable[i - 1],
                    word => i > 0 && reachable[i - 1] && words[i - 1] == word,
                };
            }
            reachable = next;
        }
        reachable[words.len()]
    }
}

impl Filter {
    /// Compiles a filter. `visible` limits it to one application, for callers that may see only their own events.
    #[must_use]
    pub fn new(filter: Option<&v1::EventFilter>, visible: Option<&str>) -> Self {
        let mut compiled = Self::default();
        if let Some(filter) = filter {
            compiled.types = filter
                .types
                .iter()
                .map(|pattern| TypePattern::new(pattern))
                .collect();
            if !filter.applications.is_empty() {
                compiled.applications = Some(filter.applications.iter().cloned().collect());
            }
            compiled.message_ids = filter.message_ids.iter().cloned().collect();
        }
        if let Some(visible) = visible {
            let wanted = compiled.applications.take();
            let is_wanted = wanted.is_none_or(|wanted| wanted.contains(visible));
            let own = is_wanted.then(|| visible.to_owned());
            compiled.applications = Some(own.into_iter().collect());
        }
        compiled
    }

    /// The applications whose events can be wanted; empty: all. With a filter that wants no event it has the caller's own one.
    #[must_use]
    pub fn applications(&self) -> Vec<String> {
        let applications = self.applications.iter().flatten();
        applications.cloned().collect()
    }

    /// Whether a reader with this filter wants the event.
    #[must_use]
    pub fn wants(&self, event: &v1::Event) -> bool {
        self.applications
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&event.application))
            && (self.types.is_empty()
                || self
                    .types
                    .iter()
                    .any(|pattern| pattern.matches(&event.r#type)))
            && (self.message_ids.is_empty()
                || message_id(event).is_some_and(|id| self.message_ids.contains(id)))
    }
}

/// The caller's id of the event's message. `None` if the event is not about a message.
#[must_use]
pub fn message_id(event: &v1::Event) -> Option<&str> {
    use v1::event::Payload;
    Some(match event.payload.as_ref()? {
        Payload::Result(result) => &result.message_id,
        Payload::Report(report) => &report.message_id,
        Payload::Received(received) => &received.message_id,
        Payload::Click(click) => &click.message_id,
        Payload::Lookup(_) | Payload::InvalidCommand(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_on_a_topic_exchange() {
        for (pattern, matching, other) in [
            ("report.#", "report.delivered", "send.accepted"),
            ("report.*", "report.delivered", "report"),
            ("#", "inbound.received", ""),
            ("*.rejected", "send.rejected", "send.unknown"),
            ("#.received", "inbound.received", "inbound.lost"),
            ("send.accepted", "send.accepted", "send.accepted.billing"),
        ] {
            assert!(
                TypePattern::new(pattern).matches(matching),
                "{pattern} {matching}"
            );
            assert!(
                !TypePattern::new(pattern).matches(other) || pattern == "#",
                "{pattern} {other}"
            );
        }
        assert!(TypePattern::new("report.#").matches("report"));
    }

    #[test]
    fn callers_see_only_their_own_application() {
        let event = v1::Event {
            application: "billing".into(),
            r#type: "send.accepted".into(),
            ..Default::default()
        };
        let asked = v1::EventFilter {
            applications: vec!["billing".into()],
            ..Default::default()
        };
        assert!(Filter::new(Some(&asked), None).wants(&event));
        assert!(!Filter::new(Some(&asked), Some("shop")).wants(&event));
    }
}
