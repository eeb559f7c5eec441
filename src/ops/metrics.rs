//! The counters, gauges and histograms of `/metrics`.
//!
//! Invariants: every label has a small fixed set of values, so that clients cannot create series; no label contains an
//! application, an id, a number or a text. Names begin with `smsbridge_` and include their unit. What the alert rules of
//! docs/OPERATIONS.md read exists from the start. Neighbours: every module counts here; `admin` serves the result.

mod initial;
mod labels;
mod process;
mod register;

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};
use tonic::Code;

pub use self::labels::{
    AmqpConnection, Classification, Endpoint, GrpcMethod, Lane, LetterEnd, LookupOutcome,
    ReloadedFiles, Resolution, SendOutcome, Webhook, WebhookResult, code_name,
};
use self::labels::{
    CallLabels, ConnectionLabel, DeadLetterLabels, EndpointLabel, FilesLabel, LaneLabel,
    LetterEndLabel, LookupLabel, MethodLabel, OutcomeLabel, RequestLabels, ResolutionLabel,
    TypeLabel, WebhookLabels,
};
use super::task_watch::TaskWatch;
use crate::message::{event_type::EventType, reason::Reason};

/// Histogram buckets from a millisecond to a minute.
#[derive(Clone, Copy)]
struct SecondsBuckets;

impl MetricConstructor<Histogram> for SecondsBuckets {
    fn new_metric(&self) -> Histogram {
        const BOUNDS: [f64; 14] = [
            0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
        ];
        Histogram::new(BOUNDS)
    }
}

/// Cheap to clone; clones share the counters.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    send_results: Family<OutcomeLabel, Counter>,
    lookup_results: Family<LookupLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<EndpointLabel, Histogram, SecondsBuckets>,
    batch_destinations: Histogram,
    replicas: Gauge,
    breaker_open: Gauge,
    breaker_opened: Counter,
    in_doubt: Gauge,
    in_doubt_resolved: Family<ResolutionLabel, Counter>,
    overlaps_possible: Counter,
    command_twins: Counter,
    events_appended: Family<TypeLabel, Counter>,
    late_pending_dropped: Counter,
    events_stream_only: Counter,
    events_unrouted: Gauge,
    quarantine_bodies: Gauge,
    quarantine_bytes: Gauge,
    quarantine_max_bytes: Gauge,
    quarantine_expired: Counter,
    quarantine_ended: Family<LetterEndLabel, Counter>,
    webhook_bodies: Family<WebhookLabels, Counter>,
    amqp_reconnects: Counter,
    amqp_connected: Family<ConnectionLabel, Gauge>,
    dead_letters: Family<DeadLetterLabels, Counter>,
    dead_letters_ended: Family<LetterEndLabel, Counter>,
    reload_failures: Family<FilesLabel, Counter>,
    grpc_calls: Family<CallLabels, Counter>,
    grpc_call_seconds: Family<MethodLabel, Histogram, SecondsBuckets>,
    queued_destinations: Family<LaneLabel, Gauge>,
    command_panics: Counter,
    /// Not a series: whoever starts a task has the metrics.
    tasks: TaskWatch,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let inner = Inner {
            send_results: Family::default(),
            lookup_results: Family::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(SecondsBuckets),
            batch_destinations: Histogram::new([
                1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0,
            ]),
            replicas: Gauge::default(),
            breaker_open: Gauge::default(),
            breaker_opened: Counter::default(),
            in_doubt: Gauge::default(),
            in_doubt_resolved: Family::default(),
            overlaps_possible: Counter::default(),
            command_twins: Counter::default(),
            events_appended: Family::default(),
            late_pending_dropped: Counter::default(),
            events_stream_only: Counter::default(),
            events_unrouted: Gauge::default(),
            quarantine_bodies: Gauge::default(),
            quarantine_bytes: Gauge::default(),
            quarantine_max_bytes: Gauge::default(),
            quarantine_expired: Counter::default(),
            quarantine_ended: Family::default(),
            webhook_bodies: Family::default(),
            amqp_reconnects: Counter::default(),
            amqp_connected: Family::default(),
            dead_letters: Family::default(),
            dead_letters_ended: Family::default(),
            reload_failures: Family::default(),
            grpc_calls: Family::default(),
            grpc_call_seconds: Family::new_with_constructor(SecondsBuckets),
            queued_destinations: Family::default(),
            command_panics: Counter::default(),
            tasks: TaskWatch::default(),
            registry: Registry::default(),
        };
        inner.register(&mut registry);
        inner.create_initial_series();
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// Notices panics of the process's tasks.
    #[must_use]
    pub fn tasks(&self) -> &TaskWatch {
        &self.0.tasks
    }

    /// Counts a command whose handler panicked.
    pub fn command_panic(&self) {
        self.0.command_panics.inc();
    }

    /// Counts destinations that got their results.
    pub fn send_results(&self, outcome: SendOutcome, destinations: u64) {
        let label = OutcomeLabel { outcome };
        self.0
            .send_results
            .get_or_create(&label)
            .inc_by(destinations);
    }

    /// Counts numbers of look-ups that got their result.
    pub fn lookup_results(&self, outcome: LookupOutcome, numbers: u64) {
        let label = LookupLabel { outcome };
        self.0.lookup_results.get_or_create(&label).inc_by(numbers);
    }

    /// Counts a request to the API that ended.
    pub fn request(&self, endpoint: Endpoint, classification: Classification, took: Duration) {
        let labels = RequestLabels {
            endpoint,
            classification,
        };
        self.0.requests.get_or_create(&labels).inc();
        let label = EndpointLabel { endpoint };
        let seconds = self.0.request_seconds.get_or_create(&label);
        seconds.observe(took.as_secs_f64());
    }

    /// Records the size of a send request.
    pub fn batch(&self, destinations: u32) {
        self.0.batch_destinations.observe(f64::from(destinations));
    }

    /// The processes that share the account.
    pub fn replicas(&self, replicas: u32) {
        self.0.replicas.set(replicas.into());
    }

    /// The breaker for sends opened or closed.
    pub fn breaker_open(&self, is_open: bool) {
        self.0.breaker_open.set(i64::from(is_open));
        if is_open {
            self.0.breaker_opened.inc();
        }
    }

    /// A send to a destination became in doubt.
    pub fn in_doubt_opened(&self) {
        self.0.in_doubt.inc();
    }

    /// A send in doubt was resolved.
    pub fn in_doubt_resolved(&self, resolution: Resolution) {
        self.0.in_doubt.dec();
        let label = ResolutionLabel { resolution };
        self.0.in_doubt_resolved.get_or_create(&label).inc();
    }

    /// Counts destinations whose request was in flight when the delivery of their command was lost.
    pub fn overlaps_possible(&self, destinations: u64) {
        if destinations > 0 {
            self.0.overlaps_possible.inc_by(destinations);
        }
    }

    /// Counts a command that may be in the broker twice.
    pub fn command_twin(&self) {
        self.0.command_twins.inc();
    }

    /// Counts events that became durable.
    pub fn events_appended(&self, event_type: EventType, count: u64) {
        let label = TypeLabel { r#type: event_type };
        self.0.events_appended.get_or_create(&label).inc_by(count);
    }

    /// Counts an event that was published to the stream only. Returns how many there were before.
    pub fn event_to_stream_only(&self) -> u64 {
        self.0.events_stream_only.inc()
    }

    /// The number of events that were published to the stream only.
    #[must_use]
    pub fn events_stream_only_total(&self) -> u64 {
        self.0.events_stream_only.get()
    }

    /// Sets the number of events that wait outside of the stream.
    pub fn events_unrouted(&self, count: u32) {
        self.0.events_unrouted.set(count.into());
    }

    /// Counts a pending report that was dropped because it came after the final one.
    pub fn late_pending_dropped(&self) {
        self.0.late_pending_dropped.inc();
    }

    /// How many bodies are in quarantine.
    pub fn quarantine_bodies(&self, bodies: i64) {
        self.0.quarantine_bodies.set(bodies);
    }

    /// The size of the quarantine, and its limit. The broker engine does not know them: they stay 0.
    pub fn quarantine_bytes(&self, bytes: i64, max_bytes: i64) {
        self.0.quarantine_bytes.set(bytes);
        self.0.quarantine_max_bytes.set(max_bytes);
    }

    /// Counts a quarantined body that an operator replayed or discarded.
    pub fn quarantine_ended(&self, action: LetterEnd) {
        let label = LetterEndLabel { action };
        self.0.quarantine_ended.get_or_create(&label).inc();
    }

    /// Counts bodies that were removed from quarantine because they were too old.
    pub fn quarantine_expired(&self, bodies: u64) {
        self.0.quarantine_expired.inc_by(bodies);
    }

    /// Counts a request body that a webhook received, from Infobip or from anyone else.
    pub fn webhook_body(&self, endpoint: Webhook, result: WebhookResult) {
        let labels = WebhookLabels { endpoint, result };
        self.0.webhook_bodies.get_or_create(&labels).inc();
    }

    /// Counts a publishing session with the broker that was lost and re-established.
    pub fn amqp_reconnected(&self) {
        self.0.amqp_reconnects.inc();
    }

    /// `amqp.url` is set: both connections to the broker have a series from now on, 0 until they are opened.
    pub fn amqp_configured(&self) {
        for connection in AmqpConnection::ALL {
            self.amqp_connected(connection, false);
        }
    }

    /// A connection to the broker was opened or has ended.
    pub fn amqp_connected(&self, connection: AmqpConnection, is_open: bool) {
        let label = ConnectionLabel { connection };
        let gauge = self.0.amqp_connected.get_or_create(&label);
        gauge.set(i64::from(is_open));
    }

    /// Counts a command that is in the queue of dead letters.
    pub fn dead_letter(&self, reason: Reason) {
        debug_assert!(
            initial::DEAD_LETTER_REASONS.contains(&reason),
            "{reason} has no series before its first count"
        );
        let labels = DeadLetterLabels::of(reason);
        self.0.dead_letters.get_or_create(&labels).inc();
    }

    /// Counts a dead letter that an operator replayed or discarded.
    pub fn dead_letter_ended(&self, action: LetterEnd) {
        let label = LetterEndLabel { action };
        self.0.dead_letters_ended.get_or_create(&label).inc();
    }

    /// Counts an attempt to reload files that cannot be used.
    pub fn reload_failed(&self, files: ReloadedFiles) {
        let label = FilesLabel { files };
        self.0.reload_failures.get_or_create(&label).inc();
    }

    /// Counts a gRPC call that ended; `took` is the time until its response began.
    pub fn grpc_call(&self, method: GrpcMethod, code: Code, took: Duration) {
        let GrpcMethod(method) = method;
        let labels = CallLabels {
            method,
            code: code_name(code),
        };
        self.0.grpc_calls.get_or_create(&labels).inc();
        let label = MethodLabel { method };
        let seconds = self.0.grpc_call_seconds.get_or_create(&label);
        seconds.observe(took.as_secs_f64());
    }

    /// Destinations entered a lane.
    pub fn queued(&self, lane: Lane, destinations: usize) {
        let label = LaneLabel { lane };
        let gauge = self.0.queued_destinations.get_or_create(&label);
        gauge.inc_by(as_i64(destinations));
    }

    /// Destinations left a lane.
    pub fn unqueued(&self, lane: Lane, destinations: usize) {
        let label = LaneLabel { lane };
        let gauge = self.0.queued_destinations.get_or_create(&label);
        gauge.dec_by(as_i64(destinations));
    }

    /// Encodes all metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// A metric cannot be encoded.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

fn as_i64(destinations: usize) -> i64 {
    i64::try_from(destinations).expect("send.queue_capacity bounds the number of destinations")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_encoded_with_its_labels_and_unit() {
        let metrics = Metrics::new();
        metrics.send_results(SendOutcome::Accepted, 1);
        metrics.lookup_results(LookupOutcome::Answered, 3);
        metrics.request(
            Endpoint::Send,
            Classification::InDoubt,
            Duration::from_millis(30),
        );
        metrics.batch(100);
        for _ in 0..3 {
            metrics.in_doubt_opened();
        }
        metrics.in_doubt_resolved(Resolution::Found);
        metrics.replicas(2);
        metrics.overlaps_possible(2);
        metrics.command_twin();
        metrics.breaker_open(true);
        metrics.events_appended(EventType::ReportDelivered, 1);
        metrics.late_pending_dropped();
        assert_eq!(metrics.event_to_stream_only(), 0);
        metrics.events_unrouted(4);
        metrics.quarantine_bodies(2);
        metrics.quarantine_bytes(700, 1000);
        metrics.quarantine_expired(1);
        metrics.quarantine_ended(LetterEnd::Discarded);
        metrics.webhook_body(Webhook::Inbound, WebhookResult::Quarantined);
        metrics.amqp_reconnected();
        metrics.amqp_connected(AmqpConnection::Publisher, true);
        metrics.amqp_connected(AmqpConnection::Commands, false);
        metrics.dead_letter(Reason::InvalidRequest);
        metrics.dead_letter_ended(LetterEnd::Replayed);
        metrics.command_panic();
        metrics.reload_failed(ReloadedFiles::Tls);
        metrics.queued(Lane::Urgent, 10);
        metrics.unqueued(Lane::Urgent, 3);
        let took = Duration::from_millis(2);
        let method = GrpcMethod::named("smsbridge.v1.SmsService/SendSms");
        metrics.grpc_call(method, Code::Unavailable, took);
        let text = metrics.clone().encode().unwrap();
        for line in [
            "smsbridge_send_results_total{outcome=\"accepted\"} 1",
            "smsbridge_lookup_results_total{outcome=\"answered\"} 3",
            "smsbridge_infobip_requests_total{endpoint=\"send\",classification=\"in_doubt\"} 1",
            "smsbridge_infobip_request_seconds_bucket{le=\"0.05\",endpoint=\"send\"} 1",
            "smsbridge_infobip_request_seconds_bucket{le=\"0.025\",endpoint=\"send\"} 0",
            "smsbridge_send_batch_destinations_sum 100.0",
            "smsbridge_in_doubt_destinations 2",
            "smsbridge_in_doubt_resolved_total{resolution=\"found\"} 1",
            "smsbridge_account_replicas 2",
            "smsbridge_send_overlaps_possible_total 2",
            "smsbridge_command_twins_total 1",
            "smsbridge_send_breaker_open 1",
            "smsbridge_send_breaker_opened_total 1",
            "smsbridge_events_appended_total{type=\"report.delivered\"} 1",
            "smsbridge_late_pending_reports_dropped_total 1",
            "smsbridge_events_stream_only_total 1",
            "smsbridge_events_unrouted 4",
            "smsbridge_quarantine_bodies 2",
            "smsbridge_quarantine_bytes 700",
            "smsbridge_quarantine_max_bytes 1000",
            "smsbridge_quarantine_expired_total 1",
            "smsbridge_quarantine_ended_total{action=\"discarded\"} 1",
            "smsbridge_webhook_bodies_total{endpoint=\"inbound\",result=\"quarantined\"} 1",
            "smsbridge_amqp_reconnects_total 1",
            "smsbridge_amqp_connected{connection=\"publisher\"} 1",
            "smsbridge_amqp_connected{connection=\"commands\"} 0",
            "smsbridge_dead_letters_total{cause=\"caller\",reason=\"INVALID_REQUEST\"} 1",
            "smsbridge_dead_letters_ended_total{action=\"replayed\"} 1",
            "smsbridge_command_panics_total 1",
            "smsbridge_reload_failures_total{files=\"tls\"} 1",
            "smsbridge_grpc_calls_total{method=\"smsbridge.v1.SmsService/SendSms\",code=\"UNAVAILABLE\"} 1",
            "smsbridge_grpc_call_seconds_count{method=\"smsbridge.v1.SmsService/SendSms\"} 1",
            "smsbridge_queued_destinations{lane=\"urgent\"} 7",
            concat!(
                "smsbridge_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn counters_with_alerts_exist_at_0_from_the_start() {
        let text = Metrics::new().encode().unwrap();
        for series in [
            "smsbridge_send_results_total{outcome=\"unknown\"}",
            "smsbridge_infobip_requests_total{endpoint=\"send\",classification=\"credentials_refused\"}",
            "smsbridge_infobip_requests_total{endpoint=\"send\",classification=\"not_sent\"}",
            "smsbridge_infobip_requests_total{endpoint=\"send\",classification=\"in_doubt\"}",
            "smsbridge_webhook_bodies_total{endpoint=\"reports\",result=\"quarantined\"}",
            "smsbridge_webhook_bodies_total{endpoint=\"inbound\",result=\"unavailable\"}",
            "smsbridge_webhook_bodies_total{endpoint=\"lookups\",result=\"refused\"}",
            "smsbridge_dead_letters_total{cause=\"caller\",reason=\"INVALID_REQUEST\"}",
            "smsbridge_dead_letters_total{cause=\"given_up\",reason=\"DELIVERY_LIMIT\"}",
            "smsbridge_reload_failures_total{files=\"tokens\"}",
            "smsbridge_reload_failures_total{files=\"tls\"}",
        ] {
            let line = format!("{series} 0");
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
        assert!(!text.contains("smsbridge_amqp_connected{"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_measured() {
        let text = Metrics::new().encode().unwrap();
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_cpu_seconds_total",
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            let value: f64 = value.expect(name).trim().parse().unwrap();
            assert!(value >= 0.0, "{name} {value}");
        }
    }

    #[test]
    fn unknown_methods_create_no_series() {
        let metrics = Metrics::new();
        let lines = |text: &str| text.lines().count();
        let before = lines(&metrics.encode().unwrap());
        for n in 0..1000 {
            let method = GrpcMethod::named(&format!("x.Y/Z{n}"));
            metrics.grpc_call(method, Code::Unimplemented, Duration::ZERO);
        }
        let text = metrics.encode().unwrap();
        assert!(
            text.contains("{method=\"unknown\",code=\"UNIMPLEMENTED\"} 1000"),
            "{text}"
        );
        assert!(lines(&text) < before + 30, "{text}");
    }
}
