//! `/sms/1/text/*`, `/sms/1/binary/*` and `/sms/1/text/query`: manual "SEND SMS", "FULLY FEATURED TEXTUAL MESSAGE",
//! "SMS to multiple destinations".

use std::sync::Arc;

use crate::{
    envelope::ApiError,
    http::{ApiRequest, ApiResponse, account},
    render,
    request::{
        AdvancedRequest, DestinationRequest, LanguageRequest, LenientBool, LenientInteger,
        LenientString, MessageRequest, OneOrMany, TrackingRequest,
    },
    submission::Submission,
    validate,
};

/// The three forms of a send request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendVariant {
    /// One text to one or more destinations.
    Single,
    /// Several `Single` messages.
    Multi,
    /// Messages with all features.
    Advanced,
}

/// Sends the messages of a request body.
pub async fn send(
    request: &ApiRequest<'_>,
    variant: SendVariant,
    binary: bool,
) -> Result<ApiResponse, ApiError> {
    let (config, now_ms) = (&request.engine.config, request.engine.now_ms());
    let submission = match variant {
        SendVariant::Single => validate::single(request.parse_body()?, binary, now_ms, config)?,
        SendVariant::Multi => validate::multi(request.parse_body()?, binary, now_ms, config)?,
        SendVariant::Advanced => validate::advanced(
            request.parse_body::<AdvancedRequest>()?,
            binary,
            now_ms,
            config,
        )?,
    };
    submit(request, submission).await
}

/// Sends the message that the query parameters describe. They can carry user name and password, too.
pub async fn query(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    account::authenticate_query(request)?;
    let query = &request.query;
    let text = |name: &str| query.get(name).map(|value| LenientString(value.to_owned()));
    let mut invalid = None;
    let mut flag = |name: &str| {
        query
            .get(name)
            .and_then(|value| match value.to_ascii_lowercase().as_str() {
                "true" => Some(LenientBool(true)),
                "false" => Some(LenientBool(false)),
                _ => {
                    invalid = Some(ApiError::invalid(name, "must be true or false"));
                    None
                }
            })
    };
    let destinations = query
        .list("to")
        .into_iter()
        .map(|to| DestinationRequest {
            to: Some(LenientString(to.to_owned())),
            message_id: None,
        })
        .collect();
    let message = MessageRequest {
        from: text("from"),
        destinations: Some(OneOrMany(destinations)),
        text: text("text"),
        flash: flag("flash"),
        language: text("languageCode").map(|code| LanguageRequest {
            language_code: Some(code),
            single_shift: None,
            locking_shift: None,
        }),
        transliteration: text("transliteration"),
        intermediate_report: flag("intermediateReport"),
        notify_url: text("notifyUrl"),
        notify_content_type: text("notifyContentType"),
        callback_data: query.get("callbackData").map(Into::into),
        validity_period: query.number("validityPeriod")?.map(LenientInteger),
        send_at: text("sendAt"),
        ..MessageRequest::default()
    };
    if let Some(error) = invalid {
        return Err(error);
    }
    let tracking = TrackingRequest {
        track: text("track"),
        process_key: text("processKey"),
        kind: text("trackingType"),
        base_url: None,
    };
    let bulk_id = query.get("bulkId").map(str::to_owned);
    let (config, now_ms) = (&request.engine.config, request.engine.now_ms());
    let submission = validate::send(
        bulk_id,
        vec![message],
        Some(tracking),
        &|_| String::new(),
        false,
        now_ms,
        config,
    )?;
    submit(request, submission).await
}

async fn submit(request: &ApiRequest<'_>, submission: Submission) -> Result<ApiResponse, ApiError> {
    let (result, early_pushes) = {
        let mut state = request.engine.lock();
        let result = state.submit(submission, request.send_faults, &request.engine.config);
        let mut early_pushes = None;
        if request.send_faults.early_push {
            let now_ms = state.clock.now_ms();
            state.fire_and_flush_now(now_ms, &request.engine.config);
            early_pushes = Some(state.take_due_pushes());
        }
        request.engine.release(state);
        (result, early_pushes)
    };
    if let Some(early_pushes) = early_pushes {
        request.engine.send_pushes(early_pushes).await;
    }
    let mut response = request.respond("smsResponse", &render::send_response(&result));
    response.message_ids = result
        .results
        .into_iter()
        .filter_map(|destination| destination.message_id)
        .collect();
    Ok(response)
}

/// The message ids in a JSON body of the `advanced` endpoints; empty if it cannot be parsed.
pub fn message_ids_in(body: &[u8]) -> Vec<Arc<str>> {
    #[derive(serde::Deserialize)]
    struct SendIds {
        messages: Vec<MessageIds>,
    }
    #[derive(serde::Deserialize)]
    struct MessageIds {
        destinations: Vec<DestinationId>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct DestinationId {
        message_id: Option<String>,
    }
    let Ok(body) = serde_json::from_slice::<SendIds>(body) else {
        return Vec::new();
    };
    let destinations = body
        .messages
        .into_iter()
        .flat_map(|message| message.destinations);
    destinations
        .filter_map(|destination| destination.message_id.map(Arc::from))
        .collect()
}
