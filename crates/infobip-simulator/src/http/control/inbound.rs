//! `/_sim/inbound` and `/_sim/keywords`: messages that phones send, and keywords of the receiving numbers.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{json_response, parse};
use crate::{
    config::Keyword,
    engine::Engine,
    envelope::ApiError,
    http::ApiResponse,
    state::{MoContent, MoMessage},
};

/// Receives a message as if a phone had sent it.
pub(super) fn receive(engine: &Arc<Engine>, body: &Bytes) -> Result<ApiResponse, ApiError> {
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
    let request: InboundRequest = parse(body)?;
    let content = match (request.text, request.hex) {
        (Some(text), None) => MoContent::Text(text),
        (None, Some(hex)) => {
            let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
            let octets =
                hex::decode(digits).map_err(|error| ApiError::invalid("hex", error.to_string()))?;
            MoContent::Octets(octets, request.data_coding)
        }
        _ => return Err(ApiError::invalid("text", "give either text or hex")),
    };
    let message = MoMessage {
        from: request.from,
        to: request.to,
        content,
        esm_class: request.esm_class,
    };
    let mut state = engine.lock();
    let now_ms = state.clock.now_ms();
    let id = state.receive(message, now_ms);
    engine.release(state);
    Ok(json_response(&json!({"messageId": &*id})))
}

pub(super) fn keywords(engine: &Arc<Engine>) -> ApiResponse {
    let state = engine.lock();
    let all: Vec<_> = state
        .inbox
        .keywords
        .iter()
        .map(|keyword| json!({"to": keyword.to, "keyword": keyword.word}))
        .collect();
    json_response(&json!({"keywords": all}))
}

/// Adds a keyword of a number.
pub(super) fn add_keyword(engine: &Arc<Engine>, body: &Bytes) -> Result<ApiResponse, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct KeywordRequest {
        to: String,
        keyword: String,
    }
    let request: KeywordRequest = parse(body)?;
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
