//! Creates the short links of an accepted message.
//!
//! Invariant: a message has one short link for each tracked URL, and no other message shares it.
//! Neighbour: `validate::tracking` has put the placeholders into the text.

use std::sync::Arc;

use crate::{
    config::SimulatorConfig,
    state::{ShortLink, SimulatorState},
    store::{RowId, ShortenedText},
    submission::MessageBody,
    validate::SHORT_URL_CHARACTERS,
};

impl SimulatorState {
    /// Replaces each tracked URL of a message by a short link of its own.
    pub(super) fn shorten_links(&mut self, row: RowId, config: &SimulatorConfig) {
        let Some(message) = self.messages.get(row) else {
            return;
        };
        let content = message.content.clone();
        let (MessageBody::Text(text), false) = (&content.body, content.links.is_empty()) else {
            return;
        };
        let base = content
            .tracking
            .as_ref()
            .and_then(|tracking| tracking.base_url.as_deref());
        let base = base
            .unwrap_or(&config.short_url_base)
            .trim_end_matches('/')
            .to_owned();
        // Two path segments after the base, as in the manual's http://eel.nu/NJxE/cJ9UH: 25 characters in all.
        let path_characters = SHORT_URL_CHARACTERS
            .saturating_sub(base.chars().count() + 2)
            .max(8);
        let mut shortened_text = text.to_string();
        let mut links: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for (placeholder, target) in &content.links {
            let mut random = self.next_random("link");
            let path: Arc<str> = format!(
                "/{}/{}",
                random.alphanumeric(4),
                random.alphanumeric(path_characters - 4)
            )
            .into();
            shortened_text =
                shortened_text.replacen(placeholder.as_str(), &format!("{base}{path}"), 1);
            self.links.by_path.insert(
                path.clone(),
                ShortLink {
                    row,
                    target: target.clone(),
                    clicks: 0,
                },
            );
            links.push((path.clone(), target.clone()));
            self.links.oldest_first.push_back(path);
            while self.links.oldest_first.len() > config.bounds.links.max(1) {
                if let Some(oldest) = self.links.oldest_first.pop_front() {
                    self.links.by_path.remove(&oldest);
                }
            }
        }
        if let Some(message) = self.messages.get_mut(row) {
            message.shortened = Some(Box::new(ShortenedText {
                text: shortened_text.into(),
                links,
                base: base.into(),
            }));
        }
    }
}
