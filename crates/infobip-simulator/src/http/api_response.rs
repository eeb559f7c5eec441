//! A response of the API: encodes values and errors in a format, and becomes an HTTP response.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    Response, StatusCode,
    header::{CONTENT_TYPE, DATE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use serde_json::Value;

use super::format::Format;
use crate::{
    dates,
    engine::Engine,
    envelope::ApiError,
    server::{HttpResponse, ResponseBody},
    xml,
};

const RESPONSE_SERIALIZES: &str = "response bodies have only string keys and no failing serializer";

/// A response, before it becomes HTTP.
#[derive(Debug)]
pub struct ApiResponse {
    pub(super) status: StatusCode,
    pub(super) content_type: HeaderValue,
    pub(super) body: Bytes,
    pub(super) location: Option<HeaderValue>,
    pub(super) retry_after_seconds: Option<u64>,
    /// Ids of the messages of the request, for the request log.
    pub(super) message_ids: Vec<Arc<str>>,
}

impl ApiResponse {
    /// A response with status 200. `root` is the name of the XML root element.
    pub(super) fn encode(format: Format, root: &str, value: &impl Serialize) -> Self {
        let (content_type, body) = match format {
            Format::Json => (
                "application/json;charset=UTF-8",
                serde_json::to_vec(value).expect(RESPONSE_SERIALIZES),
            ),
            Format::Xml => {
                let value = serde_json::to_value(value).expect(RESPONSE_SERIALIZES);
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

    pub(super) fn error(format: Format, error: &ApiError) -> Self {
        let response = match format {
            Format::Json => Self::encode(format, "", &error.envelope()),
            Format::Xml => Self::encode(format, "ApiException", &with_xml_field_names(error)),
        };
        Self {
            status: error.status,
            retry_after_seconds: error.retry_after_seconds,
            ..response
        }
    }

    pub(super) fn redirect(location: HeaderValue) -> Self {
        Self {
            status: StatusCode::FOUND,
            content_type: HeaderValue::from_static("text/plain;charset=UTF-8"),
            body: Bytes::new(),
            location: Some(location),
            retry_after_seconds: None,
            message_ids: Vec::new(),
        }
    }

    /// The response of a fault: a status with the API's error envelope, or with a body of another content type.
    pub(super) fn substitute(
        engine: &Engine,
        format: Format,
        status: u16,
        body: Option<&(String, String)>,
    ) -> Self {
        let status =
            StatusCode::from_u16(status).expect("the status of a fault is from 200 to 599");
        let mut error = ApiError::of_status(status);
        if status == StatusCode::TOO_MANY_REQUESTS && engine.config.retry_after {
            error.retry_after_seconds = Some(1);
        }
        let mut response = Self::error(format, &error);
        if let Some((content_type, text)) = body {
            response.content_type = HeaderValue::from_str(content_type)
                .expect("the content type of a fault was checked when it was added");
            response.body = text.clone().into();
        }
        response
    }

    pub(super) fn into_http(self, now_ms: i64) -> HttpResponse {
        let mut response = Response::new(ResponseBody::complete(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type);
        // Virtual time, like every time in the simulator's responses.
        let date = HeaderValue::from_str(&dates::http_date(now_ms)).expect("an HTTP date is ASCII");
        headers.insert(DATE, date);
        if let Some(location) = self.location {
            headers.insert(LOCATION, location);
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"Infobip\""),
            );
        }
        response
    }
}

/// The error envelope with field paths that are XML names: `messages[0].text` becomes `messages.0.text`.
fn with_xml_field_names(error: &ApiError) -> Value {
    let mut value = serde_json::to_value(error.envelope()).expect(RESPONSE_SERIALIZES);
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
