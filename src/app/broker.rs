//! The connection to the broker that the event log and the commands share.

use std::{sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::dead_letters::Desk;
use crate::{
    amqp::{AmqpError, Endpoint, Publisher, Topology, status::Purpose},
    commands::dead_letters::DeadLetters,
    config::{self, EventEncoding},
    events::{
        Storage,
        broker::{BrokerLog, BrokerRawStore},
    },
    grpc::DeadLetterDesk,
    ops::metrics::Metrics,
};

/// How long the start waits for the first session.
const FIRST_ATTEMPT: Duration = Duration::from_secs(3);

pub(super) struct Broker {
    pub(super) endpoint: Endpoint,
    pub(super) topology: Topology,
    pub(super) publisher: Arc<Publisher>,
    confirm_timeout: Duration,
}

impl Broker {
    /// Starts to connect. If the broker is down, the publisher keeps trying in the background.
    pub(super) fn configured(
        config: &config::Amqp,
        metrics: &Metrics,
    ) -> Result<Option<Self>, AmqpError> {
        let Some(endpoint) = Endpoint::configured(config)? else {
            return Ok(None);
        };
        metrics.amqp_configured();
        let topology = Topology::new(config);
        let confirm_timeout = config.confirm_timeout;
        let publisher = Publisher::start(
            endpoint.clone(),
            topology.clone(),
            confirm_timeout,
            metrics.clone(),
        );
        Ok(Some(Self {
            endpoint,
            topology,
            publisher: Arc::new(publisher),
            confirm_timeout,
        }))
    }

    /// Waits until the broker is connected, or the first attempt failed: without a session calls are refused, and a bridge whose
    /// broker is there shall take calls as soon as its ports are open.
    pub(super) async fn first_attempt(&self) {
        let status = self.endpoint.status();
        let failed = async {
            while status.cause(Purpose::Publisher).is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = self.publisher.opened() => {}
            () = failed => {}
            () = tokio::time::sleep(FIRST_ATTEMPT) => {}
        }
    }

    /// The dead letters, for the gRPC edge.
    pub(super) fn dead_letters(
        &self,
        metrics: &Metrics,
        closing: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<dyn DeadLetterDesk> {
        Arc::new(Desk(DeadLetters::new(
            self.endpoint.clone(),
            self.topology.clone(),
            Arc::clone(&self.publisher),
            metrics.clone(),
            closing,
            tasks,
        )))
    }

    pub(super) fn storage(&self, encoding: EventEncoding, metrics: Metrics) -> Storage {
        let raw = BrokerRawStore::new(
            Arc::clone(&self.publisher),
            self.endpoint.clone(),
            self.topology.clone(),
        );
        let log = BrokerLog::new(
            Arc::clone(&self.publisher),
            self.endpoint.clone(),
            self.topology.clone(),
            self.confirm_timeout,
            metrics,
        );
        let log = Arc::new(log.encoded_as(encoding));
        Storage {
            journal: Arc::clone(&log) as _,
            quarantine: Arc::clone(&log) as _,
            raw: Arc::new(raw),
            subscriptions: None,
            log,
        }
    }
}
