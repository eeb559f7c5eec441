//! The health of the API as the requests show it: logs each outage once when it begins and once when it ends.
//!
//! An API that cannot be reached is one outage. An API that answers, but refuses or fails the requests to an endpoint, is an outage
//! of that endpoint. Neighbours: [`super::Client`] notes each request here.

use std::time::{Duration, Instant};

use crate::{
    infobip::error::{ApiError, REDIRECTED},
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
                    "the API cannot be reached: commands wait, callers get UNAVAILABLE"
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
                        "the API's rate limit is reached (HTTP 429): sends wait, and callers who read get RESOURCE_EXHAUSTED; see infobip.send_requests_per_second"
                    );
                }
            }
            Some(error @ ApiError::Refused { code, .. })
                if !error.is_about_the_request() && !is_answer(endpoint, code) =>
            {
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

/// Whether a refusal with this code is an answer of the API, such as a 404 for a bulk that does not exist. A send has none: nothing
/// in it can be unknown to the API but the address.
fn is_answer(endpoint: Endpoint, code: &str) -> bool {
    endpoint != Endpoint::Send && !code.is_empty() && code != REDIRECTED
}

fn log_reached(base_url: &str, ended: Ended) {
    tracing::info!(
        base_url,
        after_s = ended.after_s(),
        failed_requests = ended.failures,
        "the API is reached again"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_outage(endpoint: Endpoint, http_status: u16, code: &str) -> bool {
        let health = Health::default();
        let error = ApiError::Refused {
            http_status,
            code: code.to_owned(),
            text: String::new(),
            validation_errors: Vec::new(),
        };
        health.note("http://api", endpoint, Instant::now(), Some(&error));
        let ended = health.endpoints[endpoint.index()].succeeded(Instant::now());
        ended.is_some()
    }

    #[test]
    fn a_refusal_with_the_envelope_of_the_api_is_an_answer() {
        for (endpoint, http_status, code, expected) in [
            (Endpoint::Bulks, 404, "NOT_FOUND", false),
            (Endpoint::Bulks, 404, "", true),
            (Endpoint::Bulks, 301, "REDIRECTED", true),
            (Endpoint::Send, 404, "NOT_FOUND", true),
            (Endpoint::Send, 400, "BAD_REQUEST", false),
        ] {
            let found = is_outage(endpoint, http_status, code);
            assert_eq!(found, expected, "{endpoint} {http_status} {code}");
        }
    }
}
