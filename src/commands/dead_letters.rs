//! The queue of dead letters for operators: lists it in pages, shows, replays and discards letters.
//!
//! A list that has a next page is parked: it holds the letters of its pages, so that the next page begins after them, for ten seconds at
//! most. Whatever else needs the letters ends it at once; its next page then walks from the beginning of the queue to the last letter of
//! the page before.
//!
//! Invariants: a letter is removed only after its copy is confirmed, or because an operator discards it (P1, docs/RELIABILITY.md); one
//! walk at a time; no number and no text is logged. Neighbours: `amqp::walk` takes letters and gives them back, `letter` reads them, `select` chooses, `page` makes the pages of a list, `replay` publishes copies, `progress` counts; `app`
//! connects this to the gRPC edge.

mod letter;
mod page;
mod progress;
mod replay;
mod select;

use std::sync::Arc;

use lapin::message::Delivery;
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    letter::{letter, whole_letter},
    page::ListRequest,
    progress::{Progress, Summary, to_i32},
    select::{Mistakes, Selection},
};
use crate::{
    amqp::{
        AmqpError, Endpoint, Publisher, Topology,
        walk::{Desk, Place, Seen, Walk, WalkError, Walked},
    },
    ops::metrics::{LetterEnd, Metrics},
    proto::v1::{self, FieldViolation},
};

/// Why a call about dead letters failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeadLettersError {
    #[error("the request is invalid")]
    Invalid(Vec<FieldViolation>),
    #[error(
        "there is no dead letter with this id in the queue: it was replayed or discarded, or another program holds it"
    )]
    NotFound,
    #[error(
        "the last letter of the page before was removed or moved, or another program holds it: list from the beginning"
    )]
    PageTokenExpired,
    #[error(
        "another list, replay or discard of dead letters is under way, here or on another replica"
    )]
    Busy,
    #[error("the dead letters cannot be read: {0}")]
    Broker(AmqpError),
    #[error("the time for the call was up before the letter was found")]
    TimeUp,
    #[error(
        "the broker did not deliver all dead letters that it had counted: it is busy, or another program took them"
    )]
    CutShort,
    #[error("this process is shutting down")]
    ShuttingDown,
}

impl From<WalkError> for DeadLettersError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Busy => Self::Busy,
            WalkError::CutShort => Self::CutShort,
            WalkError::PlaceGone => Self::PageTokenExpired,
            WalkError::TimeUp => Self::TimeUp,
            WalkError::ShuttingDown => Self::ShuttingDown,
            WalkError::Broker(error) => Self::Broker(error),
        }
    }
}

/// Cheap to clone; clones share the parked list. Its futures must not be dropped before they end: a dropped one ends its session, which
/// gives the letters back in any order.
#[derive(Clone)]
pub struct DeadLetters(Arc<Inner>);

struct Inner {
    desk: Arc<Desk>,
    topology: Topology,
    publisher: Arc<Publisher>,
    /// Of the bridge, which copies are published with.
    user: String,
    metrics: Metrics,
}

impl DeadLetters {
    /// `tasks` are awaited at shutdown, after `closing` is cancelled.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        topology: Topology,
        publisher: Arc<Publisher>,
        metrics: Metrics,
        closing: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let walked = Walked {
            queue: topology.dead(),
            lock: topology.dead_lock(),
            purpose: "dead letters",
        };
        let user = endpoint.username().to_owned();
        Self(Arc::new(Inner {
            desk: Arc::new(Desk::new(
                endpoint,
                topology.clone(),
                walked,
                closing,
                tasks,
            )),
            topology,
            publisher,
            user,
            metrics,
        }))
    }

    /// A page of the letters, which stay in the queue.
    ///
    /// # Errors
    /// [`DeadLettersError`].
    pub async fn list(
        &self,
        request: v1::ListDeadLettersRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::ListDeadLettersResponse, DeadLettersError> {
        let request = ListRequest::read(request, visible).map_err(DeadLettersError::Invalid)?;
        let selection = &request.selection;
        let digest = selection.digest();
        let see = |delivery: &Delivery| {
            let letter = letter(delivery);
            Seen {
                id: letter.id.clone(),
                shown: selection.selects(&letter).then(|| {
                    let bytes = letter.encoded_len();
                    (letter, bytes)
                }),
            }
        };
        let token = |place: &Place| place.write(&digest);
        let page = self.0.desk.page(&request.page, until, token, see).await?;
        Ok(v1::ListDeadLettersResponse {
            letters: page.shown,
            next_page_token: page.next_token,
        })
    }

    /// One letter with its body.
    ///
    /// # Errors
    /// [`DeadLettersError`].
    pub async fn get(
        &self,
        id: &str,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::DeadLetter, DeadLettersError> {
        if id.is_empty() {
            return Err(invalid("id", "is missing"));
        }
        let selection = Selection::read(vec![id.to_owned()], None, visible)
            .map_err(DeadLettersError::Invalid)?;
        let looking = self.0.desk.on_walk(until, async |walk| {
            while let Some(delivery) = walk.next().await? {
                if selection.selects(&letter(&delivery)) {
                    return Ok(whole_letter(&delivery));
                }
                self.0.desk.check_time(until)?;
            }
            walk.check_end()?;
            Err(DeadLettersError::NotFound)
        });
        looking.await
    }

    /// Publishes letters again, and removes each after its copy is confirmed.
    ///
    /// # Errors
    /// [`DeadLettersError`], if nothing was done. What ends it later is in the response.
    pub async fn replay(
        &self,
        request: v1::ReplayDeadLettersRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::ReplayDeadLettersResponse, DeadLettersError> {
        let selection = Selection::read(request.ids, request.filter, visible)
            .map_err(DeadLettersError::Invalid)?;
        let allow_repeat = request.allow_repeat;
        let replaying = self.remove(until, async |walk, progress| {
            replay::replay(&self.0, walk, &selection, allow_repeat, until, progress).await
        });
        let (progress, ended) = replaying.await?;
        tracing::info!(
            replayed = progress.count,
            refused = progress.refused_count,
            is_complete = ended.is_ok(),
            "dead letters were replayed"
        );
        let Summary {
            count,
            not_found,
            incomplete,
            incomplete_detail,
        } = progress.summary(ended, &selection)?;
        Ok(v1::ReplayDeadLettersResponse {
            count,
            refused: progress.refused,
            refused_count: to_i32(progress.refused_count),
            not_found,
            incomplete,
            incomplete_detail,
        })
    }

    /// Removes letters.
    ///
    /// # Errors
    /// [`DeadLettersError`], if nothing was done. What ends it later is in the response.
    pub async fn discard(
        &self,
        request: v1::DiscardDeadLettersRequest,
        visible: Option<String>,
        until: Instant,
    ) -> Result<v1::DiscardDeadLettersResponse, DeadLettersError> {
        let selection = Selection::read(request.ids, request.filter, visible)
            .map_err(DeadLettersError::Invalid)?;
        if selection.is_everything() {
            let description = "is missing: give ids, or a filter with a condition";
            return Err(invalid("ids", description));
        }
        let discarding = self.remove(until, async |walk, progress| {
            while let Some(delivery) = walk.next().await? {
                let letter = letter(&delivery);
                if selection.selects(&letter) {
                    walk.remove(&delivery).await?;
                    self.0.metrics.dead_letter_ended(LetterEnd::Discarded);
                    progress.count += 1;
                    progress.note_found(&selection, letter.id);
                    if selection.has_found_all(&progress.found) {
                        break;
                    }
                }
                self.0.desk.check_time(until)?;
            }
            if !selection.has_found_all(&progress.found) {
                walk.check_end()?;
            }
            Ok(())
        });
        let (progress, ended) = discarding.await?;
        tracing::info!(
            discarded = progress.count,
            is_complete = ended.is_ok(),
            "dead letters were discarded"
        );
        let Summary {
            count,
            not_found,
            incomplete,
            incomplete_detail,
        } = progress.summary(ended, &selection)?;
        Ok(v1::DiscardDeadLettersResponse {
            count,
            not_found,
            incomplete,
            incomplete_detail,
        })
    }

    /// Runs a call that removes letters. Returns what it has done, and how it ended.
    async fn remove(
        &self,
        until: Instant,
        call: impl AsyncFnOnce(&mut Walk, &mut Progress) -> Result<(), DeadLettersError>,
    ) -> Result<(Progress, Result<(), DeadLettersError>), DeadLettersError> {
        let removing = self.0.desk.on_walk(until, async |walk| {
            let mut progress = Progress::default();
            let ended = call(walk, &mut progress).await;
            let settled = walk.settle().await.map_err(DeadLettersError::from);
            Ok((progress, ended.and(settled)))
        });
        removing.await
    }
}

fn invalid(field: &str, description: &str) -> DeadLettersError {
    let mut mistakes = Mistakes::default();
    mistakes.add(field, description);
    DeadLettersError::Invalid(mistakes.0)
}
