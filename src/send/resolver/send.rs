//! A send in doubt: one destination, its look-ups, and the results it can end with.
//!
//! Neighbours: `dispatcher` and `core` make it; the resolver in [`super`] keeps it until it is resolved.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    message::reason::Reason,
    proto::v1::{self, Outcome},
    send::{
        COMMAND_RETRY_FOR, MAX_RESEND_AGE, SendError, batch_item::BatchItem, custody::RETRY_AFTER,
        dispatcher::settle_all, recorder::SlotResult,
    },
};

/// Who may have sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// A request of this process whose response did not arrive.
    Here,
    /// Another process, or this one before a restart or with another delivery.
    Elsewhere,
    /// Nobody is known to have tried it: then it never ends as `unknown`.
    Nowhere,
}

/// One destination whose outcome is in doubt.
pub(in crate::send) struct InDoubtSend {
    /// An item with exactly one slot.
    pub(super) item: BatchItem,
    may_resend: bool,
    /// Its queue has given it up: it is not sent again, whether or not somebody sent it.
    is_given_up: bool,
    tried: Tried,
    /// On the clock that stands still during outages.
    since: Instant,
    /// When the next look-up is due.
    pub(super) due: Instant,
    /// Before this time "not found" does not count: the original request may still be in flight.
    pub(super) not_found_counts_from: Instant,
    pub(super) look_ups: u32,
    /// It was sought among the latest rows of the logs; its look-up by id is still due.
    pub(super) was_sought: bool,
    /// The API has seen the id, so an earlier request may have been accepted: it is not sent again.
    is_known: bool,
    /// The API rejected it after an earlier request may have been accepted. It counts if a look-up at `not_found_counts_from` or later
    /// finds no acceptance.
    rejection: Option<Box<v1::SendResult>>,
    /// The refusal of the bridge, if the API's logs do not have it.
    refusal: Option<Box<v1::SendResult>>,
}

/// What becomes of a send after a look-up that did not find it.
pub(super) enum Next {
    /// It is looked up again.
    LookUp,
    /// It is sent again with the same id.
    Resend,
    /// It ends with this result.
    End(SlotResult),
    /// It ends without a result. Its command goes back to its queue.
    HandBack(SendError),
}

impl InDoubtSend {
    fn begun(item: BatchItem, tried: Tried, since: Instant) -> Self {
        let now = Instant::now();
        Self {
            item,
            may_resend: true,
            is_given_up: false,
            tried,
            since,
            due: now,
            not_found_counts_from: now,
            look_ups: 0,
            was_sought: false,
            is_known: false,
            rejection: None,
            refusal: None,
        }
    }

    /// A send of this process whose response did not arrive. The first look-up is due after `wait`. `began` is now on the
    /// [`OutageClock`].
    ///
    /// [`OutageClock`]: crate::infobip::account::outage_clock::OutageClock
    pub(in crate::send) fn new(
        mut item: BatchItem,
        may_resend: bool,
        wait: Duration,
        began: Instant,
    ) -> Self {
        let since = *item.in_doubt_since.get_or_insert(began);
        Self {
            may_resend,
            due: Instant::now() + wait,
            ..Self::begun(item, Tried::Here, since)
        }
    }

    /// A send in doubt that was sent again and rejected. The logs may show the acceptance of an earlier request up to `log_lag` late.
    pub(in crate::send) fn rejected(
        item: BatchItem,
        rejection: Box<v1::SendResult>,
        log_lag: Duration,
        began: Instant,
    ) -> Self {
        let mut send = Self::new(item, false, log_lag, began);
        send.note_rejection(rejection, log_lag);
        send
    }

    /// A send that another process may have begun. "Not found" counts only `after` this time, when that process's request has ended.
    pub(in crate::send) fn redelivered(
        mut item: BatchItem,
        after: Duration,
        began: Instant,
    ) -> Self {
        item.in_doubt_since = Some(began);
        let mut send = Self::begun(item, Tried::Elsewhere, began);
        send.not_found_counts_from += after;
        send
    }

    /// It is looked up only when "not found" counts: it was probably not sent.
    pub(in crate::send) fn looked_up_once(mut self) -> Self {
        self.due = self.not_found_counts_from;
        self
    }

    /// Its queue has given it up: what the logs do not have ends without a result.
    pub(in crate::send) fn never_resent(mut self) -> Self {
        self.is_given_up = true;
        self
    }

    /// A copy of a command that nobody is known to have tried, but whose original may have been delivered again: it is looked up
    /// once, and sent if it is not found.
    pub(in crate::send) fn untried(item: BatchItem, began: Instant) -> Self {
        Self::begun(item, Tried::Nowhere, began)
    }

    /// Notes the first rejection after an earlier request may have been accepted. It counts after `log_lag`.
    pub(super) fn note_rejection(&mut self, rejection: Box<v1::SendResult>, log_lag: Duration) {
        if self.rejection.is_none() {
            self.rejection = Some(rejection);
            self.may_resend = false;
            self.not_found_counts_from = Instant::now() + log_lag;
        }
    }

    /// Notes that the logs have a refused duplicate: the API has seen the id, so an earlier request may have been accepted.
    pub(super) fn note_duplicate(&mut self) {
        self.is_known = true;
        self.rejection = None;
        self.refusal = None;
        if self.tried == Tried::Nowhere {
            self.tried = Tried::Elsewhere;
        }
    }

    /// Whether an earlier request than the rejected one may have been accepted.
    pub(super) fn may_be_accepted_earlier(&self) -> bool {
        self.item.is_resent || self.rejection.is_some()
    }

    /// Sets the result that it gets if the API's logs do not have it: the bridge refuses it.
    pub(in crate::send) fn refused(mut self, refusal: Option<Box<v1::SendResult>>) -> Self {
        self.refusal = refusal;
        self
    }

    /// Sets the time at which the send may have begun. It is not resent if the API's logs may no longer show it.
    pub(in crate::send) fn begun_at(mut self, at: Timestamp) -> Self {
        self.may_resend &= Timestamp::now().duration_since(at) < MAX_RESEND_AGE;
        self
    }

    /// What becomes of it after a look-up that did not find it. `is_answered`: the logs do not have it, and that counts. `now` is on
    /// the [`OutageClock`].
    ///
    /// [`OutageClock`]: crate::infobip::account::outage_clock::OutageClock
    pub(super) fn next(&self, is_answered: bool, now: Instant, in_doubt_for: Duration) -> Next {
        if self.item.call.is_hold_over() {
            return Next::HandBack(self.handed_back());
        }
        let is_over = now.saturating_duration_since(self.since) >= in_doubt_for;
        if is_answered {
            if let Some(rejection) = self.rejection.as_ref().or(self.refusal.as_ref()) {
                return Next::End(self.with_result(rejection.clone()));
            }
            match self.tried {
                _ if self.is_known => {}
                // The dispatcher rejects it if it has expired.
                Tried::Nowhere => return Next::Resend,
                Tried::Elsewhere if self.item.is_expired() => return Next::End(self.expired()),
                Tried::Elsewhere if self.is_given_up => return Next::HandBack(SendError::NotSent),
                Tried::Elsewhere if !self.may_resend => {
                    let why =
                        "it may have been sent more than 24 hours ago, so it is not sent again";
                    return Next::End(self.unknown(why));
                }
                Tried::Here if self.item.is_expired() || !self.may_resend => {}
                Tried::Here | Tried::Elsewhere if self.item.is_resent && is_over => {}
                Tried::Here | Tried::Elsewhere => return Next::Resend,
            }
        }
        // What was not tried does not wait for the end of an outage, because its command can go back to a queue.
        if self.tried == Tried::Nowhere {
            return match is_over || self.is_hold_over() {
                true => Next::HandBack(self.handed_back()),
                false => Next::LookUp,
            };
        }
        match is_over {
            true => Next::End(self.unknown("send.in_doubt_for has passed")),
            false => Next::LookUp,
        }
    }

    /// Whether it has to be handed back now: its delivery is lost or held for too long, or, untried, it has waited too long.
    pub(super) fn is_hold_over(&self) -> bool {
        let is_untried = self.tried == Tried::Nowhere;
        self.item.call.is_hold_over()
            || is_untried && self.item.since.elapsed() >= COMMAND_RETRY_FOR
    }

    /// Gives back the time `by` that the clock ran in an outage. `now` is on that clock.
    pub(super) fn postpone(&mut self, by: Duration, now: Instant) {
        self.since = (self.since + by).min(now);
        if let Some(since) = &mut self.item.in_doubt_since {
            *since = self.since;
        }
    }

    pub(super) fn wire_id(&self) -> &str {
        let mut destinations = self.item.destinations();
        destinations
            .next()
            .map_or("", |destination| destination.wire_id)
    }

    fn slot(&self) -> usize {
        self.item.slots.first().copied().unwrap_or_default()
    }

    pub(super) fn with_result(&self, result: Box<v1::SendResult>) -> SlotResult {
        SlotResult {
            call: Arc::clone(&self.item.call),
            slot: self.slot(),
            result,
        }
    }

    /// The error with which a command goes to a retry queue.
    pub(super) fn handed_back(&self) -> SendError {
        match self.tried {
            Tried::Here | Tried::Elsewhere => SendError::StillInDoubt,
            Tried::Nowhere => SendError::Unavailable {
                detail: "the API's logs did not answer".to_owned(),
                retry_after: RETRY_AFTER,
            },
        }
    }

    /// Ends the look-ups because the process shuts down: a command goes back to its queue and is looked up when it is delivered
    /// again; a caller gets the result `unknown`.
    pub(super) fn shut_down(&self) -> Option<SlotResult> {
        let is_untried = self.tried == Tried::Nowhere;
        if !is_untried && !self.item.call.is_command {
            return Some(self.unknown("the bridge is shutting down"));
        }
        let error = match is_untried {
            true => SendError::ShuttingDown,
            false => SendError::StillInDoubt,
        };
        settle_all(&self.item, &error);
        None
    }

    /// The result `unknown`, for the reason `why`.
    pub(in crate::send) fn unknown(&self, why: &str) -> SlotResult {
        let detail = format!(
            "the request was sent, no usable response arrived, and the API's logs did not show the outcome: {why}. Repeat the call with the same ids to look it up again"
        );
        self.ended_as(Outcome::Unknown, Reason::OutcomeUnknown, detail)
    }

    fn expired(&self) -> SlotResult {
        let detail = "it expired before it could be sent, and the API's logs do not have it";
        self.ended_as(Outcome::Rejected, Reason::Expired, detail.to_owned())
    }

    fn ended_as(&self, outcome: Outcome, reason: Reason, detail: String) -> SlotResult {
        let call = &self.item.call;
        self.with_result(call.refusal(self.slot(), outcome, reason, detail, Vec::new()))
    }

    /// The result that a row of the API's logs shows.
    pub(super) fn found(&self, log: &v1::SmsLog, outcome: Outcome) -> Box<v1::SendResult> {
        let mut result = self.item.call.result(self.slot(), outcome);
        result.status = log.status.clone();
        result.sms_count = log.sms_count;
        result
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::send::call::ReplyTo;

    const A_DAY: Duration = Duration::from_secs(86_400);

    fn item_of(message: v1::OutboundMessage, since: Instant) -> BatchItem {
        let reply_to = ReplyTo::Command(oneshot::channel().0);
        BatchItem::alone(message, since, reply_to)
    }

    fn item(since: Instant) -> BatchItem {
        item_of(v1::OutboundMessage::default(), since)
    }

    fn is_handed_back(next: &Next) -> bool {
        matches!(next, Next::HandBack(SendError::Unavailable { .. }))
    }

    /// The clock of doubts stands still, as in an outage: only what was not tried ends.
    #[test]
    fn a_copy_that_was_not_tried_does_not_wait_for_the_end_of_an_outage() {
        let now = Instant::now();
        let long_ago = now - COMMAND_RETRY_FOR;
        let next = |send: &InDoubtSend, now| send.next(false, now, A_DAY);
        let untried = |since| InDoubtSend::untried(item(since), now);
        assert!(is_handed_back(&next(&untried(long_ago), now)));
        assert!(matches!(next(&untried(now), now), Next::LookUp));
        let tried = InDoubtSend::redelivered(item(long_ago), A_DAY, now);
        assert!(matches!(next(&tried, now), Next::LookUp));
        assert!(matches!(next(&tried, now + A_DAY), Next::End(_)));
    }

    /// It is never given more than it has used.
    #[test]
    fn the_time_of_a_request_that_found_the_logs_down_is_given_back() {
        let began = Instant::now();
        let minute = Duration::from_secs(60);
        let mut send = InDoubtSend::redelivered(item(began), Duration::ZERO, began);
        let is_over = |send: &InDoubtSend, at| matches!(send.next(false, at, minute), Next::End(_));
        assert!(is_over(&send, began + minute));
        send.postpone(minute, began + minute);
        assert!(!is_over(&send, began + minute));
        send.postpone(10 * minute, began + minute);
        assert!(is_over(&send, began + 2 * minute));
    }

    /// The API has seen the id, so it may have accepted an earlier request, whoever sent it.
    #[test]
    fn a_refused_duplicate_is_looked_up_to_the_end_and_never_sent_again() {
        let now = Instant::now();
        for mut send in [
            InDoubtSend::new(item(now), true, Duration::ZERO, now),
            InDoubtSend::redelivered(item(now), Duration::ZERO, now),
            InDoubtSend::untried(item(now), now),
        ] {
            assert!(matches!(send.next(true, now, A_DAY), Next::Resend));
            send = send.refused(Some(Box::default()));
            send.note_duplicate();
            assert!(matches!(send.next(true, now, A_DAY), Next::LookUp));
            let Next::End(end) = send.next(true, now + A_DAY, A_DAY) else {
                panic!("it goes on");
            };
            assert_eq!(end.result.outcome(), Outcome::Unknown);
        }
    }
}
