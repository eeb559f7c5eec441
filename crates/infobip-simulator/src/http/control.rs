//! `/_sim/`: the simulator's control interface, JSON in camelCase; no part of the vendor's API. See docs/SIMULATOR.md.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    config::Keyword,
    dates::ApiDate,
    draft::Body,
    engine::Engine,
    envelope::ApiError,
    http::{Format, Query, Reply},
    render::{self, Error, Status},
    state::{InboundContent, InboundDraft},
    store::Message,
};

/// Rows of the ledger serialized per acquisition of the lock.
const BATCH: u64 = 2000;
/// Maximum time that one call may advance the clock: ten years.
const FURTHEST_MS: i64 = 10 * 366 * 24 * 3_600_000;

/// Answers a control request.
pub async fn handle(
    engine: &Arc<Engine>,
    method: &Method,
    path: &str,
    query: &Query,
    body: &Bytes,
) -> Reply {
    let answered = match (method.as_str(), path.trim_end_matches('/')) {
        ("GET", "/_sim/messages") => messages(engine, query),
        ("POST", "/_sim/inbound") => inbound(engine, body),
        ("GET", "/_sim/requests") => latest(
            query,
            "requests",
            &engine.requests().iter().collect::<Vec<_>>(),
        ),
        ("GET", "/_sim/pushes") => latest(
            query,
            "pushes",
            &engine.lock().pushes.iter().collect::<Vec<_>>(),
        ),
        ("GET", "/_sim/clicks") => latest(
            query,
            "clicks",
            &engine
                .lock()
                .links
                .clicks
                .iter()
                .map(|click| &**click)
                .collect::<Vec<_>>(),
        ),
        ("GET", "/_sim/conversions") => conversions(engine, query),
        ("GET", "/_sim/faults") => Ok(json(&json!({"faults": engine.faults.list()}))),
        ("POST", "/_sim/faults") => set_faults(engine, body),
        ("DELETE", "/_sim/faults") => lift_faults(engine, query),
        ("GET", "/_sim/clock") => Ok(clock(engine)),
        ("POST", "/_sim/clock") => set_clock(engine, body).await,
        ("GET", "/_sim/keywords") => Ok(keywords(engine)),
        ("POST", "/_sim/keywords") => set_keywords(engine, body),
        ("GET", "/_sim/state") => Ok(state(engine)),
        ("POST", "/_sim/reset") => {
            engine.reset().await;
            Ok(clock(engine))
        }
        (
            _,
            "/_sim/messages" | "/_sim/inbound" | "/_sim/requests" | "/_sim/pushes" | "/_sim/clicks"
            | "/_sim/conversions" | "/_sim/faults" | "/_sim/clock" | "/_sim/keywords"
            | "/_sim/state" | "/_sim/reset",
        ) => Err(ApiError::method_not_allowed()),
        _ => Err(ApiError::not_found("Not found")),
    };
    answered.unwrap_or_else(|error| Reply::error(Format::Json, &error))
}

fn json(value: &impl Serialize) -> Reply {
    Reply::of(Format::Json, "", value)
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid("body", error.to_string()))
}

/// The last `limit` items of a list, in order; all items without a limit.
fn latest<T: Serialize>(query: &Query, name: &str, all: &[T]) -> Result<Reply, ApiError> {
    let limit = query
        .number("limit")?
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0));
    Ok(json(&json_of(
        name,
        &all[all.len().saturating_sub(limit)..],
    )))
}

fn json_of<T: Serialize>(name: &str, list: &[T]) -> impl Serialize {
    std::collections::BTreeMap::from([(
        name.to_owned(),
        serde_json::to_value(list).unwrap_or_default(),
    )])
}

/// A row of the ledger: one for each acceptance.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LedgerRow<'a> {
    message_id: &'a str,
    bulk_id: &'a str,
    to: &'a str,
    from: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<Value>,
    flash: bool,
    state: &'static str,
    handset_deliveries: u32,
    parts: u32,
    accepted_at: ApiDate,
    sent_at: ApiDate,
    done_at: ApiDate,
    status: Status,
    error: Error,
    price_per_message: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_data: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_type: Option<&'a str>,
}

fn ledger_row(message: &Message) -> LedgerRow<'_> {
    let content = &message.content;
    LedgerRow {
        message_id: &message.id,
        bulk_id: &message.bulk_id,
        to: &message.to,
        from: &content.from,
        text: render::text_of(message),
        binary: match &content.body {
            Body::Binary {
                hex,
                data_coding,
                esm_class,
            } => Some(json!({"hex": hex, "dataCoding": data_coding, "esmClass": esm_class})),
            Body::Text(_) => None,
        },
        flash: content.flash,
        state: render::ledger_state(message),
        handset_deliveries: message.handset_deliveries,
        parts: content.parts,
        accepted_at: ApiDate(message.accepted_at_ms),
        sent_at: ApiDate(message.sent_at_ms),
        done_at: ApiDate(message.done_at_ms),
        status: Status(message.status),
        error: Error(message.error),
        price_per_message: render::price(message.price_micros, "").amount(),
        notify_url: content.notify.as_ref().map(|notify| &*notify.url),
        callback_data: content.callback_data.as_ref(),
        tracking_type: content
            .tracking
            .as_ref()
            .and_then(|tracking| tracking.kind.as_deref()),
    }
}

/// The ledger, oldest first; written in batches, so that a long ledger does not delay sends.
fn messages(engine: &Arc<Engine>, query: &Query) -> Result<Reply, ApiError> {
    let limit = query
        .number("limit")?
        .map_or(u64::MAX, |limit| u64::try_from(limit).unwrap_or(0));
    let (message_id, to) = (query.get("messageId"), query.get("to"));
    let rows = engine.lock().messages.rows();
    let mut written: Vec<Vec<u8>> = Vec::new();
    // Backwards from the end, to find the last `limit` rows.
    let mut end = rows.end;
    while end > rows.start && (written.len() as u64) < limit {
        let start = end.saturating_sub(BATCH).max(rows.start);
        let state = engine.lock();
        for row in (start..end).rev() {
            let Some(message) = state.messages.get(row).filter(|message| message.accepted) else {
                continue;
            };
            if message_id.is_none_or(|id| *message.id == *id)
                && to.is_none_or(|to| *message.to == *to)
            {
                written.push(serde_json::to_vec(&ledger_row(message)).unwrap_or_default());
                if written.len() as u64 >= limit {
                    break;
                }
            }
        }
        end = start;
    }
    let mut body = br#"{"messages":["#.to_vec();
    for (at, row) in written.iter().rev().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(row);
    }
    body.extend_from_slice(b"]}");
    let mut reply = json(&Value::Null);
    reply.body = body.into();
    Ok(reply)
}

fn inbound(engine: &Arc<Engine>, body: &Bytes) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct InboundRequest {
        from: String,
        to: String,
        text: Option<String>,
        hex: Option<String>,
        #[serde(default)]
        data_coding: u8,
        #[serde(default)]
        esm_class: u8,
    }
    let request: InboundRequest = read(body)?;
    let content = match (request.text, request.hex) {
        (Some(text), None) => InboundContent::Text(text),
        (None, Some(hex)) => {
            let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
            let octets =
                hex::decode(digits).map_err(|error| ApiError::invalid("hex", error.to_string()))?;
            InboundContent::Octets(octets, request.data_coding)
        }
        _ => return Err(ApiError::invalid("text", "give either text or hex")),
    };
    let draft = InboundDraft {
        from: request.from,
        to: request.to,
        content,
        esm_class: request.esm_class,
    };
    let mut state = engine.lock();
    let now_ms = state.clock.now_ms();
    let id = state.receive(draft, now_ms);
    engine.release(state);
    Ok(json(&json!({"messageId": &*id})))
}

fn conversions(engine: &Arc<Engine>, query: &Query) -> Result<Reply, ApiError> {
    let state = engine.lock();
    let all: Vec<_> = state
        .account
        .conversions
        .iter()
        .map(|(id, at_ms)| json!({"messageId": &**id, "at": ApiDate(*at_ms)}))
        .collect();
    latest(query, "conversions", &all)
}

/// One fault, a list of them, or `{"faults": […]}`. Sets all of them or none.
fn set_faults(engine: &Arc<Engine>, body: &Bytes) -> Result<Reply, ApiError> {
    let value: Value = read(body)?;
    let faults = match value {
        Value::Array(faults) => faults,
        Value::Object(mut object) => match object.remove("faults") {
            Some(Value::Array(faults)) if object.is_empty() => faults,
            Some(other) => {
                object.insert("faults".into(), other);
                vec![Value::Object(object)]
            }
            None => vec![Value::Object(object)],
        },
        other => vec![other],
    };
    let now_ms = engine.now_ms();
    let mut ids = Vec::new();
    for (at, fault) in faults.iter().enumerate() {
        match engine.faults.set(fault, now_ms) {
            Ok(id) => ids.push(id),
            Err(reason) => {
                for id in ids {
                    engine.faults.lift(Some(id));
                }
                return Err(ApiError::invalid(format!("faults[{at}]"), reason));
            }
        }
    }
    Ok(json(&json!({"ids": ids})))
}

fn lift_faults(engine: &Arc<Engine>, query: &Query) -> Result<Reply, ApiError> {
    let id = query
        .number("id")?
        .map(|id| u64::try_from(id).unwrap_or(u64::MAX));
    Ok(json(&json!({"lifted": engine.faults.lift(id)})))
}

fn clock(engine: &Arc<Engine>) -> Reply {
    let state = engine.lock();
    let now_ms = state.clock.now_ms();
    json(&json!({
        "now": ApiDate(now_ms),
        "nowMs": now_ms,
        "speed": state.clock.speed(),
        "frozen": state.clock.frozen(),
    }))
}

async fn set_clock(engine: &Arc<Engine>, body: &Bytes) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct ClockRequest {
        advance_ms: Option<i64>,
        speed: Option<f64>,
        frozen: Option<bool>,
    }
    let request: ClockRequest = read(body)?;
    if request
        .advance_ms
        .is_some_and(|ms| !(0..=FURTHEST_MS).contains(&ms))
    {
        return Err(ApiError::invalid(
            "advanceMs",
            "must be from 0 to ten years",
        ));
    }
    if request
        .speed
        .is_some_and(|speed| !(speed > 0.0 && speed <= 1e9))
    {
        return Err(ApiError::invalid(
            "speed",
            "must be above 0 and at most 1000000000",
        ));
    }
    engine.set_clock(request.speed, request.frozen);
    if let Some(ms) = request.advance_ms {
        engine.advance(ms).await;
    }
    Ok(clock(engine))
}

fn keywords(engine: &Arc<Engine>) -> Reply {
    let state = engine.lock();
    let all: Vec<_> = state
        .inbox
        .keywords
        .iter()
        .map(|keyword| json!({"to": keyword.to, "keyword": keyword.word}))
        .collect();
    json(&json!({"keywords": all}))
}

fn set_keywords(engine: &Arc<Engine>, body: &Bytes) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct KeywordRequest {
        to: String,
        keyword: String,
    }
    let request: KeywordRequest = read(body)?;
    let word = request.keyword;
    if word.is_empty() || word.contains(char::is_whitespace) {
        return Err(ApiError::invalid("keyword", "must be one word"));
    }
    engine.lock().inbox.keywords.push(Keyword {
        to: request.to,
        word,
    });
    Ok(keywords(engine))
}

/// Number of stored items of each kind.
fn state(engine: &Arc<Engine>) -> Reply {
    let state = engine.lock();
    json(&json!({
        "messages": state.messages.len(),
        "messageBytes": state.messages.bytes(),
        "evicted": state.messages.evicted,
        "evictedUnfinished": state.messages.evicted_unfinished,
        "unreadReports": state.messages.unread(),
        "received": state.inbox.received.len(),
        "unreadReceived": state.inbox.unread,
        "timers": state.timers.len(),
        "pendingPushes": state.pushes.pending(),
        "waitingReports": state.outboxes.values().map(|outbox| outbox.reports.len()).sum::<usize>(),
        "links": state.links.by_path.len(),
    }))
}
