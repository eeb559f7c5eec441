//! `AdminService`: dead letters and quarantine. Reconciliation is part of the contract, not of this version: it answers UNIMPLEMENTED.
//!
//! The queue of dead letters belongs to another edge, so the service asks for it through [`DeadLetterDesk`], which `app` connects.
//! Invariants: a call goes on in a task of its own when its caller goes away, because it has letters or bodies to give back; only who may see
//! all applications sees quarantined bodies, which belong to none.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::grpc::{
    ServiceContext, auth::caller::Caller, failure::Failure, middleware::deadline::Deadline,
};
use crate::proto::v1::{self, admin_service_server::AdminService};

/// The longest time for a call without a deadline.
const LONGEST: Duration = Duration::from_secs(600);

/// The dead letters. `visible` is the only application whose letters the caller may see. What is not done by `until` is left out, and the
/// response says so.
#[tonic::async_trait]
pub trait DeadLetterDesk: Send + Sync {
    async fn list(
        &self,
        request: v1::ListDeadLettersRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::ListDeadLettersResponse, Failure>;
    async fn get(
        &self,
        request: v1::GetDeadLetterRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::GetDeadLetterResponse, Failure>;
    async fn replay(
        &self,
        request: v1::ReplayDeadLettersRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::ReplayDeadLettersResponse, Failure>;
    async fn discard(
        &self,
        request: v1::DiscardDeadLettersRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::DiscardDeadLettersResponse, Failure>;
}

#[derive(Clone)]
pub(in crate::grpc) struct Admin(pub(in crate::grpc) ServiceContext);

const RECONCILIATION: &str = "compare ListSmsLogs with the events of StreamEvents";

macro_rules! admin_methods {
    (
        dead_letters { $($dead:ident($dead_request:ident) -> $dead_response:ident: $call:ident;)* }
        quarantine { $($kept:ident($kept_request:ident) -> $kept_response:ident: $kept_call:ident, $name:literal;)* }
        unimplemented { $($method:ident($request:ident) -> $response:ident: $detail:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl AdminService for Admin {
            $(async fn $dead(&self, request: Request<v1::$dead_request>) -> Result<Response<v1::$dead_response>, Status> {
                let deadline = Deadline::of(request.metadata());
                let visible = Caller::of(&request).visible().map(str::to_owned);
                let desk = self.desk()?;
                let request = request.into_inner();
                let until = until(deadline);
                let working = self.0.tasks.spawn(async move { desk.$call(request, visible, until).await });
                let done = crate::grpc::in_time(deadline, crate::grpc::joined(working)).await?;
                Ok(Response::new(done))
            })*
            $(async fn $kept(&self, request: Request<v1::$kept_request>) -> Result<Response<v1::$kept_response>, Status> {
                let deadline = Deadline::of(request.metadata());
                if !Caller::of(&request).sees_all {
                    return Err(Failure::NeedsAllApplications { method: $name }.into());
                }
                let desk = self.0.quarantine.clone();
                let request = request.into_inner();
                let until = until(deadline);
                let call = async move { desk.$kept_call(request, until).await.map_err(Failure::from) };
                let working = self.0.tasks.spawn(call);
                let done = crate::grpc::in_time(deadline, crate::grpc::joined(working)).await?;
                Ok(Response::new(done))
            })*
            $(async fn $method(&self, _: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                Err(Failure::Unimplemented { detail: $detail }.into())
            })*
        }
    };
}

admin_methods! {
    dead_letters {
        list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse: list;
        get_dead_letter(GetDeadLetterRequest) -> GetDeadLetterResponse: get;
        replay_dead_letters(ReplayDeadLettersRequest) -> ReplayDeadLettersResponse: replay;
        discard_dead_letters(DiscardDeadLettersRequest) -> DiscardDeadLettersResponse: discard;
    }
    quarantine {
        list_quarantined(ListQuarantinedRequest) -> ListQuarantinedResponse: list, "ListQuarantined";
        get_quarantined(GetQuarantinedRequest) -> GetQuarantinedResponse: get, "GetQuarantined";
        replay_quarantined(ReplayQuarantinedRequest) -> ReplayQuarantinedResponse: replay, "ReplayQuarantined";
        discard_quarantined(DiscardQuarantinedRequest) -> DiscardQuarantinedResponse: discard, "DiscardQuarantined";
    }
    unimplemented {
        reconcile(ReconcileRequest) -> ReconcileResponse: RECONCILIATION;
    }
}

impl Admin {
    fn desk(&self) -> Result<Arc<dyn DeadLetterDesk>, Failure> {
        let desk = self.0.dead_letters.clone();
        desk.ok_or(Failure::NotConfigured {
            key: "amqp.url",
            detail: "dead letters are commands of a broker, and this bridge has none",
        })
    }
}

/// Before the deadline, so that what was taken is given back and the response comes in time.
fn until(deadline: Deadline) -> Instant {
    let now = Instant::now();
    let left = deadline.at().map(|at| at.saturating_duration_since(now));
    now + left.map_or(LONGEST, |left| left.min(LONGEST) * 4 / 5)
}
