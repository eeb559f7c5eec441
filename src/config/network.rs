//! A network of client addresses, as `http.allowed_networks` and `http.trusted_proxies` have it: CIDR, or a single address.

use std::{fmt, net::IpAddr};

use ipnet::{IpNet, Ipv4Net};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// One address or several that share a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether it has this address. An IPv4 address within IPv6 (`::ffff:192.0.2.1`) counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// A network of IPv4 addresses within IPv6, as the IPv4 one.
fn without_mapping(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let (Some(address), Some(prefix)) = (
        mapped.addr().to_ipv4_mapped(),
        mapped.prefix_len().checked_sub(96),
    ) else {
        return network;
    };
    Ipv4Net::new(address, prefix).map_or(network, IpNet::V4)
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Network;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or one address",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Network, E> {
                let one = || {
                    text.parse::<IpAddr>()
                        .map(|ip| IpNet::from(ip.to_canonical()))
                };
                let network = text.parse().or_else(|_| one());
                network
                    .map(|network| Network(without_mapping(network)))
                    .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        source.deserialize_str(Written)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, mistake};

    #[test]
    fn networks_are_cidr_or_single_addresses() {
        let text = "[http]\nallowed_networks = [\"192.0.2.0/24\", \"2001:db8::/32\", \"198.51.100.7\", \"::ffff:203.0.113.9\", \"::ffff:100.64.0.0/112\"]";
        let networks = load(text, &[]).unwrap().http.allowed_networks;
        let has = |address: &str| {
            let address = address.parse().unwrap();
            networks.iter().any(|network| network.contains(address))
        };
        for address in [
            "192.0.2.255",
            "::ffff:192.0.2.1",
            "2001:db8::1",
            "198.51.100.7",
            "203.0.113.9",
            "100.64.255.1",
        ] {
            assert!(has(address), "{address}");
        }
        for address in ["192.0.3.0", "198.51.100.8", "2001:db9::1", "::1"] {
            assert!(!has(address), "{address}");
        }
        let variable = ("SMSBRIDGE_HTTP__ALLOWED_NETWORKS", "10.0.0.0/8, ::1");
        let networks = load("", &[variable]).unwrap().http.allowed_networks;
        assert!(networks[0].contains("10.1.2.3".parse().unwrap()));
        assert_eq!(networks.len(), 2);
    }

    #[test]
    fn what_is_no_network_is_a_mistake() {
        for wrong in ["10.0.0.0/33", "10.0.0", "example.com", ""] {
            let text = format!("[http]\nallowed_networks = [\"::1\", \"{wrong}\"]");
            let mistake = mistake(&text, &[]);
            assert_eq!(mistake.key, "http.allowed_networks.1", "{mistake}");
            assert!(mistake.remedy.contains("192.0.2.0/24"), "{mistake}");
        }
    }
}
