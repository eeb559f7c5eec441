//! The types of events: the list that `docs/EVENTS.md` documents and the metrics label events with.
//!
//! An event carries its type as a string, and later versions may add types. So code that reads events keeps the string;
//! only the code that writes them uses this list.

use std::{fmt, str::FromStr};

/// Declares the types with their names.
macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// The type of an event that this version writes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventType {
            $($(#[$doc])* $variant,)+
        }

        impl EventType {
            /// All types, in the order of `docs/EVENTS.md`.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name in `Event.type`, in routing keys and in the metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

event_types! {
    /// Infobip accepted the message for one destination.
    SendAccepted = "send.accepted",
    /// The bridge or Infobip rejected the message for one destination.
    SendRejected = "send.rejected",
    /// It could not be determined whether Infobip accepted the message.
    SendUnknown = "send.unknown",
    /// An intermediate delivery report.
    ReportPending = "report.pending",
    /// A final delivery report: delivered.
    ReportDelivered = "report.delivered",
    /// A final delivery report: undeliverable.
    ReportUndeliverable = "report.undeliverable",
    /// A final delivery report: the validity period ended.
    ReportExpired = "report.expired",
    /// A final delivery report: the network or Infobip rejected the message.
    ReportRejected = "report.rejected",
    /// A delivery report whose status has an unknown group.
    ReportOther = "report.other",
    /// No final status was found before Infobip's logs expired.
    ReportMissing = "report.missing",
    /// A message from a phone.
    InboundReceived = "inbound.received",
    /// A shortened link was opened.
    LinkClicked = "link.clicked",
    /// A number of an asynchronous look-up or of a command was answered, or has no answer for good.
    LookupCompleted = "lookup.completed",
    /// A command could not be carried out and was dead-lettered.
    CommandInvalid = "command.invalid",
}

/// The string is not the name of an event type of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an event type of this version of smsbridge")]
pub struct UnknownEventType(String);

impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == name)
            .ok_or_else(|| UnknownEventType(name.to_owned()))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names in code quotes that look like event types: two words of a to z, separated by a dot.
    fn quoted_types(text: &str) -> BTreeSet<&str> {
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        text.split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| {
                name.split_once('.')
                    .is_some_and(|(kind, what)| is_word(kind) && is_word(what))
            })
            .collect()
    }

    #[test]
    fn the_documents_list_every_event_type_and_no_other() {
        let all: BTreeSet<&str> = EventType::ALL.into_iter().map(EventType::as_str).collect();
        let document = include_str!("../../docs/EVENTS.md");
        let table: String = document
            .lines()
            .skip_while(|line| *line != "## Types")
            .skip(1)
            .take_while(|line| !line.starts_with("## "))
            .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(quoted_types(&table), all, "the table in docs/EVENTS.md");

        let contract = include_str!("../../proto/smsbridge/v1/event_service.proto");
        let comment: String = contract
            .lines()
            .skip_while(|line| !line.contains("`send.accepted`"))
            .take_while(|line| line.trim_start().starts_with("//"))
            .collect();
        assert_eq!(
            quoted_types(&comment),
            all,
            "the comment of Event.type in event_service.proto"
        );
    }

    #[test]
    fn names_parse_to_their_types() {
        for event_type in EventType::ALL {
            assert_eq!(event_type.as_str().parse(), Ok(event_type));
        }
        assert!("send.later".parse::<EventType>().is_err());
    }
}
