//! One message of a send's request, as the API takes it (manual, "Fully featured textual message").
//!
//! Invariants: borrowed from the contract's message, no text of it is copied; what the contract has not set is not written,
//! so that the API's defaults hold. Neighbours: [`super`] writes the batch around it, `infobip::wire::moment` its times.

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

/// Octets as `54 65 73 74`.
struct SpacedHex<'a>(&'a [u8]);

impl<'a> WireMessage<'a> {
    pub(super) fn new(row: &'a OutboundRow<'a>) -> Self {
        let message = row.message;
        let (text, binary) = match &message.content {
            Some(Content::Text(text)) => (Some(text.as_str()), None),
            Some(Content::Binary(binary)) => (
                None,
                Some(WireBinary {
                    hex: SpacedHex(&binary.data),
                    data_coding: binary.data_coding,
                    esm_class: binary.esm_class,
                }),
            ),
            None => (None, None),
        };
        Self {
            from: &message.from,
            destinations: row.destinations,
            text,
            binary,
            flash: message.flash,
            language: message.language.as_ref().map(|language| WireLanguage {
                language_code: &language.language_code,
                single_shift: language.single_shift,
                locking_shift: language.locking_shift,
            }),
            transliteration: &message.transliteration,
            intermediate_report: message.intermediate_report,
            notify: message.notify,
            notify_url: &message.notify_url,
            notify_content_type: &message.notify_content_type,
            callback_data: &message.callback_data,
            validity_period: message.validity_period.as_ref().and_then(validity_minutes),
            send_at: message
                .send_at
                .as_ref()
                .and_then(time::from_proto)
                .map(WireTimestamp),
            delivery_time_window: message
                .delivery_time_window
                .as_ref()
                .map(|window| WireWindow {
                    from: window.from.as_ref().map(WireTimeOfDay::new),
                    to: window.to.as_ref().map(WireTimeOfDay::new),
                    days: Days(&window.days),
                }),
            campaign_id: &message.campaign_id,
            operator_client_id: &message.operator_client_id,
            regional: message.regional.as_ref().map(|regional| WireRegional {
                india_dlt: regional.india_dlt.as_ref().map(|dlt| WireIndiaDlt {
                    content_template_id: &dlt.content_template_id,
                    principal_entity_id: &dlt.principal_entity_id,
                }),
            }),
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

/// Whole minutes: rounded up, so that a message is not given up early, at least one, and no more than the API takes.
fn validity_minutes(period: &pbjson_types::Duration) -> Option<u64> {
    let period = time::duration_from_proto(period)?;
    let seconds = period.as_secs() + u64::from(period.subsec_nanos() > 0);
    Some(seconds.div_ceil(60).clamp(1, MAX_VALIDITY_MINUTES))
}

impl Serialize for Days<'_> {
    /// Days that the contract does not have are left out: the edges refuse them.
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
        for (at, octet) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{octet:02x}")?;
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
    fn validity_is_whole_minutes_rounded_up_and_cut() {
        let minutes = |seconds, nanos| validity_minutes(&pbjson_types::Duration { seconds, nanos });
        assert_eq!(minutes(60, 0), Some(1));
        assert_eq!(minutes(60, 1), Some(2));
        assert_eq!(minutes(1, 0), Some(1));
        assert_eq!(minutes(48 * 3600 + 1, 0), Some(2880));
        assert_eq!(minutes(i64::MAX, 999_999_999), Some(2880));
        assert_eq!(minutes(-1, 0), None);
    }
}
