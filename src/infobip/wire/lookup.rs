//! Parses number look-ups: responses to synchronous and asynchronous requests, and pushes.

use serde::Deserialize;

use super::{
    rows::{Rows, UnreadableBody, json_detail, read_rows},
    scalar::{Object, Scalar},
};
use crate::{
    infobip::convert::{self, WireCode},
    proto::v1,
};

#[derive(Debug, Clone, PartialEq)]
pub struct LookupRow {
    /// API: `messageId` of an asynchronous request. Empty in synchronous responses.
    pub lookup_id: String,
    pub lookup: v1::NumberLookup,
    /// The row as received, as JSON.
    pub source_payload: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireLookup<'a> {
    #[serde(borrow)]
    to: Scalar<'a>,
    #[serde(borrow)]
    message_id: Scalar<'a>,
    #[serde(borrow)]
    mcc_mnc: Scalar<'a>,
    #[serde(borrow, rename = "mccmnc")]
    mccmnc: Scalar<'a>,
    #[serde(borrow)]
    imsi: Scalar<'a>,
    #[serde(borrow)]
    original_network: Object<WireNetwork<'a>>,
    #[serde(borrow)]
    ported: Scalar<'a>,
    #[serde(borrow)]
    ported_network: Object<WireNetwork<'a>>,
    #[serde(borrow)]
    roaming: Scalar<'a>,
    #[serde(borrow)]
    roaming_network: Object<WireNetwork<'a>>,
    #[serde(borrow, rename = "servingMSC")]
    serving_msc: Scalar<'a>,
    #[serde(borrow)]
    status: Object<WireCode<'a>>,
    #[serde(borrow)]
    error: Object<WireCode<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireNetwork<'a> {
    #[serde(borrow)]
    network_name: Scalar<'a>,
    #[serde(borrow)]
    network_prefix: Scalar<'a>,
    #[serde(borrow)]
    country_name: Scalar<'a>,
    #[serde(borrow)]
    country_prefix: Scalar<'a>,
    #[serde(borrow)]
    network_id: Scalar<'a>,
}

/// Reads the answers to number look-ups, in JSON or XML.
///
/// # Errors
/// [`UnreadableBody`] if the body has no readable row and is not an empty list either.
pub fn read_lookups(body: &[u8]) -> Result<Rows<LookupRow>, UnreadableBody> {
    read_rows(body, read)
}

fn read(row: &str) -> Result<LookupRow, String> {
    let wire: WireLookup<'_> = serde_json::from_str(row).map_err(|error| json_detail(&error))?;
    let to = wire
        .to
        .into_non_empty_text()
        .ok_or("the lookup has no `to`")?;
    Ok(LookupRow {
        lookup_id: wire.message_id.into_text(),
        lookup: v1::NumberLookup {
            to,
            mcc_mnc: convert::mcc_mnc(wire.mcc_mnc.or(wire.mccmnc)),
            imsi: wire.imsi.into_text(),
            original_network: network(wire.original_network),
            ported: wire.ported.boolean(),
            ported_network: network(wire.ported_network),
            roaming: wire.roaming.boolean(),
            roaming_network: network(wire.roaming_network),
            serving_msc: wire.serving_msc.into_text(),
            status: convert::status(wire.status),
            error: convert::error(wire.error),
            source_payload: row.to_owned(),
            refusal: None,
        },
        source_payload: row.to_owned(),
    })
}

/// `None` for the empty object that an invalid number has.
fn network(network: Object<WireNetwork<'_>>) -> Option<v1::Network> {
    let network = network.0?;
    let network = v1::Network {
        network_name: network.network_name.into_text(),
        network_prefix: network.network_prefix.into_text(),
        country_name: network.country_name.into_text(),
        country_prefix: network.country_prefix.into_text(),
        network_id: network.network_id.integer(),
    };
    (network != v1::Network::default()).then_some(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_roaming_number_is_read() {
        let body = r#"{"results":[{"to":"41793026727","mccMnc":"22801","imsi":"228011234567890",
            "originalNetwork":{"networkName":"Swisscom","networkPrefix":"79","countryName":"Switzerland",
                               "countryPrefix":"41","networkId":123},
            "ported":false,"roaming":true,
            "roamingNetwork":{"networkName":"Tele2","networkPrefix":"739","countryName":"Sweden","countryPrefix":"46"},
            "servingMSC":"46003","status":{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET"},
            "error":{"groupId":0,"groupName":"Ok","id":0,"name":"NO_ERROR","permanent":false}}],"bulkId":"b"}"#;
        let rows = read_lookups(body.as_bytes()).unwrap();
        let lookup = &rows.rows[0].lookup;
        assert_eq!((lookup.ported, lookup.roaming), (Some(false), Some(true)));
        let original = lookup.original_network.as_ref().unwrap();
        assert_eq!(
            (original.network_name.as_str(), original.network_id),
            ("Swisscom", Some(123))
        );
        assert_eq!(
            lookup.roaming_network.as_ref().unwrap().country_prefix,
            "46"
        );
        assert_eq!(
            (lookup.serving_msc.as_str(), lookup.imsi.as_str()),
            ("46003", "228011234567890")
        );
        assert_eq!(lookup.ported_network, None);
    }

    #[test]
    fn invalid_and_pending_numbers_are_read() {
        let body = r#"{"results":[
            {"to":"123","originalNetwork":{},"status":{"groupId":5,"groupName":"REJECTED","id":8}},
            {"to":"3859851212","status":{"groupId":1,"id":3},"messageId":"2b691c32"},
            {"status":{}}]}"#;
        let rows = read_lookups(body.as_bytes()).unwrap();
        let [invalid, waits] = rows.rows.as_slice() else {
            panic!("two rows");
        };
        assert_eq!(
            (&invalid.lookup.original_network, invalid.lookup.ported),
            (&None, None)
        );
        assert_eq!(waits.lookup_id, "2b691c32");
        assert_eq!(rows.bad.len(), 1);
    }
}
