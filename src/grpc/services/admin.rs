//! `AdminService`: part of the contract, not of this version. Every method answers UNIMPLEMENTED.

use tonic::{Request, Response, Status};

use crate::grpc::failure::Failure;
use crate::proto::v1::{self, admin_service_server::AdminService};

#[derive(Clone, Copy)]
pub(in crate::grpc) struct Admin;

const DEAD_LETTERS: &str = "take the messages of the queue smsbridge.dead (with another amqp.prefix: its queue `dead`) \
                            with RabbitMQ's tools, and publish them again";
const QUARANTINE: &str = "quarantined bodies are kept for a later version: in the embedded log, or in the queue \
                          smsbridge.quarantine, which RabbitMQ's tools can read";
const RECONCILIATION: &str = "compare ListSmsLogs with the events of StreamEvents";

macro_rules! unimplemented_methods {
    ($($method:ident($request:ident) -> $response:ident: $detail:ident;)*) => {
        #[tonic::async_trait]
        impl AdminService for Admin {
            $(async fn $method(&self, _: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                Err(Failure::Unimplemented { detail: $detail }.into())
            })*
        }
    };
}

unimplemented_methods! {
    list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse: DEAD_LETTERS;
    replay_dead_letters(ReplayDeadLettersRequest) -> ReplayDeadLettersResponse: DEAD_LETTERS;
    discard_dead_letters(DiscardDeadLettersRequest) -> DiscardDeadLettersResponse: DEAD_LETTERS;
    list_quarantined(ListQuarantinedRequest) -> ListQuarantinedResponse: QUARANTINE;
    replay_quarantined(ReplayQuarantinedRequest) -> ReplayQuarantinedResponse: QUARANTINE;
    discard_quarantined(DiscardQuarantinedRequest) -> DiscardQuarantinedResponse: QUARANTINE;
    reconcile(ReconcileRequest) -> ReconcileResponse: RECONCILIATION;
}
