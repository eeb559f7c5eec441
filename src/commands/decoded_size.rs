//! The memory that a command takes when it is decoded, estimated from its body.
//!
//! An empty message has two bytes in protobuf and three in JSON, and takes hundreds when it is decoded. Invariant: the estimate is never
//! less than what messages and destinations take, so that a body is refused, or waits for room, before it is decoded (P9,
//! docs/RELIABILITY.md). Neighbours: `consumer` has the room, `handle` refuses what is too large.

use lapin::message::Delivery;

use super::{encoding::Encoding, envelope::Envelope};
use crate::proto::v1;

/// The largest body of a command: the default of `grpc.max_message_bytes`, which has room for 10,000 destinations.
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// The most memory of a decoded command: enough for 10,000 messages with a destination each.
pub(super) const MAX_DECODED_BYTES: usize = 16 * 1024 * 1024;

const MESSAGE_BYTES: usize = size_of::<v1::OutboundMessage>();
const DESTINATION_BYTES: usize = size_of::<v1::Destination>();

/// A command that is too large, in words for its publisher.
#[derive(Debug, PartialEq)]
pub(super) struct TooLarge(pub(super) String);

/// The estimate in bytes; an error for a body that must not be decoded.
pub(super) fn decoded_bytes(delivery: &Delivery) -> Result<usize, TooLarge> {
    let envelope = Envelope::new(delivery);
    let encoding = Encoding::of(envelope.properties()).ok();
    // The copy of a command that is not too large has the ids and times that the bridge adds.
    let times = match envelope.history().may_have_twin {
        true => 2,
        false => 1,
    };
    estimate(encoding, &delivery.data, times)
}

/// Without a known encoding the body is refused without being decoded. The limits count `times` times.
fn estimate(encoding: Option<Encoding>, body: &[u8], times: usize) -> Result<usize, TooLarge> {
    let (max_body, max_decoded) = (MAX_BODY_BYTES * times, MAX_DECODED_BYTES * times);
    if body.len() > max_body {
        return Err(TooLarge(format!(
            "the body has {} bytes and may have {max_body}: split the command",
            body.len()
        )));
    }
    let structs = match encoding {
        Some(Encoding::Json) => of_json(body),
        Some(Encoding::Protobuf) => of_protobuf(body),
        None => 0,
    };
    let bytes = body.len().saturating_add(structs);
    if bytes > max_decoded {
        return Err(TooLarge(format!(
            "the command has too many messages or destinations: decoded it would take about {bytes} bytes of memory and may take \
             {max_decoded}: split the command"
        )));
    }
    Ok(bytes)
}

/// Each object may be a message. Braces in texts count too.
fn of_json(body: &[u8]) -> usize {
    body.iter()
        .filter(|byte| **byte == b'{')
        .count()
        .saturating_mul(MESSAGE_BYTES)
}

/// Each field of the request that has a length may be a message, and each such field in it a destination.
fn of_protobuf(body: &[u8]) -> usize {
    Fields(body)
        .map(|message| {
            let destinations = Fields(message).count();
            MESSAGE_BYTES.saturating_add(destinations.saturating_mul(DESTINATION_BYTES))
        })
        .fold(0, usize::saturating_add)
}

/// The contents of the fields that have a length, up to the first byte that is not protobuf: no decoder reads further. The fields of
/// a group count as those of the message around it.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let key = self.varint()?;
            match key & 0b111 {
                0 => {
                    self.varint()?;
                }
                1 => {
                    self.skip(8)?;
                }
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    return self.skip(length);
                }
                3 | 4 => {}
                5 => {
                    self.skip(4)?;
                }
                _ => return None,
            }
        }
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, length: usize) -> Option<&'a [u8]> {
        let (skipped, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(skipped)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn bulk(messages: usize, destinations: usize) -> v1::SendSmsBulkRequest {
        let message = v1::OutboundMessage {
            destinations: vec![v1::Destination::default(); destinations],
            ..Default::default()
        };
        v1::SendSmsBulkRequest {
            request_id: "r1".into(),
            messages: vec![message; messages],
            ..Default::default()
        }
    }

    #[test]
    fn the_estimate_covers_messages_and_destinations() {
        for (messages, destinations) in [(0, 0), (1000, 0), (1, 1000), (30, 30)] {
            let request = bulk(messages, destinations);
            let needed = messages * (MESSAGE_BYTES + destinations * DESTINATION_BYTES);
            assert!(of_protobuf(&request.encode_to_vec()) >= needed);
            assert!(of_json(&serde_json::to_vec(&request).unwrap()) >= needed);
        }
    }

    #[test]
    fn what_precedes_an_error_counts() {
        let request = bulk(1000, 0);
        // A group, a field of fixed length, and a number, before and after which messages come.
        let mut body = vec![
            0x0b, 0x0c, 0x0d, 0, 0, 0, 0, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 5,
        ];
        body.extend(request.encode_to_vec());
        body.extend([0xff; 20]);
        assert!(of_protobuf(&body) >= 1000 * MESSAGE_BYTES);
        assert!(v1::SendSmsBulkRequest::decode(&body[..]).is_err());
    }

    #[test]
    fn a_body_is_too_large_by_its_length_or_by_its_messages() {
        let text = vec![b'x'; MAX_BODY_BYTES + 1];
        let length = MAX_BODY_BYTES;
        assert_eq!(
            estimate(Some(Encoding::Json), &text[..length], 1),
            Ok(length)
        );
        assert_eq!(estimate(None, &text[..length], 1), Ok(length));
        assert!(estimate(Some(Encoding::Json), &text, 1).is_err());
        assert!(estimate(Some(Encoding::Json), &text, 2).is_ok());
        // 200 kB and 120 kB.
        let request = bulk(60_000, 0);
        let json = serde_json::to_vec(&request).unwrap();
        assert!(estimate(Some(Encoding::Json), &json, 1).is_err());
        let binary = request.encode_to_vec();
        assert!(estimate(Some(Encoding::Protobuf), &binary, 1).is_err());
        assert_eq!(estimate(None, &binary, 1), Ok(binary.len()));
    }

    #[test]
    fn the_largest_valid_commands_are_not_too_large() {
        let message = v1::OutboundMessage {
            from: "InfoSMS".into(),
            destinations: vec![v1::Destination {
                to: "41793026727".into(),
                message_id: "0190b0a8-5c9e-7a45-9d1c-3f3c1a5e6d11".into(),
            }],
            content: Some(v1::outbound_message::Content::Text("x".repeat(50))),
            ..Default::default()
        };
        let request = v1::SendSmsBulkRequest {
            messages: vec![message; 10_000],
            ..Default::default()
        };
        let json = serde_json::to_vec(&request).unwrap();
        assert!(json.len() < MAX_BODY_BYTES);
        assert!(json.len() + of_json(&json) < MAX_DECODED_BYTES);
        let binary = request.encode_to_vec();
        assert!(binary.len() + of_protobuf(&binary) < MAX_DECODED_BYTES);
    }
}
