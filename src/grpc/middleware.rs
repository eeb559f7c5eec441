//! What a call passes on its way from a connection to its service, from the outside in:
//!
//! 1. [`calls`]: metrics, the concurrency limit, the caller's deadline, and [`rewrite_status`], which replaces tonic's bare
//!    errors by documented ones.
//! 2. [`super::auth`]: who calls, and whether it may.
//! 3. [`router`]: the service that the path names.

pub(in crate::grpc) mod calls;
pub(in crate::grpc) mod deadline;
pub(in crate::grpc) mod rewrite_status;
pub(in crate::grpc) mod router;
