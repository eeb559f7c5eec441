//! `/sms/1/text/*`, `/sms/1/binary/*` and `/sms/1/text/query`: manual "SEND SMS", "FULLY FEATURED TEXTUAL MESSAGE",
//! "SMS to multiple destinations".

use std::sync::Arc;

use crate::{
    draft::SendDraft,
    envelope::ApiError,
    http::{Call, Reply, account},
    render,
    request::{
        AdvancedRequest, DestinationRequest, Flag, Integer, LanguageRequest, MessageRequest,
        OneOrMany, Scalar, TrackingRequest,
    },
    validate,
};

/// The three forms of a send request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One text to one or more destinations.
    Single,
    /// Several `Single` messages.
    Multi,
    /// Messages with all features.
    Advanced,
}

/// Sends the messages of a request body.
pub async fn send(call: &Call<'_>, shape: Shape, binary: bool) -> Result<Reply, ApiError> {
    let (config, now_ms) = (&call.engine.config, call.engine.now_ms());
    let draft = match shape {
        Shape::Single => validate::single(call.read()?, binary, now_ms, config)?,
        Shape::Multi => validate::multi(call.read()?, binary, now_ms, config)?,
        Shape::Advanced => {
            validate::advanced(call.read::<AdvancedRequest>()?, binary, now_ms, config)?
        }
    };
    submit(call, draft).await
}

/// Sends the message given by query parameters, which also carry user name and password.
pub async fn query(call: &Call<'_>) -> Result<Reply, ApiError> {
    account::authenticate_query(call)?;
    let query = &call.query;
    let text = |name: &str| query.get(name).map(|value| Scalar(value.to_owned()));
    let mut wrong = None;
    let mut flag = |name: &str| {
        query
            .get(name)
            .and_then(|value| match value.to_ascii_lowercase().as_str() {
                "true" => Some(Flag(true)),
                "false" => Some(Flag(false)),
                _ => {
                    wrong = Some(ApiError::invalid(name, "must be true or false"));
                    None
                }
            })
    };
    let destinations = query
        .list("to")
        .into_iter()
        .map(|to| DestinationRequest {
            to: Some(Scalar(to.to_owned())),
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
        validity_period: query.number("validityPeriod")?.map(Integer),
        send_at: text("sendAt"),
        ..MessageRequest::default()
    };
    if let Some(error) = wrong {
        return Err(error);
    }
    let tracking = TrackingRequest {
        track: text("track"),
        process_key: text("processKey"),
        kind: text("trackingType"),
        base_url: None,
    };
    let bulk_id = query.get("bulkId").map(str::to_owned);
    let (config, now_ms) = (&call.engine.config, call.engine.now_ms());
    let draft = validate::send(
        bulk_id,
        vec![message],
        Some(tracking),
        &|_| String::new(),
        false,
        now_ms,
        config,
    )?;
    submit(call, draft).await
}

async fn submit(call: &Call<'_>, draft: SendDraft) -> Result<Reply, ApiError> {
    let (submitted, early) = {
        let mut state = call.engine.lock();
        let submitted = state.submit(draft, call.twist, &call.engine.config);
        let mut early = None;
        if call.twist.early_push {
            let now_ms = state.clock.now_ms();
            state.hasten(now_ms, &call.engine.config);
            early = Some((std::mem::take(&mut state.ready), state.generation));
        }
        call.engine.release(state);
        (submitted, early)
    };
    if let Some(early) = early {
        call.engine.carry_out(early).await;
    }
    let mut reply = call.answer("smsResponse", &render::send_response(&submitted));
    reply.message_ids = submitted
        .results
        .into_iter()
        .filter_map(|result| result.message_id)
        .collect();
    Ok(reply)
}

/// The message ids that a body of the advanced endpoints names; empty if it cannot be parsed.
pub fn ids_asked_for(body: &[u8]) -> Vec<Arc<str>> {
    #[derive(serde::Deserialize)]
    struct Body {
        messages: Vec<Message>,
    }
    #[derive(serde::Deserialize)]
    struct Message {
        destinations: Vec<Destination>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Destination {
        message_id: Option<String>,
    }
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
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
