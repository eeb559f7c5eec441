//! What an error of serde_json says about a document, without its own words, which may quote the content.

/// Kind and position of the mistake.
#[must_use]
pub fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the JSON is truncated",
        serde_json::error::Category::Data => "the JSON does not have the expected structure",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
            "the JSON is malformed"
        }
    };
    format!("{what}, line {} column {}", error.line(), error.column())
}
