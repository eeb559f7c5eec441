//! Short links: redirects, records the click and pushes it to the customer (manual "URL shortening & tracking solution").

use std::sync::Arc;

use http::{HeaderValue, header::USER_AGENT};

use crate::{
    dates::ApiDate,
    envelope::ApiError,
    http::{ApiRequest, ApiResponse},
    push::PushContent,
    state::{Click, Device, GeoLocation, RecordedClick},
};

/// Redirects to the target of the link and records the click.
pub fn follow(request: &ApiRequest<'_>, path: &str) -> Result<ApiResponse, ApiError> {
    let config = &request.engine.config;
    let mut state = request.engine.lock();
    let now_ms = state.clock.now_ms();
    let not_found = || ApiError::not_found("Not found");
    let (path, link) = state
        .links
        .by_path
        .get_key_value(path)
        .ok_or_else(not_found)?;
    let (path, row, target) = (path.clone(), link.row, link.target.clone());
    let location = HeaderValue::from_str(&target).map_err(|_| not_found())?;
    let message = state.messages.get(row).ok_or_else(not_found)?;
    let user_agent = request
        .headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (device_type, os, device_name) = parse_user_agent(user_agent);
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
        geo_location_info: GeoLocation {
            country_name: message.network.map(|network| network.country_name),
        },
        clicked_at: ApiDate(now_ms),
    });
    let push = config.clicks_url.clone().map(|url| {
        let click = click.clone();
        state.schedule_push(PushContent::Click { url, click }, now_ms)
    });
    if let Some(link) = state.links.by_path.get_mut(&path) {
        link.clicks += 1;
    }
    state.message_changed(row);
    state
        .links
        .clicks
        .push_back(RecordedClick { click, path, push });
    while state.links.clicks.len() > config.bounds.clicks.max(1) {
        state.links.clicks.pop_front();
    }
    request.engine.release(state);
    Ok(ApiResponse::redirect(location))
}

/// Reads the type, the operating system and the maker of a device from its User-Agent. The operating system includes the
/// major version if the User-Agent names one, as in the official sample of the push (`iOS 12`).
fn parse_user_agent(user_agent: &str) -> (&'static str, String, &'static str) {
    let has = |word: &str| user_agent.contains(word);
    let (kind, os, before_version, maker) = if has("iPad") {
        ("Tablet", "iOS", " OS ", "Apple")
    } else if has("iPhone") {
        ("Phone", "iOS", " OS ", "Apple")
    } else if has("Android") {
        let kind = if has("Mobile") { "Phone" } else { "Tablet" };
        (kind, "Android", "Android ", "Android")
    } else if has("Windows") {
        ("Desktop", "Windows", "Windows NT ", "PC")
    } else if has("Mac OS X") {
        ("Desktop", "macOS", "Mac OS X ", "Apple")
    } else if has("Linux") {
        return ("Desktop", "Linux".into(), "PC");
    } else {
        return ("Unknown", "Unknown".into(), "Unknown");
    };
    let version = user_agent
        .split_once(before_version)
        .map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|major| major.filter(|major| !major.is_empty()));
    let os = match version {
        Some(major) => format!("{os} {major}"),
        None => os.to_owned(),
    };
    (kind, os, maker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_determines_device_system_and_manufacturer() {
        for (user_agent, kind, os, maker) in [
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 12_0 like Mac OS X)",
                "Phone",
                "iOS 12",
                "Apple",
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 17_2 like Mac OS X)",
                "Tablet",
                "iOS 17",
                "Apple",
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; Pixel 7) Mobile Safari/537.36",
                "Phone",
                "Android 13",
                "Android",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
                "Desktop",
                "Windows 10",
                "PC",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)",
                "Desktop",
                "macOS 10",
                "Apple",
            ),
            ("Mozilla/5.0 (X11; Linux x86_64)", "Desktop", "Linux", "PC"),
            ("Android", "Tablet", "Android", "Android"),
            ("curl/8.0", "Unknown", "Unknown", "Unknown"),
        ] {
            assert_eq!(
                parse_user_agent(user_agent),
                (kind, os.to_owned(), maker),
                "{user_agent}"
            );
        }
    }
}
