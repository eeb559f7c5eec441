//! Binds the ports of the bridge. A port that is taken ends the process before anything else starts.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// A port that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key}): {source}; {}", remedy(.source, .key))]
pub struct BindError {
    address: SocketAddr,
    /// The configuration key of the address.
    key: &'static str,
    source: io::Error,
}

fn remedy(source: &io::Error, key: &str) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!("stop the process that has the port, or set {key} to another address")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("no interface of this machine has the address: set {key} to one that it has")
        }
        io::ErrorKind::PermissionDenied => {
            format!("this process may not use the port: set {key} to a port from 1024 on")
        }
        _ => format!("set {key} to another address"),
    }
}

/// Binds the address of a configuration key.
///
/// # Errors
/// [`BindError`], which names the address, the key and the remedy.
pub async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError {
            address,
            key,
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_cause_has_its_remedy() {
        let taken = bind(([127, 0, 0, 1], 0).into(), "grpc.listen")
            .await
            .unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, "grpc.listen").await.unwrap_err().to_string();
        assert!(
            error.contains("stop the process that has the port"),
            "{error}"
        );
        // TEST-NET-1 (RFC 5737).
        let foreign = ([192, 0, 2, 1], 0).into();
        let error = bind(foreign, "grpc.listen").await.unwrap_err().to_string();
        assert!(error.contains("no interface of this machine"), "{error}");
    }
}
