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
const SCRIPT: &str = "text/javascript;charset=UTF-8";

/// The files of `page/` beside `index.html`: name, content type, content.
const ASSETS: &[(&str, &str, &[u8])] = &[
    ("page.css", CSS, include_bytes!("../../page/page.css")),
    ("page.js", SCRIPT, include_bytes!("../../page/page.js")),
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
