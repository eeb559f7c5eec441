//! Binds the ports of the bridge. A port that is taken ends the process before anything else starts.

use std::net::SocketAddr;

use tokio::net::TcpListener;

/// A port that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address} ({key}): {source}; stop the process that has the port, or set {key} to another address"
)]
pub struct BindError {
    address: SocketAddr,
    /// The configuration key of the address.
    key: &'static str,
    source: std::io::Error,
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
