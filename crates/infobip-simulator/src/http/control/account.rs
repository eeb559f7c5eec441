//! `GET /_sim/account`: credit, counts, the rate of requests, what was refused, and how to reach this simulator.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::HOST};
use serde_json::{Value, json};

use super::json_response;
use crate::{
    config::InboundPush,
    engine::Engine,
    http::ApiResponse,
    render::{self, StatusObject},
    store::StatusCounts,
};

/// Characters of the `Host` header that are returned.
const MAX_HOST_CHARACTERS: usize = 260;

pub(super) fn show(engine: &Arc<Engine>, headers: &HeaderMap) -> ApiResponse {
    let config = &engine.config;
    let requests = {
        let mut log = engine.request_log();
        let (total, refused) = log.totals();
        let per_second = log.rate.per_second();
        json!({
            "total": total,
            "refusedTotal": refused,
            "lastSecond": per_second.last(),
            "lastMinute": per_second.iter().sum::<u32>(),
            "perSecond": per_second,
            "refused": log.refusals(),
        })
    };
    let listen = engine.address.to_string();
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .map(|host| host.chars().take(MAX_HOST_CHARACTERS).collect::<String>())
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| listen.clone());
    let inbound = match &config.inbound {
        None => json!({"way": "pull", "url": null}),
        Some(InboundPush::Get(template)) => json!({"way": "get", "url": template}),
        Some(InboundPush::Post(url)) => json!({"way": "post", "url": url}),
    };
    let basic = STANDARD.encode(format!("{}:{}", config.username, config.password));
    let state = engine.lock();
    json_response(&json!({
        "credit": {
            "balance": render::price(state.account.balance_micros, "").amount(),
            "currency": config.currency,
        },
        "states": state.messages.counts.states,
        "statuses": with_counts(&state.messages.counts.statuses),
        "rejections": with_counts(&state.account.rejections),
        "stored": {
            "phones": state.phones.len(),
            "messages": state.messages.len(),
            "received": state.inbox.received.len(),
            "unreadReports": state.messages.unread_reports(),
            "unreadReceived": state.inbox.unread,
            "pendingPushes": state.pushes.pending(),
            "evicted": state.messages.evicted,
            "links": state.links.by_path.len(),
            "clicks": state.links.clicks.len(),
        },
        "requests": requests,
        "credentials": {
            "username": config.username,
            "password": config.password,
            "apiKey": config.api_key,
            "basic": format!("Basic {basic}"),
        },
        "address": {"host": host, "baseUrl": format!("http://{host}"), "listen": listen},
        "inbound": inbound,
        "clicksUrl": config.clicks_url,
        "shortUrlBase": config.short_url_base,
        "bridge": config.bridge,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

fn with_counts(counts: &StatusCounts) -> Vec<Value> {
    let counted = counts.iter();
    counted
        .map(|(status, count)| json!({"status": StatusObject(status), "count": count}))
        .collect()
}
