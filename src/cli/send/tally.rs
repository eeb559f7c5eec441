//! Counts results by what is to be done about them.

use super::is_accepted;
use crate::{
    cli::CliError,
    proto::v1::{Outcome, SendResult},
};

/// Number of messages by outcome.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) accepted: u64,
    /// Finally: the same call has the same result.
    pub(super) rejected: u64,
    pub(super) unknown: u64,
    /// Refused before anything was sent; the same call may succeed later.
    pub(super) not_sent: u64,
}

impl Tally {
    pub(super) fn add(&mut self, result: &SendResult) {
        let count = match result.outcome() {
            _ if is_accepted(result) => &mut self.accepted,
            Outcome::Rejected if result.has_retryable_refusal() => &mut self.not_sent,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Accepted | Outcome::Unknown | Outcome::Unspecified => &mut self.unknown,
        };
        *count += 1;
    }

    /// The totals: `3 sent: 1 accepted, 1 rejected, 1 unknown; 2 not sent`.
    pub(super) fn totals(&self, unanswered: u64) -> String {
        let Self {
            accepted,
            rejected,
            unknown,
            not_sent,
        } = self;
        let sent = accepted + rejected + unknown + unanswered;
        if sent == 0 && *not_sent > 0 {
            return format!("0 sent, {not_sent} not sent");
        }
        let mut text =
            format!("{sent} sent: {accepted} accepted, {rejected} rejected, {unknown} unknown");
        if unanswered > 0 {
            text.push_str(&format!(", {unanswered} unanswered"));
        }
        if *not_sent > 0 {
            text.push_str(&format!("; {not_sent} not sent"));
        }
        text
    }

    /// Whether the same command can have another result.
    pub(super) fn is_worth_repeating(&self) -> bool {
        self.not_sent > 0 || self.unknown > 0
    }

    /// # Errors
    /// If any of `all` messages was not accepted. `request` names the request, for the messages that are final.
    pub(super) fn outcome(
        &self,
        all: u64,
        request_id: &str,
        request: &str,
    ) -> Result<(), CliError> {
        let kinds = [
            (self.rejected, "was rejected", "were rejected"),
            (
                self.unknown,
                "has an unknown outcome",
                "have an unknown outcome",
            ),
            (self.not_sent, "was not sent", "were not sent"),
        ];
        let kinds: Vec<_> = kinds
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many)| (count, if count == 1 { one } else { many }))
            .collect();
        let text = match kinds.as_slice() {
            [] => return Ok(()),
            [(count, what)] => format!("{count} of {all} messages {what}"),
            kinds => {
                let parts: Vec<_> = kinds
                    .iter()
                    .map(|(count, what)| format!("{count} {what}"))
                    .collect();
                format!("of {all} messages, {}", parts.join(", "))
            }
        };
        Err(CliError::Failed(if self.is_worth_repeating() {
            format!("{text}\n  {}", repeat(request_id))
        } else {
            format!("{text}{request}")
        }))
    }
}

/// How to repeat a command whose outcome is not final.
pub(super) fn repeat(request_id: &str) -> String {
    format!("Repeat the command with --request-id {request_id}: nothing is sent twice")
}
