//! The position of a command in a distributed trace: the value `traceparent` of W3C Trace Context, as callers and publishers send it.
//!
//! Invariants: a value of 26 bytes, whatever was received; what is written is what was read. The bridge makes no spans of its own, so
//! it passes the value on unchanged. An invalid value counts as none: a trace must never keep a message from being sent.
//! Neighbours: `commands` and `grpc` read it; the events of `events` and the requests of `infobip` carry it.

use std::fmt;

/// The name of the header of AMQP and HTTP, and of the metadata of gRPC.
pub const TRACEPARENT: &str = "traceparent";

/// `{version}-{trace id}-{parent id}-{flags}`, in lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    version: u8,
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

impl Traceparent {
    /// Reads a value; `None` if it is not valid: another length or character, an id of zeros only, or the version `ff`.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let [version] = bytes(parts.next()?)?;
        let (trace_id, parent_id) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
        let [flags] = bytes(parts.next()?)?;
        let is_valid =
            parts.next().is_none() && version != 0xff && trace_id != [0; 16] && parent_id != [0; 8];
        is_valid.then_some(Self {
            version,
            trace_id,
            parent_id,
            flags,
        })
    }
}

/// Exactly so many bytes, each of two lower-case hexadecimal digits.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, parent_id) = (hex::encode(self.trace_id), hex::encode(self.parent_id));
        write!(
            f,
            "{:02x}-{trace_id}-{parent_id}-{:02x}",
            self.version, self.flags
        )
    }
}

impl fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traceparent({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_values_are_written_as_they_were_read() {
        for value in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000001-0000000000000001-00",
            "fe-ffffffffffffffffffffffffffffffff-ffffffffffffffff-ff",
        ] {
            assert_eq!(Traceparent::parse(value).unwrap().to_string(), value);
        }
    }

    #[test]
    fn invalid_values_are_none() {
        for value in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-0b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333ä-01",
        ] {
            assert_eq!(Traceparent::parse(value), None, "{value}");
        }
    }
}
