//! Statuses and GSM errors in response bodies.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::codes;

/// A status by its id, written as the object of the API. An id outside the table gets an invented name in the group
/// REJECTED: the real API adds codes over time, and clients must handle unknown ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatusObject(pub(crate) u16);

impl StatusObject {
    pub(crate) fn group_name(self) -> &'static str {
        codes::status(self.0).map_or("REJECTED", |row| row.group_name)
    }
}

impl Serialize for StatusObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = codes::status(self.0);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("groupId", &row.map_or(5, |row| row.group_id))?;
        map.serialize_entry("groupName", self.group_name())?;
        map.serialize_entry("id", &self.0)?;
        match row {
            Some(row) => {
                map.serialize_entry("name", row.name)?;
                map.serialize_entry("description", row.description)?;
                if let Some(action) = row.action {
                    map.serialize_entry("action", action)?;
                }
            }
            None => {
                map.serialize_entry("name", &format_args!("REJECTED_CODE_{}", self.0))?;
                map.serialize_entry("description", "A status newer than the manual")?;
            }
        }
        map.end()
    }
}

/// A GSM error by its id, written as the object of the API. An id outside the table gets an invented name in the group
/// HANDSET_ERRORS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorObject(pub(crate) u16);

impl Serialize for ErrorObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = codes::error(self.0);
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("groupId", &row.map_or(1, |row| row.group_id))?;
        map.serialize_entry(
            "groupName",
            row.map_or("HANDSET_ERRORS", |row| row.group_name),
        )?;
        map.serialize_entry("id", &self.0)?;
        match row {
            Some(row) => {
                map.serialize_entry("name", row.name)?;
                map.serialize_entry("description", row.description)?;
                map.serialize_entry("permanent", &row.permanent)?;
            }
            None => {
                map.serialize_entry("name", &format_args!("EC_CODE_{}", self.0))?;
                map.serialize_entry("description", "An error newer than the manual")?;
                map.serialize_entry("permanent", &false)?;
            }
        }
        map.end()
    }
}
