//! The middleware between a connection and the services, from the outside in:
//!
//! 1. [`outermost`]: metrics, the concurrency limits, the caller's deadline, and [`rewrite_status`], which replaces tonic's
//!    bare errors by documented ones.
//! 2. [`super::auth`]: finds the caller, and refuses calls that it may not make.
//! 3. [`router`]: passes the call to the service that the path names.

mod call_record;
mod concurrency;
pub(in crate::grpc) mod deadline;
pub(in crate::grpc) mod outermost;
pub(in crate::grpc) mod rewrite_status;
pub(in crate::grpc) mod router;
pub(in crate::grpc) mod trace;
