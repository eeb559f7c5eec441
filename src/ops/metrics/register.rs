//! The names, units and descriptions of the metrics. docs/OPERATIONS.md has the table of them.

use prometheus_client::{
    metrics::info::Info,
    registry::{Registry, Unit},
};

use super::{Inner, process::ProcessCollector};

impl Inner {
    pub(super) fn register(&self, all: &mut Registry) {
        all.register_collector(Box::new(ProcessCollector));
        let registry = all.sub_registry_with_prefix("smsbridge");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", version);
        registry.register(
            "send_results",
            "Results of sends, one for each destination",
            self.send_results.clone(),
        );
        registry.register(
            "lookup_results",
            "Numbers of look-ups that got their result",
            self.lookup_results.clone(),
        );
        registry.register(
            "infobip_requests",
            "Requests to the API",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "infobip_request",
            "Duration of requests to the API, failures included",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register_with_unit(
            "send_batch",
            "Destinations that shared one send request",
            Unit::Other("destinations".to_owned()),
            self.batch_destinations.clone(),
        );
        registry.register(
            "account_replicas",
            "Replicas that share the rates of the account",
            self.replicas.clone(),
        );
        registry.register(
            "send_breaker_open",
            "1 while the API is down and only probes are sent, else 0",
            self.breaker_open.clone(),
        );
        registry.register(
            "send_breaker_opened",
            "Outages of the API for sends",
            self.breaker_opened.clone(),
        );
        registry.register_with_unit(
            "in_doubt",
            "Destinations whose send is in doubt and being looked up",
            Unit::Other("destinations".to_owned()),
            self.in_doubt.clone(),
        );
        registry.register(
            "in_doubt_resolved",
            "Sends in doubt that were resolved, by resolution",
            self.in_doubt_resolved.clone(),
        );
        registry.register(
            "send_overlaps_possible",
            "Destinations whose request was in flight when the delivery of their command was lost",
            self.overlaps_possible.clone(),
        );
        registry.register(
            "command_twins",
            "Commands that may be in the broker twice, because an acknowledgement or the confirm of a copy is missing",
            self.command_twins.clone(),
        );
        registry.register(
            "events_appended",
            "Events that became durable",
            self.events_appended.clone(),
        );
        registry.register(
            "late_pending_reports_dropped",
            "Pending reports that came after the final report of their message and were dropped",
            self.late_pending_dropped.clone(),
        );
        registry.register(
            "events_stream_only",
            "Events that were published to the stream only, because a subscriber's queue refused or did not confirm them",
            self.events_stream_only.clone(),
        );
        registry.register(
            "events_unrouted",
            "Events that wait outside of the stream, because it was deleted or not bound",
            self.events_unrouted.clone(),
        );
        registry.register(
            "quarantine_bodies",
            "Bodies that are in quarantine",
            self.quarantine_bodies.clone(),
        );
        registry.register_with_unit(
            "quarantine",
            "Size of the quarantine; 0 on the broker engine",
            Unit::Bytes,
            self.quarantine_bytes.clone(),
        );
        registry.register_with_unit(
            "quarantine_max",
            "Largest size of the quarantine; 0 on the broker engine",
            Unit::Bytes,
            self.quarantine_max_bytes.clone(),
        );
        registry.register(
            "quarantine_ended",
            "Quarantined bodies that an operator replayed or discarded",
            self.quarantine_ended.clone(),
        );
        registry.register(
            "quarantine_expired",
            "Bodies that were removed from quarantine because they were too old",
            self.quarantine_expired.clone(),
        );
        registry.register(
            "webhook_bodies",
            "Request bodies that the webhooks received",
            self.webhook_bodies.clone(),
        );
        registry.register(
            "amqp_reconnects",
            "Publishing sessions with the broker that were re-established",
            self.amqp_reconnects.clone(),
        );
        registry.register(
            "grpc_calls",
            "gRPC calls that ended",
            self.grpc_calls.clone(),
        );
        registry.register_with_unit(
            "grpc_call",
            "Time until the response of a gRPC call began",
            Unit::Seconds,
            self.grpc_call_seconds.clone(),
        );
        registry.register_with_unit(
            "queued",
            "Destinations that wait to be sent",
            Unit::Other("destinations".to_owned()),
            self.queued_destinations.clone(),
        );
        registry.register(
            "amqp_connected",
            "Whether a connection to the broker is open",
            self.amqp_connected.clone(),
        );
        registry.register(
            "dead_letters",
            "Commands that were published to the queue of dead letters",
            self.dead_letters.clone(),
        );
        registry.register(
            "dead_letters_ended",
            "Dead letters that an operator replayed or discarded",
            self.dead_letters_ended.clone(),
        );
        registry.register(
            "command_panics",
            "Commands whose handler panicked",
            self.command_panics.clone(),
        );
        registry.register(
            "reload_failures",
            "Attempts to reload files that cannot be used",
            self.reload_failures.clone(),
        );
    }
}
