//! Explains what exists with other arguments: which argument, both values, and the way out. RabbitMQ never changes the arguments of what
//! exists, and names only the first one that differs.
//!
//! Neighbours: `declare` is refused, and decides which difference is used as it is; `AmqpError::Conflict` has the text.

use crate::amqp::headers::arguments;

/// What the broker says about the first argument that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Difference<'a> {
    pub(super) argument: &'a str,
    /// `queue` or `exchange`.
    kind: &'a str,
    vhost: &'a str,
    /// The value in the declaration; `None` if it has none.
    received: Option<&'a str>,
    /// The value of what exists; `None` if it has none.
    pub(super) current: Option<&'a str>,
}

impl<'a> Difference<'a> {
    /// Reads `inequivalent arg 'x-max-age' for queue 'q' in vhost '/': received '1s' but current is '2s'`.
    pub(super) fn parse(detail: &'a str) -> Option<Self> {
        let (_, rest) = detail.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once("' for ")?;
        let (kind, rest) = rest.split_once(" '")?;
        let (_, rest) = rest.split_once("in vhost '")?;
        let (vhost, rest) = rest.split_once("': received ")?;
        let (received, current) = rest.split_once(" but current is ")?;
        Some(Self {
            argument,
            kind,
            vhost,
            received: value(received)?,
            current: value(current)?,
        })
    }
}

/// `none`, `'5'`, or `the value '5' of type 'signedint'` if the other side has no such argument. The outer `None` is none of these.
fn value(text: &str) -> Option<Option<&str>> {
    if text.starts_with("none") {
        return Some(None);
    }
    text.split('\'').nth(1).map(Some)
}

/// The problem and its way out. `detail` is the text of the broker.
pub(in crate::amqp) fn explain(name: &str, detail: &str) -> String {
    const PREFIX: &str =
        "or set another amqp.prefix (docs/RABBITMQ.md#what-cannot-change-after-the-first-start)";
    let Some(difference) = Difference::parse(detail) else {
        return format!(
            "`{name}` already exists with different arguments: {detail}. Delete it once its messages are not needed, {PREFIX}"
        );
    };
    let Difference {
        argument,
        kind,
        vhost,
        received,
        current,
    } = difference;
    let shown = |value: Option<&str>| match value {
        None => "absent".to_owned(),
        Some("") => "empty".to_owned(),
        Some(value) => format!("`{value}`"),
    };
    let problem = format!(
        "the {kind} `{name}` already exists with another argument: `{argument}` is {} there, and the bridge declares {}",
        shown(current),
        shown(received)
    );
    let remedy = match (kind, argument) {
        ("exchange", _) => format!(
            "Delete the exchange (its bindings are lost: bind your queues again once the bridge is connected), {PREFIX}"
        ),
        (_, arguments::MAX_AGE) => format!(
            "Set amqp.stream_retention to the value there, or delete the stream, whose events are then lost: rabbitmqctl \
             delete_queue -p '{vhost}' '{name}'; {PREFIX}"
        ),
        _ => format!(
            "Stop what publishes to the queue, let it run empty or move its messages, and delete it (the bridge declares it again \
             when it connects): rabbitmqctl delete_queue -p '{vhost}' --if-empty '{name}'; {PREFIX}"
        ),
    };
    format!("{problem}. {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_names_the_argument_both_values_and_the_way_out() {
        let inequivalent = |of: &str, values: &str| {
            format!("PRECONDITION_FAILED - inequivalent arg {of} in vhost '/sms': {values}")
        };
        for (detail, parts) in [
            (
                inequivalent(
                    "'x-max-age' for queue 'n'",
                    "received '1s' but current is '2s'",
                ),
                [
                    "queue `n`",
                    "`x-max-age` is `2s` there",
                    "declares `1s`",
                    "amqp.stream_retention",
                ],
            ),
            (
                inequivalent(
                    "'x-queue-type' for queue 'n'",
                    "received the value 'quorum' of type 'longstr' but current is none",
                ),
                [
                    "queue `n`",
                    "`x-queue-type` is absent there",
                    "declares `quorum`",
                    "rabbitmqctl delete_queue -p '/sms' --if-empty 'n'",
                ],
            ),
            (
                inequivalent(
                    "'type' for exchange 'n'",
                    "received 'topic' but current is 'fanout'",
                ),
                [
                    "exchange `n`",
                    "`type` is `fanout` there",
                    "declares `topic`",
                    "bind your queues again",
                ],
            ),
            (
                "PRECONDITION_FAILED - something else".to_owned(),
                [
                    "`n` already exists",
                    "something else",
                    "Delete it",
                    "amqp.prefix",
                ],
            ),
        ] {
            let text = explain("n", &detail);
            for part in parts {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    }
}
