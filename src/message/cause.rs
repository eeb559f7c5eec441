//! Who has to act on a dead letter: the publisher of the command, whose mistake it is, or the operator, because the bridge gave it up.
//!
//! Invariant: programs depend on the spellings (the header `smsbridge-cause`, the label `cause`), so they never change after 1.0.
//! Neighbours: `commands` writes the header and reads it, `ops::metrics` counts by it.

use super::reason::Reason;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The command is invalid, and would be invalid again.
    Caller,
    /// The command may be right: the API, or the broker, refused it too often.
    GivenUp,
}

impl Cause {
    /// The cause of a dead letter with this reason.
    #[must_use]
    pub fn of(reason: Reason) -> Self {
        match reason {
            Reason::AttemptLimit | Reason::DeliveryLimit | Reason::Returned => Self::GivenUp,
            _ => Self::Caller,
        }
    }

    /// The cause of a dead letter with a reason in this spelling. `None` if the bridge has no such reason.
    #[must_use]
    pub fn of_text(reason: &str) -> Option<Self> {
        let known = Reason::ALL.iter().find(|known| known.as_str() == reason);
        known.copied().map(Self::of)
    }

    /// Reads the spelling of [`Cause::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Caller, Self::GivenUp]
            .into_iter()
            .find(|cause| cause.as_str() == text)
    }

    /// The spelling in the header and in the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::GivenUp => "given_up",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bridge_gave_up_is_no_mistake_of_the_publisher() {
        assert_eq!(Cause::of_text("INVALID_REQUEST"), Some(Cause::Caller));
        assert_eq!(Cause::of_text("ATTEMPT_LIMIT"), Some(Cause::GivenUp));
        assert_eq!(Cause::of_text("RETURNED"), Some(Cause::GivenUp));
        assert_eq!(Cause::of_text("unheard of"), None);
        for cause in [Cause::Caller, Cause::GivenUp] {
            assert_eq!(Cause::parse(cause.as_str()), Some(cause));
        }
    }
}
