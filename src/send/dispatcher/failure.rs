//! Failed send requests, and items that are not sent: returns items to the lanes, rejects them, fails them, or hands them to the
//! resolver.
//!
//! Invariant: an item in doubt never fails as "nothing was sent" (P2, docs/RELIABILITY.md).
//! Neighbours: `infobip` has classified the failure and logged the outage; `pause` stops sending during an outage.

use std::{sync::Arc, time::Duration};

use super::{Dispatcher, settle_all};
use crate::{
    infobip::ApiError,
    message::reason::Reason,
    ops::milliseconds,
    proto::v1::Outcome,
    send::{
        SendError,
        batch_item::{BatchItem, wire_ids},
        recorder::SlotResult,
    },
};

impl Dispatcher {
    pub(super) async fn handle_error(&self, items: Vec<BatchItem>, error: ApiError) {
        let is_about_messages = error.is_about_the_request();
        match error {
            ApiError::NotSent { detail } => self.pause_and_retry(items, &detail, None).await,
            ApiError::RateLimited { retry_after } => {
                self.pause_and_retry(items, "HTTP 429 Too Many Requests", retry_after)
                    .await;
            }
            ApiError::CredentialsRefused { http_status, text } => {
                let detail = format!(
                    "HTTP {http_status}, {text}: check infobip.username and infobip.password, or infobip.api_key"
                );
                self.pause.begin(None);
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
                    self.isolate_refused(items, response.to_owned()).await;
                } else {
                    let detail = format!(
                        "{response}: check infobip.base_url and any proxy between the bridge and the API"
                    );
                    self.pause_and_retry(items, &detail, None).await;
                }
            }
            ApiError::InDoubt { detail, redirected } => {
                if redirected {
                    self.pause.begin(None);
                }
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

    /// Nothing was sent: pauses sending, returns the items to their lanes, and fails those that have waited for
    /// `send.retry_for`.
    async fn pause_and_retry(
        &self,
        items: Vec<BatchItem>,
        detail: &str,
        at_least: Option<Duration>,
    ) {
        let pause = self.pause.begin(at_least);
        tracing::debug!(
            pause_ms = milliseconds(pause),
            detail,
            "the API does not take sends now: they are retried after a pause"
        );
        self.lanes.put_back(items);
        let error = SendError::Unavailable {
            detail: detail.to_owned(),
            retry_after: pause.max(Duration::from_secs(1)),
        };
        self.fail_timed_out(pause, &error).await;
    }

    /// Fails the items whose time is over before the pause ends. An item in doubt must not fail as "nothing was sent": it has a limit
    /// of its own, and then goes back to the resolver.
    pub(super) async fn fail_timed_out(&self, pause: Duration, error: &SendError) {
        let has_timed_out = |item: &BatchItem| match item.in_doubt_since {
            None => item.since.elapsed() + pause > self.config.retry_for,
            Some(since) => since.elapsed() > self.config.in_doubt_for,
        };
        let timed_out = self.lanes.remove(has_timed_out);
        self.fail(timed_out, error).await;
    }

    /// The API refused the request as a whole, so nothing of it was sent. Finds the refused message: sends each half alone, and
    /// rejects a destination that is refused alone.
    async fn isolate_refused(&self, mut items: Vec<BatchItem>, detail: String) {
        if items.len() == 1 && items[0].slots.len() > 1 {
            let (one, other) = items.remove(0).split();
            items = vec![one, other];
        } else if items.len() == 1 {
            return self.reject(&items[0], Reason::ApiRefused, detail).await;
        }
        let other = items.split_off(items.len() / 2);
        // Boxed, because the future is recursive.
        for items in [items, other] {
            let in_flight = self.lanes.begin(self.latency.average());
            Box::pin(self.send(items, in_flight)).await;
        }
    }

    async fn reject(&self, item: &BatchItem, reason: Reason, detail: String) {
        let results = item.slots.iter().map(|slot| SlotResult {
            call: Arc::clone(&item.call),
            slot: *slot,
            result: item
                .call
                .refusal(*slot, Outcome::Rejected, reason, detail.clone(), Vec::new()),
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

    /// Removes and rejects items whose `expires_at` has passed.
    pub(super) async fn reject_expired(&self, items: Vec<BatchItem>) -> Vec<BatchItem> {
        if !items.iter().any(BatchItem::is_expired) {
            return items;
        }
        let (expired, items): (Vec<_>, Vec<_>) = items.into_iter().partition(BatchItem::is_expired);
        for item in expired {
            if item.in_doubt_since.is_none() {
                self.reject(
                    &item,
                    Reason::Expired,
                    "its expires_at passed before it could be sent: nothing was sent".to_owned(),
                )
                .await;
            } else {
                self.submit_to_resolver(item, false).await;
            }
        }
        items
    }
}
