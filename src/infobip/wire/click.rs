//! Parses pushed clicks on shortened URLs (docs/INFOBIP_API.md#push).

use serde::Deserialize;

use super::{
    rows::{Rows, UnreadableBody, json_detail, read_rows},
    scalar::{Object, Scalar},
};
use crate::{
    infobip::convert::{self, Raw},
    proto::v1,
};

#[derive(Debug, Clone, PartialEq)]
pub struct ClickRow {
    /// API: `messageId`, a wire id. Empty if absent.
    pub wire_id: String,
    /// Its `message_id` and `bulk_id` are wire ids.
    pub click: v1::LinkClick,
    /// The row as received, as JSON.
    pub source_payload: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireClick<'a> {
    #[serde(borrow)]
    notification_type: Scalar<'a>,
    #[serde(borrow)]
    recipient: Scalar<'a>,
    #[serde(borrow)]
    url: Scalar<'a>,
    #[serde(borrow)]
    send_date_time: Scalar<'a>,
    #[serde(borrow)]
    message_id: Scalar<'a>,
    #[serde(borrow)]
    bulk_id: Scalar<'a>,
    #[serde(borrow)]
    callback_data: Raw<'a>,
    #[serde(borrow)]
    recipient_info: Object<WireDevice<'a>>,
    #[serde(borrow)]
    geo_location_info: Object<WirePlace<'a>>,
    // The manual mentions both prefixes but no sample has them, so both plausible places are read.
    #[serde(borrow)]
    network_prefix: Scalar<'a>,
    #[serde(borrow)]
    country_prefix: Scalar<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireDevice<'a> {
    #[serde(borrow)]
    device_type: Scalar<'a>,
    #[serde(borrow)]
    os: Scalar<'a>,
    #[serde(borrow)]
    device_name: Scalar<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WirePlace<'a> {
    #[serde(borrow)]
    country_name: Scalar<'a>,
    #[serde(borrow)]
    city: Scalar<'a>,
    #[serde(borrow)]
    network_prefix: Scalar<'a>,
    #[serde(borrow)]
    country_prefix: Scalar<'a>,
}

/// Reads clicks: one object or a list of objects.
///
/// # Errors
/// [`UnreadableBody`] if the body has no readable click and is not an empty list either.
pub fn read_clicks(body: &[u8]) -> Result<Rows<ClickRow>, UnreadableBody> {
    read_rows(body, read)
}

fn read(row: &str) -> Result<ClickRow, String> {
    let wire: WireClick<'_> = serde_json::from_str(row).map_err(|error| json_detail(&error))?;
    let is_empty = [&wire.message_id, &wire.url, &wire.recipient]
        .into_iter()
        .all(|field| *field == Scalar::Absent);
    if is_empty {
        return Err("the click has no messageId, url or recipient".to_owned());
    }
    let wire_id = wire.message_id.into_text();
    let device = wire.recipient_info.0.unwrap_or_default();
    let location = wire.geo_location_info.0.unwrap_or_default();
    Ok(ClickRow {
        click: v1::LinkClick {
            notification_type: wire.notification_type.into_text(),
            recipient: wire.recipient.into_text(),
            url: wire.url.into_text(),
            sent_at: convert::proto_timestamp(&wire.send_date_time),
            message_id: wire_id.clone(),
            bulk_id: wire.bulk_id.into_text(),
            callback_data: convert::raw_text(wire.callback_data),
            device_type: device.device_type.into_text(),
            os: device.os.into_text(),
            device_name: device.device_name.into_text(),
            country_name: location.country_name.into_text(),
            city: location.city.into_text(),
            network_prefix: wire.network_prefix.or(location.network_prefix).into_text(),
            country_prefix: wire.country_prefix.or(location.country_prefix).into_text(),
        },
        wire_id,
        source_payload: row.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_click_is_read() {
        let body = r#"{"notificationType":"CLICKED","recipient":"41793026727","url":"https://example.com/a?b=c",
            "sendDateTime":1704106800000,"messageId":"default.m1","bulkId":"default.b","callbackData":"Callback data",
            "recipientInfo":{"deviceType":"Phone","os":"iOS 12","deviceName":"Apple"},
            "geoLocationInfo":{"countryName":"United States","city":"Los Angeles","countryPrefix":1},"entityId":"e"}"#;
        let rows = read_clicks(body.as_bytes()).unwrap();
        let click = &rows.rows[0].click;
        assert_eq!(rows.rows[0].wire_id, "default.m1");
        assert_eq!(click.sent_at.unwrap().seconds, 1_704_106_800);
        assert_eq!(
            [
                &click.os,
                &click.device_name,
                &click.city,
                &click.country_prefix
            ],
            ["iOS 12", "Apple", "Los Angeles", "1"]
        );
        assert!(read_clicks(br#"{"hello":1}"#).is_err());
        assert_eq!(
            read_clicks(br#"[{"url":"u"},{"x":1}]"#).unwrap().bad.len(),
            1
        );
    }
}
