//! What the pulls of `inbox` and `report` share: the limit of their rows, and their errors.

use crate::grpc::failure::Failure;
use crate::{
    infobip::limits::{DEFAULT_ROWS, MAX_ROWS},
    pull::PullError,
};

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Store(error) => Self::Append(error),
            PullError::Api(error) => Self::Api(error),
            PullError::Unreadable(detail) => Self::UnreadableResponse(detail),
        }
    }
}

/// Checks the `limit` of a pull: 1 to 1000, or 0 for the API's default.
pub(in crate::grpc) fn limit(limit: i32) -> Result<u32, Failure> {
    match limit {
        0 => Ok(DEFAULT_ROWS),
        _ if (1..=MAX_ROWS.cast_signed()).contains(&limit) => Ok(limit.unsigned_abs()),
        _ => Err(Failure::invalid(
            "limit",
            format!("must be between 1 and {MAX_ROWS}"),
        )),
    }
}
