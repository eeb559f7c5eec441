//! Chooses the final status of a message: by its number, else by the configured chances, else delivered after a short latency.
//!
//! Invariant: the outcome depends only on the number, the message id, the validity period and the configuration.
//! Neighbour: `lifecycle` sets the timers for it.

use crate::{
    clock::MINUTE_MS,
    codes::{
        self,
        id::{
            DELIVERED_TO_HANDSET, EC_ABSENT_SUBSCRIBER, EC_UNKNOWN_SUBSCRIBER, EC_VALIDITYEXPIRED,
            EXPIRED_EXPIRED, NO_ERROR, UNDELIVERABLE_NOT_DELIVERED,
        },
    },
    config::SimulatorConfig,
    random::SeededRandom,
};

/// An outcome that the first digits of a destination select.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpecialNumber {
    /// `99901` + status id in 3 digits: that status at once.
    Status(u16),
    /// `99902` + error id in 4 digits: a final report with that error, after an intermediate report if it is temporary.
    FinalError(u16),
    /// `99903` + error id in 4 digits: an intermediate report with that error, then delivered.
    IntermediateError(u16),
    /// `99904` + minutes in 4 digits: delivered after these minutes.
    DelayMinutes(u16),
    /// `99905`: final only when the validity period ends.
    NeverFinal,
}

/// The outcome that a number selects, if it is a special number.
pub(crate) fn special_number(digits: &str) -> Option<SpecialNumber> {
    let (kind, rest) = digits.split_at_checked(5)?;
    let value = |length: usize| rest.get(..length)?.parse::<u16>().ok();
    match kind {
        "99901" => value(3).map(SpecialNumber::Status),
        "99902" => value(4).map(SpecialNumber::FinalError),
        "99903" => value(4).map(SpecialNumber::IntermediateError),
        "99904" => value(4).map(SpecialNumber::DelayMinutes),
        "99905" => Some(SpecialNumber::NeverFinal),
        _ => None,
    }
}

/// The final status of a sent message and the time until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveryOutcome {
    /// A temporary error before: milliseconds after sending, and the error id.
    pub(crate) intermediate: Option<(i64, u16)>,
    /// Time from sending to the final status, in milliseconds.
    pub(crate) final_after_ms: i64,
    pub(crate) status: u16,
    pub(crate) error: u16,
}

/// Chooses the outcome of a message: EXPIRED if it would take longer than the validity period.
pub(crate) fn delivery_outcome(
    digits: &str,
    message_id: &str,
    validity_ms: i64,
    config: &SimulatorConfig,
) -> DeliveryOutcome {
    let mut random = SeededRandom::for_key(config.seed, message_id);
    let (min_ms, max_ms) = config.delivery_latency_ms;
    let latency = i64::try_from(random.in_range(u64::from(min_ms), u64::from(max_ms)))
        .expect("a latency between two u32 fits in an i64");
    let delivered = DeliveryOutcome {
        intermediate: None,
        final_after_ms: latency,
        status: DELIVERED_TO_HANDSET,
        error: NO_ERROR,
    };
    let failed = |error: u16| {
        let permanent = codes::error(error).is_some_and(|row| row.permanent);
        // Every temporary error is reported while delivery is still possible (manual "Intermediate delivery reports").
        let temporary = !permanent && error != NO_ERROR;
        DeliveryOutcome {
            intermediate: temporary.then_some((latency / 2, error)),
            status: if permanent {
                UNDELIVERABLE_NOT_DELIVERED
            } else {
                EXPIRED_EXPIRED
            },
            error,
            ..delivered
        }
    };
    let delivered_after_error = |error: u16| DeliveryOutcome {
        intermediate: Some((latency / 2, error)),
        ..delivered
    };
    let outcome = match special_number(digits) {
        Some(SpecialNumber::FinalError(error)) => failed(error),
        Some(SpecialNumber::IntermediateError(error)) => delivered_after_error(error),
        Some(SpecialNumber::DelayMinutes(minutes)) => DeliveryOutcome {
            final_after_ms: i64::from(minutes) * MINUTE_MS,
            ..delivered
        },
        Some(SpecialNumber::NeverFinal) => DeliveryOutcome {
            final_after_ms: i64::MAX,
            ..delivered
        },
        Some(SpecialNumber::Status(_)) | None => {
            let chances = config.chances;
            let draw = random.unit_interval();
            if draw < chances.undeliverable {
                failed(EC_UNKNOWN_SUBSCRIBER)
            } else if draw < chances.undeliverable + chances.expired {
                failed(EC_ABSENT_SUBSCRIBER)
            } else if draw < chances.undeliverable + chances.expired + chances.intermediate {
                delivered_after_error(EC_ABSENT_SUBSCRIBER)
            } else {
                delivered
            }
        }
    };
    if outcome.final_after_ms < validity_ms {
        return outcome;
    }
    DeliveryOutcome {
        intermediate: outcome.intermediate.filter(|(at, _)| *at < validity_ms),
        final_after_ms: validity_ms.max(0),
        status: EXPIRED_EXPIRED,
        error: EC_VALIDITYEXPIRED,
    }
}

/// Status and error of a message that was not sent within its validity period.
pub(crate) fn expired_unsent() -> (u16, u16) {
    (EXPIRED_EXPIRED, EC_VALIDITYEXPIRED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HOUR_MS;

    const TWO_DAYS: i64 = 48 * HOUR_MS;

    #[test]
    fn numbers_choose_their_outcome() {
        assert_eq!(
            special_number("99901006123"),
            Some(SpecialNumber::Status(6))
        );
        assert_eq!(
            special_number("999020027555"),
            Some(SpecialNumber::FinalError(27))
        );
        assert_eq!(
            special_number("999030027"),
            Some(SpecialNumber::IntermediateError(27))
        );
        assert_eq!(
            special_number("999040090"),
            Some(SpecialNumber::DelayMinutes(90))
        );
        assert_eq!(special_number("999051"), Some(SpecialNumber::NeverFinal));
        for ordinary in ["99901", "9990112", "41793026727", "999061234567", ""] {
            assert_eq!(special_number(ordinary), None, "{ordinary}");
        }
    }

    #[test]
    fn permanent_errors_end_as_undeliverable_and_others_as_expired() {
        let config = SimulatorConfig::default();
        let end = |to: &str| {
            let outcome = delivery_outcome(to, "id", TWO_DAYS, &config);
            (outcome.status, outcome.error)
        };
        assert_eq!(end("999020001"), (9, 1));
        assert_eq!(end("999020027"), (15, 27));
        assert_eq!(end("41793026727"), (5, 0));
    }

    #[test]
    fn a_message_ends_with_its_validity_period() {
        let config = SimulatorConfig::default();
        let never = delivery_outcome("999051234", "id", 60_000, &config);
        assert_eq!(
            (never.final_after_ms, never.status, never.error),
            (60_000, 15, 4101)
        );
        let late = delivery_outcome("999049999", "id", TWO_DAYS, &config);
        assert_eq!((late.final_after_ms, late.status), (TWO_DAYS, 15));
        let in_time = delivery_outcome("999040010", "id", TWO_DAYS, &config);
        assert_eq!((in_time.final_after_ms, in_time.status), (600_000, 5));
    }

    #[test]
    fn chances_match_their_probability_and_are_repeatable() {
        let mut config = SimulatorConfig::default();
        config.chances.undeliverable = 0.25;
        let statuses = || -> Vec<u16> {
            (0..1000)
                .map(|n| {
                    delivery_outcome("41793026727", &format!("m{n}"), TWO_DAYS, &config).status
                })
                .collect()
        };
        let first = statuses();
        let undeliverable = first.iter().filter(|status| **status == 9).count();
        assert!((180..320).contains(&undeliverable), "{undeliverable}");
        assert_eq!(first, statuses());
    }
}
