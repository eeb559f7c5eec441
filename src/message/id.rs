//! Ids of applications, requests and messages, and the wire ids made of them.
//!
//! A wire id is the id that Infobip sees: `{application}.{id}`. Splitting it at the first dot tells which application a
//! report belongs to, without any state (docs/DECISIONS.md).
//!
//! Invariants: an application name has no dot, so the split is exact; an id that the bridge derives for a message without
//! one is never a caller's own id.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use uuid::Uuid;

/// The application of callers that are not assigned to one.
pub const DEFAULT_APPLICATION: &str = "default";
/// The application of messages that the account sent without the bridge. No caller may have this name.
pub const FOREIGN_APPLICATION: &str = "foreign";
/// Maximum length of a `request_id` or `message_id` of a caller, in characters.
pub const MAX_ID_CHARACTERS: usize = 128;
/// Maximum length of a bulk id of a caller, in characters. With an application of 32 characters and the dot it stays below the 100
/// characters that the API takes (docs/INFOBIP_API.md#limits).
pub const MAX_BULK_ID_CHARACTERS: usize = 60;

/// An id as the field of a log line: `None`, which leaves the field out, if there is no id.
#[must_use]
pub fn logged_id(id: &str) -> Option<&str> {
    Some(id).filter(|id| !id.is_empty())
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("must be 1 to 32 characters: a-z, 0-9, -")]
    Application,
    #[error(
        "must not be `{FOREIGN_APPLICATION}`, which is reserved for messages that were not sent through the bridge"
    )]
    Reserved,
    #[error("must be 1 to {max} characters: A-Z, a-z, 0-9, _ . : -")]
    Caller { max: usize },
}

/// The name of an application: `[a-z0-9-]{1,32}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApplicationName(Arc<str>);

impl ApplicationName {
    /// # Errors
    /// [`IdError::Application`] if it is not `[a-z0-9-]{1,32}`, [`IdError::Reserved`] if it is [`FOREIGN_APPLICATION`].
    pub fn parse(name: &str) -> Result<Self, IdError> {
        let fits = (1..=32).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            Err(IdError::Application)
        } else if name == FOREIGN_APPLICATION {
            Err(IdError::Reserved)
        } else {
            Ok(Self(name.into()))
        }
    }

    /// The application of callers that are not assigned to one.
    #[must_use]
    pub fn default_application() -> Self {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| DEFAULT_APPLICATION.into());
        Self(Arc::clone(&NAME))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The wire id for this application's message id or bulk id.
    #[must_use]
    pub fn wire_id(&self, id: &str) -> String {
        [&self.0, ".", id].concat()
    }
}

impl fmt::Display for ApplicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ApplicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits a wire id into the application and the caller's id. `None` if [`ApplicationName::wire_id`] did not make it.
#[must_use]
pub fn split_wire_id(wire_id: &str) -> Option<(ApplicationName, &str)> {
    let (application, id) = wire_id.split_once('.')?;
    if id.is_empty() {
        return None;
    }
    Some((ApplicationName::parse(application).ok()?, id))
}

/// Checks a caller's `request_id` or `message_id`.
///
/// # Errors
/// [`IdError::Caller`] if it is not `[A-Za-z0-9_.:-]{1,128}`.
pub fn check_caller_id(id: &str) -> Result<(), IdError> {
    check_id(id, MAX_ID_CHARACTERS)
}

/// Checks a caller's bulk id.
///
/// # Errors
/// [`IdError::Caller`] if it is not `[A-Za-z0-9_.:-]{1,60}`.
pub fn check_bulk_id(id: &str) -> Result<(), IdError> {
    check_id(id, MAX_BULK_ID_CHARACTERS)
}

fn check_id(id: &str, max: usize) -> Result<(), IdError> {
    let fits = (1..=max).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-'));
    if fits {
        Ok(())
    } else {
        Err(IdError::Caller { max })
    }
}

/// Derives the id of a message to which the caller gave none: `{request_id}` for a single destination, `{request_id}~{position}`
/// for one of several, and a UUIDv7 if there is no `request_id`. Callers may not use `~` in the ids that they give.
#[must_use]
pub fn derive_message_id(request_id: &str, position: usize, destinations: usize) -> String {
    match (request_id, destinations) {
        ("", _) => uuid_text(Uuid::now_v7()),
        (request_id, 1) => request_id.to_owned(),
        (request_id, _) => format!("{request_id}~{position}"),
    }
}

/// The hyphenated form, `67e55044-10b1-426f-9247-bb680e5fe0c8`.
#[must_use]
pub fn uuid_text(id: Uuid) -> String {
    // Faster than `to_string`, which goes through a formatter: every message and every event needs one.
    let mut text = Uuid::encode_buffer();
    id.hyphenated().encode_lower(&mut text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_id_is_split_at_its_first_dot() {
        let application = ApplicationName::parse("billing-2").unwrap();
        let wire = application.wire_id("order.17:a");
        assert_eq!(wire, "billing-2.order.17:a");
        assert_eq!(split_wire_id(&wire), Some((application, "order.17:a")));
    }

    #[test]
    fn foreign_ids_are_not_split() {
        for id in [
            "",
            "2250be2d4219-3af1",
            "Billing.x",
            ".x",
            "billing.",
            "with space.x",
        ] {
            assert_eq!(split_wire_id(id), None, "{id}");
        }
    }

    #[test]
    fn caller_ids_are_checked() {
        assert!(check_caller_id("A-z_0.9:x").is_ok());
        assert!(check_caller_id(&"x".repeat(128)).is_ok());
        for id in ["", "a~0", "a b", "ä", &"x".repeat(129)] {
            assert!(check_caller_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn derived_ids_depend_on_the_number_of_destinations() {
        assert_eq!(derive_message_id("r", 0, 1), "r");
        assert_eq!(derive_message_id("r", 2, 3), "r~2");
        assert_ne!(derive_message_id("", 0, 1), derive_message_id("", 0, 1));
    }
}
