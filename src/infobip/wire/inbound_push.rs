//! A received message pushed by GET: the parameters of the URL template (manual, "Push received messages").
//!
//! Text comes as text or, where the template asks for `bin` or the data coding is not 0, as octets in hexadecimal: UCS-2
//! big-endian for data coding 8 (docs/INFOBIP_API.md#push). Bit 64 of the ESM class says that the octets begin with a user data header
//! (UDH); it is split off, and parts are not put together.

use serde_json::Map;

use super::inbox::{InboxRow, message_id};
use crate::{
    infobip::{convert, wire::scalar::Scalar},
    proto::v1,
};

/// The bit of the ESM class that says that there is a user data header (3GPP TS 23.040).
const UDH_INDICATOR: i32 = 0x40;

/// Parameters that make no received message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pushed message can't be read: {detail}")]
pub struct UnreadableQuery {
    /// Why, without anything of its content.
    pub detail: &'static str,
}

/// Reads the parameters of a pushed message: decoded pairs in any order, names in any case, unknown ones ignored. Of
/// repeated ones the first counts.
///
/// Where octets came they are in `data`, without their header. Their text is in `text` too if it is certain: UCS-2, and for
/// data coding 0 characters that are the same in ASCII and GSM 7-bit.
///
/// # Errors
/// [`UnreadableQuery`] where there is neither a sender, a receiver, a text nor octets, or the octets are no hexadecimal.
pub fn received_from_query<K: AsRef<str>, V: AsRef<str>>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Result<InboxRow, UnreadableQuery> {
    let mut query = Query::default();
    let mut all = Map::new();
    for (name, value) in pairs {
        let value = value.as_ref();
        query.take(name.as_ref(), value);
        all.entry(name.as_ref()).or_insert_with(|| value.into());
    }
    let source_payload = serde_json::Value::Object(all).to_string();
    let contents = [&query.sender, &query.receiver, &query.text, &query.bin];
    if contents
        .into_iter()
        .all(|field| field.as_deref().unwrap_or_default().is_empty())
    {
        return Err(UnreadableQuery {
            detail: "it has no sender, receiver, text or bin",
        });
    }
    let integer =
        |field: &Option<String>| field.as_deref().and_then(|text| text.trim().parse().ok());
    let (data_coding, esm_class): (Option<i32>, Option<i32>) =
        (integer(&query.data_coding), integer(&query.esm_class));
    let octets = convert::decode_hex(query.bin.as_deref().unwrap_or_default()).map_err(|_| {
        UnreadableQuery {
            detail: "bin is not hexadecimal",
        }
    })?;
    let (header, data) = split_header(&octets, esm_class.unwrap_or_default());
    let text = match query.text {
        Some(text) if !text.is_empty() => text,
        _ => decode_text(data, data_coding.unwrap_or_default()).unwrap_or_default(),
    };
    let received_at = query
        .datetime
        .and_then(|text| convert::proto_timestamp(&Scalar::Text(text.into())));
    Ok(InboxRow {
        received: v1::ReceivedMessage {
            message_id: message_id(
                query.message_id.unwrap_or_default(),
                received_at.is_some(),
                &source_payload,
            ),
            from: query.sender.unwrap_or_default(),
            to: query.receiver.unwrap_or_default(),
            text,
            received_at,
            data: bytes::Bytes::copy_from_slice(data),
            data_coding,
            esm_class,
            user_data_header: bytes::Bytes::copy_from_slice(header),
            ..v1::ReceivedMessage::default()
        },
        source_payload,
    })
}

#[derive(Default)]
struct Query {
    sender: Option<String>,
    receiver: Option<String>,
    text: Option<String>,
    bin: Option<String>,
    datetime: Option<String>,
    message_id: Option<String>,
    data_coding: Option<String>,
    esm_class: Option<String>,
}

impl Query {
    fn take(&mut self, name: &str, value: &str) {
        let field = match name.to_ascii_lowercase().as_str() {
            "sender" => &mut self.sender,
            "receiver" => &mut self.receiver,
            "text" => &mut self.text,
            "bin" => &mut self.bin,
            "datetime" => &mut self.datetime,
            "messageid" => &mut self.message_id,
            "datacoding" => &mut self.data_coding,
            "esmclass" => &mut self.esm_class,
            _ => return,
        };
        field.get_or_insert_with(|| value.to_owned());
    }
}

/// The header, with its length octet, and what follows. A header that is longer than the octets is none.
fn split_header(octets: &[u8], esm_class: i32) -> (&[u8], &[u8]) {
    if esm_class & UDH_INDICATOR == 0 {
        return (&[], octets);
    }
    octets
        .first()
        .and_then(|length| octets.split_at_checked(usize::from(*length) + 1))
        .unwrap_or((&[], octets))
}

/// The text of octets, where it is certain.
fn decode_text(data: &[u8], data_coding: i32) -> Option<String> {
    if is_ucs2(data_coding) {
        let (pairs, rest) = data.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        return String::from_utf16(&units).ok();
    }
    // `$`, `@`, `_`, brackets and the like have other codes in the GSM alphabet.
    let is_certain = |b: &u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b' '..=b'?' if *b != b'$')
            || matches!(b, b'\r' | b'\n')
    };
    (data_coding == 0 && data.iter().all(is_certain))
        .then(|| String::from_utf8_lossy(data).into_owned())
}

/// Whether a data coding scheme says UCS-2: 8, the general group with those alphabet bits, and waiting messages in UCS-2
/// (3GPP TS 23.038).
fn is_ucs2(data_coding: i32) -> bool {
    matches!(data_coding, 0x00..=0x7f if data_coding & 0x0c == 0x08 && data_coding & 0x20 == 0)
        || matches!(data_coding, 0xe0..=0xef)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> v1::ReceivedMessage {
        received_from_query(pairs.iter().copied()).unwrap().received
    }

    #[test]
    fn text_is_taken_as_it_is() {
        let received = read(&[
            ("sender", "38598123123"),
            ("receiver", "385921004026"),
            ("text", "Šibenik & co"),
            ("bin", ""),
            ("datetime", "2019-11-09T16:00:00.000 0100"),
            ("messageId", "817790313235066447"),
            ("datacoding", "0"),
            ("esmclass", "0"),
            ("output", "json"),
        ]);
        assert_eq!(
            [
                &received.from,
                &received.to,
                &received.text,
                &received.message_id
            ],
            [
                "38598123123",
                "385921004026",
                "Šibenik & co",
                "817790313235066447"
            ]
        );
        assert_eq!(received.received_at.unwrap().seconds, 1_573_311_600);
        assert_eq!(
            (received.data_coding, received.esm_class),
            (Some(0), Some(0))
        );
        assert!(received.data.is_empty());
    }

    #[test]
    fn octets_become_text_where_that_is_certain() {
        // The manual's example.
        let received = read(&[("Sender", "38598123123"), ("BIN", "414243")]);
        assert_eq!(
            (received.text.as_str(), received.data.as_ref()),
            ("ABC", b"ABC".as_slice())
        );
        let received = read(&[("bin", "0160 0069 d83d de00"), ("datacoding", "8")]);
        assert_eq!(received.text, "Ši😀");
        for (octets, coding) in [
            ("00", "0"),
            ("40", "0"),
            ("0160", "4"),
            ("016", "8"),
            ("d83d", "8"),
        ] {
            if octets.len() % 2 == 0 {
                let received = read(&[("bin", octets), ("datacoding", coding)]);
                assert_eq!(received.text, "", "{octets}");
                assert!(!received.data.is_empty());
            } else {
                assert!(received_from_query([("bin", octets)]).is_err());
            }
        }
    }

    #[test]
    fn the_header_is_split_off() {
        let received = read(&[
            ("bin", "0500030c02010160"),
            ("datacoding", "8"),
            ("esmclass", "64"),
        ]);
        assert_eq!(received.user_data_header.as_ref(), [5, 0, 3, 0x0c, 2, 1]);
        assert_eq!(
            (received.data.as_ref(), received.text.as_str()),
            ([1, 0x60].as_slice(), "Š")
        );
        let too_long = read(&[("bin", "ff01"), ("datacoding", "4"), ("esmclass", "64")]);
        assert_eq!(
            (too_long.user_data_header.len(), too_long.data.as_ref()),
            (0, [0xff, 1].as_slice())
        );
    }

    #[test]
    fn nothing_is_no_message() {
        assert!(received_from_query([("messageId", "1"), ("text", "")]).is_err());
        assert!(received_from_query(Vec::<(String, String)>::new()).is_err());
    }

    #[test]
    fn a_push_without_an_id_gets_one() {
        let timed = [
            ("sender", "1"),
            ("text", "YES"),
            ("datetime", "2019-11-09T16:00:00.000+0000"),
        ];
        assert_eq!(read(&timed).message_id, read(&timed).message_id);
        assert_ne!(read(&timed[..2]).message_id, read(&timed[..2]).message_id);
    }
}
