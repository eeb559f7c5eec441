//! `LookupService`: paid queries about numbers, answered by the call or pushed later as events.
//!
//! Neighbour: `query::lookup` splits them into requests.

use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::grpc::{
    ServiceContext, auth::caller::Caller, failure::Failure, middleware::deadline::Deadline,
};
use crate::{
    proto::v1::{self, lookup_service_server::LookupService},
    query::lookup::{Numbers, Way},
};

#[derive(Clone)]
pub(in crate::grpc) struct Lookup(pub(in crate::grpc) ServiceContext);

#[tonic::async_trait]
impl LookupService for Lookup {
    async fn lookup_numbers(
        &self,
        request: Request<v1::LookupNumbersRequest>,
    ) -> Result<Response<v1::LookupNumbersResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let results = self
            .look_up(&request.get_ref().to, Way::Answer, deadline)
            .await?;
        Ok(Response::new(v1::LookupNumbersResponse { results }))
    }

    async fn request_number_lookup(
        &self,
        request: Request<v1::RequestNumberLookupRequest>,
    ) -> Result<Response<v1::RequestNumberLookupResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let Some(notify_url) = &self.0.lookups_url else {
            // The mistakes of the request come first.
            numbers(&request.get_ref().to)?;
            return Err(Failure::NotConfigured {
                key: "http.public_url",
                detail: "the API pushes the results of asynchronous look-ups to the bridge",
            }
            .into());
        };
        // The pushed rows name neither the application nor the request.
        let notify_url = format!(
            "{}?application={}&request={}",
            notify_url.expose_secret(),
            Caller::of(&request).application,
            Uuid::new_v4().simple()
        );
        let way = Way::Push {
            notify_url: &notify_url,
        };
        let results = self.look_up(&request.get_ref().to, way, deadline).await?;
        Ok(Response::new(v1::RequestNumberLookupResponse { results }))
    }
}

impl Lookup {
    async fn look_up(
        &self,
        to: &[String],
        way: Way<'_>,
        deadline: Deadline,
    ) -> Result<Vec<v1::NumberLookup>, Failure> {
        let numbers = numbers(to)?;
        let lookups = &self.0.query.lookups;
        Ok(lookups.look_up(&numbers, way, deadline.at()).await?)
    }
}

fn numbers(to: &[String]) -> Result<Numbers, Failure> {
    Numbers::parse(to).map_err(Failure::Invalid)
}
