//! The bodies of the API: serializes requests and parses the rows of responses and pushes.
//!
//! Parsing is tolerant (docs/INFOBIP_API.md#tolerant-reading): any field may be absent or of another type, unknown fields are
//! ignored, and a row that cannot be read is returned in [`Rows::bad`] while the others are read. The first character of a
//! body decides between JSON and XML, because the content type is sometimes wrong; XML rows are converted to JSON first.
//!
//! Invariant: every `read_*` is a pure function that never panics and takes time linear in the size of the body.

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
    inbound_push::{UnreadableQuery, received_from_query, received_from_query_of},
    inbox::{InboxRow, read_inbox, read_inbox_of},
    log::{LogRow, read_logs},
    lookup::{LookupRow, read_lookups},
    report::{ReportRow, read_reports},
    rows::{BadRow, Rows, UnreadableBody},
};
