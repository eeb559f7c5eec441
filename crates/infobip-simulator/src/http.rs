//! Handles HTTP requests: finds the endpoint and the format, authenticates, applies faults, writes the response.
//!
//! A request is matched against the faults, read completely (bounded), authenticated, executed under the state's lock
//! without waiting, recorded, and answered.
//!
//! Invariants: every endpoint of the vendor, errors included, answers in the requested format; no fault applies to
//! `/_sim/`, the simulator's own interface. Neighbours: `server` owns the connections, `engine` the state.

mod account;
mod bulks;
mod control;
mod conversion;
mod endpoint;
mod format;
mod inbox;
mod logs;
mod lookup;
mod preview;
mod query;
mod reports;
mod send;
mod short_url;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use self::endpoint::Endpoint;
use crate::{
    acceptance::Twist,
    dates::{self, ApiDate},
    engine::Engine,
    envelope::ApiError,
    faults::Ending,
    requests::Recorded,
    server::{Answer, Breaker, HttpResponse},
    xml,
};

pub use format::Format;
pub use query::Query;

/// A request, read and parsed as far as all endpoints need it.
#[derive(Debug)]
pub struct Call<'a> {
    engine: &'a Arc<Engine>,
    headers: &'a HeaderMap,
    query: Query,
    body: Bytes,
    format: Format,
    twist: Twist,
}

/// The response of an endpoint, before it becomes HTTP.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    content_type: HeaderValue,
    body: Bytes,
    location: Option<HeaderValue>,
    retry_after_seconds: Option<u64>,
    /// Recorded with the request in the ledger of requests.
    message_ids: Vec<Arc<str>>,
}

impl Reply {
    fn of(format: Format, root: &str, value: &impl Serialize) -> Self {
        let (content_type, body) = match format {
            Format::Json => (
                "application/json;charset=UTF-8",
                serde_json::to_vec(value).unwrap_or_default(),
            ),
            Format::Xml => {
                let value = serde_json::to_value(value).unwrap_or_default();
                (
                    "application/xml;charset=UTF-8",
                    xml::from_json(root, &value).into_bytes(),
                )
            }
        };
        Self {
            status: StatusCode::OK,
            content_type: HeaderValue::from_static(content_type),
            body: body.into(),
            location: None,
            retry_after_seconds: None,
            message_ids: Vec::new(),
        }
    }

    fn error(format: Format, error: &ApiError) -> Self {
        let reply = match format {
            Format::Json => Self::of(format, "", &error.envelope()),
            Format::Xml => Self::of(format, "ApiException", &xml_names(error)),
        };
        Self {
            status: error.status,
            retry_after_seconds: error.retry_after_seconds,
            ..reply
        }
    }

    fn redirect(location: HeaderValue) -> Self {
        Self {
            status: StatusCode::FOUND,
            content_type: HeaderValue::from_static("text/plain;charset=UTF-8"),
            body: Bytes::new(),
            location: Some(location),
            retry_after_seconds: None,
            message_ids: Vec::new(),
        }
    }
}

/// Renames field paths for XML: `messages[0].text` is not a valid XML name and becomes `messages.0.text`.
fn xml_names(error: &ApiError) -> Value {
    let mut value = serde_json::to_value(error.envelope()).unwrap_or_default();
    if let Some(Value::Object(errors)) =
        value.pointer_mut("/requestError/serviceException/validationErrors")
    {
        *errors = std::mem::take(errors)
            .into_iter()
            .map(|(field, reasons)| (field.replace('[', ".").replace(']', ""), reasons))
            .collect();
    }
    value
}

impl Call<'_> {
    /// Parses the body as the type that the endpoint expects.
    fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let value = match format::content_type(self.headers)? {
            // serde would read a JSON array as the fields of the struct, in order.
            Format::Json if self.body.trim_ascii_start().first() != Some(&b'{') => {
                return Err(ApiError::invalid("body", "must be a JSON object"));
            }
            Format::Json => match serde_json::from_slice(&self.body) {
                Ok(read) => return Ok(read),
                // Parse again, by the slower way that reports the path of the field.
                Err(_) => serde_json::from_slice(&self.body)
                    .map_err(|error| ApiError::invalid("body", format!("is no JSON: {error}")))?,
            },
            Format::Xml => xml::to_json(&self.body)
                .map_err(|error| ApiError::invalid("body", format!("is no XML: {error}")))?,
        };
        serde_path_to_error::deserialize::<Value, T>(value).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { "body".to_owned() } else { path };
            ApiError::invalid(field, error.into_inner().to_string())
        })
    }

    fn answer(&self, root: &str, value: &impl Serialize) -> Reply {
        Reply::of(self.format, root, value)
    }

    async fn carry_out(&self, endpoint: Endpoint, method: &Method) -> Result<Reply, ApiError> {
        if !endpoint.allows(method) {
            return Err(ApiError::method_not_allowed());
        }
        if !endpoint.authenticates_itself() {
            account::authenticate(self)?;
        }
        let put = *method == Method::PUT;
        match endpoint {
            Endpoint::Send(shape, binary) => send::send(self, shape, binary).await,
            Endpoint::Query => send::query(self).await,
            Endpoint::Reports => reports::pull(self),
            Endpoint::Logs => logs::list(self),
            Endpoint::Inbox => inbox::pull(self),
            Endpoint::InboxLogs => inbox::list(self),
            Endpoint::Lookup => lookup::query(self),
            Endpoint::LookupNotify => lookup::notify(self),
            Endpoint::Bulks if put => bulks::reschedule(self),
            Endpoint::Bulks => bulks::show(self),
            Endpoint::BulkStatus if put => bulks::set_status(self),
            Endpoint::BulkStatus => bulks::status(self),
            Endpoint::Preview => preview::preview(self),
            Endpoint::Conversion(message_id) => conversion::confirm(self, &message_id),
            Endpoint::Balance => account::balance(self),
            Endpoint::OauthToken => account::oauth_token(self),
            Endpoint::Session => account::session(self),
            Endpoint::ShortUrl(path) => short_url::follow(self, &path),
        }
    }
}

/// Answers a request, or breaks its connection if a fault says so.
pub async fn handle(
    engine: &Arc<Engine>,
    breaker: &Breaker,
    request: Request<Incoming>,
) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let raw_query = parts.uri.query().unwrap_or_default();
    if parts.uri.path().starts_with("/_sim/") {
        let reply = match read_body(engine, body).await {
            Ok(body) => {
                control::handle(
                    engine,
                    &parts.method,
                    parts.uri.path(),
                    &Query::parse(raw_query),
                    &body,
                )
                .await
            }
            Err(error) => Reply::error(Format::Json, &error),
        };
        return respond(engine, reply);
    }
    let (path, suffix) = format::strip_suffix(parts.uri.path());
    let format = suffix.unwrap_or_else(|| format::asked_format(&parts.headers));
    let verdict = engine.faults.judge(&parts.method, path, engine.now_ms());
    pause(verdict.wait_before_ms).await;

    let answered = match &verdict.ending {
        // The request is not executed; the ledger of requests still names its message ids.
        Some((_, ending)) if !ending.processes() => match read_body(engine, body).await {
            Ok(body) => {
                let mut reply = Reply::error(format, &ApiError::general());
                reply.message_ids = send::ids_asked_for(&body);
                Ok(reply)
            }
            Err(error) => Err(error),
        },
        _ => match read_body(engine, body).await {
            Ok(body) => {
                let call = Call {
                    engine,
                    headers: &parts.headers,
                    query: Query::parse(raw_query),
                    body,
                    format,
                    twist: verdict.twist,
                };
                dispatch(&call, path, &parts.method).await
            }
            Err(error) => Err(error),
        },
    };
    let mut reply = answered.unwrap_or_else(|error| Reply::error(format, &error));
    if let Some((_, Ending::Answer { status, body, .. })) = &verdict.ending {
        reply = substitute(engine, format, *status, body.as_ref(), reply.message_ids);
    }
    let broken = matches!(
        verdict.ending,
        Some((_, Ending::Reset { .. } | Ending::Drop { .. }))
    );
    engine.record(Recorded {
        seq: 0,
        at: ApiDate(engine.now_ms()),
        status: (!broken).then(|| reply.status.as_u16()),
        path: path.into(),
        query: without_credentials(raw_query).into(),
        processed: verdict
            .ending
            .as_ref()
            .is_none_or(|(_, ending)| ending.processes()),
        fault: verdict.ending.as_ref().map(|(name, _)| *name),
        message_ids: std::mem::take(&mut reply.message_ids),
        method: parts.method,
    });

    pause(verdict.wait_after_ms).await;
    match verdict.ending {
        Some((_, Ending::Reset { .. })) => match breaker.break_connection(true).await {},
        Some((_, Ending::Drop { hold: false })) => match breaker.break_connection(false).await {},
        // Pending until the caller disconnects or the simulator stops.
        Some((_, Ending::Drop { hold: true })) => std::future::pending().await,
        Some((_, Ending::Truncate { bytes })) => {
            let truncated = Answer::truncated(&reply.body, bytes);
            respond(engine, reply).map(|_| truncated)
        }
        Some((_, Ending::Answer { .. })) | None => respond(engine, reply),
    }
}

async fn read_body(engine: &Engine, body: Incoming) -> Result<Bytes, ApiError> {
    let most = engine.config.bounds.body_bytes;
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(most)),
        Err(_) => Err(ApiError::bad_request()),
    }
}

async fn dispatch(call: &Call<'_>, path: &str, method: &Method) -> Result<Reply, ApiError> {
    let endpoint = Endpoint::of(path).ok_or_else(|| ApiError::not_found("Not found"))?;
    call.carry_out(endpoint, method).await
}

fn substitute(
    engine: &Engine,
    format: Format,
    status: u16,
    body: Option<&(String, String)>,
    message_ids: Vec<Arc<str>>,
) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut error = ApiError::of_status(status);
    if status == StatusCode::TOO_MANY_REQUESTS && engine.config.retry_after {
        error.retry_after_seconds = Some(1);
    }
    let mut reply = Reply::error(format, &error);
    if let Some((content_type, text)) = body {
        reply.content_type =
            HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("text/plain"));
        reply.body = text.clone().into();
    }
    Reply {
        message_ids,
        ..reply
    }
}

fn respond(engine: &Engine, reply: Reply) -> HttpResponse {
    let mut response = Response::new(Answer::whole(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, reply.content_type);
    // Virtual time, like every time in the simulator's responses.
    if let Ok(date) = HeaderValue::from_str(&dates::http_date(engine.now_ms())) {
        headers.insert(DATE, date);
    }
    if let Some(location) = reply.location {
        headers.insert(LOCATION, location);
    }
    if let Some(seconds) = reply.retry_after_seconds {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if reply.status == StatusCode::UNAUTHORIZED {
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"Infobip\""),
        );
    }
    response
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn without_credentials(query: &str) -> String {
    if !query.contains("password") && !query.contains("username") {
        return query.to_owned();
    }
    let kept = query
        .split('&')
        .filter(|pair| !pair.starts_with("password") && !pair.starts_with("username"));
    kept.collect::<Vec<_>>().join("&")
}
