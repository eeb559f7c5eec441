//! What tonic answers before a handler has the request, put into the words of the error table.
//!
//! tonic answers a request that it can't read with a bare INTERNAL, which the gRPC documents allow, but which says to
//! whoever watches the bridge that the bridge is at fault. Every status of a handler carries details ([`failure`]), so a
//! bare one is tonic's, and its code says why. Neighbours: `calls` puts it around every call.
//!
//! [`failure`]: crate::grpc::failure

use http::{HeaderMap, header::CONTENT_TYPE};
use tonic::{Code, Status};

use crate::grpc::failure::Failure;

const DETAILS: &str = "grpc-status-details-bin";
/// tonic says with this which encodings it reads, where it refuses one.
const ACCEPTED_ENCODINGS: &str = "grpc-accept-encoding";
/// tonic's words hold a name that the caller chose at most once: more of them is of no use.
const MAX_DETAIL_CHARACTERS: usize = 300;

/// Whether a request says that it is gRPC. What does not is answered with HTTP 415 (gRPC over HTTP/2, "Requests").
pub(in crate::grpc) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.get(.."application/grpc".len())
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"))
    })
}

/// Puts tonic's own status, in headers or trailers, into our words; leaves every other.
pub(in crate::grpc) fn reword(headers: &mut HeaderMap, max_message_bytes: usize) {
    // Nearly every call ends with OK: nothing is to be put together for it.
    let is_fine = headers
        .get(Status::GRPC_STATUS)
        .is_none_or(|code| code == "0");
    if is_fine || headers.contains_key(DETAILS) {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    let detail = || {
        // prost names a field as Rust writes it.
        let words = status.message().replace("r#", "");
        words.chars().take(MAX_DETAIL_CHARACTERS).collect()
    };
    let failure = match status.code() {
        Code::Internal => Failure::Unreadable { detail: detail() },
        Code::OutOfRange => Failure::MessageTooLarge { max_message_bytes },
        Code::Unimplemented if headers.contains_key(ACCEPTED_ENCODINGS) => {
            Failure::EncodingUnknown { detail: detail() }
        }
        Code::Unimplemented => Failure::MethodUnknown,
        _ => return,
    };
    // Text and base64: there is nothing in it that a header can't hold.
    let _ = Status::from(failure).add_header(headers);
}
