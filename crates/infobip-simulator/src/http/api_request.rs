//! A request to the API: parses its body and calls its endpoint.
//!
//! Neighbours: `http` reads the request and applies faults, `endpoint` maps paths.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, header::HeaderMap};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    account,
    api_response::ApiResponse,
    bulks, conversion,
    endpoint::Endpoint,
    format::{self, Format},
    inbox, logs, lookup, preview,
    query::Query,
    reports, send, short_url,
};
use crate::{engine::Engine, envelope::ApiError, faults::SendFaults, xml};

/// A request, read and parsed as far as all endpoints need it.
#[derive(Debug)]
pub struct ApiRequest<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: Query,
    pub(super) body: Bytes,
    pub(super) format: Format,
    pub(super) send_faults: SendFaults,
}

impl ApiRequest<'_> {
    /// Parses the body as the type that the endpoint expects.
    pub(super) fn parse_body<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let value = match format::body_format(self.headers)? {
            // serde accepts a JSON array as the fields of a struct in order: refuse it.
            Format::Json if self.body.trim_ascii_start().first() != Some(&b'{') => {
                return Err(ApiError::invalid("body", "must be a JSON object"));
            }
            Format::Json => match serde_json::from_slice(&self.body) {
                Ok(read) => return Ok(read),
                // Parse again, in the slower way that reports the path of the field.
                Err(_) => serde_json::from_slice(&self.body)
                    .map_err(|error| ApiError::invalid("body", format!("is not JSON: {error}")))?,
            },
            Format::Xml => xml::to_json(&self.body)
                .map_err(|error| ApiError::invalid("body", format!("is not XML: {error}")))?,
        };
        serde_path_to_error::deserialize::<Value, T>(value).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { "body".to_owned() } else { path };
            ApiError::invalid(field, error.into_inner().to_string())
        })
    }

    /// A response with status 200 in the format of the request.
    pub(super) fn respond(&self, root: &str, value: &impl Serialize) -> ApiResponse {
        ApiResponse::encode(self.format, root, value)
    }

    /// Authenticates the request and carries it out.
    pub(super) async fn dispatch(
        &self,
        path: &str,
        method: &Method,
    ) -> Result<ApiResponse, ApiError> {
        let endpoint = Endpoint::for_path(path).ok_or_else(|| ApiError::not_found("Not found"))?;
        if !endpoint.allows(method) {
            return Err(ApiError::method_not_allowed());
        }
        if !endpoint.skips_header_authentication() {
            account::authenticate(self)?;
        }
        let put = *method == Method::PUT;
        match endpoint {
            Endpoint::Send { variant, binary } => send::send(self, variant, binary).await,
            Endpoint::SendQuery => send::query(self).await,
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
