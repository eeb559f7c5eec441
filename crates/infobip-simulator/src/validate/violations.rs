//! Collects the violations of a request, so that the response lists all of them.
//!
//! Neighbours: the other files of `validate` add violations.

use crate::envelope::ApiError;

/// One error with all violations of a request; `None` if the request is valid.
#[derive(Default)]
pub(super) struct Violations(pub(super) Option<ApiError>);

impl Violations {
    pub(super) fn add(&mut self, field: String, reason: &str) {
        self.0 = Some(
            self.0
                .take()
                .unwrap_or_else(ApiError::bad_request)
                .and(field, reason),
        );
    }
}
