//! The account at the API: its client and its limits. The process has one account, which all its users share.
//!
//! Invariants: no request to the logs is made without the quota, and a 429 of the logs pauses it for all.
//! Neighbours: `app` makes it; `send` sends and looks up sends in doubt, `grpc` reads.

pub mod breaker;
pub mod outage_clock;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use self::{breaker::Breaker, outage_clock::OutageClock};
use super::{
    ApiError, ApiResponse, Client, ClientBuildError, LogsQuery,
    pacing::{LogQuota, Priority, SendPace},
};
use crate::{config, ops::metrics::Metrics};

pub struct Account {
    pub client: Client,
    /// Stops sends while the API is down.
    pub breaker: Arc<Breaker>,
    /// Stands still while sends or the logs fail.
    pub clock: Arc<OutageClock>,
    /// The rate of sends.
    pub pace: SendPace,
    log_quota: LogQuota,
    /// As configured. 0: it is counted.
    replicas: u32,
    metrics: Metrics,
}

/// Why the logs were not read.
#[derive(Debug)]
pub enum LogsError {
    /// The quota is used up, or left to sends in doubt: nothing was asked.
    QuotaExhausted {
        retry_after: Duration,
    },
    Api(ApiError),
}

impl Account {
    /// Opens no connection. `urgent_percent` is the part of the rate of sends that only urgent ones may use.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn new(
        config: &config::Infobip,
        urgent_percent: u32,
        metrics: Metrics,
    ) -> Result<Self, ClientBuildError> {
        let clock = Arc::new(OutageClock::default());
        let account = Self {
            client: Client::new(config, metrics.clone())?,
            breaker: Arc::new(Breaker::new(Arc::clone(&clock), metrics.clone())),
            clock,
            pace: SendPace::new(config, urgent_percent),
            log_quota: LogQuota::new(config.log_requests_per_minute),
            replicas: config.replicas,
            metrics,
        };
        account.share_with(config.replicas.max(1));
        Ok(account)
    }

    /// So many replicas were counted: each uses its part of the rates and of the quota. A configured number counts instead.
    pub fn counted_replicas(&self, replicas: u32) {
        if self.replicas == 0 {
            self.share_with(replicas);
        }
    }

    fn share_with(&self, replicas: u32) {
        self.metrics.replicas(replicas);
        self.pace.set_replicas(replicas);
        self.log_quota.set_replicas(replicas);
    }

    /// Reads the logs as soon as the quota allows, if that is before `latest`.
    ///
    /// # Errors
    /// [`LogsError::QuotaExhausted`] if the quota allowed no request before `latest`, else as [`Client::logs`].
    pub async fn logs(
        &self,
        query: &LogsQuery,
        priority: Priority,
        latest: Option<Instant>,
    ) -> Result<ApiResponse, LogsError> {
        let turn = self.log_quota.acquire(priority);
        match latest {
            None => turn.await,
            Some(latest) => {
                let retry_after = Duration::ZERO;
                let waited = timeout_at(latest, turn).await;
                waited.map_err(|_| LogsError::QuotaExhausted { retry_after })?;
            }
        }
        self.asked(self.client.logs(query).await)
            .map_err(LogsError::Api)
    }

    /// Reads the logs for a caller, who does not wait for the quota.
    ///
    /// # Errors
    /// [`LogsError::QuotaExhausted`] if the quota allows no request now, else as [`Client::logs`].
    pub async fn logs_now(&self, query: &LogsQuery) -> Result<ApiResponse, LogsError> {
        self.log_quota
            .try_acquire()
            .map_err(|retry_after| LogsError::QuotaExhausted { retry_after })?;
        self.asked(self.client.logs(query).await)
            .map_err(LogsError::Api)
    }

    fn asked(&self, answer: Result<ApiResponse, ApiError>) -> Result<ApiResponse, ApiError> {
        match &answer {
            Ok(_) => self.log_quota.answered(),
            Err(ApiError::RateLimited { retry_after }) => self.log_quota.rate_limited(*retry_after),
            Err(_) => {}
        }
        answer
    }
}
