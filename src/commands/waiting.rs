//! A command for which the sender has no room waits here, unacknowledged: in a retry queue it would lose its place, and all
//! commands behind it would take the same way.
//!
//! Invariants: of the commands of one queue that wait, one at a time asks again, and none keeps its turn for long; nothing is sent for
//! a delivery whose session ended, because the broker delivers it again. Neighbours: `handle` sends, `consumer` bounds the number of
//! commands that wait.

use std::{pin::pin, task::Poll, time::Duration};

use futures_util::poll;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};

use super::{Context, command::Source, handle::SendTerms, lease::HeldDelivery};
use crate::{
    primitives::retry::{Backoff, RetryPolicy},
    send::{SendError, Sent, lane_of, request::SendRequest},
};

/// The waits between two questions for room.
const ASK: RetryPolicy = RetryPolicy::new(Duration::from_millis(10), Duration::from_millis(250));
/// After this time without room the next command of the queue asks: it may be smaller.
const TURN: Duration = Duration::from_secs(5);
/// After this time a command goes to a retry queue, because the broker closes the channel of a delivery that is never
/// acknowledged (`consumer_timeout`: 30 minutes unless configured).
const MAX_WAIT: Duration = Duration::from_secs(600);

/// The commands that wait, one line for each queue: an urgent one never waits for a normal one.
#[derive(Default)]
pub(super) struct Lines {
    normal: Mutex<()>,
    urgent: Mutex<()>,
    returned: Mutex<()>,
}

impl Lines {
    /// Whether a command of this queue waits. A new one joins the line then: otherwise it would take the room that becomes free.
    pub(super) fn has_waiting(&self, source: Source) -> bool {
        self.of(source).try_lock().is_err()
    }

    fn of(&self, source: Source) -> &Mutex<()> {
        match source {
            Source::Normal => &self.normal,
            Source::Urgent => &self.urgent,
            // A look-up never waits for room of the sender.
            Source::Returned | Source::Lookup => &self.returned,
        }
    }
}

/// Sends a command that was refused because the queue of the sender is full, when there is room. `None` if its session ended before:
/// it was not sent.
pub(super) async fn send_when_there_is_room(
    context: &Context,
    source: Source,
    delivery: &HeldDelivery,
    terms: &SendTerms,
    request: &SendRequest,
    mut full: SendError,
) -> Option<Result<Sent, SendError>> {
    let results = SendTerms::results(request);
    let lane = lane_of(&request.bulk.messages);
    let longest = Instant::now() + MAX_WAIT;
    let give_up_at = terms.hold_until().map_or(longest, |at| at.min(longest));
    let sender = &context.commands.sender;
    let mut session_ended = pin!(delivery.lease.lost());
    loop {
        let turn = tokio::select! {
            turn = context.lines.of(source).lock() => turn,
            () = &mut session_ended => return None,
            () = context.shutdown.cancelled() => return Some(Err(SendError::ShuttingDown)),
            () = sleep_until(give_up_at) => return Some(Err(full)),
        };
        let turn_ends_at = Instant::now() + TURN;
        let mut backoff = Backoff::new(ASK);
        while Instant::now() < turn_ends_at {
            if !delivery.is_usable() {
                return None;
            }
            // Asked first, because the command is copied for each attempt.
            if sender.has_room(lane, results) {
                let mut sending = sender.send(terms.command(request));
                // The sender says at once whether it has room.
                match poll!(&mut sending) {
                    Poll::Ready(Err(error @ SendError::QueueFull { .. })) => full = error,
                    Poll::Ready(answer) => return Some(answer),
                    Poll::Pending => {
                        drop(turn);
                        return Some(sending.await);
                    }
                }
            }
            tokio::select! {
                () = sleep(backoff.next_wait()) => {}
                () = &mut session_ended => return None,
                () = context.shutdown.cancelled() => return Some(Err(SendError::ShuttingDown)),
            }
        }
    }
}
