//! `/_sim/`: the simulator's control interface, JSON in camelCase; not a part of the API. See docs/SIMULATOR.md.
//!
//! Invariants: no credentials are required; no fault applies.
//! Neighbour: `running` is the same control for the process of the simulator.

mod bubble;
mod clock;
mod conversation;
mod cursor;
mod faults;
mod inbound;
mod ledger;
mod phones;
mod search;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::Method;
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    dates::ApiDate,
    engine::Engine,
    envelope::ApiError,
    http::{ApiResponse, Format, Query},
};

const CONTROL_SERIALIZES: &str =
    "control responses have only string keys and no failing serializer";

/// Answers a control request.
pub async fn handle(
    engine: &Arc<Engine>,
    method: &Method,
    path: &str,
    query: &Query,
    body: &Bytes,
) -> ApiResponse {
    let result = match (method.as_str(), path.trim_end_matches('/')) {
        ("GET", "/_sim/phones") => phones::list(engine, query).await,
        ("GET", "/_sim/messages") => ledger::messages(engine, query),
        ("POST", "/_sim/inbound") => inbound::receive(engine, body),
        ("GET", "/_sim/requests") => last_items(
            query,
            "requests",
            &engine.request_log().iter().collect::<Vec<_>>(),
        ),
        ("GET", "/_sim/pushes") => last_items(
            query,
            "pushes",
            &engine.lock().pushes.iter().collect::<Vec<_>>(),
        ),
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
            "/_sim/phones" | "/_sim/messages" | "/_sim/inbound" | "/_sim/requests" | "/_sim/pushes"
            | "/_sim/clicks" | "/_sim/conversions" | "/_sim/faults" | "/_sim/clock"
            | "/_sim/keywords" | "/_sim/state" | "/_sim/reset",
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
