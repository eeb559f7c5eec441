//! One text for each code, whatever a source writes of it: the ids of events are derived from it, and the API's sources differ.
//!
//! They leave out the name or the id, write names in another case, or give nothing but the group. Consumers store the ids of
//! events, so a code that has a name of the tables must always get this name.

use super::{ERRORS, STATUSES, error_by_id, same_code, status_by_id};
use crate::proto::v1::{self, ErrorGroup, StatusGroup};

const NO_ERROR: &str = "NO_ERROR";

/// The name of a status in the table, found by name, then by id; else the name, the id or the group that the API wrote.
#[must_use]
pub fn status_key(status: &v1::Status) -> String {
    let by_id = status_by_id(status.id);
    if let Some(row) = by_id.filter(|row| row.name == status.name) {
        return row.name.to_owned();
    }
    if !status.name.is_empty() {
        let row = STATUSES
            .iter()
            .find(|row| same_code(row.name, &status.name));
        return row.map_or(status.name.as_str(), |row| row.name).to_owned();
    }
    let group = status.group();
    // An absent id reads as 0, which is an id of the table too.
    match by_id {
        Some(row) if status.id != 0 || row.group == group => row.name.to_owned(),
        _ if status.id != 0 => status.id.to_string(),
        _ if group != StatusGroup::Unspecified => group.as_str_name().to_owned(),
        _ if !status.group_name.is_empty() => status.group_name.clone(),
        _ => "0".to_owned(),
    }
}

/// As [`status_key`]. No error is the error NO_ERROR.
#[must_use]
pub fn error_key(error: Option<&v1::Error>) -> String {
    let Some(error) = error else {
        return NO_ERROR.to_owned();
    };
    let by_id = error_by_id(error.id);
    if let Some(row) = by_id.filter(|row| row.name == error.name) {
        return row.name.to_owned();
    }
    if !error.name.is_empty() {
        let row = ERRORS.iter().find(|row| same_code(row.name, &error.name));
        return row.map_or(error.name.as_str(), |row| row.name).to_owned();
    }
    let has_no_group = error.group() == ErrorGroup::Unspecified && error.group_name.is_empty();
    match by_id {
        Some(row) if error.id != 0 || row.group == error.group() || has_no_group => {
            row.name.to_owned()
        }
        _ if error.id != 0 => error.id.to_string(),
        _ if error.group() != ErrorGroup::Unspecified => error.group().as_str_name().to_owned(),
        _ => error.group_name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::codes::{ErrorFields, StatusFields, error, status};

    fn status_of(group_name: &str, id: Option<i32>, name: &str) -> String {
        status_key(&status(StatusFields {
            group_name: group_name.into(),
            id,
            name: name.into(),
            ..StatusFields::default()
        }))
    }

    fn error_of(group_name: &str, id: Option<i32>, name: &str) -> String {
        let error = error(ErrorFields {
            group_name: group_name.into(),
            id,
            name: name.into(),
            ..ErrorFields::default()
        });
        error_key(Some(&error))
    }

    #[test]
    fn a_code_of_the_table_has_one_key_however_it_is_written() {
        let name = "DELIVERED_TO_HANDSET";
        assert_eq!(status_of("DELIVERED", Some(5), name), name);
        assert_eq!(status_of("", Some(5), ""), name);
        assert_eq!(status_of("", None, "delivered to handset"), name);
        // The log of 2015 has a group alone.
        for (group, id, name) in [
            ("OK", Some(0), "NO_ERROR"),
            ("Ok", None, ""),
            ("", Some(0), ""),
            ("", None, ""),
            ("", None, "No_Error"),
        ] {
            assert_eq!(error_of(group, id, name), NO_ERROR, "{group} {name}");
        }
        assert_eq!(error_key(None), NO_ERROR);
        assert_eq!(error_of("", Some(1), ""), "EC_UNKNOWN_SUBSCRIBER");
    }

    #[test]
    fn codes_that_differ_have_different_keys() {
        let groups = ["ACCEPTED", "PENDING", "DELIVERED", "Another"];
        let mut keys: Vec<_> = groups.map(|group| status_of(group, None, "")).into();
        keys.extend([
            status_of("", None, ""),
            status_of("", Some(9999), ""),
            status_of("", Some(9999), "NEW_NAME"),
        ]);
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{keys:?}");
        assert_ne!(error_of("HANDSET_ERRORS", None, ""), NO_ERROR);
        assert_ne!(error_of("Another", None, ""), NO_ERROR);
    }
}
