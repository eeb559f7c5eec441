//! Which clients may push, by their addresses (`http.allowed_networks`), also behind proxies (`http.trusted_proxies`).
//!
//! Invariant: nothing that a client writes makes it another client: `X-Forwarded-For` is read from the right, where the nearest proxy
//! wrote it, and only as far as the addresses are those of trusted proxies. Neighbour: `ops::http_server` knows the peer.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::{self, Network};

const FORWARDED_FOR: &str = "x-forwarded-for";

pub(super) struct ClientNetworks {
    /// Empty: any client may push.
    allowed: Vec<Network>,
    trusted_proxies: Vec<Network>,
}

/// The client may not push.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAllowed {
    /// `None`: a trusted proxy names none.
    pub(super) client: Option<IpAddr>,
}

impl ClientNetworks {
    pub(super) fn new(config: &config::Http) -> Self {
        Self {
            allowed: config.allowed_networks.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
        }
    }

    pub(super) fn check(
        &self,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<(), NotAllowed> {
        if self.allowed.is_empty() {
            return Ok(());
        }
        let client = peer.and_then(|peer| self.client(peer, headers));
        match client {
            Some(address) if has(&self.allowed, address) => Ok(()),
            client => Err(NotAllowed { client }),
        }
    }

    /// The peer, or the last address before it that is not a trusted proxy. `None` if a trusted proxy names no address.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = peer;
        let lines = headers.get_all(FORWARDED_FOR).iter();
        // A proxy appends to the last line, or adds a line.
        let mut hops = lines.rev().flat_map(|line| {
            let hops = line.as_bytes().rsplit(|b| *b == b',');
            hops.map(|hop| std::str::from_utf8(hop).ok().and_then(address_of))
        });
        while has(&self.trusted_proxies, client) {
            match hops.next() {
                Some(hop) => client = hop?,
                // The first proxy pushes itself.
                None => break,
            }
        }
        Some(client)
    }
}

fn has(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// An address, as some proxies write it with a port.
fn address_of(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    bare.unwrap_or(hop)
        .parse()
        .ok()
        .or_else(|| hop.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::tests::load;

    fn networks() -> ClientNetworks {
        let text = "[http]\nallowed_networks = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n\
                    trusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]";
        ClientNetworks::new(&load(text, &[]).unwrap().http)
    }

    fn check(peer: &str, lines: &[&str]) -> Result<(), NotAllowed> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.append(FORWARDED_FOR, line);
        }
        networks().check(Some(peer.parse().unwrap()), &headers)
    }

    fn refused(client: &str) -> Result<(), NotAllowed> {
        let client = Some(client.parse().unwrap());
        Err(NotAllowed { client })
    }

    #[test]
    fn the_peer_counts_unless_it_is_a_trusted_proxy() {
        assert_eq!(check("192.0.2.1", &[]), Ok(()));
        assert_eq!(check("::ffff:192.0.2.1", &[]), Ok(()));
        assert_eq!(check("2001:db8::7", &["198.51.100.1"]), Ok(()));
        let stranger = refused("198.51.100.1");
        assert_eq!(check("198.51.100.1", &[]), stranger);
        // Anyone can write the header.
        assert_eq!(check("198.51.100.1", &["192.0.2.1"]), stranger);
    }

    #[test]
    fn a_trusted_proxy_names_the_client_on_the_right() {
        for lines in [
            &["192.0.2.1"][..],
            &["198.51.100.1, 192.0.2.1"],
            &["198.51.100.1", "192.0.2.1"],
            &["not an address, 192.0.2.1 , 10.0.0.2"],
            &["192.0.2.1,10.0.0.2", "fd00::1"],
            &["192.0.2.1:52110"],
            &["[2001:db8::1]:443"],
            &["[2001:db8::1]"],
        ] {
            assert_eq!(check("10.1.2.3", lines), Ok(()), "{lines:?}");
        }
        // What the client itself wrote is on the left.
        for lines in [
            &["192.0.2.1, 198.51.100.1"][..],
            &["192.0.2.1", "198.51.100.1, 10.0.0.2"],
        ] {
            assert_eq!(
                check("10.1.2.3", lines),
                refused("198.51.100.1"),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_proxy_that_names_no_client_is_refused() {
        let unknown = Err(NotAllowed { client: None });
        for line in ["", "unknown", "192.0.2.1,", "192.0.2.1, _hidden", "\u{e9}"] {
            assert_eq!(check("10.1.2.3", &[line]), unknown, "{line}");
        }
        // It pushes itself, and is not among the allowed.
        assert_eq!(check("10.1.2.3", &[]), refused("10.1.2.3"));
        assert_eq!(check("10.1.2.3", &["10.0.0.2"]), refused("10.0.0.2"));
    }

    #[test]
    fn without_networks_any_client_may_push() {
        let any = ClientNetworks::new(&load("", &[]).unwrap().http);
        assert_eq!(any.check(None, &HeaderMap::new()), Ok(()));
        let none = Err(NotAllowed { client: None });
        assert_eq!(networks().check(None, &HeaderMap::new()), none);
    }
}
