//! `AccountService`: the balance of the account at the API.

use tonic::{Request, Response, Status};

use crate::grpc::{ServiceContext, middleware::deadline::Deadline};
use crate::proto::v1::{self, account_service_server::AccountService};

#[derive(Clone)]
pub(in crate::grpc) struct Account(pub(in crate::grpc) ServiceContext);

#[tonic::async_trait]
impl AccountService for Account {
    async fn get_balance(
        &self,
        request: Request<v1::GetBalanceRequest>,
    ) -> Result<Response<v1::GetBalanceResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let balance = async { Ok(self.0.account.client.balance().await?) };
        Ok(Response::new(
            crate::grpc::in_time(deadline, balance).await?,
        ))
    }
}
