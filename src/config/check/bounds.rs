//! Checks the bounds of counts, sizes and durations, and pairs of durations that depend on each other.
//!
//! Invariant: a valid value is finite, and zero only where zero has a meaning. Neighbours: `defaults.toml` documents the keys;
//! `read` has rejected values that do not fit their type.

use std::time::Duration;

use super::Checks;
use crate::config::Config;

/// Maximum of `send.max_batch`. The API documents no maximum of destinations in a request.
const MAX_BATCH: u64 = 1_000;

/// A log below the least is above it with each long push.
const MAX_EVENT_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 50;

pub(super) fn bounds(config: &Config, checks: &mut Checks<'_>) {
    let count = |value: usize| u64::try_from(value).expect("usize has at most 64 bits");
    let Config {
        infobip,
        send,
        grpc,
        http,
        amqp,
        events,
        shutdown,
        ..
    } = config;
    let connection_calls = u64::from(grpc.max_concurrent_calls_per_connection);
    for (key, value, min, max) in [
        (
            "infobip.log_requests_per_minute",
            u64::from(infobip.log_requests_per_minute),
            1,
            100_000,
        ),
        ("infobip.replicas", u64::from(infobip.replicas), 0, 1_000),
        (
            "infobip.max_response_bytes",
            count(infobip.max_response_bytes),
            1024,
            1 << 30,
        ),
        ("send.max_batch", count(send.max_batch), 1, MAX_BATCH),
        (
            "send.max_batch_bytes",
            count(send.max_batch_bytes),
            1024,
            1 << 30,
        ),
        (
            "send.max_requests_in_flight",
            count(send.max_requests_in_flight),
            1,
            10_000,
        ),
        (
            "send.queue_capacity",
            count(send.queue_capacity),
            1,
            10_000_000,
        ),
        ("send.urgent_percent", u64::from(send.urgent_percent), 0, 50),
        (
            "grpc.max_message_bytes",
            count(grpc.max_message_bytes),
            1024,
            1 << 30,
        ),
        (
            "grpc.max_concurrent_calls_per_connection",
            connection_calls,
            1,
            1_000_000,
        ),
        (
            "grpc.max_concurrent_calls",
            count(grpc.max_concurrent_calls),
            1,
            1_000_000,
        ),
        (
            "grpc.max_connections",
            count(grpc.max_connections),
            1,
            1_000_000,
        ),
        (
            "http.max_body_bytes",
            count(http.max_body_bytes),
            1024,
            1 << 30,
        ),
        (
            "http.max_connections",
            count(http.max_connections),
            1,
            1_000_000,
        ),
        (
            "http.max_concurrent_requests",
            count(http.max_concurrent_requests),
            1,
            1_000_000,
        ),
        ("amqp.prefetch", u64::from(amqp.prefetch), 1, 65_535),
        (
            "amqp.max_attempts",
            u64::from(amqp.max_attempts),
            // One may count at the beginning of each outage.
            5,
            1_000_000,
        ),
    ] {
        if !(min..=max).contains(&value) {
            checks.reject(
                &[key],
                format!("{value} is out of bounds"),
                format!("choose {min} to {max}"),
            );
        }
    }
    if events.max_bytes != 0 && !MAX_EVENT_BYTES.contains(&events.max_bytes) {
        checks.reject(
            &["events.max_bytes"],
            format!("{} is out of bounds", events.max_bytes),
            format!(
                "choose {} to {}, or 0 for no limit",
                MAX_EVENT_BYTES.start(),
                MAX_EVENT_BYTES.end()
            ),
        );
    }
    let ms = Duration::from_millis;
    let (hour, month) = (ms(3_600_000), ms(31 * 24 * 3_600_000));
    for (key, value, min, max) in [
        (
            "infobip.connect_timeout",
            infobip.connect_timeout,
            ms(1),
            hour,
        ),
        (
            "infobip.request_timeout",
            infobip.request_timeout,
            ms(1),
            hour,
        ),
        ("infobip.log_lag", infobip.log_lag, ms(0), hour),
        ("send.retry_for", send.retry_for, ms(0), hour * 24),
        (
            "send.max_batching_wait",
            send.max_batching_wait,
            ms(0),
            ms(1000),
        ),
        ("send.in_doubt_wait", send.in_doubt_wait, ms(1), hour),
        ("send.in_doubt_for", send.in_doubt_for, ms(1), hour * 48),
        (
            "grpc.keepalive_interval",
            grpc.keepalive_interval,
            ms(1_000),
            hour * 24,
        ),
        (
            "grpc.keepalive_timeout",
            grpc.keepalive_timeout,
            ms(100),
            hour,
        ),
        (
            "grpc.max_connection_age",
            grpc.max_connection_age,
            ms(1_000),
            month,
        ),
        (
            "grpc.max_connection_age_grace",
            grpc.max_connection_age_grace,
            ms(0),
            hour * 24,
        ),
        ("http.header_timeout", http.header_timeout, ms(100), hour),
        ("http.request_timeout", http.request_timeout, ms(100), hour),
        ("amqp.confirm_timeout", amqp.confirm_timeout, ms(1), hour),
        ("amqp.hold_for", amqp.hold_for, ms(1), hour * 24),
        ("amqp.max_age", amqp.max_age, ms(0), month * 12),
        (
            "amqp.stream_retention",
            amqp.stream_retention,
            ms(1_000),
            month * 12,
        ),
        ("events.retention", events.retention, ms(1_000), month * 12),
        ("shutdown.grace", shutdown.grace, ms(1), hour),
    ] {
        if !(min..=max).contains(&value) {
            checks.reject(
                &[key],
                format!("{} is out of bounds", written(value)),
                format!("choose {} to {}", written(min), written(max)),
            );
        }
    }
    if send.in_doubt_for <= infobip.request_timeout && send.in_doubt_for >= ms(1) {
        // A send that is not in the API's logs counts as not sent only once its request can no longer be in flight.
        checks.reject(
            &["send.in_doubt_for", "infobip.request_timeout"],
            "must be longer than infobip.request_timeout",
            "increase it; otherwise no send in doubt could be resolved",
        );
    }
    if infobip.connect_timeout >= infobip.request_timeout && infobip.request_timeout >= ms(1) {
        // A request that times out is in doubt; one that could not connect was not sent.
        checks.reject(
            &["infobip.connect_timeout", "infobip.request_timeout"],
            "must be shorter than infobip.request_timeout",
            "reduce it, so that a failed connection is not taken for a request in doubt",
        );
    }
}

/// A duration as the configuration has it: in its largest unit.
fn written(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ];
    match units
        .iter()
        .find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::mistake;

    #[test]
    fn numbers_have_bounds() {
        for (section, line) in [
            ("send", "queue_capacity = 0"),
            ("send", "max_requests_in_flight = 0"),
            ("send", "urgent_percent = 51"),
            ("send", "in_doubt_wait = \"0s\""),
            ("infobip", "log_requests_per_minute = 0"),
            ("infobip", "request_timeout = \"0s\""),
            ("grpc", "max_message_bytes = 0"),
            ("grpc", "max_concurrent_calls = 0"),
            ("grpc", "max_connections = 0"),
            ("http", "max_body_bytes = 0"),
            ("http", "max_connections = 0"),
            ("http", "max_concurrent_requests = 0"),
            ("http", "header_timeout = \"0s\""),
            ("http", "request_timeout = \"0s\""),
            ("amqp", "prefetch = 0"),
            ("events", "retention = \"0s\""),
            ("events", "max_bytes = 1000000"),
            ("shutdown", "grace = \"0s\""),
        ] {
            let key = format!("{section}.{}", line.split(' ').next().unwrap());
            assert_eq!(mistake(&format!("[{section}]\n{line}"), &[]).key, key);
        }
    }

    #[test]
    fn related_durations_must_be_consistent() {
        for (text, key) in [
            (
                "[infobip]\nconnect_timeout = \"30s\"",
                "infobip.connect_timeout",
            ),
            ("[send]\nin_doubt_for = \"30s\"", "send.in_doubt_for"),
        ] {
            assert_eq!(mistake(text, &[]).key, key, "{text}");
        }
    }
}
