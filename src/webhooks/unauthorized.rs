//! Limits the warnings about unauthorized pushes: anyone can send them, but after a change of the configuration they are Infobip's.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::ops::metrics::Webhook;

/// The shortest time between two warnings of one cause.
const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct UnauthorizedPushes {
    credentials: Mutex<State>,
    signature: Mutex<State>,
    network: Mutex<State>,
}

/// Why a push is not authorized.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cause {
    /// A wrong secret or password.
    Credentials,
    /// No valid signature.
    Signature,
    /// A client that is not within the allowed networks; `None` if a proxy names none.
    Network(Option<IpAddr>),
}

#[derive(Debug, Default)]
struct State {
    last_warning: Option<Instant>,
    /// Unauthorized pushes since then.
    pushes: u64,
}

impl UnauthorizedPushes {
    /// Counts one, and warns if the last warning of its cause is old enough.
    pub(super) fn count(&self, endpoint: Webhook, cause: Cause) {
        let Some(pushes) = self.warns(cause, Instant::now()) else {
            return;
        };
        match cause {
            Cause::Credentials => tracing::warn!(
                %endpoint,
                pushes,
                "pushes with a wrong secret or password were refused: if Infobip sent them, their URL has an earlier http.secret or http.basic_password"
            ),
            Cause::Signature => tracing::warn!(
                %endpoint,
                pushes,
                "pushes without a valid signature were refused: if Infobip sent them, compare http.hmac_key, http.hmac_header, http.hmac_algorithm and http.hmac_encoding with the subscription"
            ),
            Cause::Network(Some(client)) => tracing::warn!(
                %endpoint,
                pushes,
                %client,
                "pushes of clients outside of http.allowed_networks were refused: if Infobip sent them, add its network; if the client is your proxy, add it to http.trusted_proxies"
            ),
            Cause::Network(None) => tracing::warn!(
                %endpoint,
                pushes,
                "pushes were refused because a proxy of http.trusted_proxies names no client in X-Forwarded-For"
            ),
        }
    }

    /// Counts one. The number of pushes since the last warning of this cause, if the next warning is due.
    fn warns(&self, cause: Cause, now: Instant) -> Option<u64> {
        let state = match cause {
            Cause::Credentials => &self.credentials,
            Cause::Signature => &self.signature,
            Cause::Network(_) => &self.network,
        };
        let mut state = state.lock();
        state.pushes += 1;
        if state.last_warning.is_some_and(|last| now < last + INTERVAL) {
            return None;
        }
        state.last_warning = Some(now);
        Some(std::mem::take(&mut state.pushes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unauthorized_pushes_are_warned_of_once_a_minute() {
        let pushes = UnauthorizedPushes::default();
        let began = Instant::now();
        let secret = Cause::Credentials;
        assert_eq!(pushes.warns(secret, began), Some(1));
        for second in 1..60 {
            let now = began + Duration::from_secs(second);
            assert_eq!(pushes.warns(secret, now), None);
        }
        assert_eq!(pushes.warns(secret, began + INTERVAL), Some(60));
        // Pushes of another cause do not hide them, and are not hidden by them.
        for cause in [Cause::Signature, Cause::Network(None)] {
            assert_eq!(pushes.warns(cause, began), Some(1), "{cause:?}");
        }
    }
}
