//! `grpc.health.v1.Health`: tonic-health's service with limits, and with watches that end at shutdown.
//!
//! Invariants: a watch reports NOT_SERVING and ends when the shutdown begins, so that it does not hold it up while its client
//! reads; a service that needs the event log is SERVING only while the log can be written; a watch gets a message only when its status
//! changes, because there may be a thousand. Neighbours: `middleware` enforces the limits, `server` runs [`update`].

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::{
    ServingStatus,
    pb::{
        self, HealthCheckRequest, HealthCheckResponse,
        health_server::{Health, HealthServer},
    },
    server::{HealthReporter, HealthService},
};

use crate::proto::v1;

/// The prefix of its methods, without the first slash.
pub(in crate::grpc) const SERVICE: &str = "grpc.health.v1.Health/";
/// Limit of concurrent checks.
pub(in crate::grpc) const MAX_CHECKS: usize = 1000;
/// Limit of concurrent watches.
pub(in crate::grpc) const MAX_WATCHES: usize = 1000;
/// Limit of concurrent checks on one connection, and of watches: two for each service of the bridge.
pub(in crate::grpc) const MAX_CALLS_OF_CONNECTION: usize = 16;
/// Deadline until the response of a check or watch begins: a caller that never sends its message must release its permits.
pub(in crate::grpc) const TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is asked whether the event log can be written.
pub(in crate::grpc) const INTERVAL: Duration = Duration::from_secs(1);

/// Watches end at `stop`.
pub(in crate::grpc) struct EndingHealth {
    service: HealthService,
    stop: CancellationToken,
}

impl EndingHealth {
    /// Serves the statuses that are set on `reporter`.
    pub(in crate::grpc) fn server(
        reporter: HealthReporter,
        stop: CancellationToken,
    ) -> HealthServer<Self> {
        HealthServer::new(Self {
            service: HealthService::from_health_reporter(reporter),
            stop,
        })
    }
}

#[tonic::async_trait]
impl Health for EndingHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.service.check(request).await
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch = self.service.watch(request).await?.into_inner();
        let last = HealthCheckResponse {
            status: pb::health_check_response::ServingStatus::NotServing.into(),
        };
        let ending = watch
            .take_until(self.stop.clone().cancelled_owned())
            .chain(stream::iter([Ok(last)]));
        Ok(Response::new(Box::pin(ending)))
    }
}

/// What the process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ability {
    Everything,
    /// The event log cannot be written.
    WithoutLog,
    /// It shuts down.
    Nothing,
}

impl Ability {
    fn of(is_log_ready: bool) -> Self {
        if is_log_ready {
            Self::Everything
        } else {
            Self::WithoutLog
        }
    }
}

/// Keeps the statuses, which were set for a log that `was_ready` or not, up to date until `stop`.
pub(in crate::grpc) async fn update(
    health: HealthReporter,
    is_log_ready: impl Fn() -> bool,
    was_ready: bool,
    (every, stop): (Duration, CancellationToken),
) {
    let mut told = Ability::of(was_ready);
    let mut interval = tokio::time::interval(every);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        let now = Ability::of(is_log_ready());
        // Setting an equal status would send it to each watch.
        if now != told {
            set_all(&health, now).await;
            told = now;
        }
    }
    set_all(&health, Ability::Nothing).await;
}

/// Sets the status of every service for the first time.
pub(in crate::grpc) async fn set(health: &HealthReporter, is_log_ready: bool) {
    set_all(health, Ability::of(is_log_ready)).await;
}

async fn set_all(health: &HealthReporter, ability: Ability) {
    use v1::{
        account_service_server as account, event_service_server as event,
        inbox_service_server as inbox, lookup_service_server as lookup,
        reference_service_server as reference, report_service_server as report,
        sms_service_server as sms,
    };
    let need_log = [
        "",
        sms::SERVICE_NAME,
        report::SERVICE_NAME,
        inbox::SERVICE_NAME,
        event::SERVICE_NAME,
    ];
    let need_nothing = [
        lookup::SERVICE_NAME,
        reference::SERVICE_NAME,
        account::SERVICE_NAME,
    ];
    let status = |is_serving: bool| {
        if is_serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    };
    for service in need_log {
        health
            .set_service_status(service, status(ability == Ability::Everything))
            .await;
    }
    for service in need_nothing {
        health
            .set_service_status(service, status(ability != Ability::Nothing))
            .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_watch_gets_a_message_only_when_its_status_changes() {
        let health = HealthReporter::new();
        set(&health, true).await;
        let service = HealthService::from_health_reporter(health.clone());
        let request = HealthCheckRequest::default();
        let watch = service.watch(Request::new(request)).await.unwrap();
        let mut watch = watch.into_inner();
        assert!(watch.next().now_or_never().is_some(), "as it is");

        let (is_ready, asked) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicUsize::new(0)),
        );
        let is_log_ready = {
            let (is_ready, asked) = (Arc::clone(&is_ready), Arc::clone(&asked));
            move || {
                asked.fetch_add(1, Ordering::SeqCst);
                is_ready.load(Ordering::SeqCst)
            }
        };
        let asked_again = async || {
            let before = asked.load(Ordering::SeqCst);
            while asked.load(Ordering::SeqCst) < before + 5 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let stop = CancellationToken::new();
        let often = (Duration::from_millis(1), stop.clone());
        let updating = tokio::spawn(update(health, is_log_ready, true, often));
        asked_again().await;
        assert!(watch.next().now_or_never().is_none(), "nothing changed");
        is_ready.store(false, Ordering::SeqCst);
        asked_again().await;
        assert!(watch.next().now_or_never().is_some(), "it changed");
        asked_again().await;
        assert!(watch.next().now_or_never().is_none(), "once");
        stop.cancel();
        updating.await.unwrap();
    }
}
