//! Checks `[applications.*]`: names, senders, country prefixes, and the routes of inbound messages.
//!
//! Invariants: a default sender is an allowed sender; no route of inbound messages belongs to two applications. Neighbours:
//! `message::id` and `message::address` define valid names and senders.

use std::collections::BTreeMap;

use super::Checks;
use crate::{
    config::Config,
    message::{address::check_sender, id::ApplicationName},
};

pub(super) fn applications(config: &Config, checks: &mut Checks<'_>) {
    let mut routes: BTreeMap<(Option<&str>, Option<String>), &str> = BTreeMap::new();
    for (name, application) in &config.applications {
        let key = format!("applications.{name}");
        if let Err(error) = ApplicationName::parse(name) {
            checks.reject(&[&key], error.to_string(), "rename it");
        }
        let senders_key = format!("{key}.allowed_senders");
        let default_key = format!("{key}.default_sender");
        let allowed = &application.allowed_senders;
        for sender in allowed {
            if let Err(error) = check_sender(sender) {
                checks.reject(
                    &[&senders_key],
                    format!("`{sender}`: {error}"),
                    "correct it",
                );
            }
        }
        if let Some(sender) = &application.default_sender {
            if let Err(error) = check_sender(sender) {
                checks.reject(&[&default_key], error.to_string(), "correct it");
            } else if !allowed.is_empty() && !allowed.contains(sender) {
                checks.reject(
                    &[&default_key, &senders_key],
                    format!("is not one of `{senders_key}`"),
                    "add it there, or choose one of them",
                );
            }
        }
        for prefix in &application.allowed_country_prefixes {
            let fits = (1..=8).contains(&prefix.len())
                && prefix.bytes().all(|b| b.is_ascii_digit())
                && !prefix.starts_with('0');
            if !fits {
                checks.reject(
                    &[&format!("{key}.allowed_country_prefixes")],
                    format!("`{prefix}` is not a calling code"),
                    "write digits without + or 00, such as \"41\"",
                );
            }
        }
        for route in &application.inbound {
            let inbound_key = format!("{key}.inbound");
            let is_number = |number: &String| {
                (1..=64).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
            };
            if !route.number.as_ref().is_none_or(is_number) {
                checks.reject(
                    &[&inbound_key],
                    "a number in it must have digits only",
                    "write it in international format without +, such as \"41790000000\"",
                );
            }
            let matched = (
                route.number.as_deref(),
                route.keyword.as_ref().map(|keyword| keyword.to_lowercase()),
            );
            if let Some(other) = routes.insert(matched, name)
                && other != name
            {
                checks.reject(
                    &[&inbound_key],
                    format!("`applications.{other}.inbound` has the same route"),
                    "remove it from one of them",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::mistake;

    #[test]
    fn applications_are_checked() {
        for (text, key) in [
            ("[applications.Billing]", "applications.Billing"),
            ("[applications.foreign]", "applications.foreign"),
            (
                "[applications.a]\ndefault_sender = \"x\"",
                "applications.a.default_sender",
            ),
            (
                "[applications.a]\ndefault_sender = \"Shop\"\nallowed_senders = [\"Bank\"]",
                "applications.a.default_sender",
            ),
            (
                "[applications.a]\nallowed_senders = [\"x\"]",
                "applications.a.allowed_senders",
            ),
            (
                "[applications.a]\nallowed_country_prefixes = [\"+41\"]",
                "applications.a.allowed_country_prefixes",
            ),
            (
                "[applications.a]\ninbound = [{ number = \"+41 79\" }]",
                "applications.a.inbound",
            ),
            (
                "[applications.a]\ninbound = [{ keyword = \"pay\" }]\n[applications.b]\ninbound = [{ keyword = \"PAY\" }]",
                "applications.b.inbound",
            ),
        ] {
            assert_eq!(mistake(text, &[]).key, key, "{text}");
        }
    }
}
