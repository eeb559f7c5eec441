//! Fills the URL template of received messages that are pushed by GET (manual "PUSH RECEIVED MESSAGES").
//!
//! Neighbour: `push` sends the request.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{dates::ApiDate, state::ReceivedMessage};

/// The characters of a query value that are escaped: all except the unreserved ones of RFC 3986.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Fills an inbound URL template (manual "PUSH RECEIVED MESSAGES").
///
/// With both `%bin%` and `%text%` only one is filled: the text for data coding 0, else the octets. A template with only one
/// of them always gets it. The query parameter `output=xml|json` selects how values are escaped and is removed from the URL.
pub(crate) fn fill(template: &str, received: &ReceivedMessage) -> String {
    let (template, escaping) = take_escaping(template);
    let lower = template.to_ascii_lowercase();
    let has_both = lower.contains("%text%") && lower.contains("%bin%");
    let is_text = received.data_coding == 0;
    let text = if has_both && !is_text {
        ""
    } else {
        received.text.as_str()
    };
    let octets = if has_both && is_text {
        ""
    } else {
        received.hex.as_str()
    };
    let values: [(&str, String); 8] = [
        ("%sender%", received.from.trim_start_matches('+').to_owned()),
        ("%receiver%", received.to.trim_start_matches('+').to_owned()),
        ("%text%", text.to_owned()),
        ("%bin%", octets.to_owned()),
        ("%datetime%", ApiDate(received.received_at_ms).to_string()),
        ("%messageid%", received.id.to_string()),
        ("%datacoding%", received.data_coding.to_string()),
        ("%esmclass%", received.esm_class.to_string()),
    ];
    let mut url = String::with_capacity(template.len() + 64);
    let mut at = 0;
    while at < template.len() {
        let rest = &lower[at..];
        match values.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                let value = match escaping {
                    ValueEscaping::None => value.clone(),
                    ValueEscaping::Xml => escape_xml(value),
                    ValueEscaping::Json => escape_json(value),
                };
                url.extend(utf8_percent_encode(&value, QUERY_VALUE));
                at += name.len();
            }
            None => {
                let length = template[at..]
                    .chars()
                    .next()
                    .expect("`at` is before the end")
                    .len_utf8();
                url.push_str(&template[at..at + length]);
                at += length;
            }
        }
    }
    url
}

/// How values are escaped before they are percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueEscaping {
    None,
    Xml,
    Json,
}

/// Removes the parameter `output` from a template. Returns the escaping that it selects.
fn take_escaping(template: &str) -> (String, ValueEscaping) {
    let Some((path, query)) = template.split_once('?') else {
        return (template.to_owned(), ValueEscaping::None);
    };
    let mut escaping = ValueEscaping::None;
    let remaining: Vec<_> = query
        .split('&')
        .filter(|pair| match pair.to_ascii_lowercase().as_str() {
            "output=xml" => {
                escaping = ValueEscaping::Xml;
                false
            }
            "output=json" => {
                escaping = ValueEscaping::Json;
                false
            }
            _ => true,
        })
        .collect();
    (format!("{path}?{}", remaining.join("&")), escaping)
}

fn escape_xml(value: &str) -> String {
    value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn escape_json(value: &str) -> String {
    let quoted = Value::String(value.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(text: &str, hex: &str, data_coding: u8) -> ReceivedMessage {
        ReceivedMessage {
            id: "id-1".into(),
            from: "+38598123123".into(),
            to: "385921004026".into(),
            text: text.into(),
            clean_text: text.into(),
            keyword: None,
            received_at_ms: 1_423_731_103_123,
            parts: 1,
            hex: hex.into(),
            data_coding,
            esm_class: 0,
            binary: false,
            unread: false,
            pulled_at_ms: None,
            push: None,
            phone: None,
            older_of_phone: None,
            next_row: 0,
        }
    }

    #[test]
    fn a_template_is_filled_as_in_the_manuals_examples() {
        let abc = received("ABC", "414243", 0);
        let base = "https://some.server.com/incoming_sms.php?who=%sender%";
        assert_eq!(
            fill(&format!("{base}&what=%text%&output=xml"), &abc),
            "https://some.server.com/incoming_sms.php?who=38598123123&what=ABC"
        );
        assert_eq!(
            fill(&format!("{base}&what=%bin%"), &abc),
            "https://some.server.com/incoming_sms.php?who=38598123123&what=414243"
        );
    }

    #[test]
    fn a_template_with_text_and_octets_fills_only_one() {
        let template = "http://a.example/?t=%text%&b=%bin%&c=%datacoding%";
        assert_eq!(
            fill(template, &received("a b", "612062", 0)),
            "http://a.example/?t=a%20b&b=&c=0"
        );
        assert_eq!(
            fill(template, &received("ж", "0436", 8)),
            "http://a.example/?t=&b=0436&c=8"
        );
    }

    #[test]
    fn a_template_with_text_or_octets_alone_always_fills_it() {
        assert_eq!(
            fill("http://a.example/?t=%text%", &received("ж", "0436", 8)),
            "http://a.example/?t=%D0%B6"
        );
        assert_eq!(
            fill("http://a.example/?b=%bin%", &received("a", "61", 0)),
            "http://a.example/?b=61"
        );
    }

    #[test]
    fn other_parameters_are_filled_and_values_are_escaped() {
        assert_eq!(
            fill(
                "http://a.example/%receiver%?d=%datetime%&m=%messageId%&e=%esmclass%&x=%25",
                &received("", "", 0)
            ),
            "http://a.example/385921004026?d=2015-02-12T08%3A51%3A43.123%2B0000&m=id-1&e=0&x=%25"
        );
        assert_eq!(
            fill(
                "http://a.example/?t=%text%&output=json",
                &received("\"&", "2226", 0)
            ),
            "http://a.example/?t=%5C%22%26"
        );
    }
}
