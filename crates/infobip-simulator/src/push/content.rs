//! The content of a push.
//!
//! Neighbours: `lifecycle` collects delivery reports, `push::request` serializes the content.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    state::{Click, ReceivedMessage},
    store::RowId,
    submission::NotifyTarget,
};

/// A delivery report: the status of a message at `done_at_ms`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryReport {
    pub(crate) row: RowId,
    pub(crate) status: u16,
    pub(crate) error: u16,
    pub(crate) done_at_ms: i64,
    /// False: a report of a temporary error.
    pub(crate) is_final: bool,
}

/// Reports for one URL that wait to be pushed together.
#[derive(Debug, Default)]
pub(crate) struct ReportBatch {
    pub(crate) reports: Vec<DeliveryReport>,
}

/// The content of a push and its destination.
#[derive(Debug)]
pub(crate) enum PushContent {
    Reports {
        notify: NotifyTarget,
        reports: Vec<DeliveryReport>,
    },
    /// A received message by GET.
    InboundGet {
        template: String,
        received: Box<ReceivedMessage>,
    },
    /// A received message by POST.
    InboundPost {
        url: String,
        received: Box<ReceivedMessage>,
    },
    Click {
        url: String,
        click: Arc<Click>,
    },
    /// The results of an asynchronous look-up.
    Lookups {
        notify: NotifyTarget,
        body: Box<Value>,
    },
}
