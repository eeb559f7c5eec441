//! `/_sim/`: the simulator's control interface, JSON in camelCase; not a part of the API. See docs/SIMULATOR.md.
//!
//! Invariants: no credentials are required; no fault applies; an answer that the page asks for is bounded.
//! Neighbour: `running` is the same control for the process of the simulator.

mod account;
mod bubble;
mod clock;
mod conversation;
mod cursor;
mod faults;
mod guide;
mod inbound;
mod ledger;
mod phone_row;
mod phones;
mod requests;
mod search;
mod story;
mod story_request;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    dates::ApiDate,
    engine::Engine,
    envelope::ApiError,
    http::{ApiResponse, Format, Query},
    server::{HttpResponse, ResponseBody},
};

const CONTROL_SERIALIZES: &str =
    "control responses have only string keys and no failing serializer";

/// The path of the stream of changes.
pub const STREAM: &str = "/_sim/stream";

/// The stream of changes, as server-sent events.
pub fn stream(engine: &Arc<Engine>) -> HttpResponse {
    let now_ms = engine.now_ms();
    let Some(events) = engine.subscribe() else {
        let error = ApiError::refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "TOO_MANY_LISTENERS",
            "Too many listeners: close another page of this simulator",
        );
        return ApiResponse::error(Format::Json, &error).into_http(now_ms);
    };
    let mut response = json_response(&()).into_http(now_ms);
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream;charset=UTF-8"),
    );
    response.map(|_| ResponseBody::events(events))
}

/// Answers a control request.
pub async fn handle(
    engine: &Arc<Engine>,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    query: &Query,
    body: &Bytes,
) -> ApiResponse {
    let result = match (method.as_str(), path.trim_end_matches('/')) {
        ("GET", "/_sim/phones") => phones::list(engine, query).await,
        ("GET", "/_sim/messages") => ledger::messages(engine, query),
        ("POST", "/_sim/inbound") => inbound::receive(engine, body),
        ("GET", "/_sim/requests") => requests::list(engine, query),
        ("GET", "/_sim/pushes") => requests::pushes(engine, query),
        ("GET", "/_sim/clicks") => last_items(
            query,
            "clicks",
            &engine
                .lock()
                .links
                .clicks
                .iter()
                .map(|recorded| &*recorded.click)
                .collect::<Vec<_>>(),
        ),
        ("GET", "/_sim/conversions") => conversions(engine, query),
        ("GET", "/_sim/lookups") => lookups(engine, query),
        ("GET", "/_sim/account") => Ok(account::show(engine, headers)),
        ("GET", "/_sim/outcomes") => Ok(guide::outcomes()),
        ("GET", "/_sim/faults/kinds") => Ok(guide::fault_kinds()),
        ("GET", "/_sim/faults") => Ok(faults::list(engine)),
        ("POST", "/_sim/faults") => faults::add(engine, body),
        ("DELETE", "/_sim/faults") => faults::remove(engine, query),
        ("GET", "/_sim/clock") => Ok(clock::show(engine)),
        ("POST", "/_sim/clock") => clock::set(engine, body).await,
        ("GET", "/_sim/keywords") => Ok(inbound::keywords(engine)),
        ("POST", "/_sim/keywords") => inbound::add_keyword(engine, body),
        ("GET", "/_sim/state") => Ok(memory_use(engine)),
        ("POST", "/_sim/reset") => {
            engine.reset().await;
            Ok(clock::show(engine))
        }
        (
            _,
            STREAM | "/_sim/phones" | "/_sim/account" | "/_sim/outcomes" | "/_sim/faults/kinds"
            | "/_sim/messages" | "/_sim/inbound" | "/_sim/requests" | "/_sim/pushes"
            | "/_sim/clicks" | "/_sim/conversions" | "/_sim/lookups" | "/_sim/faults"
            | "/_sim/clock" | "/_sim/keywords" | "/_sim/state" | "/_sim/reset",
        ) => Err(ApiError::method_not_allowed()),
        (_, path) => named(engine, method, path, query),
    };
    result.unwrap_or_else(|error| ApiResponse::error(Format::Json, &error))
}

/// Answers a request whose path ends with a name.
fn named(
    engine: &Arc<Engine>,
    method: &Method,
    path: &str,
    query: &Query,
) -> Result<ApiResponse, ApiError> {
    let not_found = || ApiError::not_found("Not found");
    let (collection, name) = path.rsplit_once('/').ok_or_else(not_found)?;
    let name = percent_decode_str(name).decode_utf8_lossy();
    let show = match collection {
        "/_sim/phones" => conversation::show,
        "/_sim/messages" => story::show,
        "/_sim/requests" => requests::show,
        _ => return Err(not_found()),
    };
    if *method != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    show(engine, &name, query)
}

fn json_response(value: &impl Serialize) -> ApiResponse {
    ApiResponse::encode(Format::Json, "", value)
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid("body", error.to_string()))
}

/// The last `limit` items of a list, in order; all items without a limit.
fn last_items<T: Serialize>(query: &Query, name: &str, all: &[T]) -> Result<ApiResponse, ApiError> {
    let limit = query
        .number("limit")?
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0));
    let last = &all[all.len().saturating_sub(limit)..];
    let last = serde_json::to_value(last).expect(CONTROL_SERIALIZES);
    Ok(json_response(&BTreeMap::from([(name, last)])))
}

fn conversions(engine: &Arc<Engine>, query: &Query) -> Result<ApiResponse, ApiError> {
    let state = engine.lock();
    let all: Vec<_> = state
        .account
        .conversions
        .iter()
        .map(|(id, at_ms)| json!({"messageId": &**id, "at": ApiDate(*at_ms)}))
        .collect();
    last_items(query, "conversions", &all)
}

/// How often each number was looked up.
fn lookups(engine: &Arc<Engine>, query: &Query) -> Result<ApiResponse, ApiError> {
    let state = engine.lock();
    let all: Vec<_> = state
        .account
        .lookups
        .iter()
        .map(|(to, count)| json!({"to": &**to, "count": count}))
        .collect();
    last_items(query, "lookups", &all)
}

/// Number of stored items of each kind.
fn memory_use(engine: &Arc<Engine>) -> ApiResponse {
    let state = engine.lock();
    json_response(&json!({
        "messages": state.messages.len(),
        "messageBytes": state.messages.estimated_bytes(),
        "evicted": state.messages.evicted,
        "evictedUnfinished": state.messages.evicted_unfinished,
        "unreadReports": state.messages.unread_reports(),
        "received": state.inbox.received.len(),
        "unreadReceived": state.inbox.unread,
        "timers": state.timers.len(),
        "pendingPushes": state.pushes.pending(),
        "waitingReports": state.report_batches.values().map(|batch| batch.reports.len()).sum::<usize>(),
        "links": state.links.by_path.len(),
    }))
}
