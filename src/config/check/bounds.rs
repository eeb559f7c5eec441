//! Bounds of counts, sizes and durations, and durations that have to fit each other.
//!
//! Invariant: what passes is finite, and zero only where zero does no harm. Neighbours: `defaults.toml` says what each key
//! means; what a value's type rules out, reading has refused already.

use std::time::Duration;

use super::Checks;
use crate::config::Config;

pub(super) fn bounds(config: &Config, checks: &mut Checks<'_>) {
    let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
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
        (
            "infobip.max_response_bytes",
            count(infobip.max_response_bytes),
            1024,
            1 << 30,
        ),
        ("send.max_batch", count(send.max_batch), 1, 1_000),
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
        ("amqp.prefetch", u64::from(amqp.prefetch), 1, 65_535),
    ] {
        if !(min..=max).contains(&value) {
            checks.say(
                &[key],
                format!("{value} is out of bounds"),
                format!("choose {min} to {max}"),
            );
        }
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
        ("send.retry_for", send.retry_for, ms(0), hour * 24),
        ("send.gather_for", send.gather_for, ms(0), ms(1000)),
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
        ("amqp.confirm_timeout", amqp.confirm_timeout, ms(1), hour),
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
            checks.say(
                &[key],
                format!("{value:?} is out of bounds"),
                format!("choose {min:?} to {max:?}"),
            );
        }
    }
    if send.in_doubt_for <= infobip.request_timeout && send.in_doubt_for >= ms(1) {
        // What the logs do not show counts as never sent only when a request could no longer be under way.
        checks.say(
            &["send.in_doubt_for", "infobip.request_timeout"],
            "is not longer than infobip.request_timeout",
            "choose a longer one, or no doubt can be resolved",
        );
    }
    if infobip.connect_timeout >= infobip.request_timeout && infobip.request_timeout >= ms(1) {
        // A request that timed out is in doubt; one that found no connection is not.
        checks.say(
            &["infobip.connect_timeout", "infobip.request_timeout"],
            "is not shorter than infobip.request_timeout",
            "choose a shorter one, so that an API that is down is known to be",
        );
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
            ("send", "in_doubt_wait = \"0s\""),
            ("infobip", "log_requests_per_minute = 0"),
            ("infobip", "request_timeout = \"0s\""),
            ("grpc", "max_message_bytes = 0"),
            ("grpc", "max_concurrent_calls = 0"),
            ("grpc", "max_connections = 0"),
            ("http", "max_body_bytes = 0"),
            ("amqp", "prefetch = 0"),
            ("events", "retention = \"0s\""),
            ("shutdown", "grace = \"0s\""),
        ] {
            let key = format!("{section}.{}", line.split(' ').next().unwrap());
            assert_eq!(mistake(&format!("[{section}]\n{line}"), &[]).key, key);
        }
    }

    #[test]
    fn times_that_belong_together_fit() {
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
