//! Ids: of applications, requests and messages, and the id that Infobip sees.
//!
//! The API sees `{application}.{message_id}`, split at the first dot on the way back, so that a report finds its
//! application on every path with no state (DESIGN, "Applications and ids"). Application names hold no dot, so the split
//! is exact.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use uuid::Uuid;

/// The application of callers that name none.
pub const DEFAULT_APPLICATION: &str = "default";
/// The application of messages that the account sent without the bridge.
pub const FOREIGN_APPLICATION: &str = "foreign";
/// The longest `request_id` or `message_id` of a caller, in characters.
pub const MAX_ID_CHARACTERS: usize = 128;
/// The longest bulk id of a caller, in characters: with its application it must fit the API's 100 (WIRE.md, "Limits").
pub const MAX_BULK_ID_CHARACTERS: usize = 60;

/// Why an id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not `[a-z0-9-]{1,32}`.
    #[error("an application's name has 1 to 32 characters of a-z, 0-9 and -")]
    Application,
    /// Not `[A-Za-z0-9_.:-]{1,128}`.
    #[error("an id has 1 to {max} characters of A-Z, a-z, 0-9, _ . : and -")]
    Caller {
        /// The longest it may be.
        max: usize,
    },
}

/// The name of an application: `[a-z0-9-]{1,32}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApplicationName(Arc<str>);

impl ApplicationName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`IdError::Application`] where it is not `[a-z0-9-]{1,32}`.
    pub fn parse(name: &str) -> Result<Self, IdError> {
        let fits = (1..=32).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(Self(name.into()))
        } else {
            Err(IdError::Application)
        }
    }

    /// The application of callers that name none.
    #[must_use]
    pub fn default_application() -> Self {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| DEFAULT_APPLICATION.into());
        Self(Arc::clone(&NAME))
    }

    /// The application of what the account did without the bridge.
    #[must_use]
    pub fn foreign() -> Self {
        Self(FOREIGN_APPLICATION.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that Infobip sees for this application's message or bulk id.
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

/// Splits an id that Infobip gave back into application and the caller's id; `None` where it was not made by
/// [`ApplicationName::wire_id`].
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
/// [`IdError::Caller`] where it is not `[A-Za-z0-9_.:-]{1,128}`.
pub fn check_caller_id(id: &str) -> Result<(), IdError> {
    check_id(id, MAX_ID_CHARACTERS)
}

/// Checks a caller's bulk id.
///
/// # Errors
/// [`IdError::Caller`] where it is not `[A-Za-z0-9_.:-]{1,60}`.
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

/// The id of a message whose caller gave none: `{request_id}`, `{request_id}~{n}`, or a UUIDv7. `~` is refused from
/// callers, so that such an id is never a caller's own.
#[must_use]
pub fn derive_message_id(request_id: &str, position: usize, destinations: usize) -> String {
    match (request_id, destinations) {
        ("", _) => text_of(Uuid::now_v7()),
        (request_id, 1) => request_id.to_owned(),
        (request_id, _) => format!("{request_id}~{position}"),
    }
}

/// A UUID as it is written, `67e55044-10b1-426f-9247-bb680e5fe0c8`.
#[must_use]
pub fn text_of(id: Uuid) -> String {
    // Without a formatter: every message and every event has one.
    let mut text = Uuid::encode_buffer();
    id.hyphenated().encode_lower(&mut text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_id_splits_at_its_first_dot() {
        let application = ApplicationName::parse("billing-2").unwrap();
        let wire = application.wire_id("order.17:a");
        assert_eq!(wire, "billing-2.order.17:a");
        assert_eq!(split_wire_id(&wire), Some((application, "order.17:a")));
    }

    #[test]
    fn ids_of_others_do_not_split() {
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
    fn callers_ids_are_checked() {
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
