//! Sends batches in REST requests, a bounded number at a time, and acts on the outcome of each request, which `infobip::error` and
//! `outcome` have classified once (docs/RELIABILITY.md#how-a-send-stays-single).
//!
//! Invariants: a request that was sent is awaited to its end, during shutdown until the grace period ends; each
//! destination of a batch gets a result or an error, returns to a lane, or goes to the resolver.
//! Neighbours: `next_batch` waits until a request may begin; `infobip` sends it; `outcome` classifies statuses; `failure` handles failed
//! requests; `recorder` and `resolver` take over.

mod failure;
mod next_batch;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    SendError,
    batch_item::{BatchItem, wire_ids},
    call::Settled,
    custody::without_lost,
    lanes::{Lanes, RequestGuard},
    latency::Latency,
    outcome::{self, Verdict},
    places::Places,
    recorder::{Recorder, SlotResult},
    refusal_note::LastAnswers,
    resolver::{InDoubtSend, ResolverHandle},
};
use crate::{
    config,
    events::SharedEventLog,
    infobip::{
        ApiError, BatchKind, OutboundBatch, OutboundRow, SendResponse,
        account::{Account, breaker::ProbeGuard},
        pacing::Share,
    },
    ops::{
        kill_point::{self, KillPoint},
        metrics::Metrics,
    },
    proto::v1::{self, Outcome},
};

/// The items of one request.
struct Batch {
    items: Vec<BatchItem>,
    in_flight: RequestGuard,
    /// What it was paid from.
    share: Share,
    /// Set if the request is a probe of an API that is down.
    probe: Option<ProbeGuard>,
}

/// Sends the items in the lanes.
pub(super) struct Dispatcher {
    pub(super) account: Arc<Account>,
    /// One place for each request in flight.
    pub(super) places: Places,
    pub(super) config: config::Send,
    /// `infobip.log_lag`
    pub(super) log_lag: Duration,
    pub(super) lanes: Arc<Lanes>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) log: SharedEventLog,
    pub(super) resolver: ResolverHandle,
    pub(super) latency: Latency,
    pub(super) last_answers: LastAnswers,
    pub(super) metrics: Metrics,
}

impl Dispatcher {
    /// Sends batches until `end` is cancelled; then waits for the requests in flight.
    pub(super) async fn run(self: Arc<Self>, end: CancellationToken) {
        let requests = TaskTracker::new();
        loop {
            let next = async {
                let mut place = self.places.take_one().await;
                let batch = self.next_batch(&mut place).await;
                (place, batch)
            };
            let (place, batch) = tokio::select! {
                () = end.cancelled() => break,
                next = next => next,
            };
            let dispatcher = Arc::clone(&self);
            let sending = async move {
                let Batch {
                    items,
                    in_flight,
                    share,
                    probe,
                } = batch;
                dispatcher.send(items, in_flight, share).await;
                drop((probe, place));
            };
            requests.spawn(self.metrics.tasks().watch("request", sending));
        }
        requests.close();
        requests.wait().await;
    }

    async fn send(&self, items: Vec<BatchItem>, in_flight: RequestGuard, share: Share) {
        let paid = count_destinations(&items);
        let mut items = without_lost(items);
        let expired: Vec<_> = items.extract_if(.., |item| item.is_expired()).collect();
        let unsent = paid - count_destinations(&items);
        if unsent > 0 {
            let requests = u32::from(items.is_empty());
            self.account.pace.give_back(share, requests, unsent);
        }
        if expired.is_empty() {
            return self.send_unexpired(items, in_flight, share).await;
        }
        // The others do not wait until the results of the expired ones are stored.
        tokio::join!(
            self.end_expired(expired),
            self.send_unexpired(items, in_flight, share)
        );
    }

    async fn send_unexpired(
        &self,
        mut items: Vec<BatchItem>,
        in_flight: RequestGuard,
        share: Share,
    ) {
        if items.is_empty() {
            return;
        }
        tracing::debug!(
            messages = items.len(),
            message_ids = %wire_ids(&items),
            "a batch is sent"
        );
        let kind = items[0].kind();
        let response = self.request(&items).await;
        kill_point::reached(KillPoint::RequestEnded);
        self.count_overlaps(&items);
        if matches!(response, Ok(_) | Err(ApiError::InDoubt { .. })) {
            for item in &mut items {
                item.is_resent = item.in_doubt_since.is_some();
            }
        }
        match response {
            Ok(response) => {
                self.account.breaker.succeeded();
                self.last_answers.taken(kind);
                let delivered = self.handle_response(items, response).await;
                in_flight.results_delivered(delivered, self.batching_wait());
            }
            Err(error) => {
                drop(in_flight);
                if !matches!(error, ApiError::InDoubt { .. }) {
                    let messages = count_destinations(&items);
                    self.account.pace.give_back(share, 0, messages);
                }
                self.handle_error(kind, items, error).await;
            }
        }
    }

    /// Counts the destinations of a request that was in flight when the delivery of their command was lost: another process looks
    /// them up, and may send them, while this request is under way.
    fn count_overlaps(&self, items: &[BatchItem]) {
        let lost = items.iter().filter(|item| item.call.is_lost());
        let destinations = lost.map(|item| item.slots.len() as u64).sum();
        self.metrics.overlaps_possible(destinations);
    }

    /// Sends one REST request with all items.
    async fn request(&self, items: &[BatchItem]) -> Result<SendResponse, ApiError> {
        let exclusive = items.first().and_then(|item| item.exclusive.as_deref());
        let mut all = Vec::with_capacity(count_destinations(items));
        all.extend(items.iter().flat_map(BatchItem::destinations));
        let mut rest = all.as_slice();
        let batch = OutboundBatch {
            kind: items.first().map_or(BatchKind::Text, BatchItem::kind),
            bulk_id: exclusive.and_then(|request| request.wire_bulk_id.as_deref()),
            tracking: exclusive.and_then(|request| request.tracking.as_deref()),
            // Several messages may belong to several traces.
            traceparent: match items {
                [item] => item.call.traceparent,
                _ => None,
            },
            messages: items
                .iter()
                .map(|item| {
                    let (destinations, others) = rest.split_at(item.slots.len());
                    rest = others;
                    OutboundRow {
                        message: item.message(),
                        destinations,
                    }
                })
                .collect(),
        };
        let size = u32::try_from(all.len()).unwrap_or(u32::MAX);
        self.metrics.batch(size);
        let begun = Instant::now();
        let response = self.account.client.send(&batch).await;
        if response.is_ok() {
            self.latency.record(begun.elapsed());
        }
        response
    }

    /// Records the results of a response. Returns how many there were.
    async fn handle_response(&self, items: Vec<BatchItem>, response: SendResponse) -> usize {
        let mut results = Vec::with_capacity(response.destinations.len());
        let mut rows = response.destinations.into_iter();
        for item in &items {
            if let Some(key) = &response.tracking_process_key {
                item.call.set_tracking_process_key(key);
            }
            for (index, &slot) in item.slots.iter().enumerate() {
                let Some(row) = rows.next().flatten() else {
                    // The response omits this destination: the API may have accepted it.
                    self.submit_to_resolver(item.only(index), true).await;
                    continue;
                };
                let outcome = match outcome::of_response(&row.status) {
                    Verdict::Accepted => Outcome::Accepted,
                    Verdict::Rejected => Outcome::Rejected,
                    Verdict::InDoubt => {
                        self.submit_to_resolver(item.only(index), false).await;
                        continue;
                    }
                };
                let mut result = item.call.result(slot, outcome);
                result.status = Some(row.status);
                result.sms_count = row.sms_count;
                if outcome == Outcome::Rejected && item.in_doubt_since.is_some() {
                    self.submit_rejected(item.only(index), result).await;
                    continue;
                }
                results.push(SlotResult {
                    call: Arc::clone(&item.call),
                    slot,
                    result,
                });
            }
        }
        let delivered = results.len();
        self.recorder.record(results).await;
        delivered
    }

    /// Hands an item in doubt that was rejected to the resolver: an earlier request may have been accepted.
    async fn submit_rejected(&self, item: BatchItem, rejection: Box<v1::SendResult>) {
        let began = self.account.clock.now();
        let send = InDoubtSend::rejected(item, rejection, self.log_lag, began);
        self.resolver.submit(send).await;
    }

    /// Hands an item in doubt to the resolver.
    async fn submit_to_resolver(&self, item: BatchItem, may_resend: bool) {
        let began = self.account.clock.now();
        let send = InDoubtSend::new(item, may_resend, self.config.in_doubt_wait, began);
        self.resolver.submit(send).await;
    }
}

/// Settles all slots of an item of which nothing was attempted.
pub(super) fn settle_all(item: &BatchItem, error: &SendError) {
    for slot in &item.slots {
        item.call.settle(*slot, Settled::Failed(error.clone()));
    }
}

fn count_destinations(items: &[BatchItem]) -> usize {
    items.iter().map(|item| item.slots.len()).sum()
}
