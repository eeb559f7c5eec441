//! The series that exist at 0 from the start, because an alert rule of docs/OPERATIONS.md reads them.
//!
//! Prometheus computes no `increase` for a series that begins with its first count, so the first event would raise no alert.

use super::{
    Classification, Endpoint, Inner, LookupOutcome, ReloadedFiles, SendOutcome, Webhook,
    WebhookResult,
    labels::{
        DeadLetterLabels, FilesLabel, LookupLabel, OutcomeLabel, RequestLabels, WebhookLabels,
    },
};
use crate::message::reason::Reason;

/// The reasons for which a command becomes a dead letter (docs/ERRORS.md#commands-from-the-broker).
pub(super) const DEAD_LETTER_REASONS: [Reason; 13] = [
    Reason::InvalidRequest,
    Reason::IdReused,
    Reason::InvalidApplication,
    Reason::InvalidRequestId,
    Reason::UnknownType,
    Reason::UnreadableRequest,
    Reason::UnsupportedEncoding,
    Reason::MessageTooLarge,
    Reason::Unroutable,
    Reason::ApiRefused,
    Reason::AttemptLimit,
    Reason::DeliveryLimit,
    Reason::Returned,
];

impl Inner {
    pub(super) fn create_initial_series(&self) {
        for outcome in SendOutcome::ALL {
            drop(self.send_results.get_or_create(&OutcomeLabel { outcome }));
        }
        for outcome in LookupOutcome::ALL {
            drop(self.lookup_results.get_or_create(&LookupLabel { outcome }));
        }
        let request = |endpoint, classification| {
            let labels = RequestLabels {
                endpoint,
                classification,
            };
            drop(self.requests.get_or_create(&labels));
        };
        for endpoint in Endpoint::ALL {
            request(endpoint, Classification::CredentialsRefused);
        }
        for classification in [Classification::NotSent, Classification::InDoubt] {
            request(Endpoint::Send, classification);
        }
        for endpoint in Webhook::ALL {
            for result in [
                WebhookResult::Quarantined,
                WebhookResult::Unavailable,
                WebhookResult::Refused,
            ] {
                let labels = WebhookLabels { endpoint, result };
                drop(self.webhook_bodies.get_or_create(&labels));
            }
        }
        for reason in DEAD_LETTER_REASONS {
            drop(
                self.dead_letters
                    .get_or_create(&DeadLetterLabels::of(reason)),
            );
        }
        for files in ReloadedFiles::ALL {
            drop(self.reload_failures.get_or_create(&FilesLabel { files }));
        }
    }
}
