//! The API's status and error codes, and the stable group that the bridge assigns to each.
//!
//! Codes are open-ended: ids, names and groups that are in no table pass through unchanged. The bridge adds the group, which
//! [`status`] and [`error`] decide. The simulator has its own copy of the tables, so that a test can compare the two.
//!
//! Invariant: a status is in the group DELIVERED only if no field that the bridge knows contradicts it.
//! Neighbours: `infobip` converts the API's codes here, `grpc` lists the tables.

mod key;
mod tables;

pub use self::key::{error_key, status_key};
use self::tables::{ERROR_GROUPS, ERRORS, STATUS_GROUPS, STATUSES};
use crate::proto::v1::{self, ErrorGroup, StatusGroup as Group};

/// A row of the manual's table "Statuses".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusCode {
    pub id: i32,
    /// The group that the manual's `GroupId` stands for.
    pub group: Group,
    pub name: &'static str,
    pub description: &'static str,
    /// Empty if the manual gives none.
    pub action: &'static str,
}

/// A row of the manual's table "GSM Error Codes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    pub id: i32,
    /// The group that the manual's `GroupId` stands for.
    pub group: ErrorGroup,
    pub name: &'static str,
    pub description: &'static str,
    pub permanent: bool,
}

/// A row of the manual's table "Statuses groups".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusGroupCode {
    pub id: i32,
    pub name: &'static str,
    pub description: &'static str,
    /// The group of the contract.
    pub group: Group,
}

/// A row of the manual's table "Errors groups".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorGroupCode {
    pub id: i32,
    pub name: &'static str,
    pub description: &'static str,
    /// The group of the contract.
    pub group: ErrorGroup,
}

/// All statuses of the manual, sorted by id.
#[must_use]
pub fn statuses() -> &'static [StatusCode] {
    &STATUSES
}

/// All GSM errors of the manual, sorted by id.
#[must_use]
pub fn errors() -> &'static [ErrorCode] {
    &ERRORS
}

/// All status groups of the manual, sorted by id.
#[must_use]
pub fn status_groups() -> &'static [StatusGroupCode] {
    &STATUS_GROUPS
}

/// All error groups of the manual, sorted by id.
#[must_use]
pub fn error_groups() -> &'static [ErrorGroupCode] {
    &ERROR_GROUPS
}

/// The fields of a status from the API. Absent fields are `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusFields {
    pub group_id: Option<i32>,
    pub group_name: String,
    pub id: Option<i32>,
    pub name: String,
    pub description: String,
    pub action: String,
}

/// The fields of an error from the API. Absent fields are `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorFields {
    pub group_id: Option<i32>,
    pub group_name: String,
    pub id: Option<i32>,
    pub name: String,
    pub description: String,
    pub permanent: Option<bool>,
}

/// Converts a status: copies the API's fields unchanged and adds the group.
#[must_use]
pub fn status(fields: StatusFields) -> v1::Status {
    let group = status_group(&fields);
    v1::Status {
        group_id: fields.group_id.unwrap_or_default(),
        group_name: fields.group_name,
        id: fields.id.unwrap_or_default(),
        name: fields.name,
        description: fields.description,
        action: fields.action,
        group: group.into(),
    }
}

/// Converts an error: copies the API's fields unchanged and adds the group. If the API does not say whether the error is
/// permanent, the table decides. An error that is not in the table counts as temporary, so that callers do not stop sending to
/// the number because of it.
#[must_use]
pub fn error(fields: ErrorFields) -> v1::Error {
    let known = errors()
        .iter()
        .find(|row| same_code(row.name, &fields.name))
        .or_else(|| fields.id.and_then(error_by_id));
    let group = error_groups()
        .iter()
        .find(|row| same_code(row.name, &fields.group_name))
        .map(|row| row.group)
        .or_else(|| known.map(|row| row.group))
        .or_else(|| {
            let id = fields.group_id?;
            error_groups()
                .iter()
                .find(|row| row.id == id)
                .map(|row| row.group)
        })
        .unwrap_or_default();
    v1::Error {
        group_id: fields.group_id.unwrap_or_default(),
        group_name: fields.group_name,
        id: fields.id.unwrap_or_default(),
        permanent: fields
            .permanent
            .unwrap_or_else(|| known.is_some_and(|row| row.permanent)),
        name: fields.name,
        description: fields.description,
        action: String::new(),
        group: group.into(),
    }
}

/// Whether a message with a status in this group is finished: no further report follows.
#[must_use]
pub fn is_final(group: Group) -> bool {
    match group {
        Group::Undeliverable | Group::Delivered | Group::Expired | Group::Rejected => true,
        Group::Unspecified | Group::Accepted | Group::Pending => false,
    }
}

/// The group of a status. Sources in order of precedence: the group name, the table row with this name, the table row with
/// this id, the group id; unknown values are skipped. If the first source says DELIVERED and another one contradicts it, the
/// first contradiction wins: the manual's own sample of an intermediate report has the group id of DELIVERED and the name
/// PENDING_WAITING_DELIVERY, and reporting an undelivered message as delivered is worse than reporting it late.
fn status_group(fields: &StatusFields) -> Group {
    // Fast path, taken by almost every status: all fields agree with one row of the table.
    if let Some(row) = fields.id.and_then(status_by_id)
        && row.name == fields.name
        && let Some(group) = group_by_id(fields.group_id)
        && row.group == group.group
        && group.name == fields.group_name
    {
        return row.group;
    }
    let candidates = [
        status_groups()
            .iter()
            .find(|row| same_code(row.name, &fields.group_name))
            .map(|row| row.group),
        statuses()
            .iter()
            .find(|row| same_code(row.name, &fields.name))
            .map(|row| row.group),
        fields.id.and_then(status_by_id).map(|row| row.group),
        group_by_id(fields.group_id).map(|row| row.group),
    ];
    let mut candidates = candidates.into_iter().flatten();
    match candidates.next() {
        Some(Group::Delivered) => candidates
            .find(|group| *group != Group::Delivered)
            .unwrap_or(Group::Delivered),
        Some(group) => group,
        None => Group::Unspecified,
    }
}

fn status_by_id(id: i32) -> Option<&'static StatusCode> {
    let at = STATUSES.binary_search_by_key(&id, |row| row.id).ok()?;
    STATUSES.get(at)
}

fn error_by_id(id: i32) -> Option<&'static ErrorCode> {
    let at = ERRORS.binary_search_by_key(&id, |row| row.id).ok()?;
    ERRORS.get(at)
}

fn group_by_id(id: Option<i32>) -> Option<&'static StatusGroupCode> {
    STATUS_GROUPS.get(usize::try_from(id?).ok()?)
}

/// Compares a name from the API with one of the tables. Sources differ in case (`Ok`, `OK`), and printed samples have spaces
/// where the tables have underscores.
fn same_code(known: &str, received: &str) -> bool {
    let received = received.trim();
    known.len() == received.len()
        && known
            .bytes()
            .zip(received.bytes())
            .all(|(known, received)| {
                known.eq_ignore_ascii_case(&received) || (known == b'_' && received == b' ')
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(group_id: Option<i32>, group_name: &str, id: Option<i32>, name: &str) -> Group {
        status(StatusFields {
            group_id,
            group_name: group_name.into(),
            id,
            name: name.into(),
            ..StatusFields::default()
        })
        .group()
    }

    #[test]
    fn tables_are_sorted_and_every_row_gets_its_own_group() {
        assert!(statuses().is_sorted_by(|a, b| a.id < b.id));
        assert!(errors().is_sorted_by(|a, b| a.id < b.id));
        for row in statuses() {
            let entry = status_groups()
                .iter()
                .find(|entry| entry.group == row.group)
                .unwrap();
            let found = group(Some(entry.id), entry.name, Some(row.id), row.name);
            assert_eq!(found, row.group, "{row:?}");
            assert_eq!(group(None, "", Some(row.id), ""), row.group, "{row:?}");
            assert_eq!(group(None, "", None, row.name), row.group, "{row:?}");
        }
    }

    #[test]
    fn the_tables_equal_the_simulators_tables() {
        use infobip_simulator::codes;
        let ours: Vec<_> = statuses()
            .iter()
            .map(|row| {
                let action = Some(row.action).filter(|action| !action.is_empty());
                let group = row.group as u8 - 1;
                (row.id, group, row.name, row.description, action)
            })
            .collect();
        let theirs: Vec<_> = codes::STATUSES
            .iter()
            .map(|row| {
                (
                    i32::from(row.id),
                    row.group_id,
                    row.name,
                    row.description,
                    row.action,
                )
            })
            .collect();
        assert_eq!(ours, theirs);
        let ours: Vec<_> = errors()
            .iter()
            .map(|row| {
                (
                    row.id,
                    row.group as u8 - 1,
                    row.name,
                    row.description,
                    row.permanent,
                )
            })
            .collect();
        let theirs: Vec<_> = codes::ERRORS
            .iter()
            .map(|row| {
                (
                    i32::from(row.id),
                    row.group_id,
                    row.name,
                    row.description,
                    row.permanent,
                )
            })
            .collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn the_manuals_intermediate_report_is_pending() {
        let sample = group(Some(3), "PENDING", Some(1), "PENDING_WAITING_DELIVERY");
        assert_eq!(sample, Group::Pending);
        assert!(!is_final(sample));
    }

    #[test]
    fn contradictory_fields_are_never_delivered() {
        for (fields, expected) in [
            (
                (Some(3), "DELIVERED", Some(3), "PENDING_WAITING_DELIVERY"),
                Group::Pending,
            ),
            (
                (Some(3), "DELIVERED", Some(9), "NEVER_HEARD_OF"),
                Group::Undeliverable,
            ),
            (
                (Some(1), "", Some(5), "DELIVERED_TO_HANDSET"),
                Group::Pending,
            ),
            (
                (Some(2), "", Some(5), "NEVER_HEARD_OF"),
                Group::Undeliverable,
            ),
            (
                (Some(3), "DELIVERED", Some(15), "DELIVERED_TO_HANDSET"),
                Group::Expired,
            ),
            (
                (Some(3), "REJECTED", Some(5), "DELIVERED_TO_HANDSET"),
                Group::Rejected,
            ),
        ] {
            let (group_id, group_name, id, name) = fields;
            assert_eq!(
                group(group_id, group_name, id, name),
                expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn unknown_and_missing_fields_are_skipped() {
        for (fields, expected) in [
            ((None, "DELIVERED", None, ""), Group::Delivered),
            ((None, "", None, "DELIVERED TO HANDSET"), Group::Delivered),
            (
                (Some(3), "Delivered", Some(777), "DELIVERED_TO_THE_MOON"),
                Group::Delivered,
            ),
            (
                (Some(3), "TELEPORTED", Some(5), "TELEPORTED_TO_HANDSET"),
                Group::Delivered,
            ),
            (
                (Some(77), "TELEPORTED", Some(5), "DELIVERED_TO_HANDSET"),
                Group::Delivered,
            ),
            ((Some(4), "", Some(777), ""), Group::Expired),
            (
                (Some(6), "TELEPORTED", Some(777), "TELEPORTED"),
                Group::Unspecified,
            ),
            ((Some(-1), "", Some(-1), ""), Group::Unspecified),
            ((None, "", None, ""), Group::Unspecified),
        ] {
            let (group_id, group_name, id, name) = fields;
            assert_eq!(
                group(group_id, group_name, id, name),
                expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn codes_pass_through_unchanged() {
        let odd = status(StatusFields {
            group_id: Some(9),
            group_name: "TELEPORTED".into(),
            id: Some(4242),
            name: "BEAMED_UP".into(),
            description: "Gone".into(),
            action: "Look up".into(),
        });
        assert_eq!(
            (
                odd.group_id,
                odd.group_name.as_str(),
                odd.id,
                odd.name.as_str()
            ),
            (9, "TELEPORTED", 4242, "BEAMED_UP")
        );
        assert_eq!(
            (odd.description.as_str(), odd.action.as_str()),
            ("Gone", "Look up")
        );
    }

    #[test]
    fn errors_get_their_group_and_permanence_from_the_table() {
        let no_error = error(ErrorFields {
            group_id: Some(0),
            group_name: "Ok".into(),
            id: Some(0),
            name: "NO_ERROR".into(),
            permanent: Some(false),
            ..ErrorFields::default()
        });
        assert_eq!(
            (no_error.group(), no_error.permanent),
            (ErrorGroup::Ok, false)
        );
        let from_table = error(ErrorFields {
            id: Some(1),
            ..ErrorFields::default()
        });
        assert_eq!(
            (from_table.group(), from_table.permanent),
            (ErrorGroup::Handset, true)
        );
        let overruled = error(ErrorFields {
            id: Some(1),
            permanent: Some(false),
            ..ErrorFields::default()
        });
        assert!(!overruled.permanent);
        let unknown = error(ErrorFields {
            id: Some(9999),
            group_id: Some(3),
            ..ErrorFields::default()
        });
        assert_eq!(
            (unknown.group(), unknown.permanent),
            (ErrorGroup::Operator, false)
        );
        assert_eq!(
            error(ErrorFields::default()).group(),
            ErrorGroup::Unspecified
        );
    }

    #[test]
    fn four_groups_are_final() {
        let last: Vec<_> = status_groups()
            .iter()
            .filter(|row| is_final(row.group))
            .map(|row| row.name)
            .collect();
        assert_eq!(last, ["UNDELIVERABLE", "DELIVERED", "EXPIRED", "REJECTED"]);
        assert!(!is_final(Group::Unspecified));
    }
}
