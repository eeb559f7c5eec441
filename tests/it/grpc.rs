//! The gRPC edge over real connections: methods, fields, errors, authentication, malformed requests and slow callers.

mod auth;
mod compression;
mod connections;
mod details;
mod every_method;
mod fields;
mod fuzz;
mod hostile;
mod methods;
mod overload;
mod slow;
mod tenants;
mod traceparent;
