//! `LookupService`: what is known of numbers.

use tonic::{Request, Response, Status};

use super::{Context, caller::Caller, deadline::Deadline, failure::Failure};
use crate::{
    infobip::wire::LookupRow,
    message::address::normalize_number,
    proto::v1::{self, FieldViolation, lookup_service_server::LookupService},
};

/// Numbers of one request to the API at most (WIRE.md, "Errors").
const NUMBERS_PER_REQUEST: usize = 1_000;
/// Numbers of one call at most.
const MAX_NUMBERS: usize = 10_000;

/// The service.
#[derive(Clone)]
pub(super) struct Lookup(pub(super) Context);

#[tonic::async_trait]
impl LookupService for Lookup {
    async fn lookup_numbers(
        &self,
        request: Request<v1::LookupNumbersRequest>,
    ) -> Result<Response<v1::LookupNumbersResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let numbers = numbers(&request.get_ref().to)?;
        let looked_up = async {
            let mut results = Vec::with_capacity(numbers.len());
            for numbers in numbers.chunks(NUMBERS_PER_REQUEST) {
                results.extend(
                    self.0
                        .client
                        .lookup(numbers)
                        .await?
                        .rows
                        .into_iter()
                        .map(result),
                );
            }
            Ok(v1::LookupNumbersResponse { results })
        };
        Ok(Response::new(super::in_time(deadline, looked_up).await?))
    }

    async fn request_number_lookup(
        &self,
        request: Request<v1::RequestNumberLookupRequest>,
    ) -> Result<Response<v1::RequestNumberLookupResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let numbers = numbers(&request.get_ref().to)?;
        let Some(notify_url) = self.0.lookups_url.as_deref() else {
            return Err(Failure::NotConfigured {
                key: "http.public_url",
                detail: "the answers to asynchronous look-ups are pushed to the bridge, which needs an address",
            }
            .into());
        };
        let notify_url = format!(
            "{notify_url}?application={}",
            Caller::of(&request).application
        );
        let requested = async {
            let mut results = Vec::with_capacity(numbers.len());
            for numbers in numbers.chunks(NUMBERS_PER_REQUEST) {
                let rows = self.0.client.lookup_async(numbers, &notify_url).await?;
                results.extend(rows.rows.into_iter().map(result));
            }
            Ok(v1::RequestNumberLookupResponse { results })
        };
        Ok(Response::new(super::in_time(deadline, requested).await?))
    }
}

fn result(row: LookupRow) -> v1::NumberLookup {
    v1::NumberLookup {
        source_payload: row.source_payload,
        ..row.lookup
    }
}

fn numbers(to: &[String]) -> Result<Vec<String>, Failure> {
    if to.is_empty() {
        return Err(Failure::invalid("to", "is empty: give at least one number"));
    }
    if to.len() > MAX_NUMBERS {
        return Err(Failure::invalid(
            "to",
            format!(
                "has {} numbers: at most {MAX_NUMBERS} in one call",
                to.len()
            ),
        ));
    }
    let mut violations = Vec::new();
    let mut numbers = Vec::with_capacity(to.len());
    for (index, number) in to.iter().enumerate() {
        match normalize_number(number) {
            Ok(number) => numbers.push(number.into_owned()),
            Err(error) => violations.push(FieldViolation {
                field: format!("to[{index}]"),
                description: error.to_string(),
            }),
        }
    }
    if violations.is_empty() {
        Ok(numbers)
    } else {
        Err(Failure::Invalid(violations))
    }
}
