//! `POST /sms/1/preview`: parts and remaining characters of a text (official documentation).

use serde_json::{Value, json};

use crate::{
    envelope::ApiError,
    http::{ApiRequest, ApiResponse},
    request::PreviewRequest,
    text::{self, TextOptions},
    validate,
};

/// Previews the text unchanged, and with each requested language and transliteration.
pub fn preview(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let body: PreviewRequest = request.parse_body()?;
    let text = body.text.map(|text| text.0).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| ApiError::invalid("text", "must not be empty"))?;
    let (language, transliteration) =
        validate::preview_options(body.language_code.as_ref(), body.transliteration.as_ref())?;
    let mut previews = vec![preview_with(&text, &TextOptions::default(), &json!({}))];
    if let Some(language) = language {
        let options = TextOptions {
            language: Some(language),
            ..TextOptions::default()
        };
        previews.push(preview_with(
            &text,
            &options,
            &json!({"language": {"languageCode": language.as_str()}}),
        ));
    }
    if let Some(transliteration) = transliteration {
        let options = TextOptions {
            transliteration: Some(transliteration),
            ..TextOptions::default()
        };
        previews.push(preview_with(
            &text,
            &options,
            &json!({"transliteration": transliteration.as_str()}),
        ));
    }
    Ok(request.respond(
        "PreviewResponse",
        &json!({"originalText": text, "previews": previews}),
    ))
}

fn preview_with(text: &str, options: &TextOptions, configuration: &Value) -> Value {
    let encoded = text::encode(text, options);
    json!({
        "textPreview": encoded.text,
        "messageCount": encoded.parts,
        "charactersRemaining": encoded.characters_remaining,
        "configuration": configuration,
    })
}
