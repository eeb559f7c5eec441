//! The address of another node of the broker's cluster (an entry of `amqp.other_nodes`): a host, and a port where it differs from that
//! of `amqp.url`.
//!
//! Invariant: no error contains a part of the entry, which may be a URL with a password by mistake. Neighbours: `check` refuses an
//! invalid entry; `amqp::endpoint` connects to the result.

use std::net::Ipv6Addr;

/// How to write an entry, for the end of an error message.
pub const BROKER_NODE_REMEDY: &str = "write `host`, `host:port` or `[IPv6 address]:port`; user, password, virtual host and scheme are those of `amqp.url`";

/// The entry is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the address of a node")]
pub struct NotANode;

/// Host (an IPv6 address without brackets) and port.
///
/// # Errors
/// [`NotANode`].
pub fn parse_broker_node(text: &str) -> Result<(String, Option<u16>), NotANode> {
    let (host, after) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(NotANode)?;
            address.parse::<Ipv6Addr>().map_err(|_| NotANode)?;
            (address, after)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (host, after) = text.split_at(end);
            let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if host.is_empty() || !host.bytes().all(is_name) {
                return Err(NotANode);
            }
            (host, after)
        }
    };
    let port = match after.strip_prefix(':') {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => match port.parse() {
            Ok(port @ 1..) => Some(port),
            _ => return Err(NotANode),
        },
        None if after.is_empty() => None,
        _ => return Err(NotANode),
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_host_and_maybe_a_port() {
        for (text, host, port) in [
            ("rabbit-2.example", "rabbit-2.example", None),
            ("10.0.0.2:5673", "10.0.0.2", Some(5673)),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[::1]:5672", "::1", Some(5672)),
        ] {
            assert_eq!(
                parse_broker_node(text),
                Ok((host.to_owned(), port)),
                "{text}"
            );
        }
        for text in [
            "",
            ":5672",
            "rabbit:",
            "rabbit:0",
            "rabbit:+1",
            "rabbit:70000",
            "rabbit 2",
            "::1",
            "[rabbit]",
            "[::1]5672",
            "amqp://rabbit",
            "user:secret@rabbit",
            "rabbit/vhost",
        ] {
            assert_eq!(parse_broker_node(text), Err(NotANode), "{text}");
        }
    }
}
