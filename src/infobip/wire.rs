//! The API's bodies: what the client writes, and what a pull or a push brings.
//!
//! Reading is tolerant (docs/INFOBIP_API.md#tolerant-reading): any field can be missing or of another type,
//! unknown fields are ignored, and a row that cannot be read lands in [`Rows::bad`] while its neighbours are read. The
//! content type is a hint only: what a body begins with decides. JSON and XML go one way, since XML rows are turned into JSON
//! first. Every `read_*` is pure, never panics, and takes time linear in the body's size.

pub mod click;
pub mod inbound_push;
pub mod inbox;
pub mod log;
pub mod lookup;
pub(crate) mod other;
pub mod report;
pub(crate) mod rows;
pub(crate) mod scalar;
pub(crate) mod send;
pub(crate) mod send_response;
pub(crate) mod timestamp;

pub use self::{
    click::{ClickRow, read_clicks},
    inbound_push::{UnreadableQuery, received_from_query},
    inbox::{InboxRow, read_inbox},
    log::{LogRow, read_logs},
    lookup::{LookupRow, read_lookups},
    report::{ReportRow, read_reports},
    rows::{BadRow, Rows, UnreadableBody},
};
