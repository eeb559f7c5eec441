//! Connects the gRPC edge to the dead letters of the AMQP edge, which do not know each other.

use tokio::time::Instant;

use crate::{
    commands::dead_letters::{DeadLetters, DeadLettersError},
    grpc::{
        DeadLetterDesk,
        failure::{DeadLettersProblem, Failure},
    },
    proto::v1,
    send::SendError,
};

pub(super) struct Desk(pub(super) DeadLetters);

#[tonic::async_trait]
impl DeadLetterDesk for Desk {
    async fn list(
        &self,
        request: v1::ListDeadLettersRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::ListDeadLettersResponse, Failure> {
        self.0.list(request, visible, until).await.map_err(failure)
    }

    async fn get(
        &self,
        request: v1::GetDeadLetterRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::GetDeadLetterResponse, Failure> {
        let got = self.0.get(&request.id, visible, until).await;
        let letter = Some(got.map_err(failure)?);
        Ok(v1::GetDeadLetterResponse { letter })
    }

    async fn replay(
        &self,
        request: v1::ReplayDeadLettersRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::ReplayDeadLettersResponse, Failure> {
        let replayed = self.0.replay(request, visible, until).await;
        replayed.map_err(failure)
    }

    async fn discard(
        &self,
        request: v1::DiscardDeadLettersRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::DiscardDeadLettersResponse, Failure> {
        let discarded = self.0.discard(request, visible, until).await;
        discarded.map_err(failure)
    }
}

fn failure(error: DeadLettersError) -> Failure {
    let detail = error.to_string();
    let problem = match error {
        DeadLettersError::Invalid(violations) => return Failure::Invalid(violations),
        DeadLettersError::ShuttingDown => return Failure::Send(SendError::ShuttingDown),
        DeadLettersError::NotFound => DeadLettersProblem::NotFound,
        DeadLettersError::PageTokenExpired => DeadLettersProblem::PageTokenExpired,
        DeadLettersError::Busy => DeadLettersProblem::Busy,
        DeadLettersError::Broker(_) | DeadLettersError::CutShort => {
            DeadLettersProblem::BrokerUnavailable
        }
        DeadLettersError::TimeUp => DeadLettersProblem::TimeUp,
    };
    Failure::DeadLetters { problem, detail }
}
