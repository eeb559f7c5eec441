//! Replaces the errors that tonic returns before a handler has the request by those of the error table ([`failure`]).
//!
//! tonic rejects an undecodable request with INTERNAL and no details. The gRPC documents allow that, but it looks like a fault
//! of the bridge. Every status of a handler carries details, so a status without details is tonic's, and its code tells the
//! cause. Neighbours: `outermost` and `call_record` apply it to the headers and trailers of every response.
//!
//! [`failure`]: crate::grpc::failure

use http::{HeaderMap, header::CONTENT_TYPE};
use tonic::{Code, Status};

use crate::grpc::failure::Failure;

const DETAILS: &str = "grpc-status-details-bin";
/// tonic sets this header when it rejects the compression of a request.
const ACCEPTED_ENCODINGS: &str = "grpc-accept-encoding";
/// tonic's messages may quote a name that the caller chose: longer ones are cut.
const MAX_DETAIL_CHARACTERS: usize = 300;

/// Whether the content type is gRPC's. Other requests are answered with HTTP 415 (gRPC over HTTP/2, "Requests").
pub(in crate::grpc) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.get(.."application/grpc".len())
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"))
    })
}

/// Rewrites a status of tonic's own in headers or trailers; leaves every other.
pub(in crate::grpc) fn rewrite(headers: &mut HeaderMap, max_message_bytes: usize) {
    // Fast path: nearly every call ends with OK.
    let is_ok = headers
        .get(Status::GRPC_STATUS)
        .is_none_or(|code| code == "0");
    if is_ok || headers.contains_key(DETAILS) {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    let detail = || {
        // prost writes field names as Rust identifiers.
        let message = status.message().replace("r#", "");
        message.chars().take(MAX_DETAIL_CHARACTERS).collect()
    };
    let failure = match status.code() {
        Code::Internal => Failure::UnreadableRequest { detail: detail() },
        // The message as it was sent, or unpacked.
        Code::OutOfRange | Code::ResourceExhausted => {
            Failure::MessageTooLarge { max_message_bytes }
        }
        Code::Unimplemented if headers.contains_key(ACCEPTED_ENCODINGS) => {
            Failure::UnsupportedEncoding { detail: detail() }
        }
        Code::Unimplemented => Failure::MethodUnknown,
        _ => return,
    };
    // Cannot fail: a status is percent-encoded text and base64.
    let _ = Status::from(failure).add_header(headers);
}
