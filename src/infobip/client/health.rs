//! The health of the API as the requests show it: logs each outage once when it begins and once when it ends.
//!
//! An API that cannot be reached is one outage. An API that answers, but refuses or fails the requests to an endpoint, is an outage
//! of that endpoint. Neighbours: [`super::Client`] notes each request here.

use std::time::{Duration, Instant};

use crate::{
    infobip::error::ApiError,
    ops::{
        metrics::Endpoint,
        outage::{Ended, Outage},
    },
};

/// A success ends an outage of these kinds only after a while, because other requests may succeed in between.
const QUIET_AFTER_DOUBT: Duration = Duration::from_secs(1);
const QUIET_AFTER_RATE_LIMIT: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Health {
    reachability: Outage,
    endpoints: [Outage; Endpoint::COUNT],
}

impl Health {
    /// Notes the outcome of a request to `base_url` that began at `began`.
    pub(super) fn note(
        &self,
        base_url: &str,
        endpoint: Endpoint,
        began: Instant,
        error: Option<&ApiError>,
    ) {
        if let Some(ApiError::NotSent { detail }) = error {
            if self.reachability.failed("unreachable", Duration::ZERO) {
                tracing::warn!(
                    base_url,
                    cause = detail,
                    "the API cannot be reached: sends wait, then fail as retryable"
                );
            }
            return;
        }
        let outage = &self.endpoints[endpoint.index()];
        match error {
            // It may not have been reached.
            Some(ApiError::InDoubt { detail, .. }) => {
                if outage.failed("in doubt", QUIET_AFTER_DOUBT) {
                    tracing::warn!(
                        base_url,
                        %endpoint,
                        cause = detail,
                        "the API fails requests: sends are looked up in its logs before they are sent again"
                    );
                }
                return;
            }
            Some(ApiError::CredentialsRefused { http_status, text }) => {
                if outage.failed("credentials", Duration::ZERO) {
                    tracing::error!(
                        base_url,
                        %endpoint,
                        http_status,
                        cause = text,
                        "the API refuses the bridge's credentials: check infobip.username and infobip.password, or \
                         infobip.api_key"
                    );
                }
            }
            Some(ApiError::RateLimited { .. }) => {
                if outage.failed("rate limit", QUIET_AFTER_RATE_LIMIT) {
                    tracing::warn!(
                        base_url,
                        %endpoint,
                        "the API's rate limit is reached (HTTP 429): requests wait; see infobip.send_requests_per_second"
                    );
                }
            }
            Some(error @ ApiError::Refused { .. }) if !error.is_about_the_request() => {
                if outage.failed("address", Duration::ZERO) {
                    tracing::warn!(
                        base_url,
                        %endpoint,
                        cause = %error,
                        "the API does not know the address: check infobip.base_url and any proxy between the bridge and the API"
                    );
                }
            }
            None | Some(_) => {
                if let Some(ended) = outage.succeeded(began) {
                    tracing::info!(
                        base_url,
                        %endpoint,
                        was = ended.cause,
                        after_s = ended.after_s(),
                        failed_requests = ended.failures,
                        "the API takes requests again"
                    );
                }
            }
        }
        if let Some(ended) = self.reachability.succeeded(began) {
            log_reached(base_url, ended);
        }
    }
}

fn log_reached(base_url: &str, ended: Ended) {
    tracing::info!(
        base_url,
        after_s = ended.after_s(),
        failed_requests = ended.failures,
        "the API is reached again"
    );
}
