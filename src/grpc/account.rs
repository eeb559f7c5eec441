//! `AccountService`: the account at the API.

use tonic::{Request, Response, Status};

use super::{Context, deadline::Deadline};
use crate::proto::v1::{self, account_service_server::AccountService};

/// The service.
#[derive(Clone)]
pub(super) struct Account(pub(super) Context);

#[tonic::async_trait]
impl AccountService for Account {
    async fn get_balance(
        &self,
        request: Request<v1::GetBalanceRequest>,
    ) -> Result<Response<v1::GetBalanceResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let balance = async { Ok(self.0.client.balance().await?) };
        Ok(Response::new(super::in_time(deadline, balance).await?))
    }
}
