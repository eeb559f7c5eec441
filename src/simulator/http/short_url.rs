//! Short links: followed, recorded, and told to the customer (manual "URL shortening & tracking solution").

use std::sync::Arc;

use http::HeaderValue;
use http::header::USER_AGENT;

use crate::simulator::dates::ApiDate;
use crate::simulator::envelope::ApiError;
use crate::simulator::http::{Call, Reply};
use crate::simulator::push::Payload;
use crate::simulator::state::{Click, Device, Place};

/// Leads to where the link points and records the click.
pub fn follow(call: &Call<'_>, path: &str) -> Result<Reply, ApiError> {
    let config = &call.engine.config;
    let mut state = call.engine.lock();
    let now_ms = state.clock.now_ms();
    let gone = || ApiError::not_found("Not found");
    let link = state.links.by_path.get(path).ok_or_else(gone)?;
    let (row, target) = (link.row, link.target.clone());
    let location = HeaderValue::from_str(&target).map_err(|_| gone())?;
    let message = state.messages.get(row).ok_or_else(gone)?;
    let user_agent = call
        .headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (device_type, os, device_name) = device(user_agent);
    let click = Arc::new(Click {
        notification_type: "CLICKED",
        recipient: message.to.to_string(),
        url: target.to_string(),
        send_date_time: message.sent_at_ms,
        message_id: message.id.to_string(),
        bulk_id: message.bulk_id.to_string(),
        callback_data: message.content.callback_data.clone(),
        recipient_info: Device {
            device_type,
            os,
            device_name,
            network_prefix: message.network.map(|network| network.network_prefix),
            country_prefix: message.network.map(|network| network.country_prefix),
            network_name: message.network.map(|network| network.network_name),
        },
        geo_location_info: Place {
            country_name: message.network.map(|network| network.country_name),
        },
        clicked_at: ApiDate(now_ms),
    });
    state.links.clicks.push_back(click.clone());
    while state.links.clicks.len() > config.bounds.clicks.max(1) {
        state.links.clicks.pop_front();
    }
    if let Some(url) = config.clicks_url.clone() {
        state.push_at(Payload::Click { url, click }, now_ms);
    }
    call.engine.release(state);
    Ok(Reply::redirect(location))
}

/// Kind, operating system and maker of a device, as its User-Agent says.
fn device(user_agent: &str) -> (&'static str, &'static str, &'static str) {
    let has = |word: &str| user_agent.contains(word);
    if has("iPad") {
        ("Tablet", "iOS", "Apple")
    } else if has("iPhone") {
        ("Phone", "iOS", "Apple")
    } else if has("Android") {
        (
            if has("Mobile") { "Phone" } else { "Tablet" },
            "Android",
            "Android",
        )
    } else if has("Windows") {
        ("Desktop", "Windows", "PC")
    } else if has("Mac OS X") {
        ("Desktop", "macOS", "Apple")
    } else if has("Linux") {
        ("Desktop", "Linux", "PC")
    } else {
        ("Unknown", "Unknown", "Unknown")
    }
}
