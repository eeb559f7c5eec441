//! Waits until the next request may begin, and takes its items.
//!
//! A request needs items that are due, an event log that can be written, an API that is not known to be down, a place among
//! `send.max_requests_in_flight`, and a part of the account's rate. Of the last two a share is reserved for urgent items.
//!
//! Invariants: no batch is taken while the event log is known to be unavailable; each request pays for what it takes, probes and parts
//! of a refused request too.
//! Neighbours: `lanes` forms batches; `places`, and the breaker and the pace of the account, allow requests.

use std::{pin::pin, time::Duration};

use tokio::time::Instant;

use super::{Batch, Dispatcher, count_destinations};
use crate::{
    infobip::{account::breaker::Permission, pacing::Share},
    ops::metrics::Lane,
    send::{SendError, batch_item::BatchItem, lanes::NextBatch, places::Taken},
};

/// How often the dispatcher checks whether the event log can be written again, and which items have waited too long.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// What the next request lacks.
#[derive(Default)]
struct Lacks {
    /// A part of the rate, until this time.
    rate_until: Option<Instant>,
    /// A place for normal items.
    place: bool,
    /// No urgent item waits: one that arrives may begin a request.
    urgent_item: bool,
}

impl Dispatcher {
    /// Waits until a batch is due and may be sent, and takes it. `place` is the place of its request.
    pub(super) async fn next_batch(&self, place: &mut Taken) -> Batch {
        // One timer for the whole batch, because each timer that is set wakes the runtime's driver.
        let mut timer = pin!(tokio::time::sleep_until(Instant::now()));
        loop {
            let changed = self.lanes.changed();
            match self.lanes.next_batch_at(self.batching_wait()) {
                NextBatch::Now => {
                    if let Some(batch) = self.try_begin(place).await {
                        return batch;
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

    /// Takes the batch that is due, or waits for what it lacks.
    async fn try_begin(&self, place: &mut Taken) -> Option<Batch> {
        if !self.log.is_ready()
            && let Some(cause) = self.log.outage()
        {
            self.wait_for_log(cause).await;
            return None;
        }
        // Checked only now: the request whose end was awaited may have failed.
        let is_probe = match self.account.breaker.permission() {
            Permission::Wait(until) => {
                self.wait_for_api(until).await;
                return None;
            }
            Permission::Probe => true,
            Permission::Send => false,
        };
        let (lane, share) = match self.turn(place)? {
            Ok(turn) => turn,
            Err(lacks) => {
                self.wait_for(lacks).await;
                if is_probe {
                    self.fail_waiting().await;
                }
                return None;
            }
        };
        let (taken, probe) = if is_probe {
            let probe = self.account.breaker.begin_probe();
            let taken = self.lanes.take_probe(self.latency.average());
            (taken, Some(probe))
        } else {
            // Lets the tasks run whose calls were read from the same socket, so that their items join this batch.
            tokio::task::yield_now().await;
            let both_lanes = share == Share::Both && self.places.allow_normal(place);
            let max = self.account.pace.max_messages(share);
            let average = self.latency.average();
            (self.lanes.take(lane, both_lanes, max, average), None)
        };
        let (items, in_flight) = taken?;
        self.account.pace.pay(share, count_destinations(&items));
        if items.iter().all(BatchItem::is_urgent) {
            place.for_urgent();
        }
        Some(Batch {
            items,
            in_flight,
            share,
            probe,
        })
    }

    /// The lane whose item begins the next request, and what pays for it. `None` if no item waits.
    fn turn(&self, place: &mut Taken) -> Option<Result<(Lane, Share), Lacks>> {
        let mut lacks = None;
        for lane in self.lanes.turns() {
            let lacks = lacks.get_or_insert(Lacks {
                urgent_item: true,
                ..Lacks::default()
            });
            match lane {
                Lane::Urgent => lacks.urgent_item = false,
                Lane::Normal if !self.places.allow_normal(place) => {
                    lacks.place = true;
                    continue;
                }
                Lane::Normal => {}
            }
            match self.account.pace.share(lane) {
                Ok(share) => return Some(Ok((lane, share))),
                Err(until) => {
                    let earlier = lacks.rate_until.map_or(until, |other| other.min(until));
                    lacks.rate_until = Some(earlier);
                }
            }
        }
        lacks.map(Err)
    }

    /// Waits until it may be there, but not for long, because the API may refuse sends meanwhile.
    async fn wait_for(&self, lacks: Lacks) {
        let check = Instant::now() + CHECK_INTERVAL;
        let until = lacks.rate_until.map_or(check, |until| until.min(check));
        let rate = tokio::time::sleep_until(until);
        tokio::select! {
            () = rate => {}
            () = self.places.normal_freed(), if lacks.place => {}
            () = self.lanes.urgent_arrived(), if lacks.urgent_item => {}
            () = self.account.breaker.changed() => {}
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
            () = self.account.breaker.changed() => {}
        }
        self.fail_waiting().await;
    }

    /// How long an item may wait to share a request.
    pub(super) fn batching_wait(&self) -> Duration {
        self.latency
            .batching_wait()
            .min(self.config.max_batching_wait)
    }
}
