//! A chunk: consecutive events in one blob, each preceded by its length.

use prost::Message as _;

use crate::proto::v1;

/// Maximum number of events in a chunk: finding one event reads the whole chunk.
const MAX_EVENTS: i64 = 256;
/// A chunk of this size is full, because source payloads can be long.
const MAX_BYTES: usize = 128 * 1024;

/// A chunk that is being filled.
pub(super) struct Chunk {
    pub(super) first_seq: i64,
    pub(super) events: Vec<u8>,
    len: i64,
}

impl Chunk {
    /// An empty chunk for the events after `head`; reuses the buffer `events`.
    pub(super) fn after(head: i64, mut events: Vec<u8>) -> Self {
        events.clear();
        Self {
            first_seq: head + 1,
            events,
            len: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= MAX_EVENTS || self.events.len() >= MAX_BYTES
    }

    /// The sequence number of the newest event, or of the one before the chunk.
    pub(super) fn last_seq(&self) -> i64 {
        self.first_seq + self.len - 1
    }

    pub(super) fn push(&mut self, event: &v1::Event) {
        event
            .encode_length_delimited(&mut self.events)
            .expect("encoding fails only in a full buffer, and a vector grows");
        self.len += 1;
    }
}

/// The encoded events of a chunk with their sequence numbers. Ends early if the chunk is damaged.
pub(super) fn encoded_events(
    first_seq: i64,
    mut events: &[u8],
) -> impl Iterator<Item = (i64, &[u8])> {
    (first_seq..).map_while(move |seq| {
        let length = prost::decode_length_delimiter(&mut events).ok()?;
        let (event, rest) = events.split_at_checked(length)?;
        events = rest;
        Some((seq, event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_return_events_with_their_sequence_numbers() {
        let mut chunk = Chunk::after(41, Vec::new());
        for id in ["a", "b", "c"] {
            chunk.push(&v1::Event {
                id: id.repeat(200),
                ..v1::Event::default()
            });
        }
        assert_eq!((chunk.first_seq, chunk.last_seq()), (42, 44));
        let ids: Vec<_> = encoded_events(42, &chunk.events)
            .map(|(seq, event)| (seq, v1::Event::decode(event).unwrap().id))
            .collect();
        assert_eq!(
            ids,
            [
                (42, "a".repeat(200)),
                (43, "b".repeat(200)),
                (44, "c".repeat(200))
            ]
        );
        let cut = &chunk.events[..chunk.events.len() - 1];
        assert_eq!(encoded_events(42, cut).count(), 2);
    }
}
