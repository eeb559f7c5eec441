//! The filters of the reading operations and their query strings.

use crate::{infobip::wire::timestamp::WireTimestamp, message::codes, proto::v1};

/// Filters of the logs of sent messages. An empty filter matches everything.
#[derive(Clone, Default)]
pub struct LogsQuery {
    /// API: `from`.
    pub from: Option<String>,
    /// API: `to`.
    pub to: Option<String>,
    /// API: `bulkId`, wire ids.
    pub bulk_ids: Vec<String>,
    /// API: `messageId`, wire ids, at most `limits::MAX_ID_FILTER_CHARACTERS` when joined.
    pub message_ids: Vec<String>,
    /// API: `generalStatus`.
    pub general_status: Option<v1::StatusGroup>,
    /// API: `sentSince`, inclusive.
    pub sent_since: Option<jiff::Timestamp>,
    /// API: `sentUntil`, inclusive.
    pub sent_until: Option<jiff::Timestamp>,
    /// API: `limit`, at most `limits::MAX_ROWS`.
    pub limit: Option<u32>,
    /// API: `mcc`.
    pub mcc: Option<String>,
    /// API: `mnc`.
    pub mnc: Option<String>,
}

impl LogsQuery {
    pub(super) fn pairs(&self) -> Pairs {
        let mut pairs = Pairs::default();
        pairs.text("from", self.from.as_deref());
        pairs.text("to", self.to.as_deref());
        pairs.list("bulkId", &self.bulk_ids);
        pairs.list("messageId", &self.message_ids);
        let group = self
            .general_status
            .and_then(|group| codes::status_groups().iter().find(|row| row.group == group));
        pairs.text("generalStatus", group.map(|row| row.name));
        pairs.timestamp("sentSince", self.sent_since);
        pairs.timestamp("sentUntil", self.sent_until);
        pairs.number("limit", self.limit);
        pairs.text("mcc", self.mcc.as_deref());
        pairs.text("mnc", self.mnc.as_deref());
        pairs
    }
}

/// Filters of the unread reports, which can be read only once.
#[derive(Clone, Default)]
pub struct ReportsQuery {
    /// API: `bulkId`, a wire id.
    pub bulk_id: Option<String>,
    /// API: `messageId`, a wire id.
    pub message_id: Option<String>,
    /// API: `limit`, at most `limits::MAX_ROWS`.
    pub limit: Option<u32>,
}

impl ReportsQuery {
    pub(super) fn pairs(&self) -> Pairs {
        let mut pairs = Pairs::default();
        pairs.text("bulkId", self.bulk_id.as_deref());
        pairs.text("messageId", self.message_id.as_deref());
        pairs.number("limit", self.limit);
        pairs
    }
}

/// Filters of the log of received messages. An empty filter matches everything.
#[derive(Clone, Default)]
pub struct InboxLogsQuery {
    /// API: `to`, the receiving number.
    pub to: Option<String>,
    /// API: `receivedSince`, inclusive.
    pub received_since: Option<jiff::Timestamp>,
    /// API: `receivedUntil`, inclusive.
    pub received_until: Option<jiff::Timestamp>,
    /// API: `limit`, at most `limits::MAX_ROWS`.
    pub limit: Option<u32>,
    /// API: `keyword`; `NO_KEYWORD` finds messages without one.
    pub keyword: Option<String>,
}

impl InboxLogsQuery {
    pub(super) fn pairs(&self) -> Pairs {
        let mut pairs = Pairs::default();
        pairs.text("to", self.to.as_deref());
        pairs.timestamp("receivedSince", self.received_since);
        pairs.timestamp("receivedUntil", self.received_until);
        pairs.number("limit", self.limit);
        pairs.text("keyword", self.keyword.as_deref());
        pairs
    }
}

/// The parameters of a query string.
#[derive(Default)]
pub(super) struct Pairs(pub(super) Vec<(&'static str, String)>);

impl Pairs {
    pub(super) fn text(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.push((name, value.to_owned()));
        }
    }

    /// Joined with commas.
    pub(super) fn list(&mut self, name: &'static str, values: &[String]) {
        if !values.is_empty() {
            self.0.push((name, values.join(",")));
        }
    }

    pub(super) fn timestamp(&mut self, name: &'static str, value: Option<jiff::Timestamp>) {
        if let Some(value) = value {
            self.0.push((name, WireTimestamp(value).to_string()));
        }
    }

    pub(super) fn number(&mut self, name: &'static str, value: Option<u32>) {
        if let Some(value) = value {
            self.0.push((name, value.to_string()));
        }
    }
}
