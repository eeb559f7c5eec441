//! Checks the times of a message: validity period, schedule, deadline, delivery window.
//!
//! Neighbours: [`super`] calls it for each message.

use jiff::{SignedDuration, Timestamp};

use super::Violations;
use crate::{infobip::limits::MAX_SCHEDULE_AHEAD, message::time, proto::v1};

/// Tolerated clock difference before a `send_at` counts as past.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(1);

const DAYS_OF_A_WEEK: usize = 7;

pub(super) fn check_times(
    violations: &mut Violations,
    message: &v1::OutboundMessage,
    now: Timestamp,
) {
    if let Some(validity) = &message.validity_period {
        let whole_minutes = time::duration_from_proto(validity)
            .is_some_and(|d| d.as_secs() >= 60 && d.as_secs() % 60 == 0 && d.subsec_nanos() == 0);
        if !whole_minutes {
            violations.add(
                "validity_period",
                "is not a whole number of minutes, at least one",
            );
        }
    }
    if let Some(send_at) = &message.send_at {
        let field = "send_at";
        match time::from_proto(send_at) {
            None => violations.add(field, "is not a time"),
            Some(at) if now.duration_until(at) > MAX_SCHEDULE_AHEAD => {
                violations.add(
                    field,
                    format!(
                        "is more than {} days ahead, which the API does not accept",
                        MAX_SCHEDULE_AHEAD.as_hours() / 24
                    ),
                );
            }
            Some(_) => {}
        }
    }
    if message
        .expires_at
        .as_ref()
        .is_some_and(|at| time::from_proto(at).is_none())
    {
        violations.add("expires_at", "is not a time");
    }
}

/// Whether the message was to be sent before now.
pub(super) fn is_past(message: &v1::OutboundMessage, now: Timestamp) -> bool {
    let send_at = message.send_at.as_ref().and_then(time::from_proto);
    send_at.is_some_and(|at| at.duration_until(now) > CLOCK_TOLERANCE)
}

pub(super) fn check_window(violations: &mut Violations, message: &v1::OutboundMessage) {
    let Some(window) = &message.delivery_time_window else {
        return;
    };
    if window.days.is_empty() {
        violations.add(
            "delivery_time_window.days",
            "is empty: give at least one day",
        );
    }
    if window.days.len() > DAYS_OF_A_WEEK {
        violations.add(
            "delivery_time_window.days",
            format_args!("has {} entries: name each day once", window.days.len()),
        );
        return;
    }
    for (index, day) in window.days.iter().enumerate() {
        if v1::DayOfWeek::try_from(*day).is_ok_and(|day| day != v1::DayOfWeek::Unspecified) {
            continue;
        }
        violations.add(
            format_args!("delivery_time_window.days[{index}]"),
            "is not a day",
        );
    }
    let mut minute_of_day = |name: &str, time: Option<&v1::TimeOfDay>| {
        let time = time?;
        if (0..=23).contains(&time.hour) && (0..=59).contains(&time.minute) {
            return Some(time.hour * 60 + time.minute);
        }
        violations.add(
            format_args!("delivery_time_window.{name}"),
            "is not a time of day: hour 0 to 23, minute 0 to 59",
        );
        None
    };
    let from = minute_of_day("from", window.from.as_ref());
    let to = minute_of_day("to", window.to.as_ref());
    if window.from.is_some() != window.to.is_some() {
        violations.add(
            "delivery_time_window",
            "has only one of `from` and `to`: give both or neither",
        );
    } else if let (Some(from), Some(to)) = (from, to)
        && to - from < 60
    {
        violations.add(
            "delivery_time_window",
            "is shorter than an hour: `to` must be at least an hour after `from`",
        );
    }
}
