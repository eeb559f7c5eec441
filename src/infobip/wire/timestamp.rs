//! Writes timestamps in the format of the API, in bodies and queries.
//!
//! Invariant: always UTC with milliseconds. Neighbour: `infobip::convert` parses the timestamps that the API sends.

use std::fmt;

use serde::{Serialize, Serializer};

/// A timestamp as `2015-07-07T17:00:00.000+00:00`.
pub(in crate::infobip) struct WireTimestamp(pub(in crate::infobip) jiff::Timestamp);

impl fmt::Display for WireTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M:%S.%3f+00:00"))
    }
}

impl Serialize for WireTimestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
