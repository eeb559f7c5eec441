//! Classifies the status of one destination: accepted, rejected, or to be looked up.
//!
//! Invariants: no other module classifies statuses of sends; a destination counts as accepted only if the API's status is an
//! acceptance (P3, docs/RELIABILITY.md).
//! Neighbours: `dispatcher` classifies responses, `resolver` classifies log rows.

use crate::proto::v1;

/// The status of a send whose id the API has seen before (docs/INFOBIP_API.md#sending).
const DUPLICATE_ID: i32 = 23;
const DUPLICATE_NAME: &str = "REJECTED_DUPLICATE_MESSAGE_ID";

/// What the status of a send response or of a log row means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The API accepted the message.
    Accepted,
    /// The API refused the message for good.
    Rejected,
    /// The status does not determine the outcome: the message is looked up in the logs, and not resent.
    InDoubt,
}

/// Classifies a status in the response to a send.
pub(super) fn of_response(status: &v1::Status) -> Verdict {
    use v1::StatusGroup as Group;
    if is_duplicate(status) {
        return Verdict::InDoubt;
    }
    match status.group() {
        Group::Accepted | Group::Pending | Group::Delivered => Verdict::Accepted,
        Group::Rejected | Group::Undeliverable | Group::Expired => Verdict::Rejected,
        // An unknown status is not an acceptance.
        Group::Unspecified => Verdict::InDoubt,
    }
}

/// Classifies a status in a row of the logs. The API logs accepted messages and rejections. What became of an accepted message is in
/// its delivery reports. The row of a refused duplicate does not tell the outcome of the message that had the id first.
pub(super) fn of_log(status: &v1::Status) -> Verdict {
    match status.group() {
        _ if is_duplicate(status) => Verdict::InDoubt,
        v1::StatusGroup::Rejected => Verdict::Rejected,
        _ => Verdict::Accepted,
    }
}

fn is_duplicate(status: &v1::Status) -> bool {
    status.id == DUPLICATE_ID || status.name == DUPLICATE_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(id: i32, group: v1::StatusGroup) -> v1::Status {
        v1::Status {
            id,
            group: group.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_duplicate_id_is_not_a_rejection() {
        assert_eq!(
            of_response(&status(23, v1::StatusGroup::Rejected)),
            Verdict::InDoubt
        );
        assert_eq!(
            of_response(&status(6, v1::StatusGroup::Rejected)),
            Verdict::Rejected
        );
    }

    #[test]
    fn a_duplicate_in_the_logs_is_no_outcome() {
        let rejected = v1::StatusGroup::Rejected;
        assert_eq!(of_log(&status(23, rejected)), Verdict::InDoubt);
        assert_eq!(of_log(&status(6, rejected)), Verdict::Rejected);
    }

    #[test]
    fn an_unknown_status_is_not_an_acceptance() {
        assert_eq!(
            of_response(&status(777, v1::StatusGroup::Unspecified)),
            Verdict::InDoubt
        );
        assert_eq!(
            of_response(&status(0, v1::StatusGroup::Accepted)),
            Verdict::Accepted
        );
        assert_eq!(
            of_response(&status(26, v1::StatusGroup::Pending)),
            Verdict::Accepted
        );
    }
}
