//! Failed send requests, and items that are not sent: returns items to the lanes, rejects them, fails them, or hands them to the
//! resolver.
//!
//! Invariant: an item in doubt never fails as "nothing was sent" (P2, docs/RELIABILITY.md).
//! Neighbours: `infobip` has classified the failure and logged the outage; the breaker stops sends during an outage.

use std::{sync::Arc, time::Duration};

use super::{Dispatcher, settle_all};
use crate::{
    infobip::{ApiError, BatchKind, account::breaker::RATE_LIMIT, refused_credentials},
    message::reason::Reason,
    ops::milliseconds,
    proto::v1::{self, Outcome},
    send::{
        COMMAND_RETRY_FOR, SendError,
        batch_item::{BatchItem, wire_ids},
        custody::without_lost,
        recorder::SlotResult,
        refusal_note::Refusal,
    },
};

/// Shortest time after which callers are told to repeat a call.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

impl Dispatcher {
    pub(super) async fn handle_error(
        &self,
        kind: BatchKind,
        items: Vec<BatchItem>,
        error: ApiError,
    ) {
        let is_about_messages = error.is_about_the_request();
        let is_of_the_api = !is_about_messages && !matches!(error, ApiError::RateLimited { .. });
        let took_the_last = is_of_the_api && self.last_answers.failed(kind);
        match error {
            ApiError::NotSent { detail } => {
                let wait = self.account.breaker.failed(&detail, true);
                self.retry_after(wait, items, &detail).await;
            }
            ApiError::RateLimited { retry_after } => {
                let wait = self.account.breaker.rate_limited(retry_after);
                self.retry_after(wait, items, RATE_LIMIT).await;
            }
            ApiError::CredentialsRefused { http_status, text } => {
                let detail = refused_credentials(http_status, &text);
                self.note_refusal(&items, took_the_last);
                self.account.breaker.failed(&detail, true);
                self.fail(items, &SendError::CredentialsRefused { detail })
                    .await;
            }
            ApiError::Refused {
                http_status,
                code,
                text,
                validation_errors,
            } => {
                let fields = validation_errors
                    .iter()
                    .map(|(field, errors)| format!("{field}: {}", errors.join(", ")));
                let fields = fields.collect::<Vec<_>>().join("; ");
                let response = format!("HTTP {http_status} {code}: {text} {fields}");
                let response = response.trim_end_matches([' ', ':']);
                if is_about_messages {
                    self.account.breaker.succeeded();
                    self.isolate_refused(items, response).await;
                } else {
                    let detail = format!(
                        "{response}: check infobip.base_url and any proxy between the bridge and the API"
                    );
                    let refusal = self.note_refusal(&items, took_the_last);
                    let wait = self.account.breaker.failed(&detail, true);
                    if refusal >= Some(Refusal::Alone) {
                        // At the front of its lane it would be each probe, and keep the others waiting.
                        self.fail(items, &unavailable(&detail, wait)).await;
                    } else {
                        self.retry_after(wait, items, &detail).await;
                    }
                }
            }
            ApiError::InDoubt { detail, redirected } => {
                // Only one message may cause a timeout or an HTTP 500: the next request begins at once, until the breaker opens.
                self.account.breaker.failed(&detail, redirected);
                tracing::debug!(
                    message_ids = %wire_ids(&items),
                    detail,
                    "a send request is in doubt: its messages are looked up in the API's logs"
                );
                for item in &items {
                    for index in 0..item.slots.len() {
                        self.submit_to_resolver(item.only(index), true).await;
                    }
                }
            }
        }
    }

    /// Nothing was sent: returns the items to their lanes, and fails those that cannot wait for the next request after `wait`.
    async fn retry_after(&self, wait: Duration, items: Vec<BatchItem>, detail: &str) {
        tracing::debug!(
            wait_ms = milliseconds(wait),
            detail,
            "the API does not take sends now: they are retried after a wait"
        );
        self.lanes.put_back(without_lost(items));
        self.fail_timed_out(wait, &unavailable(detail, wait)).await;
    }

    /// Notes with its command that the API refused the request, unless it takes nothing else either. `Alone` only for a command.
    fn note_refusal(&self, items: &[BatchItem], took_the_last: bool) -> Option<Refusal> {
        let first = items.first()?;
        if !self.account.breaker.took_sends_lately() {
            return None;
        }
        let is_alone = items
            .iter()
            .all(|item| Arc::ptr_eq(&item.call, &first.call) && item.call.is_command);
        let refusal = match (is_alone, took_the_last) {
            (true, true) => Refusal::AloneAfterOthers,
            (true, false) => Refusal::Alone,
            (false, _) => Refusal::WithOthers,
        };
        for item in items {
            item.call.note_refusal(refusal);
        }
        Some(refusal)
    }

    /// Fails callers while the API is down, and items whose time is over.
    pub(super) async fn fail_waiting(&self) {
        let obstacle = self.account.breaker.obstacle();
        let error = unavailable(&obstacle.cause, obstacle.retry_after);
        if obstacle.fails_callers {
            for item in self.lanes.remove_callers() {
                settle_all(&item, &error);
            }
        }
        self.fail_timed_out(Duration::ZERO, &error).await;
    }

    /// Fails the items whose time is over after `wait`. An item in doubt must not fail as "nothing was sent": it has a limit of its
    /// own, and then goes back to the resolver.
    pub(super) async fn fail_timed_out(&self, wait: Duration, error: &SendError) {
        let now = self.account.clock.now();
        let has_timed_out = |item: &BatchItem| match item.in_doubt_since {
            None => {
                let retry_for = if item.call.is_command {
                    self.config.retry_for.max(COMMAND_RETRY_FOR)
                } else {
                    self.config.retry_for
                };
                item.since.elapsed() + wait > retry_for
            }
            Some(since) => now.saturating_duration_since(since) > self.config.in_doubt_for,
        };
        let timed_out = self.lanes.remove(has_timed_out);
        self.fail(timed_out, error).await;
    }

    /// The API refused the request as a whole, so nothing of it was sent. Finds the refused message: each half goes back to the lanes
    /// and gets a request of its own, and a destination that is refused alone is rejected.
    async fn isolate_refused(&self, mut items: Vec<BatchItem>, detail: &str) {
        if items.len() == 1 && items[0].slots.len() > 1 {
            let (one, other) = items.remove(0).split();
            items = vec![one, other];
        } else if items.len() == 1 {
            return self.reject_refused(items.remove(0), detail).await;
        }
        let mut other = items.split_off(items.len() / 2);
        for half in [&mut items, &mut other] {
            let exclusive = half[0].exclusive.as_deref().cloned().unwrap_or_default();
            let exclusive = Arc::new(exclusive);
            for item in half {
                item.exclusive = Some(Arc::clone(&exclusive));
            }
        }
        items.append(&mut other);
        self.lanes.put_back(without_lost(items));
    }

    /// Rejects the one destination of a refused request.
    async fn reject_refused(&self, item: BatchItem, detail: &str) {
        if item.in_doubt_since.is_none() {
            return self.reject(&[item], Reason::ApiRefused, detail).await;
        }
        for (index, slot) in item.slots.iter().enumerate() {
            let rejection = rejection(&item, *slot, Reason::ApiRefused, detail);
            self.submit_rejected(item.only(index), rejection).await;
        }
    }

    async fn reject(&self, items: &[BatchItem], reason: Reason, detail: &str) {
        let results = items.iter().flat_map(|item| {
            item.slots.iter().map(|slot| SlotResult {
                call: Arc::clone(&item.call),
                slot: *slot,
                result: rejection(item, *slot, reason, detail),
            })
        });
        self.recorder.record(results.collect()).await;
    }

    /// Settles items of which nothing was attempted. Those in doubt stay in doubt.
    async fn fail(&self, items: Vec<BatchItem>, error: &SendError) {
        for item in items {
            if item.in_doubt_since.is_none() {
                settle_all(&item, error);
            } else {
                self.submit_to_resolver(item, true).await;
            }
        }
    }

    /// Rejects items whose `expires_at` has passed. Those in doubt stay in doubt.
    pub(super) async fn end_expired(&self, expired: Vec<BatchItem>) {
        let (untried, in_doubt): (Vec<_>, Vec<_>) = expired
            .into_iter()
            .partition(|item| item.in_doubt_since.is_none());
        for item in in_doubt {
            self.submit_to_resolver(item, false).await;
        }
        let detail = "it expired before it could be sent: nothing was sent";
        self.reject(&untried, Reason::Expired, detail).await;
    }
}

/// Nothing was sent, and the next request begins after `wait` at the earliest.
fn unavailable(detail: &str, wait: Duration) -> SendError {
    SendError::Unavailable {
        detail: detail.to_owned(),
        retry_after: wait.max(MIN_RETRY_AFTER),
    }
}

fn rejection(item: &BatchItem, slot: usize, reason: Reason, detail: &str) -> Box<v1::SendResult> {
    let outcome = Outcome::Rejected;
    item.call
        .refusal(slot, outcome, reason, detail.to_owned(), Vec::new())
}
