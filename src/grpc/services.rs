//! The gRPC services, one file for each: decode the request, call the core, encode the response.
//!
//! Invariants: a handler answers a little before its caller's deadline; work that must not be dropped with the handler's future
//! runs in a task of its own; a caller sees only the rows of its own application, unless it may see all applications.

pub(in crate::grpc) mod account;
pub(in crate::grpc) mod admin;
pub(in crate::grpc) mod event;
pub(in crate::grpc) mod health;
pub(in crate::grpc) mod inbox;
pub(in crate::grpc) mod lookup;
pub(in crate::grpc) mod pull;
pub(in crate::grpc) mod reference;
pub(in crate::grpc) mod report;
pub(in crate::grpc) mod sms;
