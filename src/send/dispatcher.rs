//! Sends batches in REST requests, a bounded number at a time, and acts on the outcome of each request, which `infobip::error` and
//! `outcome` have classified once (docs/RELIABILITY.md#how-a-send-stays-single).
//!
//! Invariants: a request that was sent is awaited to its end, during shutdown until the grace period ends; each
//! destination of a batch gets a result or an error, returns to a lane, or goes to the resolver; no batch is taken while the event log
//! is known to be unavailable.
//! Neighbours: `lanes` forms batches; `infobip` sends them; `outcome` classifies statuses; `failure` handles failed requests;
//! `recorder` and `resolver` take over.

mod failure;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    SendError,
    batch_item::{BatchItem, wire_ids},
    breaker::{Breaker, Permission, ProbeGuard},
    call::Settled,
    custody::without_lost,
    lanes::{Lanes, NextBatch, RequestGuard},
    latency::Latency,
    outage_clock::OutageClock,
    outcome::{self, Verdict},
    recorder::{Recorder, SlotResult},
    resolver::{InDoubtSend, ResolverHandle},
};
use crate::{
    config,
    events::SharedEventLog,
    infobip::{
        ApiError, BatchKind, Client, OutboundBatch, OutboundRow, SendResponse, pacing::SendPace,
    },
    ops::{
        kill_point::{self, KillPoint},
        metrics::Metrics,
    },
    proto::v1::Outcome,
};

/// How often the dispatcher checks whether the event log can be written again, and which items have waited too long.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The items of one request.
struct Batch {
    items: Vec<BatchItem>,
    in_flight: RequestGuard,
    /// Set if the request is a probe of an API that is down.
    probe: Option<ProbeGuard>,
}

/// Sends the items in the lanes.
pub(super) struct Dispatcher {
    pub(super) client: Client,
    pub(super) pace: SendPace,
    pub(super) config: config::Send,
    pub(super) lanes: Arc<Lanes>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) log: SharedEventLog,
    pub(super) resolver: ResolverHandle,
    pub(super) breaker: Arc<Breaker>,
    pub(super) clock: Arc<OutageClock>,
    pub(super) latency: Latency,
    pub(super) metrics: Metrics,
}

impl Dispatcher {
    /// Sends batches until `end` is cancelled; then waits for the requests in flight.
    pub(super) async fn run(self: Arc<Self>, end: CancellationToken) {
        let permits = Arc::new(Semaphore::new(self.config.max_requests_in_flight));
        let requests = TaskTracker::new();
        loop {
            let next = async {
                // The semaphore is never closed.
                let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
                self.pace.acquire().await;
                Some((permit, self.next_batch().await))
            };
            let Some((permit, batch)) = (tokio::select! {
                () = end.cancelled() => None,
                next = next => next,
            }) else {
                break;
            };
            let dispatcher = Arc::clone(&self);
            requests.spawn(async move {
                let Batch {
                    items,
                    in_flight,
                    probe,
                } = batch;
                dispatcher.send(items, in_flight).await;
                drop((probe, permit));
            });
        }
        requests.close();
        requests.wait().await;
    }

    /// Waits until a batch is due and takes it.
    async fn next_batch(&self) -> Batch {
        // One timer for the whole batch, because each timer that is set wakes the runtime's driver.
        let mut timer = pin!(tokio::time::sleep_until(Instant::now()));
        loop {
            let changed = self.lanes.changed();
            match self.lanes.next_batch_at(self.batching_wait()) {
                NextBatch::Now => {
                    if !self.log.is_ready()
                        && let Some(cause) = self.log.outage()
                    {
                        self.wait_for_log(cause).await;
                        continue;
                    }
                    // Checked only now: the request whose end was awaited may have failed.
                    match self.breaker.permission() {
                        Permission::Wait(until) => self.wait_for_api(until).await,
                        Permission::Probe => {
                            let probe = self.breaker.begin_probe();
                            if let Some((items, in_flight)) =
                                self.lanes.take_probe(self.latency.average())
                            {
                                return Batch {
                                    items,
                                    in_flight,
                                    probe: Some(probe),
                                };
                            }
                        }
                        Permission::Send => {
                            // Lets the tasks run whose calls were read from the same socket, so that their items join this batch.
                            tokio::task::yield_now().await;
                            if let Some((items, in_flight)) =
                                self.lanes.take(self.latency.average())
                            {
                                return Batch {
                                    items,
                                    in_flight,
                                    probe: None,
                                };
                            }
                        }
                    }
                }
                NextBatch::At(at) => {
                    if timer.deadline() != at {
                        timer.as_mut().reset(at);
                    }
                    tokio::select! {
                        () = &mut timer => {}
                        () = changed => {}
                    }
                }
                NextBatch::Never => changed.await,
            }
        }
    }

    /// A result could not be stored: waits a moment, and fails the items that have waited too long.
    async fn wait_for_log(&self, cause: String) {
        self.fail_timed_out(CHECK_INTERVAL, &SendError::LogUnreadable(cause))
            .await;
        tokio::time::sleep(CHECK_INTERVAL).await;
    }

    /// No request may begin before `until`, or before a probe ends: waits a moment. Callers fail at once while the API is down.
    async fn wait_for_api(&self, until: Option<Instant>) {
        let check = Instant::now() + CHECK_INTERVAL;
        if until.is_some_and(|until| until <= check) {
            // A short wait fails nobody.
            return tokio::time::sleep_until(until.unwrap_or(check)).await;
        }
        tokio::select! {
            () = tokio::time::sleep_until(check) => {}
            () = self.breaker.changed() => {}
        }
        self.fail_waiting().await;
    }

    /// How long an item may wait to share a request.
    fn batching_wait(&self) -> Duration {
        self.latency
            .batching_wait()
            .min(self.config.max_batching_wait)
    }

    async fn send(&self, items: Vec<BatchItem>, in_flight: RequestGuard) {
        let items = self.reject_expired(without_lost(items)).await;
        // Asked again, because the rejections took time.
        let mut items = without_lost(items);
        if items.is_empty() {
            return;
        }
        tracing::debug!(
            messages = items.len(),
            message_ids = %wire_ids(&items),
            "a batch is sent"
        );
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
                self.breaker.succeeded();
                let delivered = self.handle_response(items, response).await;
                in_flight.results_delivered(delivered, self.batching_wait());
            }
            Err(error) => {
                drop(in_flight);
                self.handle_error(items, error).await;
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
        let response = self.client.send(&batch).await;
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

    /// Hands an item in doubt to the resolver.
    async fn submit_to_resolver(&self, item: BatchItem, may_resend: bool) {
        let began = self.clock.now();
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
