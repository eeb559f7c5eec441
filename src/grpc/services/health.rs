//! `grpc.health.v1.Health`: tonic-health's service with limits, and with watches that end at shutdown.
//!
//! Invariants: a watch reports NOT_SERVING and ends when the shutdown begins, so that it does not hold it up while its client
//! reads; a service that needs the event log is SERVING only while the log can be written. Neighbours: `middleware` enforces the limits, `server`
//! runs [`update`].

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

use crate::grpc::ServiceContext;
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
/// How often the statuses are updated.
const INTERVAL: Duration = Duration::from_secs(1);

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

/// Keeps the statuses up to date until `stop`.
pub(in crate::grpc) async fn update(
    health: HealthReporter,
    context: ServiceContext,
    stop: CancellationToken,
) {
    let mut interval = tokio::time::interval(INTERVAL);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        set(&health, &context, false).await;
    }
    set(&health, &context, true).await;
}

/// Sets the status of every service.
pub(in crate::grpc) async fn set(
    health: &HealthReporter,
    context: &ServiceContext,
    stopping: bool,
) {
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
            .set_service_status(service, status(!stopping && context.log.is_ready()))
            .await;
    }
    for service in need_nothing {
        health.set_service_status(service, status(!stopping)).await;
    }
}
