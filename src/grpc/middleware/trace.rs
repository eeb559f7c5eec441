//! The caller's trace, in the metadata `traceparent` of a call.

use tonic::metadata::MetadataMap;

use crate::message::traceparent::{TRACEPARENT, Traceparent};

/// The trace of a call. An invalid one counts as none, and so do several, of which none is known to be the caller's.
pub(in crate::grpc) fn traceparent(metadata: &MetadataMap) -> Option<Traceparent> {
    let mut values = metadata.get_all(TRACEPARENT).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    Traceparent::parse(value)
}
