//! Chooses the final status of a message: by its number, else at random from the seed, else delivered after a short latency.
//!
//! Invariant: the outcome depends only on the number, the message id, the validity period and the configuration.
//! Neighbour: `life` sets the timers for it.

use crate::{codes, config::SimulatorConfig, dice::Dice};

/// Status of a final report after a permanent error: UNDELIVERABLE_NOT_DELIVERED.
const UNDELIVERABLE: u16 = 9;
const EXPIRED: u16 = 15;
pub(crate) const DELIVERED: u16 = 5;
const NO_ERROR: u16 = 0;
const VALIDITY_EXPIRED: u16 = 4101;
/// EC_ABSENT_SUBSCRIBER: the temporary error of chance.
const ABSENT: u16 = 27;
/// EC_UNKNOWN_SUBSCRIBER: the permanent error of chance.
const UNKNOWN_SUBSCRIBER: u16 = 1;

/// An outcome that the first digits of a destination select.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByNumber {
    /// `99901` + status id in 3 digits: that status at once.
    Status(u16),
    /// `99902` + error id in 4 digits: a final report with that error, after an intermediate one if it is temporary.
    Failed(u16),
    /// `99903` + error id in 4 digits: an intermediate report with it, then delivered.
    Intermediate(u16),
    /// `99904` + minutes in 4 digits: delivered after that time.
    After(u16),
    /// `99905`: never final until the validity period ends.
    Never,
}

/// The outcome that a number selects, if it is a special number.
pub(crate) fn by_number(digits: &str) -> Option<ByNumber> {
    let (kind, rest) = digits.split_at_checked(5)?;
    let value = |length: usize| rest.get(..length)?.parse::<u16>().ok();
    match kind {
        "99901" => value(3).map(ByNumber::Status),
        "99902" => value(4).map(ByNumber::Failed),
        "99903" => value(4).map(ByNumber::Intermediate),
        "99904" => value(4).map(ByNumber::After),
        "99905" => Some(ByNumber::Never),
        _ => None,
    }
}

/// The outcome of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    /// An intermediate error: milliseconds after sending, and the error id.
    pub(crate) intermediate: Option<(i64, u16)>,
    /// Time from sending to the final status, in milliseconds.
    pub(crate) ends_after_ms: i64,
    pub(crate) status: u16,
    pub(crate) error: u16,
}

/// The outcome of a message: EXPIRED if it would take longer than the validity period.
pub(crate) fn fate(
    digits: &str,
    message_id: &str,
    validity_ms: i64,
    config: &SimulatorConfig,
) -> Fate {
    let mut dice = Dice::of(config.seed, message_id);
    let (least, most) = config.delivery_latency_ms;
    let latency = i64::try_from(dice.between(u64::from(least), u64::from(most)))
        .expect("a latency between two u32 fits in an i64");
    let delivered = Fate {
        intermediate: None,
        ends_after_ms: latency,
        status: DELIVERED,
        error: 0,
    };
    let failed = |error: u16| {
        let permanent = codes::error(error).is_some_and(|row| row.permanent);
        // Every temporary error is reported while delivery is still possible (manual "Intermediate delivery reports").
        let temporary = !permanent && error != NO_ERROR;
        Fate {
            intermediate: temporary.then_some((latency / 2, error)),
            status: if permanent { UNDELIVERABLE } else { EXPIRED },
            error,
            ..delivered
        }
    };
    let through = |error: u16| Fate {
        intermediate: Some((latency / 2, error)),
        ..delivered
    };
    let fate = match by_number(digits) {
        Some(ByNumber::Failed(error)) => failed(error),
        Some(ByNumber::Intermediate(error)) => through(error),
        Some(ByNumber::After(minutes)) => Fate {
            ends_after_ms: i64::from(minutes) * 60_000,
            ..delivered
        },
        Some(ByNumber::Never) => Fate {
            ends_after_ms: i64::MAX,
            ..delivered
        },
        Some(ByNumber::Status(_)) | None => {
            let chances = config.chances;
            let draw = dice.unit();
            if draw < chances.undeliverable {
                failed(UNKNOWN_SUBSCRIBER)
            } else if draw < chances.undeliverable + chances.expired {
                failed(ABSENT)
            } else if draw < chances.undeliverable + chances.expired + chances.intermediate {
                through(ABSENT)
            } else {
                delivered
            }
        }
    };
    if fate.ends_after_ms < validity_ms {
        return fate;
    }
    Fate {
        intermediate: fate.intermediate.filter(|(at, _)| *at < validity_ms),
        ends_after_ms: validity_ms.max(0),
        status: EXPIRED,
        error: VALIDITY_EXPIRED,
    }
}

/// Status and error of a message that was not sent within its validity period.
pub(crate) fn expired_unsent() -> (u16, u16) {
    (EXPIRED, VALIDITY_EXPIRED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_DAYS: i64 = 48 * 3_600_000;

    #[test]
    fn numbers_choose_their_outcome() {
        assert_eq!(by_number("99901006123"), Some(ByNumber::Status(6)));
        assert_eq!(by_number("999020027555"), Some(ByNumber::Failed(27)));
        assert_eq!(by_number("999030027"), Some(ByNumber::Intermediate(27)));
        assert_eq!(by_number("999040090"), Some(ByNumber::After(90)));
        assert_eq!(by_number("999051"), Some(ByNumber::Never));
        for ordinary in ["99901", "9990112", "41793026727", "999061234567", ""] {
            assert_eq!(by_number(ordinary), None, "{ordinary}");
        }
    }

    #[test]
    fn permanent_errors_make_undeliverable_and_others_expired() {
        let config = SimulatorConfig::default();
        let end = |to: &str| {
            let fate = fate(to, "id", TWO_DAYS, &config);
            (fate.status, fate.error)
        };
        assert_eq!(end("999020001"), (9, 1));
        assert_eq!(end("999020027"), (15, 27));
        assert_eq!(end("41793026727"), (5, 0));
    }

    #[test]
    fn nothing_outlives_its_validity_period() {
        let config = SimulatorConfig::default();
        let never = fate("999051234", "id", 60_000, &config);
        assert_eq!(
            (never.ends_after_ms, never.status, never.error),
            (60_000, 15, 4101)
        );
        let late = fate("999049999", "id", TWO_DAYS, &config);
        assert_eq!((late.ends_after_ms, late.status), (TWO_DAYS, 15));
        let in_time = fate("999040010", "id", TWO_DAYS, &config);
        assert_eq!((in_time.ends_after_ms, in_time.status), (600_000, 5));
    }

    #[test]
    fn chances_come_out_about_as_often_as_asked_and_the_same_each_time() {
        let mut config = SimulatorConfig::default();
        config.chances.undeliverable = 0.25;
        let statuses = || -> Vec<u16> {
            (0..1000)
                .map(|n| fate("41793026727", &format!("m{n}"), TWO_DAYS, &config).status)
                .collect()
        };
        let first = statuses();
        let undeliverable = first.iter().filter(|status| **status == 9).count();
        assert!((180..320).contains(&undeliverable), "{undeliverable}");
        assert_eq!(first, statuses());
    }
}
