//! The [`Sender`] of the process: owns the tasks of `send` and starts calls.
//!
//! Invariant: a call that was started continues until all its slots are settled, even if its caller goes away.
//! Neighbours: `admission` and `placement` decide what is sent, `shutdown` ends the tasks; `dispatcher` sends; `resolver`
//! resolves; `app` starts it, `grpc` and `commands` use it.

mod admission;
mod placement;
mod shutdown;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use secrecy::SecretString;
use tokio::{
    sync::{Mutex, Notify, mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::admission::Admitted;
use super::{
    SendCommand, SendError, Sender, Sent,
    batch_item::BatchItem,
    call::{Call, ReplyTo},
    custody,
    dispatcher::{Dispatcher, settle_all},
    guards::Guards,
    idempotency,
    lanes::{Lanes, Room},
    latency::Latency,
    places::Places,
    plan::Plan,
    recorder::Recorder,
    refusal_note::LastAnswers,
    registry::Registry,
    resolver::{Resolver, ResolverHandle},
};
use crate::{
    config,
    events::{SendJournal, SharedEventLog, Storage},
    infobip::account::Account,
    ops::{
        metrics::{Lane, Metrics},
        task_watch::TaskWatch,
    },
};

/// The name of the tasks of calls that are being placed.
const PLACING: &str = "placement";

/// Cheap to clone.
#[derive(Clone)]
pub struct SendCore(Arc<Inner>);

struct Inner {
    config: config::Send,
    request_timeout: Duration,
    log_lag: Duration,
    notify_url: Option<SecretString>,
    guards: Guards,
    log: SharedEventLog,
    journal: Arc<dyn SendJournal>,
    lanes: Arc<Lanes>,
    recorder: Arc<Recorder>,
    registry: Arc<Registry>,
    account: Arc<Account>,
    resolver: ResolverHandle,
    /// One place for each slot of the calls in progress.
    room: Places,
    closing: CancellationToken,
    end_dispatcher: CancellationToken,
    end_resolver: CancellationToken,
    /// Tasks of calls that are being placed.
    placing: TaskTracker,
    watch: TaskWatch,
    /// The dispatcher and the resolver.
    tasks: Mutex<Option<(JoinHandle<()>, JoinHandle<()>)>>,
}

/// A send in progress. Dropping the handle does not stop the send.
pub struct SendHandle {
    core: Arc<Inner>,
    call: Arc<Call>,
    outcome: oneshot::Receiver<Result<Sent, SendError>>,
}

impl SendHandle {
    /// The ids of the messages, without the application, in the order of the destinations.
    pub fn message_ids(&self) -> impl Iterator<Item = &str> {
        let ids = self.call.slots.iter().map(|slot| slot.message_id.as_str());
        // A message without destinations has no id.
        ids.filter(|id| !id.is_empty())
    }

    /// Waits for the results. Cancel safe: it may be called again if its future was dropped before it was ready.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn wait(&mut self) -> Result<Sent, SendError> {
        (&mut self.outcome)
            .await
            // Nobody is left to tell: a task that carried it panicked.
            .unwrap_or(Err(SendError::StillInDoubt))
    }

    /// Withdraws the messages that are not in a request yet. True if these were all: then nothing was or will be sent.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        let can_withdraw =
            |item: &BatchItem| Arc::ptr_eq(&item.call, &self.call) && item.in_doubt_since.is_none();
        for item in self.core.lanes.remove(can_withdraw) {
            settle_all(&item, &SendError::Withdrawn);
        }
        self.call.is_withdrawn()
    }
}

impl SendCore {
    /// Starts the dispatcher and the resolver. `notify_url` is the URL for the delivery reports of messages without one.
    #[must_use]
    pub fn start(
        config: &config::Send,
        infobip: &config::Infobip,
        notify_url: Option<SecretString>,
        guards: Guards,
        account: Arc<Account>,
        storage: &Storage,
        metrics: Metrics,
    ) -> Self {
        // Otherwise the look-ups would end first.
        let log_lag = infobip.log_lag.min(config.in_doubt_for / 2);
        let max_batch = Room {
            destinations: config.max_batch,
            bytes: config.max_batch_bytes,
        };
        let lanes = Arc::new(Lanes::new(max_batch, metrics.clone()));
        let recorder = Arc::new(Recorder::new(Arc::clone(&storage.log), metrics.clone()));
        let (queue, in_doubt) = mpsc::channel(config.queue_capacity);
        let withdraw = Arc::new(Notify::new());
        let resolver_handle = ResolverHandle {
            queue,
            withdraw: Arc::clone(&withdraw),
            recorder: Arc::clone(&recorder),
            metrics: metrics.clone(),
        };
        let (end_dispatcher, end_resolver) = (CancellationToken::new(), CancellationToken::new());
        let closing = CancellationToken::new();
        let dispatcher = Arc::new(Dispatcher {
            account: Arc::clone(&account),
            places: Places::of_requests(config),
            config: config.clone(),
            log_lag,
            lanes: Arc::clone(&lanes),
            recorder: Arc::clone(&recorder),
            log: Arc::clone(&storage.log),
            resolver: resolver_handle.clone(),
            latency: Latency::default(),
            last_answers: LastAnswers::default(),
            metrics: metrics.clone(),
        });
        let resolver = Resolver {
            account: Arc::clone(&account),
            config: config.clone(),
            log_lag,
            lanes: Arc::clone(&lanes),
            recorder: Arc::clone(&recorder),
            withdraw,
            closing: closing.clone(),
            metrics: metrics.clone(),
        };
        let watch = metrics.tasks().clone();
        let dispatching = dispatcher.run(end_dispatcher.clone());
        let resolving = resolver.run(in_doubt, end_resolver.clone());
        let tasks = (
            tokio::spawn(watch.watch("dispatcher", dispatching)),
            tokio::spawn(watch.watch("resolver", resolving)),
        );
        Self(Arc::new(Inner {
            config: config.clone(),
            request_timeout: infobip.request_timeout,
            log_lag,
            notify_url,
            guards,
            log: Arc::clone(&storage.log),
            journal: Arc::clone(&storage.journal),
            lanes,
            recorder,
            registry: Arc::default(),
            account,
            resolver: resolver_handle,
            room: Places::in_queue(config),
            closing,
            end_dispatcher,
            end_resolver,
            placing: TaskTracker::new(),
            watch,
            tasks: Mutex::new(Some(tasks)),
        }))
    }

    /// Admits a command and starts its send, which continues even if the handle is dropped.
    ///
    /// # Errors
    /// [`SendError`] if the command was not admitted: nothing is sent.
    pub fn begin(&self, command: SendCommand) -> Result<SendHandle, SendError> {
        self.begin_for(command, ReplyTo::Caller)
    }

    fn begin_for(
        &self,
        command: SendCommand,
        reply_to: impl FnOnce(oneshot::Sender<Result<Sent, SendError>>) -> ReplyTo,
    ) -> Result<SendHandle, SendError> {
        let (sender, outcome) = oneshot::channel();
        let core = Arc::clone(&self.0);
        let admitted = core.admit(command).map_err(|refused| refused.error)?;
        let call = core.start_call(admitted, reply_to(sender));
        Ok(SendHandle {
            core,
            call,
            outcome,
        })
    }

    /// Sends, and calls `callback` with the results. It costs no task per message, which matters with thousands in flight.
    /// `callback` must not block. It always gets one result for each destination: if the call fails as a whole, the error is
    /// the refusal of each.
    pub fn send_then(&self, command: SendCommand, callback: impl FnOnce(Sent) + Send + 'static) {
        match self.0.admit(command) {
            Ok(admitted) => {
                let reply_to = ReplyTo::Callback(Box::new(callback));
                drop(self.0.start_call(admitted, reply_to));
            }
            Err(refused) => callback(refused.results()),
        }
    }

    /// Admits nothing new and waits for the sends in progress. At the deadline, sends that were not attempted fail as retryable,
    /// and those in doubt get the result `unknown` (P8, docs/RELIABILITY.md).
    pub async fn drain(&self, deadline: Instant) {
        self.0.drain(deadline).await;
    }
}

impl Sender for SendCore {
    fn send(&self, command: SendCommand) -> BoxFuture<'_, Result<Sent, SendError>> {
        let begun = self.begin_for(command, ReplyTo::Command);
        async move { begun?.wait().await }.boxed()
    }

    fn counted_replicas(&self, replicas: u32) {
        self.0.account.counted_replicas(replicas);
    }

    fn has_room(&self, lane: Lane, destinations: usize) -> bool {
        self.0.room.has(lane, destinations)
    }

    fn withdraw_lost(&self) {
        self.0.withdraw_lost();
    }
}

impl Inner {
    /// Withdraws the sends of lost deliveries that no request carries.
    fn withdraw_lost(&self) {
        custody::end_holds(&self.lanes);
        self.resolver.withdraw.notify_one();
    }

    fn start_call(self: &Arc<Self>, admitted: Admitted, reply_to: ReplyTo) -> Arc<Call> {
        let Admitted {
            application,
            request_id,
            bulk_id,
            plan:
                Plan {
                    slots,
                    messages,
                    placement,
                },
            places,
            arrival,
            traceparent,
            delivery,
        } = admitted;
        let call = Call::new(
            application,
            request_id,
            bulk_id,
            slots,
            messages,
            places,
            reply_to,
        );
        let call = Arc::new(call.of_queue(delivery).of_trace(traceparent));
        let core = Arc::clone(self);
        if call.slots.iter().all(|slot| slot.digest.is_none()) {
            // All ids were derived just now, so no earlier send has used them, and the event log is not asked.
            let deferred = self.place(&call, &placement, &HashMap::new(), arrival);
            if !deferred.is_empty() {
                let completing = async move { core.complete(deferred).await };
                self.placing.spawn(self.watch.watch(PLACING, completing));
            }
        } else {
            let call = Arc::clone(&call);
            let placing = async move {
                if let Some(earlier) = idempotency::check(
                    &core.registry,
                    &core.journal,
                    &call,
                    &placement.conflicting_ids,
                )
                .await
                {
                    let deferred = core.place(&call, &placement, &earlier, arrival);
                    core.complete(deferred).await;
                }
            };
            self.placing.spawn(self.watch.watch(PLACING, placing));
        }
        call
    }
}
