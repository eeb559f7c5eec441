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
        COMMAND_RETRY_FOR, MAX_RESEND_AGE, SendError, batch_item::BatchItem,
        dispatcher::settle_all, recorder::SlotResult,
    },
};

/// One destination whose outcome is in doubt.
pub(in crate::send) struct InDoubtSend {
    /// An item with exactly one slot.
    pub(super) item: BatchItem,
    pub(super) may_resend: bool,
    /// False if nobody is known to have tried it: then it never ends as `unknown`.
    pub(super) was_tried: bool,
    /// On the clock that stands still during outages.
    pub(super) since: Instant,
    /// When the next look-up is due.
    pub(super) due: Instant,
    /// Before this time "not found" does not count: the original request may still be in flight.
    pub(super) not_found_counts_from: Instant,
    pub(super) look_ups: u32,
    /// The API rejected it after an earlier request may have been accepted. It counts if a look-up at `not_found_counts_from` or later
    /// finds no acceptance.
    pub(super) rejection: Option<Box<v1::SendResult>>,
}

impl InDoubtSend {
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
        let now = Instant::now();
        let since = *item.in_doubt_since.get_or_insert(began);
        Self {
            item,
            may_resend,
            was_tried: true,
            since,
            due: now + wait,
            not_found_counts_from: now,
            look_ups: 0,
            rejection: None,
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

    /// A send that another process may have begun. "Not found" counts only after `request_timeout`, when that process's request
    /// has ended.
    pub(in crate::send) fn redelivered(
        mut item: BatchItem,
        request_timeout: Duration,
        began: Instant,
    ) -> Self {
        let now = Instant::now();
        item.in_doubt_since = Some(began);
        Self {
            item,
            may_resend: true,
            was_tried: true,
            since: began,
            due: now,
            not_found_counts_from: now + request_timeout,
            look_ups: 0,
            rejection: None,
        }
    }

    /// A copy of a command that nobody is known to have tried, but whose original may have been delivered again: it is looked up
    /// once, and sent if it is not found.
    pub(in crate::send) fn untried(item: BatchItem, began: Instant) -> Self {
        let now = Instant::now();
        Self {
            item,
            may_resend: true,
            was_tried: false,
            since: began,
            due: now,
            not_found_counts_from: now,
            look_ups: 0,
            rejection: None,
        }
    }

    /// Notes the first rejection, which counts after `log_lag`.
    pub(super) fn note_rejection(&mut self, rejection: Box<v1::SendResult>, log_lag: Duration) {
        if self.rejection.is_none() {
            self.rejection = Some(rejection);
            self.may_resend = false;
            self.not_found_counts_from = Instant::now() + log_lag;
        }
    }

    /// Sets the time at which the send began. It is not resent if the API's logs may no longer show it.
    pub(in crate::send) fn begun_at(mut self, at: Timestamp) -> Self {
        self.may_resend &= Timestamp::now().duration_since(at) < MAX_RESEND_AGE;
        self
    }

    /// Whether the look-ups end: after `in_doubt_for` without outages (`now` is on the [`OutageClock`]). What was not tried does not
    /// wait for the end of an outage, because its command can go back to a queue.
    ///
    /// [`OutageClock`]: crate::infobip::account::outage_clock::OutageClock
    pub(super) fn is_over(&self, now: Instant, in_doubt_for: Duration) -> bool {
        let waited_too_long = !self.was_tried && self.item.since.elapsed() >= COMMAND_RETRY_FOR;
        waited_too_long || now.saturating_duration_since(self.since) >= in_doubt_for
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

    /// Ends the look-ups without an outcome: with the result `unknown` for the reason `why`, or with `error` if it was not tried.
    pub(super) fn ended(&self, why: &str, error: &SendError) -> Option<SlotResult> {
        if self.was_tried {
            return Some(self.unknown(why));
        }
        settle_all(&self.item, error);
        None
    }

    /// The result `unknown`, for the reason `why`.
    pub(in crate::send) fn unknown(&self, why: &str) -> SlotResult {
        let detail = format!(
            "the request was sent, no usable response arrived, and the API's logs did not show the outcome: {why}. Repeat the call with the same ids to look it up again"
        );
        let result = self.item.call.refusal(
            self.slot(),
            Outcome::Unknown,
            Reason::OutcomeUnknown,
            detail,
            Vec::new(),
        );
        self.with_result(result)
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

    fn item(since: Instant) -> BatchItem {
        let reply_to = ReplyTo::Command(oneshot::channel().0);
        BatchItem::alone(v1::OutboundMessage::default(), since, reply_to)
    }

    /// The clock of doubts stands still, as in an outage: only what was not tried ends.
    #[test]
    fn a_copy_that_was_not_tried_does_not_wait_for_the_end_of_an_outage() {
        let now = Instant::now();
        let long_ago = now - COMMAND_RETRY_FOR;
        let a_day = Duration::from_secs(86_400);
        assert!(InDoubtSend::untried(item(long_ago), now).is_over(now, a_day));
        assert!(!InDoubtSend::untried(item(now), now).is_over(now, a_day));
        let tried = InDoubtSend::redelivered(item(long_ago), a_day, now);
        assert!(!tried.is_over(now, a_day));
        assert!(tried.is_over(now + a_day, a_day));
    }
}
