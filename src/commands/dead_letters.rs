//! The queue of dead letters for operators: lists it in pages, shows, replays and discards letters.
//!
//! A list that has a next page is parked: it holds the letters of its pages, so that the next page begins after them, for [`IDLE`] at
//! most. Whatever else needs the letters ends it at once; its next page then walks from the beginning of the queue to the last letter of
//! the page before. So a page token needs no memory, and works on every replica.
//!
//! Invariants: a letter is removed only after its copy is confirmed, or because an operator discards it (P1, docs/RELIABILITY.md); one
//! walk at a time; no number and no text is logged. Neighbours: `walk` takes letters and gives them back, `letter` reads them, `select`
//! chooses, `replay` makes copies; `app` connects this to the gRPC edge.

mod letter;
mod replay;
mod select;
mod walk;

use std::{collections::HashSet, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use lapin::message::Delivery;
use prost::Message as _;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    letter::{letter, whole_letter},
    select::{Mistakes, Selection},
    walk::{Walk, WalkError},
};
use crate::{
    amqp::{AmqpError, Endpoint, Message, Publisher, Topology},
    ops::{
        kill_point::{self, KillPoint},
        metrics::{LetterEnd, Metrics},
    },
    proto::v1::{self, FieldViolation},
};

/// How long a list holds its letters for the next page.
const IDLE: Duration = Duration::from_secs(10);
/// The longest wait for another list, replay or discard: longer than [`IDLE`], and than a walk through a hundred thousand letters takes.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(60);
/// The longest time for a page. One that found less in it has a next page.
const PAGE_TIME: Duration = Duration::from_secs(5);
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;
/// A page with more than this in its texts ends early.
const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// Copies that wait for their confirms at the same time.
const MAX_REPLAYS: usize = 16;
/// The bytes of their bodies: one more copy only if there are fewer.
const MAX_REPLAYED_BYTES: usize = 4 * 1024 * 1024;
/// The refused letters that a response names.
const MAX_REFUSALS: usize = 100;

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

struct Desk {
    endpoint: Endpoint,
    topology: Topology,
    publisher: Arc<Publisher>,
    metrics: Metrics,
    /// Cancelled at shutdown.
    closing: CancellationToken,
    tasks: TaskTracker,
    /// Held by the one that walks.
    parked: Arc<Mutex<Option<Parked>>>,
}

/// What the one that walks holds.
type DeskGuard = OwnedMutexGuard<Option<Parked>>;

/// A list that waits for its next page.
struct Parked {
    token: String,
    walk: Walk,
}

/// What a call has done when it ends, however it ends.
#[derive(Default)]
struct Progress {
    count: usize,
    found: HashSet<String>,
    refused: Vec<v1::ReplayRefusal>,
    refused_count: usize,
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
        let mut mistakes = Mistakes::default();
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        if limit > MAX_LIMIT {
            mistakes.add("limit", format!("must be between 1 and {MAX_LIMIT}"));
        }
        let selection = Selection::read(Vec::new(), request.filter, visible)
            .map_err(|found| mistakes.0.extend(found))
            .unwrap_or_default();
        let token = PageToken::read(&request.page_token);
        match &token {
            Ok(Some(token)) if mistakes.0.is_empty() && token.selection != selection.digest() => {
                mistakes.add("page_token", "is the token of a list with another filter");
            }
            Ok(_) => {}
            Err(NoPageToken) => mistakes.add("page_token", "is not a page token of this method"),
        }
        let (Ok(token), true) = (token, mistakes.0.is_empty()) else {
            return Err(DeadLettersError::Invalid(mistakes.0));
        };
        let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
        let mut parked = self.desk(until).await?;
        let walked = token.as_ref().map_or(0, |token| token.walked);
        let (mut walk, skipped_to) = match parked.take() {
            Some(Parked { token, walk }) if token == request.page_token => (walk, None),
            other => {
                self.give_back(other).await;
                (self.begin(until).await?, token)
            }
        };
        let page = read_page(&mut walk, skipped_to, walked, &selection, limit, until).await;
        let has_next = page
            .as_ref()
            .is_ok_and(|page| !page.next_page_token.is_empty());
        let can_go_on = has_next && !walk.is_exhausted() && !self.0.closing.is_cancelled();
        if let (Ok(page), true) = (&page, can_go_on) {
            let token = page.next_page_token.clone();
            self.end_when_idle(token.clone());
            *parked = Some(Parked { token, walk });
        } else {
            self.finish(walk, parked);
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
            let mut mistakes = Mistakes::default();
            mistakes.add("id", "is missing");
            return Err(DeadLettersError::Invalid(mistakes.0));
        }
        let selection = Selection::read(vec![id.to_owned()], None, visible)
            .map_err(DeadLettersError::Invalid)?;
        let mut parked = self.desk(until).await?;
        self.give_back(parked.take()).await;
        let mut walk = self.begin(until).await?;
        let looking = async {
            while let Some(delivery) = walk.next().await? {
                if selection.selects(&letter(&delivery)) {
                    return Ok(whole_letter(&delivery));
                }
                self.check_time(until)?;
            }
            walk.check_end()?;
            Err(DeadLettersError::NotFound)
        };
        let found = looking.await;
        self.finish(walk, parked);
        found
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
        let mut parked = self.desk(until).await?;
        self.give_back(parked.take()).await;
        let mut walk = self.begin(until).await?;
        let mut progress = Progress::default();
        let replaying = self.replay_all(
            &mut walk,
            &selection,
            request.allow_repeat,
            until,
            &mut progress,
        );
        let ended = replaying.await;
        let settled = walk.settle().await.map_err(DeadLettersError::from);
        self.finish(walk, parked);
        let ended = ended.and(settled);
        tracing::info!(
            replayed = progress.count,
            refused = progress.refused_count,
            is_complete = ended.is_ok(),
            "dead letters were replayed"
        );
        let (incomplete, incomplete_detail) = incomplete(ended, &progress)?;
        Ok(v1::ReplayDeadLettersResponse {
            count: to_i32(progress.count),
            refused: progress.refused,
            refused_count: to_i32(progress.refused_count),
            not_found: match incomplete {
                true => Vec::new(),
                false => selection.missing(&progress.found),
            },
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
            let mut mistakes = Mistakes::default();
            mistakes.add("ids", "is missing: give ids, or a filter with a condition");
            return Err(DeadLettersError::Invalid(mistakes.0));
        }
        let mut parked = self.desk(until).await?;
        self.give_back(parked.take()).await;
        let mut walk = self.begin(until).await?;
        let mut progress = Progress::default();
        let discarding = async {
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
                self.check_time(until)?;
            }
            if !selection.has_found_all(&progress.found) {
                walk.check_end()?;
            }
            Ok(())
        };
        let ended: Result<(), DeadLettersError> = discarding.await;
        let settled = walk.settle().await.map_err(DeadLettersError::from);
        self.finish(walk, parked);
        let ended = ended.and(settled);
        tracing::info!(
            discarded = progress.count,
            is_complete = ended.is_ok(),
            "dead letters were discarded"
        );
        let (incomplete, incomplete_detail) = incomplete(ended, &progress)?;
        Ok(v1::DiscardDeadLettersResponse {
            count: to_i32(progress.count),
            not_found: match incomplete {
                true => Vec::new(),
                false => selection.missing(&progress.found),
            },
            incomplete,
            incomplete_detail,
        })
    }

    /// Waits until nobody else of this process walks.
    async fn desk(&self, until: Instant) -> Result<DeskGuard, DeadLettersError> {
        let until = until.min(Instant::now() + WAIT_FOR_LOCK);
        let waiting = timeout_at(until, Arc::clone(&self.0.parked).lock_owned()).await;
        let parked = waiting.map_err(|_| DeadLettersError::Busy)?;
        self.check_time(until)?;
        Ok(parked)
    }

    async fn begin(&self, until: Instant) -> Result<Walk, DeadLettersError> {
        let Desk {
            endpoint, topology, ..
        } = &*self.0;
        let until = until.min(Instant::now() + WAIT_FOR_LOCK);
        tokio::select! {
            () = self.0.closing.cancelled() => Err(DeadLettersError::ShuttingDown),
            begun = Walk::begin(endpoint, topology, until) => Ok(begun?),
        }
    }

    fn check_time(&self, until: Instant) -> Result<(), DeadLettersError> {
        if self.0.closing.is_cancelled() {
            return Err(DeadLettersError::ShuttingDown);
        }
        match Instant::now() < until {
            true => Ok(()),
            false => Err(DeadLettersError::TimeUp),
        }
    }

    async fn replay_all(
        &self,
        walk: &mut Walk,
        selection: &Selection,
        allow_repeat: bool,
        until: Instant,
        progress: &mut Progress,
    ) -> Result<(), DeadLettersError> {
        let Desk {
            endpoint, topology, ..
        } = &*self.0;
        let mut copies: Vec<(Delivery, Message)> = Vec::with_capacity(MAX_REPLAYS);
        let mut bytes = 0;
        while let Some(delivery) = walk.next().await? {
            let letter = letter(&delivery);
            if selection.selects(&letter) {
                let user = endpoint.username();
                match replay::copy(&delivery, &letter, topology, user, allow_repeat) {
                    Ok(copy) => {
                        bytes += copy.body.len();
                        copies.push((delivery, copy));
                    }
                    Err(detail) => progress.refuse(&letter.id, detail),
                }
                progress.note_found(selection, letter.id);
                if selection.has_found_all(&progress.found) {
                    break;
                }
            }
            if copies.len() >= MAX_REPLAYS || bytes >= MAX_REPLAYED_BYTES {
                self.publish(walk, std::mem::take(&mut copies), progress)
                    .await?;
                bytes = 0;
            }
            self.check_time(until)?;
        }
        self.publish(walk, copies, progress).await?;
        if !selection.has_found_all(&progress.found) {
            walk.check_end()?;
        }
        Ok(())
    }

    /// Publishes copies, and removes each letter whose copy is confirmed. An error is that of the first that is not.
    async fn publish(
        &self,
        walk: &Walk,
        copies: Vec<(Delivery, Message)>,
        progress: &mut Progress,
    ) -> Result<(), DeadLettersError> {
        let publisher = &self.0.publisher;
        let publishing = copies.into_iter().map(|(delivery, copy)| async move {
            (delivery, publisher.publish_mandatory(copy).await)
        });
        let mut ended = Ok(());
        for (delivery, published) in join_all(publishing).await {
            let removed = match published {
                Ok(()) => {
                    kill_point::reached(KillPoint::ReplayConfirmed);
                    self.0.metrics.dead_letter_ended(LetterEnd::Replayed);
                    progress.count += 1;
                    walk.remove(&delivery).await.map_err(DeadLettersError::from)
                }
                Err(error) => Err(DeadLettersError::Broker(error)),
            };
            ended = ended.and(removed);
        }
        ended
    }

    /// Ends the list of this token if nobody has asked for its next page in time.
    fn end_when_idle(&self, token: String) {
        let this = self.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = this.0.closing.cancelled() => {}
                () = tokio::time::sleep(IDLE) => {}
            }
            let mut parked = this.0.parked.lock().await;
            if parked.as_ref().is_some_and(|parked| parked.token == token) {
                this.give_back(parked.take()).await;
            }
        });
    }

    /// Ends a parked list.
    async fn give_back(&self, parked: Option<Parked>) {
        if let Some(Parked { walk, .. }) = parked {
            self.end(walk).await;
        }
    }

    /// Ends a walk after its call was answered: the next one waits for that.
    fn finish(&self, walk: Walk, desk: DeskGuard) {
        let this = self.clone();
        self.0.tasks.spawn(async move {
            this.end(walk).await;
            drop(desk);
        });
    }

    async fn end(&self, walk: Walk) {
        if let Err(error) = walk.end(&self.0.closing).await {
            tracing::debug!(%error, "the session of a walk ended, which gave its dead letters back");
        }
    }
}

impl Progress {
    /// Of a selection by ids only: it is bounded by their number.
    fn note_found(&mut self, selection: &Selection, id: String) {
        if selection.has_ids() {
            self.found.insert(id);
        }
    }

    fn refuse(&mut self, id: &str, detail: &str) {
        self.refused_count += 1;
        if self.refused.len() < MAX_REFUSALS {
            self.refused.push(v1::ReplayRefusal {
                id: id.to_owned(),
                detail: detail.to_owned(),
            });
        }
    }
}

/// Reads a page, from the beginning of the walk or after the letter that it skips to.
async fn read_page(
    walk: &mut Walk,
    skipped_to: Option<PageToken>,
    mut walked: u64,
    selection: &Selection,
    limit: usize,
    until: Instant,
) -> Result<v1::ListDeadLettersResponse, DeadLettersError> {
    if let Some(token) = skipped_to {
        skip_to(walk, &token, until).await?;
    }
    let until = until.min(Instant::now() + PAGE_TIME);
    let mut page = v1::ListDeadLettersResponse::default();
    let mut bytes = 0;
    let mut last = String::new();
    while page.letters.len() < limit && bytes < MAX_PAGE_BYTES && Instant::now() < until {
        let Some(delivery) = walk.next().await? else {
            break;
        };
        let letter = letter(&delivery);
        walked += 1;
        letter.id.clone_into(&mut last);
        if selection.selects(&letter) {
            bytes += letter.encoded_len();
            page.letters.push(letter);
        }
    }
    if !walk.is_at_end() {
        if last.is_empty() {
            walk.check_end()?;
            return Err(DeadLettersError::TimeUp);
        }
        let token = PageToken {
            selection: selection.digest(),
            walked,
            last,
        };
        page.next_page_token = token.write();
    }
    Ok(page)
}

/// Walks to the letter after the last one of the page before.
async fn skip_to(
    walk: &mut Walk,
    token: &PageToken,
    until: Instant,
) -> Result<(), DeadLettersError> {
    // More letters before it than there were: the order has changed, and some would be left out.
    for _ in 0..token.walked {
        let Some(delivery) = walk.next().await? else {
            break;
        };
        if letter::id(&delivery) == token.last {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(DeadLettersError::TimeUp);
        }
    }
    walk.check_end()?;
    Err(DeadLettersError::PageTokenExpired)
}

/// Whether a call has ended early, and why; an error if nothing was done.
fn incomplete(
    ended: Result<(), DeadLettersError>,
    progress: &Progress,
) -> Result<(bool, String), DeadLettersError> {
    match ended {
        Ok(()) => Ok((false, String::new())),
        Err(DeadLettersError::TimeUp) => Ok((true, "the time for the call was up".to_owned())),
        Err(error @ DeadLettersError::CutShort) => Ok((true, error.to_string())),
        Err(error) if progress.count == 0 => Err(error),
        Err(error) => Ok((true, error.to_string())),
    }
}

fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A text that this method did not return as a token.
struct NoPageToken;

/// Where the next page of a list begins.
struct PageToken {
    /// What the list selects.
    selection: String,
    /// The number of letters up to the last one.
    walked: u64,
    /// The id of the last letter before it.
    last: String,
}

impl PageToken {
    /// `None` for the first page.
    fn read(token: &str) -> Result<Option<Self>, NoPageToken> {
        if token.is_empty() {
            return Ok(None);
        }
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
            let mut parts = text.splitn(3, '|');
            Some(Self {
                selection: parts.next()?.to_owned(),
                walked: parts.next()?.parse().ok()?,
                last: parts.next()?.to_owned(),
            })
        };
        read().map(Some).ok_or(NoPageToken)
    }

    fn write(&self) -> String {
        let Self {
            selection,
            walked,
            last,
        } = self;
        URL_SAFE_NO_PAD.encode(format!("{selection}|{walked}|{last}"))
    }
}
