//! A validated send request: [`super::validate`] produces it and [`super::acceptance`] consumes it.
//!
//! Invariant: every value is valid. Whether a destination is accepted is decided later.

use std::sync::Arc;

use serde_json::Value;

use crate::{clock::MINUTE_MS, dates, text::TextOptions};

/// A validated send request.
#[derive(Debug)]
pub(crate) struct Submission {
    /// The caller's bulk id, cut to 100 characters.
    pub(crate) bulk_id: Option<String>,
    pub(crate) messages: Vec<SubmissionMessage>,
    pub(crate) tracking: Option<Arc<Tracking>>,
}

/// One message for one or more destinations.
#[derive(Debug)]
pub(crate) struct SubmissionMessage {
    pub(crate) content: Arc<MessageContent>,
    /// The status with which all destinations are rejected, if any.
    pub(crate) rejection: Option<u16>,
    /// When to send, in virtual milliseconds.
    pub(crate) send_at_ms: Option<i64>,
    pub(crate) destinations: Vec<SubmissionDestination>,
}

/// A destination of a message.
#[derive(Debug)]
pub(crate) struct SubmissionDestination {
    /// The number as the caller wrote it; empty if it is missing.
    pub(crate) to: String,
    /// The caller's message id, cut to 200 characters.
    pub(crate) message_id: Option<String>,
}

/// The content of a message, shared by all its destinations.
#[derive(Debug)]
pub(crate) struct MessageContent {
    pub(crate) from: String,
    pub(crate) body: MessageBody,
    /// How the text was encoded.
    pub(crate) text_options: TextOptions,
    /// Number of parts.
    pub(crate) parts: u32,
    pub(crate) flash: bool,
    pub(crate) intermediate_report: bool,
    /// Where reports are pushed; `None`: they are pulled.
    pub(crate) notify: Option<NotifyTarget>,
    /// Returned with each report.
    pub(crate) callback_data: Option<Value>,
    /// How long delivery is tried after the time of sending.
    pub(crate) validity_ms: i64,
    /// When delivery is allowed.
    pub(crate) window: Option<DeliveryWindow>,
    /// URLs to shorten: the placeholder in the text, and the URL.
    pub(crate) links: Vec<(String, Arc<str>)>,
    pub(crate) tracking: Option<Arc<Tracking>>,
}

#[derive(Debug)]
pub(crate) enum MessageBody {
    /// The text that the handset shows (after transliteration).
    Text(Arc<str>),
    /// Octets in hexadecimal, with their coding.
    Binary {
        /// Lower case, no spaces.
        hex: String,
        /// GSM data coding scheme.
        data_coding: u8,
        esm_class: u8,
    },
}

/// Where and in which format results are pushed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NotifyTarget {
    pub(crate) url: Arc<str>,
    /// True: XML; false: JSON.
    pub(crate) xml: bool,
}

/// Conversion and URL tracking.
#[derive(Debug)]
pub(crate) struct Tracking {
    pub(crate) urls: bool,
    /// The caller's key; `None`: a key is generated.
    pub(crate) process_key: Option<String>,
    /// The caller's name for the flow or the type of message.
    pub(crate) kind: Option<String>,
    /// Base URL of short links.
    pub(crate) base_url: Option<String>,
}

/// `deliveryTimeWindow`: minutes of the day in UTC, on some days of the week.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryWindow {
    /// Minute of the day.
    pub(crate) opens_minute: i64,
    /// Minute of the day, later than `opens_minute`.
    pub(crate) closes_minute: i64,
    /// One bit for each day; bit 0 is Monday.
    pub(crate) days: u8,
}

impl DeliveryWindow {
    /// The earliest time from `at_ms` on at which delivery is allowed.
    pub(crate) fn next_open_ms(self, at_ms: i64) -> i64 {
        let start_of_day = at_ms - at_ms.rem_euclid(24 * 60 * MINUTE_MS);
        for day in 0..=7 {
            let midnight = start_of_day + day * 24 * 60 * MINUTE_MS;
            let (weekday, _) = dates::weekday_and_minute(midnight);
            if self.days & (1 << weekday) == 0 {
                continue;
            }
            let opens = midnight + self.opens_minute * MINUTE_MS;
            let closes = midnight + self.closes_minute * MINUTE_MS;
            if at_ms < closes {
                return at_ms.max(opens);
            }
        }
        at_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_on_its_days_and_hours() {
        // 2015-02-12 was a Thursday; the window is Monday and Thursday, 9 to 17.
        let window = DeliveryWindow {
            opens_minute: 9 * 60,
            closes_minute: 17 * 60,
            days: 0b0000_1001,
        };
        let at = |text: &str| dates::parse(text).unwrap();
        assert_eq!(
            window.next_open_ms(at("2015-02-12T08:00:00Z")),
            at("2015-02-12T09:00:00Z")
        );
        assert_eq!(
            window.next_open_ms(at("2015-02-12T10:00:00Z")),
            at("2015-02-12T10:00:00Z")
        );
        assert_eq!(
            window.next_open_ms(at("2015-02-12T17:00:00Z")),
            at("2015-02-16T09:00:00Z")
        );
    }
}
