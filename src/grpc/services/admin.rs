//! `AdminService`: part of the contract, not of this version. Every method answers UNIMPLEMENTED.

use tonic::{Request, Response, Status};

use crate::grpc::failure::Failure;
use crate::proto::v1::{self, admin_service_server::AdminService};

#[derive(Clone, Copy)]
pub(in crate::grpc) struct Admin;

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Failure::Unimplemented {
        detail: "dead letters, quarantine and reconciliation by hand come with a later version",
    }
    .into())
}

macro_rules! unimplemented_methods {
    ($($method:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl AdminService for Admin {
            $(async fn $method(&self, _: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                unimplemented()
            })*
        }
    };
}

unimplemented_methods! {
    list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse;
    replay_dead_letters(ReplayDeadLettersRequest) -> ReplayDeadLettersResponse;
    discard_dead_letters(DiscardDeadLettersRequest) -> DiscardDeadLettersResponse;
    list_quarantined(ListQuarantinedRequest) -> ListQuarantinedResponse;
    replay_quarantined(ReplayQuarantinedRequest) -> ReplayQuarantinedResponse;
    discard_quarantined(DiscardQuarantinedRequest) -> DiscardQuarantinedResponse;
    reconcile(ReconcileRequest) -> ReconcileResponse;
}
