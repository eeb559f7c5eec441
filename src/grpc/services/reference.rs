//! `ReferenceService`: the code tables of the API's manual.

use tonic::{Request, Response, Status};

use crate::{
    message::codes::{self, ErrorFields, StatusFields},
    proto::v1::{self, reference_service_server::ReferenceService},
};

#[derive(Clone, Copy)]
pub(in crate::grpc) struct Reference;

#[tonic::async_trait]
impl ReferenceService for Reference {
    async fn list_statuses(
        &self,
        _request: Request<v1::ListStatusesRequest>,
    ) -> Result<Response<v1::ListStatusesResponse>, Status> {
        let statuses = codes::statuses().iter().map(|row| {
            codes::status(StatusFields {
                id: Some(row.id),
                name: row.name.to_owned(),
                description: row.description.to_owned(),
                action: row.action.to_owned(),
                ..status_group(row.group)
            })
        });
        let groups = codes::status_groups()
            .iter()
            .map(|row| v1::StatusGroupEntry {
                id: row.id,
                name: row.name.to_owned(),
                description: row.description.to_owned(),
                group: row.group.into(),
                r#final: codes::is_final(row.group),
            });
        Ok(Response::new(v1::ListStatusesResponse {
            statuses: statuses.collect(),
            groups: groups.collect(),
        }))
    }

    async fn list_errors(
        &self,
        _request: Request<v1::ListErrorsRequest>,
    ) -> Result<Response<v1::ListErrorsResponse>, Status> {
        let errors = codes::errors().iter().map(|row| {
            codes::error(ErrorFields {
                id: Some(row.id),
                name: row.name.to_owned(),
                description: row.description.to_owned(),
                permanent: Some(row.permanent),
                ..error_group(row.group)
            })
        });
        let groups = codes::error_groups().iter().map(|row| v1::ErrorGroupEntry {
            id: row.id,
            name: row.name.to_owned(),
            description: row.description.to_owned(),
            group: row.group.into(),
        });
        Ok(Response::new(v1::ListErrorsResponse {
            errors: errors.collect(),
            groups: groups.collect(),
        }))
    }
}

/// The group's fields of a status.
fn status_group(group: v1::StatusGroup) -> StatusFields {
    let row = codes::status_groups().iter().find(|row| row.group == group);
    row.map_or_else(StatusFields::default, |row| StatusFields {
        group_id: Some(row.id),
        group_name: row.name.to_owned(),
        ..StatusFields::default()
    })
}

/// The group's fields of an error.
fn error_group(group: v1::ErrorGroup) -> ErrorFields {
    let row = codes::error_groups().iter().find(|row| row.group == group);
    row.map_or_else(ErrorFields::default, |row| ErrorFields {
        group_id: Some(row.id),
        group_name: row.name.to_owned(),
        ..ErrorFields::default()
    })
}
