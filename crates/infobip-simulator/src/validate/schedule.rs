//! Validates the times of a message: when it is sent, how long it is valid, in which hours it is delivered.

use super::violations::Violations;
use crate::{
    clock::MINUTE_MS,
    dates,
    envelope::ApiError,
    request::{LenientString, TimeRequest, WindowRequest},
    submission::DeliveryWindow,
};

const MAX_VALIDITY_MINUTES: i64 = 2880;
const MAX_SCHEDULE_MS: i64 = 180 * 24 * 60 * MINUTE_MS;

/// Validates the new send time of a bulk.
pub fn schedule_ms(send_at: Option<&LenientString>, now_ms: i64) -> Result<i64, ApiError> {
    let mut violations = Violations::default();
    let send_at = send_at.map(|at| at.0.as_str()).unwrap_or_default();
    match check_send_at(send_at, "sendAt", now_ms, &mut violations) {
        Some(at) => Ok(at),
        None => Err(violations
            .0
            .expect("check_send_at adds a violation if it returns None")),
    }
}

pub(super) fn check_send_at(
    text: &str,
    field: &str,
    now_ms: i64,
    violations: &mut Violations,
) -> Option<i64> {
    let Some(at) = dates::parse(text) else {
        violations.add(
            field.to_owned(),
            "must be a date like 2015-07-07T17:00:00.000+01:00",
        );
        return None;
    };
    if at > now_ms + MAX_SCHEDULE_MS {
        violations.add(field.to_owned(), "must be at most 180 days from now");
        return None;
    }
    Some(at)
}

/// The validity period in milliseconds; a longer one is reduced to 48 h (manual "Schedule SMS and validity period").
pub(super) fn check_validity(
    minutes: Option<i64>,
    field_path: &dyn Fn(&str) -> String,
    violations: &mut Violations,
) -> i64 {
    let minutes = minutes.unwrap_or(MAX_VALIDITY_MINUTES);
    if minutes < 0 {
        violations.add(field_path("validityPeriod"), "must not be negative");
    }
    // Many clients send an unset integer as zero: it means the default.
    let minutes = if minutes == 0 {
        MAX_VALIDITY_MINUTES
    } else {
        minutes
    };
    minutes.clamp(0, MAX_VALIDITY_MINUTES) * MINUTE_MS
}

pub(super) fn check_window(
    request: &WindowRequest,
    field_path: &dyn Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<DeliveryWindow> {
    const DAYS: [&str; 7] = [
        "MONDAY",
        "TUESDAY",
        "WEDNESDAY",
        "THURSDAY",
        "FRIDAY",
        "SATURDAY",
        "SUNDAY",
    ];
    let minute = |time: Option<&TimeRequest>, default: i64| -> Option<i64> {
        let Some(time) = time else {
            return Some(default);
        };
        let (hour, minute) = (time.hour.map_or(0, |n| n.0), time.minute.map_or(0, |n| n.0));
        ((0..24).contains(&hour) && (0..60).contains(&minute)).then_some(hour * 60 + minute)
    };
    let mut days = 0_u8;
    for day in request
        .days
        .iter()
        .flat_map(|days| &days.0)
        .flat_map(|day| day.0.split(','))
    {
        match DAYS
            .iter()
            .position(|name| name.eq_ignore_ascii_case(day.trim()))
        {
            Some(at) => days |= 1 << at,
            None => violations.add(
                field_path("deliveryTimeWindow.days"),
                "must be names of days like MONDAY",
            ),
        }
    }
    if days == 0 {
        violations.add(
            field_path("deliveryTimeWindow.days"),
            "must name at least one day",
        );
    }
    match (
        minute(request.from.as_ref(), 0),
        minute(request.to.as_ref(), 24 * 60),
    ) {
        (Some(opens_minute), Some(closes_minute)) if opens_minute < closes_minute => {
            Some(DeliveryWindow {
                opens_minute,
                closes_minute,
                days,
            })
        }
        _ => {
            violations.add(
                field_path("deliveryTimeWindow"),
                "must open at an hour of 0 to 23 and close later that day",
            );
            None
        }
    }
}
