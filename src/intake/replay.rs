//! The quarantine for operators: lists, shows, processes again and discards what could not be read.
//!
//! Invariants: the events of a body are durable before it is removed (P4, docs/RELIABILITY.md), and are the same with the same ids if that
//! is interrupted and done again; what still cannot be read stays, once; no number and no text is logged.
//! Neighbours: `reading` reads bodies, `events::quarantine` has them, `visitors` decide about each; `grpc` calls.

mod visitors;

use std::collections::HashSet;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::visitors::{Discarder, End, Finder, Named, Replayer};
use super::{FORM, Intake, IntakeError, quarantined, reading::NOT_UTF8, split::part_id};
use crate::{
    events::{
        AppendError,
        quarantine::{Kept, ListPage, Origin, Quarantined, Source, VisitError, Wanted},
    },
    message::time::to_proto,
    ops::metrics::Metrics,
    proto::v1::{self, FieldViolation, QuarantineSource},
};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;
/// Why a body stays that has nothing in it.
const NO_ROWS: &str = "it has no rows";

/// Why a call about the quarantine failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QuarantineError {
    #[error("the request is invalid")]
    Invalid(Vec<FieldViolation>),
    #[error(
        "there is nothing with this id in quarantine: it was replayed or discarded, or another program holds it"
    )]
    NotFound,
    #[error(transparent)]
    Visit(#[from] VisitError),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct QuarantineDesk {
    intake: Intake,
    metrics: Metrics,
    /// Cancelled at shutdown.
    closing: CancellationToken,
}

impl QuarantineDesk {
    #[must_use]
    pub fn new(intake: Intake, metrics: Metrics, closing: CancellationToken) -> Self {
        Self {
            intake,
            metrics,
            closing,
        }
    }

    /// A page of what is in quarantine, without the bytes.
    ///
    /// # Errors
    /// [`QuarantineError`].
    pub async fn list(
        &self,
        request: v1::ListQuarantinedRequest,
        until: Instant,
    ) -> Result<v1::ListQuarantinedResponse, QuarantineError> {
        let limit = match usize::try_from(request.limit) {
            Ok(0) => DEFAULT_LIMIT,
            Ok(limit) if limit <= MAX_LIMIT => limit,
            _ => {
                return Err(invalid(
                    "limit",
                    format!("must be between 1 and {MAX_LIMIT}"),
                ));
            }
        };
        let page = ListPage {
            token: request.page_token,
            limit,
        };
        let listed = match self.intake.quarantine.list(page, until).await {
            Err(VisitError::BadPageToken) => {
                return Err(invalid("page_token", "is not a page token of this method"));
            }
            listed => listed?,
        };
        Ok(v1::ListQuarantinedResponse {
            bodies: listed.bodies.into_iter().map(shown).collect(),
            next_page_token: listed.next_token,
        })
    }

    /// One body with its bytes.
    ///
    /// # Errors
    /// [`QuarantineError`].
    pub async fn get(
        &self,
        request: v1::GetQuarantinedRequest,
        until: Instant,
    ) -> Result<v1::GetQuarantinedResponse, QuarantineError> {
        if request.id.is_empty() {
            return Err(invalid("id", "is missing"));
        }
        let id = Uuid::parse_str(&request.id).map_err(|_| QuarantineError::NotFound)?;
        let mut finder = Finder::default();
        let wanted = Wanted::Ids(HashSet::from([id]));
        let visiting = self.intake.quarantine.visit(wanted, until, &mut finder);
        visiting.await?;
        let body = finder.found.ok_or(QuarantineError::NotFound)?;
        Ok(v1::GetQuarantinedResponse {
            body: Some(shown(body)),
        })
    }

    /// Processes bodies again, and removes each after its events are durable.
    ///
    /// # Errors
    /// [`QuarantineError`], if nothing was done. What ends it later is in the response.
    pub async fn replay(
        &self,
        request: v1::ReplayQuarantinedRequest,
        until: Instant,
    ) -> Result<v1::ReplayQuarantinedResponse, QuarantineError> {
        let mut replayer = Replayer {
            desk: self,
            named: Named::read(request.ids)?,
            response: v1::ReplayQuarantinedResponse::default(),
        };
        let wanted = replayer.named.wanted();
        let visiting = self.intake.quarantine.visit(wanted, until, &mut replayer);
        let ended = visiting.await;
        let Replayer {
            named,
            mut response,
            ..
        } = replayer;
        tracing::info!(
            replayed = response.count,
            unreadable = response.unreadable_count,
            is_complete = ended.is_ok(),
            "quarantined bodies were processed again"
        );
        let end = End::of(ended, response.count, named)?;
        response.not_found = end.not_found;
        response.incomplete = end.incomplete;
        response.incomplete_detail = end.detail;
        Ok(response)
    }

    /// Removes bodies.
    ///
    /// # Errors
    /// [`QuarantineError`], if nothing was done. What ends it later is in the response.
    pub async fn discard(
        &self,
        request: v1::DiscardQuarantinedRequest,
        until: Instant,
    ) -> Result<v1::DiscardQuarantinedResponse, QuarantineError> {
        if request.ids.is_empty() != request.all {
            return Err(invalid("ids", "give either ids or `all`"));
        }
        let mut discarder = Discarder {
            desk: self,
            named: Named::read(request.ids)?,
            count: 0,
        };
        let wanted = discarder.named.wanted();
        let visiting = self.intake.quarantine.visit(wanted, until, &mut discarder);
        let ended = visiting.await;
        let Discarder { named, count, .. } = discarder;
        tracing::info!(
            discarded = count,
            is_complete = ended.is_ok(),
            "quarantined bodies were discarded"
        );
        let end = End::of(ended, count, named)?;
        Ok(v1::DiscardQuarantinedResponse {
            count,
            not_found: end.not_found,
            incomplete: end.incomplete,
            incomplete_detail: end.detail,
        })
    }

    fn check_open(&self) -> Result<(), VisitError> {
        match self.closing.is_cancelled() {
            true => Err(VisitError::ShuttingDown),
            false => Ok(()),
        }
    }

    /// Makes events of a body. An inner error tells why it stays.
    async fn process(
        &self,
        body: &Quarantined,
    ) -> Result<Result<Vec<Quarantined>, String>, VisitError> {
        let origin = origin(body);
        let read = self.intake.read(&origin, Some(body.id), &body.body);
        if let Some(detail) = read.unreadable {
            return Ok(Err(detail));
        }
        let is_whole_unread = |part: &super::Unread| !part.is_row;
        let is_not_utf8 = read.unread.iter().any(is_whole_unread);
        // What is an event already, perhaps with an id that was random, is not one again.
        if is_not_utf8 && body.detail == NOT_UTF8 {
            return Ok(Err(NOT_UTF8.to_owned()));
        }
        if read.events.is_empty() {
            let first = read.unread.into_iter().next();
            return Ok(Err(
                first.map_or_else(|| NO_ROWS.to_owned(), |part| part.detail)
            ));
        }
        match self.intake.append(read.events).await {
            Ok(_) => {}
            Err(IntakeError::Log(error @ AppendError::TooLarge { .. })) => {
                return Ok(Err(error.to_string()));
            }
            Err(IntakeError::Log(error)) => return Err(error.into()),
            Err(IntakeError::Unreadable(detail)) => return Ok(Err(detail)),
        }
        if is_not_utf8 {
            return Ok(Err(NOT_UTF8.to_owned()));
        }
        let parts = read.unread.into_iter().zip(0..);
        let parts = parts.map(|(part, index)| {
            let id = part_id(body.id, index);
            quarantined(&origin, &body.content_type, id, part)
        });
        Ok(Ok(parts.collect()))
    }
}

/// How a body is processed. An earlier version did not say that one is a query.
fn origin(body: &Quarantined) -> Origin {
    let mut origin = body.origin.clone();
    if origin.source == Source::Unknown && body.content_type == FORM {
        origin.source = Source::Query;
    }
    origin
}

fn shown(kept: Kept) -> v1::QuarantinedBody {
    let body = kept.quarantined;
    let origin = origin(&body);
    let source = match origin.source {
        Source::Unknown => QuarantineSource::Unspecified,
        Source::Push => QuarantineSource::Push,
        Source::Query => QuarantineSource::Query,
        Source::Pull => QuarantineSource::Pull,
    };
    v1::QuarantinedBody {
        id: body.id.to_string(),
        time: kept.came_at.map(to_proto),
        endpoint: origin.endpoint.into_owned(),
        detail: body.detail,
        content_type: body.content_type,
        body: body.body,
        body_bytes: i64::try_from(kept.bytes).unwrap_or(i64::MAX),
        source: source.into(),
        is_row: origin.is_row,
        application: origin.application,
    }
}

fn invalid(field: &str, description: impl Into<String>) -> QuarantineError {
    QuarantineError::Invalid(vec![FieldViolation {
        field: field.to_owned(),
        description: description.into(),
    }])
}
