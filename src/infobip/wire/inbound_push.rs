//! Parses a received message that the API pushes by GET, as parameters of the URL template (docs/INFOBIP_API.md#push).
//!
//! The content is in `text` or, if the template asks for `bin` or the data coding is not 0, in `bin` as hexadecimal bytes:
//! UCS-2 big-endian for data coding 8. Bit 6 of the ESM class says that the bytes begin with a user data header (UDH), which
//! is split off. Segments of a long message are not joined.
//!
//! The operator chooses the names of the parameters when he writes the template (`http.inbound_parameters`), and with `output` how
//! the values are formatted ([`output`]).

mod output;

use serde_json::Map;
use uuid::Uuid;

use super::inbox::{InboxRow, message_id, unknown_id};
use crate::{
    config::{InboundOutput, InboundParameters},
    infobip::{convert, wire::scalar::Scalar},
    proto::v1,
};

/// The bit of the ESM class for a user data header (3GPP TS 23.040).
const UDH_INDICATOR: i32 = 0x40;

/// The parameters do not contain a received message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pushed message cannot be read: {detail}")]
pub struct UnreadableQuery {
    /// The reason, without any of the message's content.
    pub detail: &'static str,
}

/// Reads the decoded parameters of a pushed message, which have these names. Order and case of the names do not matter, unknown
/// names are ignored, and the first of repeated names counts. Values are formatted as the parameter `output` says, else as
/// `configured`.
///
/// Binary content is returned in `data`, without its header. It is also decoded into `text` if that is unambiguous: UCS-2; or
/// data coding 0, if every character has the same code in ASCII and GSM 7-bit.
///
/// # Errors
/// [`UnreadableQuery`] if sender, receiver, text and bin are all missing, or if bin is not hexadecimal and there is no text.
pub fn received_from_query<K: AsRef<str>, V: AsRef<str>>(
    pairs: impl IntoIterator<Item = (K, V)>,
    names: &InboundParameters,
    configured: InboundOutput,
) -> Result<InboxRow, UnreadableQuery> {
    read(pairs, names, configured, Uuid::now_v7)
}

/// As [`received_from_query`], but reading the same query for the same `source` again gives the same id, as
/// [`read_inbox_of`](super::read_inbox_of) does.
///
/// # Errors
/// As [`received_from_query`].
pub fn received_from_query_of<K: AsRef<str>, V: AsRef<str>>(
    source: Uuid,
    pairs: impl IntoIterator<Item = (K, V)>,
    names: &InboundParameters,
    configured: InboundOutput,
) -> Result<InboxRow, UnreadableQuery> {
    read(pairs, names, configured, || unknown_id(source, 0))
}

fn read<K: AsRef<str>, V: AsRef<str>>(
    pairs: impl IntoIterator<Item = (K, V)>,
    names: &InboundParameters,
    configured: InboundOutput,
    unknown_id: impl FnOnce() -> Uuid,
) -> Result<InboxRow, UnreadableQuery> {
    let mut query = Query::default();
    let mut all = Map::new();
    for (name, value) in pairs {
        let value = value.as_ref();
        query.take(names, name.as_ref(), value);
        all.entry(name.as_ref()).or_insert_with(|| value.into());
    }
    query.read_values(configured);
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
    let octets = match convert::decode_hex(query.bin.as_deref().unwrap_or_default()) {
        Ok(octets) => octets,
        // The text is the message; `source_payload` has both.
        Err(_) if query.text.as_deref().is_some_and(|text| !text.is_empty()) => Vec::new(),
        Err(_) => {
            return Err(UnreadableQuery {
                detail: "bin is not hexadecimal",
            });
        }
    };
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
                unknown_id,
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
    output: Option<String>,
}

impl Query {
    fn take(&mut self, names: &InboundParameters, name: &str, value: &str) {
        let name = name.to_lowercase();
        let known = [
            (&names.sender, &mut self.sender),
            (&names.receiver, &mut self.receiver),
            (&names.text, &mut self.text),
            (&names.bin, &mut self.bin),
            (&names.datetime, &mut self.datetime),
            (&names.message_id, &mut self.message_id),
            (&names.data_coding, &mut self.data_coding),
            (&names.esm_class, &mut self.esm_class),
            (&names.output, &mut self.output),
        ];
        for (known, field) in known {
            if known.to_lowercase() == name {
                field.get_or_insert_with(|| value.to_owned());
                return;
            }
        }
    }

    /// Undoes the formatting of the values.
    fn read_values(&mut self, configured: InboundOutput) {
        let output = output::of(self.output.as_deref()).unwrap_or(configured);
        for field in [
            &mut self.sender,
            &mut self.receiver,
            &mut self.text,
            &mut self.bin,
            &mut self.datetime,
            &mut self.message_id,
            &mut self.data_coding,
            &mut self.esm_class,
        ] {
            *field = field.take().map(|value| output::read(value, output));
        }
    }
}

/// Splits off the header with its length byte. There is no header if it would be longer than the bytes.
fn split_header(octets: &[u8], esm_class: i32) -> (&[u8], &[u8]) {
    if esm_class & UDH_INDICATOR == 0 {
        return (&[], octets);
    }
    octets
        .first()
        .and_then(|length| octets.split_at_checked(usize::from(*length) + 1))
        .unwrap_or((&[], octets))
}

/// The text of binary content. `None` if it is ambiguous.
fn decode_text(data: &[u8], data_coding: i32) -> Option<String> {
    if is_ucs2(data_coding) {
        let (pairs, rest) = data.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        return String::from_utf16(&units).ok();
    }
    // Excludes characters such as `$`, `@`, `_` and brackets, whose codes differ in the GSM alphabet.
    let is_same_in_gsm = |b: &u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b' '..=b'?' if *b != b'$')
            || matches!(b, b'\r' | b'\n')
    };
    (data_coding == 0 && data.iter().all(is_same_in_gsm))
        .then(|| String::from_utf8_lossy(data).into_owned())
}

/// Whether a data coding scheme means UCS-2: the general group with these alphabet bits, such as 8, and the message waiting
/// group in UCS-2 (3GPP TS 23.038).
fn is_ucs2(data_coding: i32) -> bool {
    matches!(data_coding, 0x00..=0x7f if data_coding & 0x0c == 0x08 && data_coding & 0x20 == 0)
        || matches!(data_coding, 0xe0..=0xef)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<v1::ReceivedMessage, UnreadableQuery> {
        let names = InboundParameters::default();
        let row = received_from_query(pairs.iter().copied(), &names, InboundOutput::Plain);
        row.map(|row| row.received)
    }

    fn read(pairs: &[(&str, &str)]) -> v1::ReceivedMessage {
        parse(pairs).unwrap()
    }

    #[test]
    fn text_is_taken_unchanged() {
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
    fn binary_content_is_decoded_if_unambiguous() {
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
                assert!(parse(&[("bin", octets)]).is_err());
            }
        }
    }

    #[test]
    fn a_text_is_read_beside_a_bin_that_is_not_hexadecimal() {
        let received = read(&[("sender", "1"), ("text", "YES"), ("bin", "%bin%")]);
        assert_eq!((received.text.as_str(), received.data.len()), ("YES", 0));
        assert!(parse(&[("sender", "1"), ("text", ""), ("bin", "x")]).is_err());
    }

    #[test]
    fn the_user_data_header_is_split_off() {
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
    fn empty_parameters_are_unreadable() {
        assert!(parse(&[("messageId", "1"), ("text", "")]).is_err());
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn a_pushed_message_without_an_id_gets_one() {
        let timed = [
            ("sender", "1"),
            ("text", "YES"),
            ("datetime", "2019-11-09T16:00:00.000+0000"),
        ];
        assert_eq!(read(&timed).message_id, read(&timed).message_id);
        assert_ne!(read(&timed[..2]).message_id, read(&timed[..2]).message_id);
    }

    #[test]
    fn parameters_have_the_names_that_the_operator_gave_them() {
        let names = InboundParameters {
            sender: "from".to_owned(),
            receiver: "Číslo".to_owned(),
            text: "message[body]".to_owned(),
            message_id: "id".to_owned(),
            ..InboundParameters::default()
        };
        let pairs = [
            ("FROM", "41793026727"),
            ("číslo", "41790000000"),
            ("message[body]", "PAY 5"),
            ("id", "mo-1"),
            // Under their former names they are parameters of somebody else.
            ("text", "another"),
            ("messageId", "another"),
        ];
        let row = received_from_query(pairs, &names, InboundOutput::Plain).unwrap();
        let received = row.received;
        assert_eq!(
            [
                &received.from,
                &received.to,
                &received.text,
                &received.message_id
            ],
            ["41793026727", "41790000000", "PAY 5", "mo-1"]
        );
        let manual = [("text", "YES"), ("sender", "1")];
        assert!(received_from_query(manual, &names, InboundOutput::Plain).is_err());
    }

    #[test]
    fn values_are_read_as_output_says() {
        let read = |pairs: &[(&str, &str)], names: &InboundParameters, configured| {
            let pairs = pairs.iter().copied();
            let row = received_from_query(pairs, names, configured).unwrap();
            row.received.text
        };
        let names = InboundParameters::default();
        let xml = ("text", "a &lt; b");
        assert_eq!(read(&[xml], &names, InboundOutput::Xml), "a < b");
        assert_eq!(read(&[xml], &names, InboundOutput::Plain), "a &lt; b");
        let (plain, json) = (InboundOutput::Plain, InboundOutput::Json);
        assert_eq!(read(&[xml, ("output", "xml")], &names, plain), "a < b");
        assert_eq!(read(&[xml, ("Output", " XML")], &names, json), "a < b");
        let quoted = ("text", r#"say \"hi\""#);
        assert_eq!(
            read(&[quoted, ("output", "json")], &names, plain),
            "say \"hi\""
        );
        // Neither of the two: as configured.
        assert_eq!(
            read(&[xml, ("output", "html")], &names, InboundOutput::Xml),
            "a < b"
        );
        let renamed = InboundParameters {
            output: "as".to_owned(),
            ..InboundParameters::default()
        };
        assert_eq!(read(&[("as", "xml"), xml], &renamed, plain), "a < b");
        assert_eq!(read(&[("output", "xml"), xml], &renamed, plain), "a &lt; b");
    }
}
