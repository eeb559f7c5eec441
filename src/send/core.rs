//! Puts the parts of `send/` together: the one [`Sender`] of the process.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Arrival, SendCommand, SendError, Sender, Sent,
    call::{Answer, Call, Settled, Slots, failed_results, first_violations},
    dispatcher::{Dispatcher, Latency, Pause, settle_all},
    guards::Guards,
    idempotency::{self, Earlier},
    in_doubt::{Doubt, Doubts, Resolver},
    lanes::Lanes,
    plan::{self, Defaults, OwnRequest, Part, PartSlots, Plan, Planned, PlannedMessage},
    recorder::{Finished, Recorder},
    registry::Registry,
};
use crate::{
    config,
    events::SharedEventLog,
    infobip::{
        Client,
        pacing::{LogQuota, SendPace},
    },
    message::{id::ApplicationName, reason::Reason},
    ops::metrics::Metrics,
    proto::v1::{self, Outcome},
};

/// Part of the grace period reserved for recording `unknown` results.
const SHUTDOWN_RESERVE: Duration = Duration::from_millis(500);

/// The sender of the process. Cheap to clone.
#[derive(Clone)]
pub struct SendCore(Arc<Inner>);

struct Inner {
    config: config::Send,
    request_timeout: Duration,
    notify_url: Option<SecretString>,
    guards: Guards,
    log: SharedEventLog,
    lanes: Arc<Lanes>,
    recorder: Arc<Recorder>,
    registry: Arc<Registry>,
    doubts: Doubts,
    capacity: Arc<Semaphore>,
    closing: CancellationToken,
    end_dispatcher: CancellationToken,
    end_resolver: CancellationToken,
    calls: TaskTracker,
    tasks: Mutex<Option<(JoinHandle<()>, JoinHandle<()>)>>,
}

/// What sending needs of the API.
pub struct Api {
    pub client: Client,
    /// The rate of send requests.
    pub pace: SendPace,
    /// The quota of log requests, shared with others.
    pub log_quota: Arc<LogQuota>,
}

/// A send that was begun.
pub struct Begun {
    core: Arc<Inner>,
    call: Arc<Call>,
    sent: oneshot::Receiver<Result<Sent, SendError>>,
}

impl Begun {
    /// The ids of the messages, without the application, in the order of the destinations.
    pub fn message_ids(&self) -> impl Iterator<Item = &str> {
        let ids = self.call.slots.iter().map(|slot| slot.message_id.as_str());
        // A message without destinations has no id.
        ids.filter(|id| !id.is_empty())
    }

    /// Waits for the results. May be called again after it was dropped half-way.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn sent(&mut self) -> Result<Sent, SendError> {
        (&mut self.sent)
            .await
            .unwrap_or(Err(SendError::ShuttingDown))
    }

    /// Takes back what no request has begun to carry. True where that was everything: then nothing was or will be sent.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        let mine =
            |part: &Part| Arc::ptr_eq(&part.call, &self.call) && part.in_doubt_since.is_none();
        for part in self.core.lanes.remove(mine) {
            settle_all(&part, &SendError::Withdrawn);
        }
        self.call.is_withdrawn()
    }
}

impl SendCore {
    /// Starts the dispatcher and the resolver. `notify_url` is where reports are pushed to, where a caller names nothing.
    #[must_use]
    pub fn start(
        config: &config::Send,
        request_timeout: Duration,
        notify_url: Option<SecretString>,
        guards: Guards,
        api: Api,
        log: SharedEventLog,
        metrics: Metrics,
    ) -> Self {
        let Api {
            client,
            pace,
            log_quota,
        } = api;
        let lanes = Arc::new(Lanes::new(config.max_batch, metrics.clone()));
        let recorder = Arc::new(Recorder::new(Arc::clone(&log), metrics.clone()));
        let (to_resolver, open_doubts) = mpsc::channel(config.queue_capacity);
        let doubts = Doubts {
            resolver: to_resolver,
            recorder: Arc::clone(&recorder),
            metrics: metrics.clone(),
        };
        let (end_dispatcher, end_resolver) = (CancellationToken::new(), CancellationToken::new());
        let dispatcher = Arc::new(Dispatcher {
            client: client.clone(),
            pace,
            config: config.clone(),
            lanes: Arc::clone(&lanes),
            recorder: Arc::clone(&recorder),
            doubts: doubts.clone(),
            pause: Pause::default(),
            latency: Latency::default(),
            metrics: metrics.clone(),
        });
        let resolver = Resolver {
            client,
            log_quota,
            config: config.clone(),
            lanes: Arc::clone(&lanes),
            recorder: Arc::clone(&recorder),
            metrics,
        };
        let tasks = (
            tokio::spawn(dispatcher.run(end_dispatcher.clone())),
            tokio::spawn(resolver.run(open_doubts, end_resolver.clone())),
        );
        Self(Arc::new(Inner {
            config: config.clone(),
            request_timeout,
            notify_url,
            guards,
            log,
            lanes,
            recorder,
            registry: Arc::default(),
            doubts,
            capacity: Arc::new(Semaphore::new(config.queue_capacity)),
            closing: CancellationToken::new(),
            end_dispatcher,
            end_resolver,
            calls: TaskTracker::new(),
            tasks: Mutex::new(Some(tasks)),
        }))
    }

    /// Begins a send: checks the request at once, and goes on whoever waits for it.
    ///
    /// # Errors
    /// [`SendError`] where nothing was begun.
    pub fn begin(&self, command: SendCommand) -> Result<Begun, SendError> {
        let (answer, sent) = oneshot::channel();
        let core = Arc::clone(&self.0);
        let admitted = core.admit(command).map_err(|refused| refused.error)?;
        let call = core.carry_out(admitted, Answer::To(answer));
        Ok(Begun { core, call, sent })
    }

    /// Sends, and calls `answer` when it is done: a task for each of thousands of messages in flight would cost more than
    /// the messages do. `answer` must not block. It gets one result for each destination whatever happened: a call that fails
    /// as a whole has results too, each with the error as its refusal.
    pub fn send_then(&self, command: SendCommand, answer: impl FnOnce(Sent) + Send + 'static) {
        match self.0.admit(command) {
            Ok(admitted) => {
                let answer = Answer::Then(Box::new(answer));
                drop(self.0.carry_out(admitted, answer));
            }
            Err(refused) => answer(refused.results()),
        }
    }

    /// Takes nothing new, waits for what is under way until the deadline, then ends: what was not attempted is given back
    /// to its callers, what is in doubt becomes `unknown` (P8, docs/RELIABILITY.md).
    pub async fn drain(&self, deadline: Instant) {
        self.0.drain(deadline).await;
    }
}

impl Inner {
    async fn drain(&self, deadline: Instant) {
        self.closing.cancel();
        let all = u32::try_from(self.config.queue_capacity).unwrap_or(u32::MAX);
        let everything_done = self.capacity.acquire_many(all);
        let reserve_begins = deadline.checked_sub(SHUTDOWN_RESERVE).unwrap_or(deadline);
        let _ = tokio::time::timeout_at(reserve_begins, everything_done).await;
        for part in self.lanes.remove(|part| part.in_doubt_since.is_none()) {
            settle_all(&part, &SendError::ShuttingDown);
        }
        self.end_dispatcher.cancel();
        if let Some((mut dispatcher, mut resolver)) = self.tasks.lock().await.take() {
            if tokio::time::timeout_at(reserve_begins, &mut dispatcher)
                .await
                .is_err()
            {
                tracing::warn!("requests are still under way at the end of the grace period");
                dispatcher.abort();
            }
            self.end_resolver.cancel();
            if tokio::time::timeout_at(deadline, &mut resolver)
                .await
                .is_err()
            {
                resolver.abort();
            }
        }
        let left = self.lanes.remove(|_| true);
        let unknown = left.into_iter().map(|part| {
            Doubt::redelivered(part, Duration::ZERO).unknown("the bridge is shutting down")
        });
        self.recorder.record(unknown.collect()).await;
        self.calls.close();
        let _ = tokio::time::timeout_at(deadline, self.calls.wait()).await;
    }

    fn admit(&self, command: SendCommand) -> Result<Admitted, Box<Refused>> {
        let SendCommand {
            application,
            mut request,
            arrival,
        } = command;
        if self.closing.is_cancelled() {
            return Err(Box::new(Refused {
                error: SendError::ShuttingDown,
                slots: plan::slots_of(&application, &mut request),
                bulk_id: request.bulk_id,
            }));
        }
        let planned = plan::plan(
            &application,
            &mut request,
            &Defaults {
                notify_url: self.notify_url.as_ref().map(ExposeSecret::expose_secret),
                sender: self.guards.default_sender(application.as_str()),
            },
            Timestamp::now(),
        );
        let plan = match planned {
            Ok(plan) => plan,
            Err(unplanned) => {
                return Err(Box::new(Refused {
                    error: SendError::Invalid(unplanned.violations),
                    slots: unplanned.slots,
                    bulk_id: request.bulk_id,
                }));
            }
        };
        let permits = u32::try_from(plan.slots.len()).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.capacity).try_acquire_many_owned(permits) else {
            let error = SendError::QueueFull {
                retry_after: Duration::from_secs(1),
            };
            return Err(Box::new(Refused {
                error,
                slots: plan.slots,
                bulk_id: request.bulk_id,
            }));
        };
        Ok(Admitted {
            application,
            request_id: request.request_id,
            bulk_id: request.bulk_id,
            plan,
            permit,
            arrival,
        })
    }

    fn carry_out(self: &Arc<Self>, admitted: Admitted, answer: Answer) -> Arc<Call> {
        let Admitted {
            application,
            request_id,
            bulk_id,
            plan:
                Plan {
                    slots,
                    messages,
                    planned,
                },
            permit,
            arrival,
        } = admitted;
        let call = Call::new(
            application,
            request_id,
            bulk_id,
            slots,
            messages,
            permit,
            answer,
        );
        let core = Arc::clone(self);
        if call.slots.iter().all(|slot| slot.digest.is_none()) {
            // Nobody can have used these ids before: there is nothing to wait for.
            let placed = self.place(&call, &planned, &HashMap::new(), arrival);
            if !placed.is_empty() {
                self.calls.spawn(async move { core.settle(placed).await });
            }
        } else {
            let call = Arc::clone(&call);
            self.calls.spawn(async move {
                if let Some(earlier) =
                    idempotency::check(&core.registry, &core.log, &call, &planned.conflicting_ids)
                        .await
                {
                    let placed = core.place(&call, &planned, &earlier, arrival);
                    core.settle(placed).await;
                }
            });
        }
        call
    }

    /// Puts what may be sent into the lanes, and says what else is to be done.
    fn place(
        &self,
        call: &Arc<Call>,
        planned: &Planned,
        earlier: &HashMap<usize, Earlier>,
        arrival: Arrival,
    ) -> Placed {
        let mut placed = Placed::default();
        let reused = |slot: &usize| matches!(earlier.get(slot), Some(Earlier::OtherContent));
        // Where all ids were reused the call fails as a whole; else the reused ones have results, as their neighbours do.
        let some_are_new = !earlier.is_empty() && !(0..call.slots.len()).all(|slot| reused(&slot));
        for (message, found) in planned.messages.iter().enumerate() {
            let mut allowed = PartSlots::with_capacity(found.slots.len());
            for slot in found.slots.clone() {
                let refused = if some_are_new && reused(&slot) {
                    Some(Self::refuse_reused(call, slot))
                } else {
                    self.refuse(call, message, found, slot, earlier)
                };
                match refused {
                    None => allowed.push(slot),
                    Some(result) => placed.refused.push(Finished {
                        call: Arc::clone(call),
                        slot,
                        result,
                    }),
                }
            }
            let own_request = planned.own_request.as_ref();
            let doubts = self.put_into_lanes(call, message, allowed, own_request, earlier, arrival);
            placed.doubts.extend(doubts);
        }
        placed
    }

    async fn settle(&self, placed: Placed) {
        for doubt in placed.doubts {
            self.doubts.open(doubt).await;
        }
        self.recorder.record(placed.refused).await;
    }

    /// The result of a destination whose id was used for other content.
    fn refuse_reused(call: &Call, slot: usize) -> Box<v1::SendResult> {
        let id = call.slots[slot].message_id.clone();
        let error = SendError::IdReused { id };
        call.refusal(
            slot,
            Outcome::Rejected,
            Reason::IdReused,
            error.to_string(),
            Vec::new(),
        )
    }

    /// What the bridge itself has against sending, as a result; guards look at new messages only.
    fn refuse(
        &self,
        call: &Call,
        message: usize,
        found: &PlannedMessage,
        slot: usize,
        earlier: &HashMap<usize, Earlier>,
    ) -> Option<Box<v1::SendResult>> {
        if !found.violations.is_empty() {
            let detail = "the message is invalid: nothing was sent".to_owned();
            let violations = first_violations(&found.violations, call.slots.len());
            return Some(call.refusal(
                slot,
                Outcome::Rejected,
                Reason::InvalidRequest,
                detail,
                violations,
            ));
        }
        if earlier.contains_key(&slot) {
            return None;
        }
        let application = call.application.as_str();
        let to = &call.slots.get(slot)?.to;
        let refusal = self
            .guards
            .check(
                application,
                &call.messages[message].from,
                to,
                std::time::Instant::now,
            )
            .err()?;
        Some(call.refusal(
            slot,
            Outcome::Rejected,
            refusal.reason(),
            refusal.to_string(),
            Vec::new(),
        ))
    }

    /// Puts the slots of a message that are new into the lanes; gives those that are in doubt.
    fn put_into_lanes(
        &self,
        call: &Arc<Call>,
        message: usize,
        slots: PartSlots,
        own_request: Option<&Arc<OwnRequest>>,
        earlier: &HashMap<usize, Earlier>,
        arrival: Arrival,
    ) -> Vec<Doubt> {
        let alone = own_request.cloned().or_else(|| {
            // A scheduled message is a bulk of its own to the API.
            let own = OwnRequest {
                wire_bulk_id: None,
                tracking: None,
            };
            call.messages[message]
                .send_at
                .is_some()
                .then(|| Arc::new(own))
        });
        let part = |slots: PartSlots| Part {
            call: Arc::clone(call),
            message,
            slots,
            since: Instant::now(),
            in_doubt_since: None,
            alone: alone.clone(),
        };
        let doubt =
            |slot| Doubt::redelivered(part(PartSlots::from_elem(slot, 1)), self.request_timeout);
        let mut doubts = Vec::new();
        let mut new = slots;
        new.retain(|&mut slot| {
            match earlier.get(&slot) {
                None if arrival == Arrival::First => return true,
                None => doubts.push(doubt(slot)),
                Some(Earlier::Done(found)) if found.result.outcome() == Outcome::Unknown => {
                    doubts.push(doubt(slot));
                }
                Some(Earlier::Interrupted(at)) => doubts.push(doubt(slot).begun_at(*at)),
                Some(Earlier::Done(found)) => {
                    call.settle_as(slot, Settled::Result(found.result.clone()));
                }
                Some(Earlier::InProgress(other, their_slot)) => {
                    other.follow(*their_slot, call, slot);
                }
                Some(Earlier::OtherContent) => {
                    let id = call.slots[slot].message_id.clone();
                    call.settle(slot, Settled::Failed(SendError::IdReused { id }));
                }
            }
            false
        });
        let most = if alone.is_some() {
            usize::MAX
        } else {
            self.config.max_batch
        };
        if new.len() > most {
            let shares = new.chunks(most).map(|slots| part(slots.into()));
            self.lanes.push(shares);
        } else if !new.is_empty() {
            self.lanes.push([part(new)]);
        }
        doubts
    }
}

/// A command that may be carried out.
struct Admitted {
    application: ApplicationName,
    request_id: String,
    bulk_id: String,
    plan: Plan,
    permit: OwnedSemaphorePermit,
    arrival: Arrival,
}

/// A command of which nothing is sent, with its destinations.
struct Refused {
    error: SendError,
    slots: Slots,
    bulk_id: String,
}

impl Refused {
    fn results(&self) -> Sent {
        failed_results(&self.slots, &self.bulk_id, std::iter::repeat(&self.error))
    }
}

/// What is still to be done for a call beside what is in the lanes.
#[derive(Default)]
struct Placed {
    refused: Vec<Finished>,
    doubts: Vec<Doubt>,
}

impl Placed {
    fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.doubts.is_empty()
    }
}

impl Sender for SendCore {
    fn send(&self, command: SendCommand) -> BoxFuture<'_, Result<Sent, SendError>> {
        let begun = self.begin(command);
        async move { begun?.sent().await }.boxed()
    }
}
