//! The queue of dead letters for operators: lists it in pages, shows, replays and discards letters.
//!
//! A list that has a next page is parked: it holds the letters of its pages, so that the next page begins after them, for ten seconds at
//! most. Whatever else needs the letters ends it at once; its next page then walks from the beginning of the queue to the last letter of
//! the page before.
//!
//! Invariants: a letter is removed only after its copy is confirmed, or because an operator discards it (P1, docs/RELIABILITY.md); one
//! walk at a time; no number and no text is logged. Neighbours: `desk` begins, parks and ends walks, `walk` takes letters and gives them
//! back, `letter` reads them, `select` chooses, `page` makes the pages of a list, `replay` publishes copies, `progress` counts; `app`
//! connects this to the gRPC edge.

mod desk;
mod letter;
mod page;
mod progress;
mod replay;
mod select;
mod walk;

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    desk::Desk,
    letter::{letter, whole_letter},
    page::PageRequest,
    progress::{Progress, Summary, to_i32},
    select::{Mistakes, Selection},
    walk::{Walk, WalkError},
};
use crate::{
    amqp::{AmqpError, Endpoint, Publisher, Topology},
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
            WalkError::Broker(error) => Self::Broker(error),
        }
    }
}

/// Cheap to clone; clones share the parked list. Its futures must not be dropped before they end: a dropped one ends its session, which
/// gives the letters back in any order.
#[derive(Clone)]
pub struct DeadLetters(Arc<Desk>);

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
        Self(Arc::new(Desk {
            endpoint,
            topology,
            publisher,
            metrics,
            closing,
            tasks,
            parked: Arc::default(),
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
        let page_token = request.page_token.clone();
        let request = PageRequest::read(request, visible).map_err(DeadLettersError::Invalid)?;
        let mut parked = self.0.lock(until).await?;
        let (mut walk, is_new) = match self.0.unpark(&mut parked, &page_token).await {
            Some(walk) => (walk, false),
            None => (self.0.begin(until).await?, true),
        };
        let reading = async {
            if is_new {
                request.skip_to_page(&mut walk, until).await?;
            }
            request.read_page(&mut walk, until).await
        };
        let page = reading.await;
        let next = page.as_ref().map_or("", |page| &page.next_page_token);
        let can_go_on = !walk.is_exhausted() && !self.0.closing.is_cancelled();
        match !next.is_empty() && can_go_on {
            true => self.0.park(parked, next.to_owned(), walk),
            false => self.0.finish(walk, parked),
        }
        page
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
        let looking = self.0.on_walk(until, async |walk| {
            while let Some(delivery) = walk.next().await? {
                if selection.selects(&letter(&delivery)) {
                    return Ok(whole_letter(&delivery));
                }
                self.0.check_time(until)?;
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
                self.0.check_time(until)?;
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
        let removing = self.0.on_walk(until, async |walk| {
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
