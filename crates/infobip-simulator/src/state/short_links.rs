//! Short links of tracked messages, and the clicks on them.
//!
//! Neighbours: `acceptance::short_links` creates links, `http::short_url` resolves them and records clicks.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;

use crate::{dates::ApiDate, push::PushId, store::RowId};

/// A short link of one message.
#[derive(Debug)]
pub(crate) struct ShortLink {
    pub(crate) row: RowId,
    /// The URL that it redirects to.
    pub(crate) target: Arc<str>,
    pub(crate) clicks: u64,
}

/// Short links and the clicks on them.
#[derive(Debug, Default)]
pub(crate) struct ShortLinks {
    pub(crate) by_path: HashMap<Arc<str>, ShortLink>,
    /// Paths, oldest first: beyond the limit the first are removed.
    pub(crate) oldest_first: VecDeque<Arc<str>>,
    pub(crate) clicks: VecDeque<RecordedClick>,
}

/// A click, the link that was followed, and the push that reports it.
#[derive(Debug)]
pub(crate) struct RecordedClick {
    pub(crate) click: Arc<Click>,
    pub(crate) path: Arc<str>,
    pub(crate) push: Option<PushId>,
}

/// A click on a short link, in the JSON that is pushed and listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Click {
    pub(crate) notification_type: &'static str,
    /// The number that received the link.
    pub(crate) recipient: String,
    /// The URL that the link redirects to.
    pub(crate) url: String,
    /// When the message was sent, in milliseconds since 1970.
    pub(crate) send_date_time: i64,
    pub(crate) message_id: String,
    /// Id of its request.
    pub(crate) bulk_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) callback_data: Option<serde_json::Value>,
    pub(crate) recipient_info: Device,
    pub(crate) geo_location_info: GeoLocation,
    /// Virtual time of the click. Not in the official sample.
    pub(crate) clicked_at: ApiDate,
}

/// The device that the User-Agent names, and the network of the number.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    /// Phone, Tablet or Desktop.
    pub(crate) device_type: &'static str,
    /// Operating system, with its major version where it is known.
    pub(crate) os: String,
    pub(crate) device_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_prefix: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country_prefix: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_name: Option<&'static str>,
}

/// The country of the number: the place of the click is not known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GeoLocation {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country_name: Option<&'static str>,
}
