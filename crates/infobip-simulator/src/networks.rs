//! Finds the mobile network of a number, for MCC/MNC, prices and number look-ups.
//!
//! The table is a coarse copy of the real one: the E.164 country codes and national mobile prefixes of some hundred
//! countries with one or a few of their networks each (ITU-T E.212 operational bulletins). A prefix names the operator to
//! which the number block was assigned, not the one that serves the number today. The prices are invented. A number outside
//! the table has no network, and its reports have no `mccMnc`. If a numbering plan does not separate mobile numbers (North
//! America), all numbers of the country are included.

mod table;

use std::sync::LazyLock;

use table::{COUNTRIES, Country};

/// A mobile network under one of its prefixes.
#[derive(Debug, PartialEq, Eq)]
pub struct Network {
    /// The country's English name.
    pub country_name: &'static str,
    /// ISO 3166-1 alpha-2.
    pub country_iso: &'static str,
    /// E.164 country code, digits only.
    pub country_prefix: &'static str,
    /// The operator's trade name.
    pub network_name: &'static str,
    /// The digits after the country code; empty if it is any number of the country.
    pub network_prefix: &'static str,
    /// Mobile country code (E.212), three digits.
    pub mcc: &'static str,
    /// Mobile network code (E.212), two or three digits.
    pub mnc: &'static str,
    /// The API's `networkId`: here MCC times 1000 plus MNC, so that one network has one id under all its prefixes.
    pub network_id: u32,
    /// The price of one part in millionths of a euro.
    pub price_micros: u64,
}

impl Network {
    /// `mccMnc` as the API writes it.
    pub fn mcc_mnc(&self) -> String {
        format!("{}{}", self.mcc, self.mnc)
    }
}

/// The network of an international number (digits only, no plus sign) by its longest known prefix.
pub fn of_number(digits: &str) -> Option<&'static Network> {
    let mut key = EMPTY_PREFIX_KEY;
    let mut found = None;
    for digit in digits.bytes().take(MAX_PREFIX_DIGITS) {
        if !digit.is_ascii_digit() {
            return None;
        }
        key = append_digit(key, digit);
        if let Ok(index) = NETWORKS.binary_search_by_key(&key, |(key, _)| *key) {
            found = Some(&NETWORKS[index].1);
        }
    }
    found
}

/// The maximum length of country code and network prefix together.
const MAX_PREFIX_DIGITS: usize = 7;

/// The key of an empty prefix. A key is a leading 1 followed by the digits of the prefix, so that `04` and `4` differ.
const EMPTY_PREFIX_KEY: u32 = 1;

fn append_digit(key: u32, digit: u8) -> u32 {
    key * 10 + u32::from(digit - b'0')
}

/// All prefixes, by key.
static NETWORKS: LazyLock<Vec<(u32, Network)>> = LazyLock::new(|| {
    let mut networks: Vec<_> = COUNTRIES
        .iter()
        .flat_map(|country| {
            country
                .networks
                .iter()
                .map(move |network| (country, network))
        })
        .flat_map(|(country, (mnc, name, prefixes))| {
            // `split`, because `split_whitespace` would skip an empty prefix.
            prefixes
                .split(' ')
                .map(move |prefix| network_entry(country, mnc, name, prefix))
        })
        .collect();
    networks.sort_unstable_by_key(|(key, _)| *key);
    networks
});

/// One entry of [`NETWORKS`].
fn network_entry(
    country: &Country,
    mnc: &'static str,
    network_name: &'static str,
    network_prefix: &'static str,
) -> (u32, Network) {
    let number = |digits: &str| digits.bytes().fold(0, append_digit);
    let digits = country.prefix.bytes().chain(network_prefix.bytes());
    let network = Network {
        country_name: country.name,
        country_iso: country.iso,
        country_prefix: country.prefix,
        network_name,
        network_prefix,
        mcc: country.mcc,
        mnc,
        network_id: number(country.mcc) * 1000 + number(mnc),
        price_micros: country.price_micros,
    };
    (digits.fold(EMPTY_PREFIX_KEY, append_digit), network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn found(digits: &str) -> Option<(&'static str, String)> {
        of_number(digits).map(|network| (network.country_iso, network.mcc_mnc()))
    }

    #[test]
    fn the_manuals_numbers_have_the_manuals_networks() {
        let swisscom = of_number("41793026727").expect("a network");
        assert_eq!(
            (swisscom.country_prefix, swisscom.network_prefix),
            ("41", "79")
        );
        assert_eq!(
            (swisscom.country_name, swisscom.network_name),
            ("Switzerland", "Swisscom")
        );
        assert_eq!(
            (swisscom.mcc_mnc().as_str(), swisscom.price_micros),
            ("22801", 10_000)
        );
        assert_eq!(found("38598123123"), Some(("HR", "21901".to_owned())));
        assert_eq!(found("385916242493"), Some(("HR", "21910".to_owned())));
    }

    #[test]
    fn the_longest_prefix_counts() {
        assert_eq!(found("46739123456"), Some(("SE", "24007".to_owned())));
        assert_eq!(found("46730123456"), Some(("SE", "24001".to_owned())));
        assert_eq!(found("12025550123"), Some(("US", "310410".to_owned())));
        assert_eq!(found("14165550123"), Some(("CA", "302720".to_owned())));
        assert_eq!(found("77051234567"), Some(("KZ", "40101".to_owned())));
        assert_eq!(found("79161234567"), Some(("RU", "25001".to_owned())));
    }

    #[test]
    fn numbers_outside_the_table_have_no_network() {
        for digits in [
            "",
            "4",
            "41",
            "41443643533",
            "99901006",
            "abc",
            "41 79",
            "+41793026727",
        ] {
            assert_eq!(found(digits), None, "{digits}");
        }
    }

    #[test]
    fn every_row_is_well_formed_and_found_by_its_own_prefix() {
        let mut countries = HashSet::new();
        for (_, network) in NETWORKS.iter() {
            let prefix = format!("{}{}", network.country_prefix, network.network_prefix);
            assert!(prefix.len() <= MAX_PREFIX_DIGITS, "{prefix}");
            assert_eq!(of_number(&prefix), Some(network));
            assert!(
                network.mcc.len() == 3 && (2..=3).contains(&network.mnc.len()),
                "{network:?}"
            );
            assert!(network.price_micros > 0);
            countries.insert(network.country_iso);
        }
        assert!(
            NETWORKS.is_sorted_by(|a, b| a.0 < b.0),
            "a prefix is in the table twice"
        );
        assert!(countries.len() >= 60, "{}", countries.len());
    }
}
