//! A round of look-ups of the sends that are due.
//!
//! Invariants: a round ends with the first request that fails because the logs are down, and from then on the clock of doubts stands
//! still; no request begins after [`MAX_ROUND`]. Arrivals, holds and a shutdown are looked at during a request.
//! Neighbours: [`super`] begins rounds and applies the answers; `recent` finds many sends at once.

use std::{pin::pin, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, Interval},
};
use tokio_util::sync::CancellationToken;

use super::{InDoubtSend, LogAnswers, Resolver};
use crate::{
    infobip::{
        ApiError, LogsQuery,
        account::LogsError,
        limits,
        pacing::Priority,
        wire::{self, LogRow, Rows},
    },
    send::custody::Leases,
};

/// A round of look-ups begins no request after this time, so that its answers are applied.
const MAX_ROUND: Duration = Duration::from_secs(5);

/// What the API's logs are when a request to them did not get rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logs {
    /// They cannot be reached, or do not answer.
    Down,
    /// The quota allows no request in this round any more.
    QuotaExhausted,
    /// They answer. Logs that refuse these credentials, say, may do so for ever: sends in doubt must end.
    Refuse,
}

impl Resolver {
    /// A round of look-ups of `due`. It is left as soon as one of them has to be handed back: what was answered before that counts.
    pub(super) async fn look_up(
        &self,
        due: &[InDoubtSend],
        open: &mut Vec<InDoubtSend>,
        submitted: &mut mpsc::Receiver<InDoubtSend>,
        check: &mut Interval,
        end: &CancellationToken,
    ) -> LogAnswers {
        let mut answers = LogAnswers::default();
        {
            let mut querying = pin!(self.query_logs(due, &mut answers));
            let mut is_closing = false;
            loop {
                tokio::select! {
                    biased;
                    () = end.cancelled() => break,
                    () = self.closing.cancelled(), if !is_closing => is_closing = true,
                    () = self.withdraw.notified() => {}
                    _ = check.tick() => {}
                    Some(send) = submitted.recv() => {
                        self.receive(send, open);
                        continue;
                    }
                    () = &mut querying => break,
                }
                self.end_holds(open);
                let mut leases = Leases::default();
                let mut calls = due.iter().map(|send| &send.item.call);
                if calls
                    .any(|call| is_closing && call.is_command || call.is_hold_over_by(&mut leases))
                {
                    break;
                }
            }
        }
        answers
    }

    /// Looks up the ids of `due` until [`MAX_ROUND`] has passed or the logs are down. A failed look-up leaves its ids unanswered.
    async fn query_logs(&self, due: &[InDoubtSend], answers: &mut LogAnswers) {
        let no_request_after = Instant::now() + MAX_ROUND;
        if let Some(Logs::Down | Logs::QuotaExhausted) =
            self.find_among_recent(due, no_request_after, answers).await
        {
            return;
        }
        let all = due.iter().map(InDoubtSend::wire_id);
        let rest: Vec<_> = all.filter(|id| answers.asked_at(id).is_none()).collect();
        for ids in id_filters(rest.into_iter()) {
            if Instant::now() > no_request_after {
                break;
            }
            let query = LogsQuery {
                message_ids: ids.clone(),
                limit: Some(limits::MAX_ROWS),
                ..LogsQuery::default()
            };
            let at = Instant::now();
            match self.ask(&query, no_request_after, answers).await {
                Ok(rows) => answers.add(ids, at, rows.rows),
                Err(Logs::QuotaExhausted) => return,
                Err(Logs::Refuse) => answers.fail(ids),
                Err(Logs::Down) => return answers.fail(ids),
            }
        }
    }

    /// Makes one request. The first one of a round waits for the quota, others not longer than the round, so that its answers are applied.
    /// If the logs are down, the clock stands still until they answer, and what it ran meanwhile is noted.
    pub(super) async fn ask(
        &self,
        query: &LogsQuery,
        no_request_after: Instant,
        answers: &mut LogAnswers,
    ) -> Result<Rows<LogRow>, Logs> {
        let clock = &self.account.clock;
        let began = clock.now();
        let latest = answers.has_some().then_some(no_request_after);
        let asked = self.account.logs(query, Priority::InDoubt, latest).await;
        let answer = match asked {
            Err(LogsError::QuotaExhausted { .. }) => return Err(Logs::QuotaExhausted),
            Err(LogsError::Api(error)) => Err(error),
            Ok(response) => Ok(response),
        };
        if !matches!(
            answer,
            Err(ApiError::NotSent { .. } | ApiError::InDoubt { .. })
        ) {
            clock.set_logs_fail(false);
        }
        let (detail, logs) = match answer {
            Ok(response) => match wire::read_logs(&response.body) {
                Ok(rows) => return Ok(rows),
                Err(error) => (error.to_string(), Logs::Refuse),
            },
            Err(error @ (ApiError::NotSent { .. } | ApiError::InDoubt { .. })) => {
                clock.set_logs_fail(true);
                answers.note_outage(clock.now().saturating_duration_since(began));
                (error.to_string(), Logs::Down)
            }
            Err(error) => (error.to_string(), Logs::Refuse),
        };
        tracing::debug!(
            detail,
            "looking up sends in doubt failed; it will be retried"
        );
        Err(logs)
    }
}

/// The ids to look up, in lists that fit the API's id filter.
pub(super) fn id_filters<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
    let mut filters: Vec<Vec<String>> = Vec::new();
    let mut characters = usize::MAX;
    for id in ids {
        if characters.saturating_add(id.len() + 1) > limits::MAX_ID_FILTER_CHARACTERS {
            filters.push(Vec::new());
            characters = 0;
        }
        characters += id.len() + 1;
        if let Some(filter) = filters.last_mut() {
            filter.push(id.to_owned());
        }
    }
    filters
}
