//! What an answer of the API means for one destination, decided in one place.

use crate::proto::v1;

/// The immediate status that only says that the id was seen before (manual, status 23).
const DUPLICATE_ID: i32 = 23;
const DUPLICATE_NAME: &str = "REJECTED_DUPLICATE_MESSAGE_ID";

/// What a status in a send response, or in the logs, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The API has the message.
    Accepted,
    /// It has not and will not.
    Rejected,
    /// The logs must say. Never sent again on this ground alone.
    AskTheLogs,
}

/// The verdict of a status in the response to a send.
pub(super) fn of_response(status: &v1::Status) -> Verdict {
    use v1::StatusGroup as Group;
    if status.id == DUPLICATE_ID || status.name == DUPLICATE_NAME {
        return Verdict::AskTheLogs;
    }
    match status.group() {
        Group::Accepted | Group::Pending | Group::Delivered => Verdict::Accepted,
        Group::Rejected | Group::Undeliverable | Group::Expired => Verdict::Rejected,
        // A status that nobody knows: "accepted" is said only of what the API accepted (P3, docs/RELIABILITY.md).
        Group::Unspecified => Verdict::AskTheLogs,
    }
}

/// The verdict of a status in a row of the logs. A row is there because the API took the message, unless it says
/// otherwise; how a message ended after that is the reports' business.
pub(super) fn of_log(status: &v1::Status) -> Verdict {
    match status.group() {
        v1::StatusGroup::Rejected => Verdict::Rejected,
        _ => Verdict::Accepted,
    }
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
    fn a_duplicate_id_is_no_rejection() {
        assert_eq!(
            of_response(&status(23, v1::StatusGroup::Rejected)),
            Verdict::AskTheLogs
        );
        assert_eq!(
            of_response(&status(6, v1::StatusGroup::Rejected)),
            Verdict::Rejected
        );
    }

    #[test]
    fn an_unknown_status_is_not_accepted() {
        assert_eq!(
            of_response(&status(777, v1::StatusGroup::Unspecified)),
            Verdict::AskTheLogs
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
