//! `AdminService`: part of the contract; its methods come with later issues and say so.

use tonic::{Request, Response, Status};

use crate::grpc::failure::Failure;
use crate::proto::v1::{self, admin_service_server::AdminService};

/// The service.
#[derive(Clone, Copy)]
pub(in crate::grpc) struct Admin;

fn not_built<T>() -> Result<Response<T>, Status> {
    Err(Failure::NotBuilt {
        detail: "dead letters, quarantine and reconciliation by hand come with a later version",
    }
    .into())
}

macro_rules! not_built {
    ($($method:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl AdminService for Admin {
            $(async fn $method(&self, _: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                not_built()
            })*
        }
    };
}

not_built! {
    list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse;
    replay_dead_letters(ReplayDeadLettersRequest) -> ReplayDeadLettersResponse;
    discard_dead_letters(DiscardDeadLettersRequest) -> DiscardDeadLettersResponse;
    list_quarantined(ListQuarantinedRequest) -> ListQuarantinedResponse;
    replay_quarantined(ReplayQuarantinedRequest) -> ReplayQuarantinedResponse;
    discard_quarantined(DiscardQuarantinedRequest) -> DiscardQuarantinedResponse;
    reconcile(ReconcileRequest) -> ReconcileResponse;
}
