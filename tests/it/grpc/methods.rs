//! One test for each gRPC method without a module of its own, over real sockets; the rows of the error table are in `errors`.

mod errors;
mod log_errors;
mod logs;
mod lookup;
mod message;
mod pulls;
mod reference;
mod server;
mod sms;
mod unresolved;

use smsbridge::grpc::auth::APPLICATION_METADATA;
use smsbridge::proto::Timestamp;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

const TO: &str = "41793026727";
const SERVICES: [&str; 8] = [
    "smsbridge.v1.SmsService",
    "smsbridge.v1.ReportService",
    "smsbridge.v1.InboxService",
    "smsbridge.v1.LookupService",
    "smsbridge.v1.EventService",
    "smsbridge.v1.ReferenceService",
    "smsbridge.v1.AccountService",
    "smsbridge.v1.AdminService",
];

/// A call that names its application.
fn by<T>(application: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(APPLICATION_METADATA, application.parse().unwrap());
    request
}

/// The code and the stable reason of an error.
fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "smsbridge");
    (status.code(), info.reason)
}

fn in_hours(hours: i64) -> Timestamp {
    Timestamp {
        seconds: jiff::Timestamp::now().as_second() + hours * 3600,
        nanos: 0,
    }
}
