//! Collects the violations of a request, so that the response lists all of them. The other files of `validate` add to it.

use crate::envelope::ApiError;

/// Collects all violations of a request in one error.
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
