//! Puts parts into REST requests, a bounded number at once, and classifies each outcome once (docs/RELIABILITY.md#how-a-send-stays-single).

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    SendError,
    call::Settled,
    in_doubt::{Doubt, Doubts},
    lanes::{Due, Lanes, UnderWay},
    outcome::{self, Verdict},
    plan::Part,
    recorder::{Finished, Recorder},
};
use crate::{
    config,
    infobip::{
        ApiError, BatchKind, Client, OutboundBatch, OutboundRow, SendResponse, pacing::SendPace,
    },
    message::reason::Reason,
    ops::metrics::Metrics,
    primitives::retry::RetryPolicy,
    proto::v1::Outcome,
};

/// How long sending pauses after failures of the API.
const PAUSE: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5));
/// Timers are no finer: who should wait shorter would wait longer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Sends what waits in the lanes.
pub(super) struct Dispatcher {
    pub(super) client: Client,
    pub(super) pace: SendPace,
    pub(super) config: config::Send,
    pub(super) lanes: Arc<Lanes>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) doubts: Doubts,
    pub(super) pause: Pause,
    pub(super) latency: Latency,
    pub(super) metrics: Metrics,
}

/// How long the API takes for a request as a rule: a moving average.
#[derive(Default)]
pub(super) struct Latency(AtomicU64);

impl Latency {
    fn note(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Two that come at once may cost one of them: an average bears that.
        let usual_us = self.0.load(Ordering::Relaxed);
        let usual_us = usual_us - usual_us / 8 + took_us / 8;
        self.0.store(usual_us, Ordering::Relaxed);
    }

    fn usual(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// What is little beside it; nothing where that is less than can be waited.
    fn little(&self) -> Duration {
        let little = self.usual() / 4;
        if little < SHORTEST_WAIT {
            Duration::ZERO
        } else {
            little
        }
    }
}

/// While the API can't be reached or takes no requests, whichever way it says so, nobody sends.
#[derive(Default)]
pub(super) struct Pause(Mutex<(u32, Option<Instant>)>);

impl Pause {
    /// Makes the pause longer; gives how long it is.
    fn lengthen(&self, at_least: Option<Duration>) -> Duration {
        let mut state = self.0.lock();
        let now = Instant::now();
        match state.1 {
            // Requests that were in flight together fail together: that is one failure.
            Some(until) if until > now => until - now,
            _ => {
                let pause = PAUSE.wait(state.0).max(at_least.unwrap_or_default());
                *state = (state.0 + 1, Some(now + pause));
                pause
            }
        }
    }

    fn end(&self) {
        *self.0.lock() = (0, None);
    }

    fn until(&self) -> Option<Instant> {
        self.0.lock().1
    }
}

impl Dispatcher {
    /// Runs until it is told to end; then waits for the requests under way.
    pub(super) async fn run(self: Arc<Self>, end: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.config.max_requests_in_flight));
        let requests = TaskTracker::new();
        loop {
            let next = async {
                // The semaphore is never closed.
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                self.pace.acquire().await;
                Some((slot, self.next_batch().await))
            };
            let Some((slot, (batch, under_way))) = (tokio::select! {
                () = end.cancelled() => None,
                next = next => next,
            }) else {
                break;
            };
            let dispatcher = Arc::clone(&self);
            requests.spawn(async move {
                dispatcher.send(batch, under_way).await;
                drop(slot);
            });
        }
        requests.close();
        requests.wait().await;
    }

    /// Waits for something to send, and gathers while others may come to share it (`lanes`).
    async fn next_batch(&self) -> (Vec<Part>, UnderWay) {
        // One timer for a whole batch: each that is set wakes the runtime's driver.
        let mut gathered = pin!(tokio::time::sleep_until(Instant::now()));
        loop {
            let changed = self.lanes.changed();
            match self.lanes.due(self.gather_for()) {
                Due::Now => {
                    // Here and not earlier: whoever waited for a request's end, or for a message, may have waited for the
                    // failure that begins a pause.
                    if let Some(until) = self.pause.until().filter(|until| *until > Instant::now())
                    {
                        tokio::time::sleep_until(until).await;
                        continue;
                    }
                    // Calls that were read from the same socket are about to come in.
                    tokio::task::yield_now().await;
                    if let Some(batch) = self.lanes.take(self.latency.usual()) {
                        return batch;
                    }
                }
                Due::At(at) => {
                    if gathered.deadline() != at {
                        gathered.as_mut().reset(at);
                    }
                    // Either is a reason to look again.
                    tokio::select! {
                        () = &mut gathered => {}
                        () = changed => {}
                    }
                }
                Due::Never => changed.await,
            }
        }
    }

    /// How long a message may wait for others: little beside what the API takes.
    fn gather_for(&self) -> Duration {
        self.latency.little().min(self.config.gather_for)
    }

    async fn send(&self, parts: Vec<Part>, under_way: UnderWay) {
        let parts = self.reject_expired(parts).await;
        if parts.is_empty() {
            return;
        }
        match self.request(&parts).await {
            Ok(answer) => {
                self.pause.end();
                let given = self.take_answer(parts, answer).await;
                under_way.results_delivered(given, self.gather_for());
            }
            Err(error) => {
                drop(under_way);
                self.take_error(parts, error).await;
            }
        }
    }

    async fn take_error(&self, parts: Vec<Part>, error: ApiError) {
        match error {
            ApiError::NotSent { detail } => self.put_back(parts, &detail, None).await,
            ApiError::RateLimited { retry_after } => {
                self.put_back(parts, "it answers 429, too many requests", retry_after)
                    .await;
            }
            ApiError::CredentialsRefused { http_status, text } => {
                let detail = format!(
                    "HTTP {http_status}, {text}: check infobip.username and infobip.password, or infobip.api_key"
                );
                tracing::error!(
                    http_status,
                    "the API refuses the bridge's credentials: check infobip.username and infobip.password, or infobip.api_key"
                );
                self.pause.lengthen(None);
                self.fail(parts, &SendError::CredentialsRefused { detail })
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
                    .map(|(field, what)| format!("{field}: {}", what.join(", ")));
                let fields = fields.collect::<Vec<_>>().join("; ");
                let said = format!("HTTP {http_status} {code}: {text} {fields}");
                let said = said.trim_end_matches([' ', ':']);
                if is_about_messages(http_status) {
                    self.refused(parts, said.to_owned()).await;
                } else {
                    let detail = format!(
                        "it answers {said}: check infobip.base_url, and what is between the bridge and the API"
                    );
                    self.put_back(parts, &detail, None).await;
                }
            }
            ApiError::InDoubt { detail } => {
                tracing::warn!(
                    destinations = destinations(&parts),
                    detail,
                    "a send is in doubt: its messages are looked up in the logs"
                );
                for part in &parts {
                    for index in 0..part.slots.len() {
                        self.doubt(part.only(index), true).await;
                    }
                }
            }
        }
    }

    async fn request(&self, parts: &[Part]) -> Result<SendResponse, ApiError> {
        let own = parts.first().and_then(|part| part.alone.as_deref());
        let mut all = Vec::with_capacity(destinations(parts));
        all.extend(parts.iter().flat_map(Part::destinations));
        let mut rest = all.as_slice();
        let batch = OutboundBatch {
            kind: parts.first().map_or(BatchKind::Text, Part::kind),
            bulk_id: own.and_then(|own| own.wire_bulk_id.as_deref()),
            tracking: own.and_then(|own| own.tracking.as_deref()),
            messages: parts
                .iter()
                .map(|part| {
                    let (destinations, others) = rest.split_at(part.slots.len());
                    rest = others;
                    OutboundRow {
                        message: part.message(),
                        destinations,
                    }
                })
                .collect(),
        };
        let size = u32::try_from(all.len()).unwrap_or(u32::MAX);
        self.metrics.batch(size);
        let begun = Instant::now();
        let answer = self.client.send(&batch).await;
        if answer.is_ok() {
            self.latency.note(begun.elapsed());
        }
        answer
    }

    /// Gives the results to their calls; says how many.
    async fn take_answer(&self, parts: Vec<Part>, answer: SendResponse) -> usize {
        let mut finished = Vec::with_capacity(answer.destinations.len());
        let mut rows = answer.destinations.into_iter();
        for part in &parts {
            if let Some(key) = &answer.tracking_process_key {
                part.call.set_tracking_process_key(key);
            }
            for (index, &slot) in part.slots.iter().enumerate() {
                let Some(row) = rows.next().flatten() else {
                    // The answer leaves this destination out: it may have been taken.
                    self.doubt(part.only(index), true).await;
                    continue;
                };
                let outcome = match outcome::of_response(&row.status) {
                    Verdict::Accepted => Outcome::Accepted,
                    Verdict::Rejected => Outcome::Rejected,
                    Verdict::LookUp => {
                        self.doubt(part.only(index), false).await;
                        continue;
                    }
                };
                let mut result = part.call.result(slot, outcome);
                result.status = Some(row.status);
                result.sms_count = row.sms_count;
                finished.push(Finished {
                    call: Arc::clone(&part.call),
                    slot,
                    result,
                });
            }
        }
        let given = finished.len();
        self.recorder.record(finished).await;
        given
    }

    /// Nothing went out: the parts wait, unless they have waited long enough.
    async fn put_back(&self, parts: Vec<Part>, detail: &str, at_least: Option<Duration>) {
        let pause = self.pause.lengthen(at_least);
        tracing::warn!(
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or_default(),
            detail,
            "the API takes no sends now: they wait"
        );
        self.lanes.put_back(parts);
        // What is in doubt is never given up as untried, and for longer: the resolver says `unknown` of it in the end.
        let waited_enough = |part: &Part| match part.in_doubt_since {
            None => part.since.elapsed() + pause > self.config.retry_for,
            Some(since) => since.elapsed() > self.config.in_doubt_for,
        };
        let error = SendError::Unavailable {
            detail: detail.to_owned(),
            retry_after: pause.max(Duration::from_secs(1)),
        };
        let given_up = self.lanes.remove(waited_enough);
        self.fail(given_up, &error).await;
    }

    /// The request was refused as a whole, so nothing of it was sent: find the message that the API dislikes.
    async fn refused(&self, mut parts: Vec<Part>, detail: String) {
        if parts.len() == 1 && parts[0].slots.len() > 1 {
            let (one, other) = parts.remove(0).split();
            parts = vec![one, other];
        } else if parts.len() == 1 {
            return self.reject(&parts[0], Reason::ApiRefused, detail).await;
        }
        let other = parts.split_off(parts.len() / 2);
        // Boxed: a future can't hold itself.
        for parts in [parts, other] {
            let under_way = self.lanes.begin(self.latency.usual());
            Box::pin(self.send(parts, under_way)).await;
        }
    }

    async fn reject(&self, part: &Part, reason: Reason, detail: String) {
        let finished = part.slots.iter().map(|slot| Finished {
            call: Arc::clone(&part.call),
            slot: *slot,
            result: part
                .call
                .refusal(*slot, Outcome::Rejected, reason, detail.clone(), Vec::new()),
        });
        self.recorder.record(finished.collect()).await;
    }

    /// Ends parts of which nothing was attempted; those in doubt stay in doubt.
    async fn fail(&self, parts: Vec<Part>, error: &SendError) {
        for part in parts {
            if part.in_doubt_since.is_none() {
                settle_all(&part, error);
            } else {
                self.doubt(part, true).await;
            }
        }
    }

    async fn reject_expired(&self, parts: Vec<Part>) -> Vec<Part> {
        if !parts.iter().any(Part::is_expired) {
            return parts;
        }
        let (late, parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(Part::is_expired);
        for part in late {
            if part.in_doubt_since.is_none() {
                self.reject(
                    &part,
                    Reason::Expired,
                    "its expires_at passed before it could be sent: nothing was sent".to_owned(),
                )
                .await;
            } else {
                self.doubt(part, false).await;
            }
        }
        parts
    }

    async fn doubt(&self, part: Part, may_send_again: bool) {
        let doubt = Doubt::new(part, may_send_again, self.config.in_doubt_wait);
        self.doubts.open(doubt).await;
    }
}

/// Whether a refusal of a send may be the messages' fault: 400, and 413 or 422, which a smaller request may not get. Any other
/// one comes from a wrong address or from something in front of the API (404, 405, 407, 415, 451, a redirect …), and would
/// be given to each message: the API is down, as far as sends are concerned.
fn is_about_messages(http_status: u16) -> bool {
    matches!(http_status, 400 | 413 | 422)
}

/// Settles all slots of a part of which nothing was attempted.
pub(super) fn settle_all(part: &Part, error: &SendError) {
    for slot in &part.slots {
        part.call.settle(*slot, Settled::Failed(error.clone()));
    }
}

fn destinations(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.slots.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_a_quarter_of_the_usual_latency_or_nothing() {
        let little = |us| Latency(AtomicU64::new(us)).little();
        assert_eq!(little(0), Duration::ZERO);
        assert_eq!(little(3_999), Duration::ZERO);
        assert_eq!(little(4_000), Duration::from_millis(1));
        assert_eq!(little(20_000), Duration::from_millis(5));
    }
}
