//! The simulator's page: its files are embedded in the binary, and served under `/_sim/`.
//!
//! Invariants: every file of the page is in [`ASSETS`], and nothing else is served; the page loads nothing from another server.
//! Neighbours: `http::guard` decides who may read it, `http::control` has the data that it shows.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};

use super::ApiResponse;
use crate::envelope::ApiError;

/// The address of the page.
pub(super) const PAGE: &str = "/_sim/";
const ASSET_FOLDER: &str = "/_sim/assets/";
const INDEX: &[u8] = include_bytes!("../../page/index.html");
const HTML: &str = "text/html;charset=UTF-8";
const CSS: &str = "text/css;charset=UTF-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript;charset=UTF-8";

/// A row of [`ASSETS`]: name, content type, content.
macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        (
            $name,
            $content_type,
            include_bytes!(concat!("../../page/", $name)),
        )
    };
}

/// The files of `page/` beside `index.html`.
const ASSETS: &[(&str, &str, &[u8])] = &[
    asset!("account.js", SCRIPT),
    asset!("announce.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("base.css", CSS),
    asset!("bubble.js", SCRIPT),
    asset!("clock-card.js", SCRIPT),
    asset!("composer.js", SCRIPT),
    asset!("connect-lines.js", SCRIPT),
    asset!("controls.js", SCRIPT),
    asset!("conversation.js", SCRIPT),
    asset!("copy.js", SCRIPT),
    asset!("dialogs.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("faults-card.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("frame.css", CSS),
    asset!("icon.svg", SVG),
    asset!("live.js", SCRIPT),
    asset!("main.js", SCRIPT),
    asset!("outcomes-card.js", SCRIPT),
    asset!("panels.css", CSS),
    asset!("phone-list.js", SCRIPT),
    asset!("phones.css", CSS),
    asset!("phones.js", SCRIPT),
    asset!("plain-text.js", SCRIPT),
    asset!("request-list.js", SCRIPT),
    asset!("route.js", SCRIPT),
    asset!("story-parts.js", SCRIPT),
    asset!("story.js", SCRIPT),
    asset!("timeline.js", SCRIPT),
    asset!("windowed-list.js", SCRIPT),
];

/// The page, one of its files, or a redirect to the page; `None` if the path is none of them.
pub(super) fn serve(method: &Method, path: &str) -> Option<ApiResponse> {
    let readable = *method == Method::GET || *method == Method::HEAD;
    let response = match path {
        "/" | "/_sim" => ApiResponse::redirect(HeaderValue::from_static(PAGE)),
        PAGE => file(HTML, INDEX),
        _ => {
            let name = path.strip_prefix(ASSET_FOLDER)?;
            let (_, content_type, content) = ASSETS.iter().find(|(asset, ..)| *asset == name)?;
            file(content_type, content)
        }
    };
    Some(if readable {
        response
    } else {
        ApiResponse::error(super::Format::Json, &ApiError::method_not_allowed())
    })
}

fn file(content_type: &'static str, content: &'static [u8]) -> ApiResponse {
    ApiResponse {
        status: StatusCode::OK,
        content_type: HeaderValue::from_static(content_type),
        body: Bytes::from_static(content),
        location: None,
        retry_after_seconds: None,
        message_ids: Vec::new(),
    }
}
