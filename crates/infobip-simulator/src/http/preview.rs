//! `POST /sms/1/preview`: parts and remaining characters of a text (official documentation).

use serde_json::{Value, json};

use crate::{
    envelope::ApiError,
    http::{Call, Reply},
    request::PreviewRequest,
    text::{self, TextOptions},
    validate,
};

/// Previews the text unchanged, and with each requested language and transliteration.
pub fn preview(call: &Call<'_>) -> Result<Reply, ApiError> {
    let request: PreviewRequest = call.read()?;
    let text = request
        .text
        .map(|text| text.0)
        .filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| ApiError::invalid("text", "must not be empty"))?;
    let (language, transliteration) = validate::preview_options(
        request.language_code.as_ref(),
        request.transliteration.as_ref(),
    )?;
    let mut previews = vec![one(&text, &TextOptions::default(), &json!({}))];
    if let Some(language) = language {
        let options = TextOptions {
            language: Some(language),
            ..TextOptions::default()
        };
        previews.push(one(
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
        previews.push(one(
            &text,
            &options,
            &json!({"transliteration": transliteration.as_str()}),
        ));
    }
    Ok(call.answer(
        "PreviewResponse",
        &json!({"originalText": text, "previews": previews}),
    ))
}

fn one(text: &str, options: &TextOptions, configuration: &Value) -> Value {
    let encoded = text::encode(text, options);
    json!({
        "textPreview": encoded.text,
        "messageCount": encoded.parts,
        "charactersRemaining": encoded.characters_remaining,
        "configuration": configuration,
    })
}
