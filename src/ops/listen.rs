//! Binds the ports of the bridge. A port that is taken ends the process before anything else starts.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// A port that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address} ({key}): {source}; {}", remedy(.source, .key))]
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
            format!("set {key} to an address of this machine, such as 127.0.0.1 or 0.0.0.0")
        }
        io::ErrorKind::PermissionDenied => {
            format!("set {key} to a port above 1023, or let this process use lower ones")
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
