//! Serializes one message of a send (docs/INFOBIP_API.md#sending).
//!
//! Invariants: borrows from the contract's message and copies no text; omits unset fields, so that the API's defaults apply.
//! Neighbour: [`super`] writes the batch around it.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{OutboundRow, WireDestination};
use crate::{
    infobip::{limits::MAX_VALIDITY_MINUTES, wire::timestamp::WireTimestamp},
    message::time,
    proto::v1::{self, outbound_message::Content},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireMessage<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    from: &'a str,
    destinations: &'a [WireDestination<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<WireBinary<'a>>,
    #[serde(skip_serializing_if = "is_false")]
    flash: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<WireLanguage<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    transliteration: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    intermediate_report: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify: Option<bool>,
    #[serde(skip_serializing_if = "str::is_empty")]
    notify_url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    notify_content_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    callback_data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    validity_period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_at: Option<WireTimestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_time_window: Option<WireWindow<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    campaign_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    operator_client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    regional: Option<WireRegional<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireBinary<'a> {
    hex: SpacedHex<'a>,
    data_coding: i32,
    esm_class: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireLanguage<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    language_code: &'a str,
    single_shift: bool,
    locking_shift: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireWindow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<WireTimeOfDay>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<WireTimeOfDay>,
    days: Days<'a>,
}

#[derive(Serialize)]
struct WireTimeOfDay {
    hour: i32,
    minute: i32,
}

struct Days<'a>(&'a [i32]);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireRegional<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    india_dlt: Option<WireIndiaDlt<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireIndiaDlt<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    content_template_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    principal_entity_id: &'a str,
}

/// Bytes as `54 65 73 74`.
struct SpacedHex<'a>(&'a [u8]);

impl<'a> WireMessage<'a> {
    pub(super) fn new(row: &'a OutboundRow<'a>) -> Self {
        // Without `..`: a new field of the contract does not compile until it is mapped or named here as unmapped.
        let v1::OutboundMessage {
            from,
            destinations: _, // `row.destinations`
            content,
            flash,
            language,
            transliteration,
            intermediate_report,
            notify,
            notify_url,
            notify_content_type,
            callback_data,
            validity_period,
            send_at,
            delivery_time_window,
            campaign_id,
            operator_client_id,
            regional,
            priority: _,   // of the bridge's own queue
            expires_at: _, // the bridge does not send after it
        } = row.message;
        let (text, binary) = match content {
            Some(Content::Text(text)) => (Some(text.as_str()), None),
            Some(Content::Binary(binary)) => (None, Some(WireBinary::new(binary))),
            None => (None, None),
        };
        Self {
            from,
            destinations: row.destinations,
            text,
            binary,
            flash: *flash,
            language: language.as_deref().map(WireLanguage::new),
            transliteration,
            intermediate_report: *intermediate_report,
            notify: *notify,
            notify_url,
            notify_content_type,
            callback_data,
            validity_period: validity_period.as_ref().and_then(validity_minutes),
            send_at: send_at
                .as_ref()
                .and_then(time::from_proto)
                .map(WireTimestamp),
            delivery_time_window: delivery_time_window.as_deref().map(WireWindow::new),
            campaign_id,
            operator_client_id,
            regional: regional.as_deref().map(WireRegional::new),
        }
    }
}

impl<'a> WireBinary<'a> {
    fn new(binary: &'a v1::BinaryContent) -> Self {
        let v1::BinaryContent {
            data,
            data_coding,
            esm_class,
        } = binary;
        Self {
            hex: SpacedHex(data),
            data_coding: *data_coding,
            esm_class: *esm_class,
        }
    }
}

impl<'a> WireLanguage<'a> {
    fn new(language: &'a v1::Language) -> Self {
        let v1::Language {
            language_code,
            single_shift,
            locking_shift,
        } = language;
        Self {
            language_code,
            single_shift: *single_shift,
            locking_shift: *locking_shift,
        }
    }
}

impl<'a> WireWindow<'a> {
    fn new(window: &'a v1::DeliveryTimeWindow) -> Self {
        let v1::DeliveryTimeWindow { days, from, to } = window;
        Self {
            from: from.as_ref().map(WireTimeOfDay::new),
            to: to.as_ref().map(WireTimeOfDay::new),
            days: Days(days),
        }
    }
}

impl<'a> WireRegional<'a> {
    fn new(regional: &'a v1::Regional) -> Self {
        let v1::Regional { india_dlt } = regional;
        Self {
            india_dlt: india_dlt.as_ref().map(WireIndiaDlt::new),
        }
    }
}

impl<'a> WireIndiaDlt<'a> {
    fn new(dlt: &'a v1::IndiaDlt) -> Self {
        let v1::IndiaDlt {
            content_template_id,
            principal_entity_id,
        } = dlt;
        Self {
            content_template_id,
            principal_entity_id,
        }
    }
}

impl WireTimeOfDay {
    fn new(time: &v1::TimeOfDay) -> Self {
        Self {
            hour: time.hour,
            minute: time.minute,
        }
    }
}

/// Whole minutes, rounded up so that a message does not expire early; at least one, and at most what the API accepts.
fn validity_minutes(period: &pbjson_types::Duration) -> Option<u64> {
    let period = time::duration_from_proto(period)?;
    let seconds = period.as_secs() + u64::from(period.subsec_nanos() > 0);
    Some(seconds.div_ceil(60).clamp(1, MAX_VALIDITY_MINUTES))
}

impl Serialize for Days<'_> {
    /// Omits unknown days, which `send::validate` has refused.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = self.0.iter().filter_map(|day| {
            let day = v1::DayOfWeek::try_from(*day).ok()?;
            (day != v1::DayOfWeek::Unspecified)
                .then(|| day.as_str_name().trim_start_matches("DAY_OF_WEEK_"))
        });
        serializer.collect_seq(names)
    }
}

impl fmt::Display for SpacedHex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{byte:02x}")?;
        }
        Ok(())
    }
}

impl Serialize for SpacedHex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_rounded_up_to_minutes_and_capped() {
        let minutes = |seconds, nanos| validity_minutes(&pbjson_types::Duration { seconds, nanos });
        assert_eq!(minutes(60, 0), Some(1));
        assert_eq!(minutes(60, 1), Some(2));
        assert_eq!(minutes(1, 0), Some(1));
        assert_eq!(minutes(48 * 3600 + 1, 0), Some(2880));
        assert_eq!(minutes(i64::MAX, 999_999_999), Some(2880));
        assert_eq!(minutes(-1, 0), None);
    }
}
