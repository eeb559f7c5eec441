//! `LookupService`: paid queries about numbers, answered by the call or pushed later as events.

use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use crate::grpc::{
    ServiceContext, auth::caller::Caller, failure::Failure, middleware::deadline::Deadline,
};
use crate::{
    infobip::{limits::MAX_LOOKUP_NUMBERS, wire::LookupRow},
    message::address::normalize_number,
    proto::v1::{self, FieldViolation, lookup_service_server::LookupService},
};

/// Limit of numbers in a call.
const MAX_NUMBERS: usize = 10_000;

#[derive(Clone)]
pub(in crate::grpc) struct Lookup(pub(in crate::grpc) ServiceContext);

#[tonic::async_trait]
impl LookupService for Lookup {
    async fn lookup_numbers(
        &self,
        request: Request<v1::LookupNumbersRequest>,
    ) -> Result<Response<v1::LookupNumbersResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let numbers = numbers(&request.get_ref().to)?;
        let results = self.look_up(&numbers, None, deadline).await?;
        Ok(Response::new(v1::LookupNumbersResponse { results }))
    }

    async fn request_number_lookup(
        &self,
        request: Request<v1::RequestNumberLookupRequest>,
    ) -> Result<Response<v1::RequestNumberLookupResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let numbers = numbers(&request.get_ref().to)?;
        let Some(notify_url) = &self.0.lookups_url else {
            return Err(Failure::NotConfigured {
                key: "http.public_url",
                detail: "the API pushes the results of asynchronous look-ups to the bridge",
            }
            .into());
        };
        let notify_url = format!(
            "{}?application={}",
            notify_url.expose_secret(),
            Caller::of(&request).application
        );
        let results = self.look_up(&numbers, Some(&notify_url), deadline).await?;
        Ok(Response::new(v1::RequestNumberLookupResponse { results }))
    }
}

impl Lookup {
    /// Looks up the numbers, [`MAX_LOOKUP_NUMBERS`] per request. With a `notify_url` the API pushes the results there.
    ///
    /// If a request fails, its numbers and all that follow get a refusal, because the results of earlier requests were paid for.
    /// An error only if the first request fails.
    async fn look_up(
        &self,
        numbers: &[String],
        notify_url: Option<&str>,
        deadline: Deadline,
    ) -> Result<Vec<v1::NumberLookup>, Failure> {
        let client = &self.0.account.client;
        let mut results = Vec::with_capacity(numbers.len());
        let mut requests = numbers.chunks(MAX_LOOKUP_NUMBERS);
        while let Some(numbers) = requests.next() {
            let request = async {
                Ok(match notify_url {
                    None => client.lookup(numbers).await?,
                    Some(notify_url) => client.lookup_async(numbers, notify_url).await?,
                })
            };
            match crate::grpc::in_time(deadline, request).await {
                Ok(rows) => results.extend(rows.rows.into_iter().map(result)),
                Err(failure) if results.is_empty() => return Err(failure),
                Err(failure) => {
                    let failed = v1::Refusal::from(failure);
                    results.extend(numbers.iter().map(|to| refused(to, &failed)));
                    let untried = v1::Refusal {
                        retryable: true,
                        ..failed
                    };
                    let rest = requests.by_ref().flatten();
                    results.extend(rest.map(|to| refused(to, &untried)));
                }
            }
        }
        Ok(results)
    }
}

fn refused(to: &str, refusal: &v1::Refusal) -> v1::NumberLookup {
    v1::NumberLookup {
        to: to.to_owned(),
        refusal: Some(Box::new(refusal.clone())),
        ..v1::NumberLookup::default()
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
