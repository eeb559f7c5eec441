//! Handles a command that looks numbers up, from decoding to its acknowledgement.
//!
//! Each number costs, each time, and no log tells what was asked. Invariants: a number that an earlier delivery may have asked is
//! reported as unknown and never asked (docs/RELIABILITY.md#look-ups); each number has one event before the delivery is acknowledged;
//! no second copy of a command is published after one that may be stored. What was merely delivered looks asked after a crash, so
//! at most [`MAX_IN_FLIGHT`] commands are delivered at a time, and what waits goes back to its queue at a shutdown.
//! Neighbours: `query::lookup` asks and holds back after failures; [`request`] decodes, [`report`] stores results, [`asked`] knows
//! commands that were published twice.

pub(super) mod asked;
mod report;
mod request;

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep_until;

use self::{
    asked::Noted,
    report::{Results, expired, may_have_been_asked, published_before},
    request::LookupCommand,
};
use super::{
    Context,
    command::Source,
    custody::{Copy, NotRequeued, Requeue},
    envelope::{Envelope, now_ms},
    handle,
    invalid::Invalid,
    lease::HeldDelivery,
    ledger::Key,
    reply::reply_lookup,
};
use crate::{
    amqp::codec,
    infobip::{ApiError, limits::MAX_LOOKUP_NUMBERS},
    message::{id::logged_id, reason::Reason},
    ops::{
        kill_point::{self, KillPoint},
        metrics::LookupOutcome,
    },
    primitives::retry::{Backoff, RetryPolicy},
    proto::v1,
    query::lookup::Turn,
};

/// Commands that are delivered at a time, each with a request of its own. Those of the queue's other commands wait on the broker,
/// untouched.
pub(super) const MAX_IN_FLIGHT: u16 = 4;
/// The waits for an event log that cannot be written: nothing is asked that could not be stored.
const LOG_RETRY: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(2));

/// Whether the delivery is a command that looks numbers up.
pub(super) fn is_lookup(source: Source, delivery: &HeldDelivery) -> bool {
    match source {
        Source::Lookup => true,
        // Commands from every queue come there.
        Source::Returned => Envelope::new(delivery).routing_key() == codec::LOOKUP,
        Source::Normal | Source::Urgent => false,
    }
}

/// Requeues a delivery that was received while the process shuts down.
pub(super) async fn requeue_unchanged(context: &Context, source: Source, delivery: &HeldDelivery) {
    let copy = Copy {
        body: Bytes::copy_from_slice(&delivery.data),
        requeue: Requeue::Unchanged,
        may_be_sent: Envelope::new(delivery).history().may_be_sent(source),
        count: None,
    };
    let queue = source.queue(&context.commands.topology);
    // Without a confirm the delivery stays, and looks tried.
    let _ = context.requeue_once(queue, delivery, copy, None).await;
}

pub(super) async fn carry_out(
    context: &Context,
    source: Source,
    delivery: &HeldDelivery,
    began: Instant,
) {
    let envelope = Envelope::new(delivery);
    let command = match LookupCommand::read(&envelope, source, &context.commands) {
        Ok(command) => command,
        Err(invalid) => return context.dead_letter(source, delivery, invalid, None).await,
    };
    let mut run = Run {
        context,
        source,
        delivery,
        hold_until: (began + context.commands.hold_for).into(),
        results: Results::new(delivery),
        key: command.key(),
        command,
    };
    let Some(key) = run.key.clone() else {
        return run.carry_out().await;
    };
    let history = run.command.history;
    let is_first = !history.may_have_twin && !history.may_be_sent(source);
    let beginning = handle::begin(context, delivery, &key, history.is_redelivered, is_first);
    if let Some(_in_flight) = beginning.await {
        run.carry_out().await;
    }
}

/// Why no number is asked now.
enum Stop {
    /// The delivery is not this process's any more: the broker delivers it again.
    Lost,
    Expired,
    HoldOver,
    ShuttingDown,
}

/// One delivery of a command.
struct Run<'a> {
    context: &'a Context,
    source: Source,
    delivery: &'a HeldDelivery,
    /// Its numbers are those without a result.
    command: LookupCommand,
    key: Option<Key>,
    hold_until: tokio::time::Instant,
    results: Results,
}

impl<'a> Run<'a> {
    async fn carry_out(&mut self) {
        if self.command.history.may_be_sent(self.source) {
            self.end_all(LookupOutcome::Unknown, &may_have_been_asked())
                .await;
        } else if self.source == Source::Returned {
            // It may have been delivered before it expired: the broker does not tell.
            self.end_all(LookupOutcome::Expired, &expired(false)).await;
        } else {
            match self.note_asked() {
                Ok(Noted::New) => self.ask_all().await,
                Ok(Noted::Doubtful) => {
                    let refusal = may_have_been_asked();
                    self.end_all(LookupOutcome::Unknown, &refusal).await;
                }
                Ok(Noted::Repeated) => self.end_repeated().await,
                Err(invalid) => {
                    self.context
                        .dead_letter(self.source, self.delivery, invalid, None)
                        .await;
                }
            }
        }
    }

    /// Notes that the command is asked from now on. Without a request id nothing is known of it.
    fn note_asked(&self) -> Result<Noted, Invalid> {
        let Some(key) = &self.key else {
            return Ok(Noted::New);
        };
        let attempt = Envelope::new(self.delivery).attempt();
        self.context.asked.note(key, attempt, &self.command.numbers)
    }

    async fn ask_all(&mut self) {
        while !self.command.numbers.is_empty() {
            let stop = match self.turn().await {
                Ok(turn) => {
                    if !self.ask_some(turn).await {
                        return;
                    }
                    continue;
                }
                Err(stop) => stop,
            };
            return match stop {
                Stop::Lost => {}
                Stop::Expired => self.end_all(LookupOutcome::Expired, &expired(true)).await,
                Stop::HoldOver => self.hand_back(Requeue::Delayed(Duration::ZERO)).await,
                Stop::ShuttingDown => self.hand_back(Requeue::Unchanged).await,
            };
        }
        self.finish().await;
    }

    /// Waits until the next numbers may be asked. The delivery is still this process's then.
    async fn turn(&self) -> Result<Turn<'a>, Stop> {
        let context = self.context;
        let turn = tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return Err(Stop::ShuttingDown),
            () = self.delivery.lease.lost() => return Err(Stop::Lost),
            () = self.expiry() => return Err(Stop::Expired),
            () = sleep_until(self.hold_until) => return Err(Stop::HoldOver),
            turn = turn_to_ask(context) => turn,
        };
        if !self.delivery.is_usable() {
            Err(Stop::Lost)
        } else if self.command.expires_at_ms.is_some_and(|at| at <= now_ms()) {
            Err(Stop::Expired)
        } else {
            Ok(turn)
        }
    }

    /// Resolves when the command expires.
    async fn expiry(&self) {
        let Some(at_ms) = self.command.expires_at_ms else {
            return std::future::pending().await;
        };
        let left_ms = at_ms.saturating_sub(now_ms()).max(0);
        tokio::time::sleep(Duration::from_millis(left_ms.unsigned_abs())).await;
    }

    /// Asks about the next numbers and stores their results. False if the command has ended, or is not this process's any more.
    async fn ask_some(&mut self, turn: Turn<'_>) -> bool {
        let context = self.context;
        let count = self.command.numbers.len().min(MAX_LOOKUP_NUMBERS);
        let asked = &self.command.numbers[..count];
        let request_id = logged_id(&self.command.request_id);
        tracing::debug!(request_id, numbers = count, "numbers are looked up");
        let outcome = context.commands.query.lookups.ask(asked, turn).await;
        kill_point::reached(KillPoint::RequestEnded);
        let results = match outcome {
            Ok(results) => results,
            // Nothing was done: they wait for their next turn.
            Err(
                ApiError::NotSent { .. }
                | ApiError::RateLimited { .. }
                | ApiError::CredentialsRefused { .. },
            ) => return true,
            Err(error @ ApiError::InDoubt { .. }) => {
                tracing::debug!(request_id, %error, "the answer to a look-up is lost: its numbers are not asked again");
                report::without_answers(asked, &report::refusal(error))
            }
            Err(error) if error.is_about_the_request() => {
                self.give_up(&error).await;
                return false;
            }
            Err(ApiError::Refused { .. }) => return true,
        };
        let events = report::events(&self.command, &results);
        if !report::append_answers(context, self.delivery, events, self.hold_until).await {
            return false;
        }
        kill_point::reached(KillPoint::ResultsStored);
        self.command.numbers.drain(..count);
        self.results.add(results);
        true
    }

    /// Gives all numbers without a result this one, and ends the command.
    async fn end_all(&mut self, outcome: LookupOutcome, refusal: &v1::Refusal) {
        let numbers = std::mem::take(&mut self.command.numbers);
        for numbers in numbers.chunks(MAX_LOOKUP_NUMBERS) {
            let results = report::without_answers(numbers, refusal);
            let events = report::events(&self.command, &results);
            if !self
                .context
                .append_all_until_durable(self.delivery, events)
                .await
            {
                return;
            }
            let lookups = &self.context.commands.query.lookups;
            lookups.count(outcome, numbers.len());
            self.results.add(results);
        }
        self.finish().await;
    }

    /// Ends a command that was published before, without events: the first publication has them.
    async fn end_repeated(&mut self) {
        tracing::debug!(
            request_id = logged_id(&self.command.request_id),
            "a look-up was published again: its results are events, or will be"
        );
        // The publisher waits for it. It did not publish a copy.
        if !self.command.history.may_have_twin {
            let refusal = published_before();
            let results = report::without_answers(&self.command.numbers, &refusal);
            self.results.add(results);
            self.reply().await;
        }
        // Without the key: a failure would be taken for that of the first publication.
        self.context.acknowledge(self.delivery, None).await;
    }

    /// Replies, and acknowledges the delivery.
    async fn finish(&mut self) {
        kill_point::reached(KillPoint::ResultsStored);
        self.reply().await;
        let (delivery, key) = (self.delivery, self.key.as_ref());
        self.context.acknowledge(delivery, key).await;
    }

    async fn reply(&mut self) {
        let results = std::mem::take(&mut self.results);
        if let Some(response) = results.into_response(&self.command.request_id) {
            let (context, delivery) = (self.context, self.delivery);
            let LookupCommand {
                encoding,
                request_id,
                ..
            } = &self.command;
            reply_lookup(context, delivery, *encoding, request_id, &response).await;
        }
    }

    /// Publishes the numbers without a result again. Where it is unknown whether the copy is stored, they are not published twice: they
    /// are reported as unknown, because the copy may be asked.
    async fn hand_back(&mut self, requeue: Requeue) {
        let copy = Copy {
            body: self.command.body(self.delivery),
            requeue,
            may_be_sent: false,
            count: None,
        };
        let queue = self.source.queue(&self.context.commands.topology);
        let (delivery, key) = (self.delivery, self.key.as_ref());
        let requeued = self.context.requeue_once(queue, delivery, copy, key).await;
        if requeued == Err(NotRequeued::MayBeStored) && requeue != Requeue::Unchanged {
            self.end_all(LookupOutcome::Unknown, &may_have_been_asked())
                .await;
        }
    }

    /// The API refused the request because of what is in it: nothing of it was done, and it would be refused again.
    async fn give_up(&mut self, error: &ApiError) {
        let refusal = report::refusal(error.clone());
        let invalid = Invalid {
            reason: Reason::ApiRefused,
            detail: format!(
                "no number of this dead letter was looked up: {}",
                refusal.detail
            ),
            violations: refusal.violations,
        };
        if let Some(key) = &self.key {
            // What is left may be asked after the cause is gone.
            let attempt = Envelope::new(self.delivery).attempt();
            let left = &self.command.numbers;
            self.context.asked.died(key, attempt, left);
        }
        let body = self.command.body(self.delivery);
        let (delivery, key) = (self.delivery, self.key.as_ref());
        self.context
            .dead_letter_with(self.source, delivery, body, invalid, key)
            .await;
    }
}

/// Waits until look-ups may be asked and their results be stored.
async fn turn_to_ask(context: &Context) -> Turn<'_> {
    let mut backoff = Backoff::new(LOG_RETRY);
    loop {
        if context.commands.log.is_ready() {
            let turn = context.commands.query.lookups.turn().await;
            if context.commands.log.is_ready() {
                return turn;
            }
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}
