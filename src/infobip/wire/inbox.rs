//! Parses received messages: responses of `/sms/1/inbox/reports` and `/sms/1/inbox/logs`, and pushes by POST.

use std::cell::Cell;

use serde::Deserialize;
use uuid::Uuid;

use super::{
    rows::{Rows, UnreadableBody, json_detail, read_rows},
    scalar::{Object, Scalar},
};
use crate::{
    infobip::convert::{self, Raw, WirePrice},
    proto::v1,
};

/// UUID namespace of the ids of messages that the API sent without an id.
const NAMESPACE: Uuid = Uuid::from_u128(0x2d7c_5b7e_50d1_4c8f_9a53_0b6f_9d2e_71c4);

#[derive(Debug, Clone, PartialEq)]
pub struct InboxRow {
    /// Its `message_id` is never empty: the bridge creates one if the API sent none.
    pub received: v1::ReceivedMessage,
    /// The row as received, as JSON.
    pub source_payload: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireReceived<'a> {
    #[serde(borrow)]
    message_id: Scalar<'a>,
    #[serde(borrow)]
    from: Scalar<'a>,
    #[serde(borrow)]
    to: Scalar<'a>,
    #[serde(borrow)]
    text: Scalar<'a>,
    #[serde(borrow)]
    clean_text: Scalar<'a>,
    #[serde(borrow)]
    keyword: Scalar<'a>,
    #[serde(borrow)]
    received_at: Scalar<'a>,
    #[serde(borrow)]
    sms_count: Scalar<'a>,
    #[serde(borrow)]
    price: Object<WirePrice<'a>>,
    #[serde(borrow)]
    callback_data: Raw<'a>,
}

/// Reads received messages from JSON or XML, with the counts of the inbox.
///
/// # Errors
/// [`UnreadableBody`] if the body has no readable row and is not an empty list either.
pub fn read_inbox(body: &[u8]) -> Result<Rows<InboxRow>, UnreadableBody> {
    read_rows(body, |row| read(row, Uuid::now_v7))
}

/// As [`read_inbox`], but reading the same body for the same `source` again gives the same ids: where others would be random, they are
/// derived from `source` and the position of the row.
///
/// # Errors
/// As [`read_inbox`].
pub fn read_inbox_of(source: Uuid, body: &[u8]) -> Result<Rows<InboxRow>, UnreadableBody> {
    let position = Cell::new(0_u64);
    read_rows(body, |row| {
        let of_row = position.replace(position.get() + 1);
        read(row, || unknown_id(source, of_row))
    })
}

/// The id of a row of a source, where another would be random.
pub(super) fn unknown_id(source: Uuid, position: u64) -> Uuid {
    Uuid::new_v5(&source, &position.to_be_bytes())
}

fn read(row: &str, unknown_id: impl FnOnce() -> Uuid) -> Result<InboxRow, String> {
    let wire: WireReceived<'_> = serde_json::from_str(row).map_err(|error| json_detail(&error))?;
    let is_empty = [&wire.message_id, &wire.from, &wire.to, &wire.text]
        .into_iter()
        .all(|field| *field == Scalar::Absent);
    if is_empty {
        return Err("the received message has no messageId, from, to or text".to_owned());
    }
    let received_at = convert::proto_timestamp(&wire.received_at);
    Ok(InboxRow {
        received: v1::ReceivedMessage {
            message_id: message_id(
                wire.message_id.into_text(),
                received_at.is_some(),
                row,
                unknown_id,
            ),
            from: wire.from.into_text(),
            to: wire.to.into_text(),
            text: wire.text.into_text(),
            clean_text: wire.clean_text.into_text(),
            keyword: wire.keyword.into_text(),
            received_at,
            sms_count: wire.sms_count.integer(),
            price: convert::price(wire.price),
            callback_data: convert::raw_text(wire.callback_data),
            ..v1::ReceivedMessage::default()
        },
        source_payload: row.to_owned(),
    })
}

/// The id of a received message. Without an id from the API, and with a time of reception, it is derived from the content, so
/// that a repeated push gets the same id. Without a time of reception it is random: the same text twice from one phone must
/// not count as one message, because a duplicate is better than a lost message.
pub(super) fn message_id(
    given: String,
    has_timestamp: bool,
    content: &str,
    unknown: impl FnOnce() -> Uuid,
) -> String {
    if !given.is_empty() {
        given
    } else if has_timestamp {
        Uuid::new_v5(&NAMESPACE, content.as_bytes()).to_string()
    } else {
        unknown().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"results":[{"messageId":"817790313235066447","from":"385916242493","to":"385921004026",
        "text":"QUIZ Correct answer is Paris","cleanText":"Correct answer is Paris","keyword":"QUIZ",
        "receivedAt":"2019-11-09T16:00:00.0000000+00:00","smsCount":1,"price":{"pricePerMessage":0,"currency":"EUR"},
        "callbackData":"callbackData"}],"messageCount":1,"pendingMessageCount":4}"#;

    #[test]
    fn received_messages_are_read_with_the_inbox_counts() {
        let rows = read_inbox(JSON.as_bytes()).unwrap();
        assert_eq!(
            (rows.message_count, rows.pending_message_count),
            (Some(1), Some(4))
        );
        let received = &rows.rows[0].received;
        assert_eq!(
            [
                &received.message_id,
                &received.keyword,
                &received.clean_text
            ],
            ["817790313235066447", "QUIZ", "Correct answer is Paris"]
        );
        assert_eq!(received.received_at.unwrap().seconds, 1_573_315_200);
    }

    /// A response that is read again after a restart must not give other events.
    #[test]
    fn rows_without_id_and_time_have_the_same_ids_for_the_same_source() {
        let body =
            br#"{"results":[{"from":"41","text":"Hi"},{"bad":1},{"from":"41","text":"Hi"}]}"#;
        let ids = |source: Uuid| {
            let rows = read_inbox_of(source, body).unwrap().rows;
            rows.into_iter()
                .map(|row| row.received.message_id)
                .collect::<Vec<_>>()
        };
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        assert_eq!(ids(one), ids(one));
        assert_ne!(ids(one)[0], ids(one)[1], "each row is a message");
        assert_ne!(ids(one), ids(other));
    }

    #[test]
    fn xml_and_json_give_the_same_message() {
        let xml = "<reportResponse><messageCount>1</messageCount><pendingMessageCount>4</pendingMessageCount><results>\
            <result><messageId>817790313235066447</messageId><from>385916242493</from><to>385921004026</to>\
            <text>QUIZ Correct answer is Paris</text><cleanText>Correct answer is Paris</cleanText>\
            <keyword>QUIZ</keyword><receivedAt>2019-11-09T16:00:00.000+0000</receivedAt><smsCount>1</smsCount>\
            <price><pricePerMessage>0</pricePerMessage><currency>EUR</currency></price>\
            <callbackData>callbackData</callbackData></result></results></reportResponse>";
        let (xml, json) = (
            read_inbox(xml.as_bytes()).unwrap(),
            read_inbox(JSON.as_bytes()).unwrap(),
        );
        assert_eq!(xml.rows[0].received, json.rows[0].received);
        assert_eq!(
            (xml.message_count, xml.pending_message_count),
            (json.message_count, json.pending_message_count)
        );
    }

    #[test]
    fn a_received_message_without_an_id_gets_one() {
        let id = |row: &str| read(row, Uuid::now_v7).unwrap().received.message_id;
        let timed = r#"{"from":"1","text":"YES","receivedAt":"2019-11-09T16:00:00.000+0000"}"#;
        assert_eq!(id(timed), id(timed));
        let untimed = r#"{"from":"1","text":"YES"}"#;
        assert_ne!(id(untimed), id(untimed));
    }
}
