//! Handles HTTP requests: finds the endpoint and the format, authenticates, applies faults, writes the response.
//!
//! A request is matched against the faults, read completely (bounded), authenticated, processed under the state's lock
//! without waiting, written to the request log, and answered.
//!
//! Invariants: every endpoint of the API answers in the requested format, errors included; no fault applies to `/_sim/`, the
//! simulator's own interface, and no other web site may use that. Neighbours: `server` owns the connections, `engine` the state.

mod account;
mod api_request;
mod api_response;
mod bulks;
mod control;
mod conversion;
mod endpoint;
mod format;
mod guard;
mod inbox;
mod logs;
mod lookup;
mod page;
mod preview;
mod query;
mod reports;
mod send;
mod short_url;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Method, Request,
    header::{CONTENT_TYPE, HeaderValue},
    request::Parts,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use self::{api_request::ApiRequest, api_response::ApiResponse, format::Format, query::Query};
use crate::{
    dates::ApiDate,
    engine::Engine,
    envelope::ApiError,
    faults::ResponseFault,
    request_log::{Exchange, KeptBody, Refusal, RequestRecord},
    server::{ConnectionCloser, HttpResponse, ResponseBody},
};

/// Their bodies have credentials: the request log keeps none of them.
const CREDENTIAL_PATHS: &str = "/auth/";

/// Answers a request, or closes its connection if a fault requires it.
pub async fn handle(
    engine: &Arc<Engine>,
    closer: &ConnectionCloser,
    request: Request<Incoming>,
) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let raw_query = parts.uri.query().unwrap_or_default();
    if is_own_interface(&parts.method, parts.uri.path()) {
        return guard::protect(own_interface(engine, &parts, body).await);
    }
    let (path, suffix) = format::strip_suffix(parts.uri.path());
    let format = suffix.unwrap_or_else(|| format::response_format(&parts.headers));
    let effects = engine
        .faults
        .effects_on(&parts.method, path, engine.now_ms());
    delay(effects.delay_before_ms).await;

    let body = read_body(engine, body).await;
    let keeps_bodies = !path.starts_with(CREDENTIAL_PATHS);
    let request_body = body.as_ref().ok().filter(|_| keeps_bodies).cloned();
    let result = match (body, &effects.response_fault) {
        // The request is not processed; the request log names its message ids nevertheless.
        (Ok(body), Some((_, response_fault))) if !response_fault.processes_request() => {
            let mut response = ApiResponse::error(format, &ApiError::general());
            response.message_ids = send::message_ids_in(&body);
            Ok(response)
        }
        (Ok(body), _) => {
            let request = ApiRequest {
                engine,
                headers: &parts.headers,
                query: Query::parse(raw_query),
                body,
                format,
                send_faults: effects.send_faults,
            };
            request.dispatch(path, &parts.method).await
        }
        (Err(error), _) => Err(error),
    };
    let refused = result.as_ref().err().map(ApiError::refusal);
    let mut response = result.unwrap_or_else(|error| ApiResponse::error(format, &error));
    let message_ids = std::mem::take(&mut response.message_ids);
    if let Some((_, ResponseFault::Substitute { status, body, .. })) = &effects.response_fault {
        response = ApiResponse::substitute(engine, format, *status, body.as_ref());
    }
    let no_response = matches!(
        effects.response_fault,
        Some((
            _,
            ResponseFault::Reset { .. } | ResponseFault::NoResponse { .. }
        ))
    );
    let fault = effects.response_fault.as_ref().map(|(name, _)| *name);
    let content_type = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let exchange = Exchange {
        request: request_body
            .filter(|body| !body.is_empty())
            .map(|body| KeptBody::of(&body, content_type)),
        answer: (keeps_bodies && !no_response)
            .then(|| KeptBody::of(&response.body, Some(response.content_type.as_bytes()))),
    };
    let now_ms = engine.now_ms();
    let processed = effects
        .response_fault
        .as_ref()
        .is_none_or(|(_, response_fault)| response_fault.processes_request());
    let record = RequestRecord {
        seq: 0,
        at: ApiDate(now_ms),
        at_ms: now_ms,
        status: (!no_response).then(|| response.status.as_u16()),
        path: path.into(),
        query: without_credentials(raw_query).into(),
        processed,
        fault,
        message_ids,
        method: parts.method,
        refused: match fault {
            Some(fault) if !processed => Some(Box::new(Refusal {
                reason: format!("fault {fault}"),
                text: "A fault replaced the response".into(),
            })),
            Some(_) | None => refused.map(Box::new),
        },
    };
    engine.record(record, exchange);

    delay(effects.delay_after_ms).await;
    match effects.response_fault {
        Some((_, ResponseFault::Reset { .. })) => match closer.close(true).await {},
        Some((_, ResponseFault::NoResponse { hold: false })) => match closer.close(false).await {},
        // Pending until the caller disconnects or the simulator stops.
        Some((_, ResponseFault::NoResponse { hold: true })) => std::future::pending().await,
        Some((_, ResponseFault::Truncate { bytes })) => {
            let truncated = ResponseBody::truncated(&response.body, bytes);
            response.into_http(engine.now_ms()).map(|_| truncated)
        }
        Some((_, ResponseFault::Substitute { .. })) | None => response.into_http(engine.now_ms()),
    }
}

/// Whether a request is for the simulator's page or its control interface, and not for the API.
fn is_own_interface(method: &Method, path: &str) -> bool {
    path.starts_with("/_sim/")
        || path == "/_sim"
        || (path == "/" && (*method == Method::GET || *method == Method::HEAD))
}

async fn own_interface(engine: &Arc<Engine>, parts: &Parts, body: Incoming) -> HttpResponse {
    let (method, path) = (&parts.method, parts.uri.path());
    let allowed = &engine.config.allowed_hosts;
    if let Err(error) = guard::check(method, &parts.uri, &parts.headers, allowed) {
        return ApiResponse::error(Format::Json, &error).into_http(engine.now_ms());
    }
    if path == control::STREAM && *method == Method::GET {
        return control::stream(engine);
    }
    if let Some(response) = page::serve(method, path) {
        return response.into_http(engine.now_ms());
    }
    let response = match read_body(engine, body).await {
        Ok(body) => {
            let query = Query::parse(parts.uri.query().unwrap_or_default());
            control::handle(engine, method, path, &parts.headers, &query, &body).await
        }
        Err(error) => ApiResponse::error(Format::Json, &error),
    };
    response.into_http(engine.now_ms())
}

async fn read_body(engine: &Engine, body: Incoming) -> Result<Bytes, ApiError> {
    let max_bytes = engine.config.bounds.body_bytes;
    match Limited::new(body, max_bytes).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(max_bytes)),
        Err(_) => Err(ApiError::bad_request()),
    }
}

async fn delay(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// The query without user name and password.
fn without_credentials(query: &str) -> String {
    if !query.contains("password") && !query.contains("username") {
        return query.to_owned();
    }
    let remaining = query
        .split('&')
        .filter(|pair| !pair.starts_with("password") && !pair.starts_with("username"));
    remaining.collect::<Vec<_>>().join("&")
}
