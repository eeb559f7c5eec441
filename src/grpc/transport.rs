//! Connections of the gRPC server: accepting, TLS, HTTP/2, and their end at shutdown.
//!
//! Neighbours: `server` starts it with the outermost middleware, which answers the calls of each connection.

pub(in crate::grpc) mod connections;
pub(in crate::grpc) mod tls;
