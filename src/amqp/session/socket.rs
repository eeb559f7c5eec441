//! The socket of a connection, to end it where lapin does not: its thread waits without a limit for a broker that does not answer
//! the handshake or the close, and keeps the socket and megabytes of buffers.
//!
//! Invariant: a socket that was ended is never used again. Neighbours: `session` ends the sockets of connections that cannot be
//! opened or closed in time.

use std::{net::Shutdown, os::fd::AsFd as _, sync::Arc};

use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    tcp::{AMQPUriTcpExt as _, OwnedIdentity, OwnedTLSConfig},
    uri::AMQPUri,
};
use parking_lot::Mutex;

use crate::config::tls::BrokerTls;

/// Cheap to clone; clones are the same socket.
#[derive(Clone, Default)]
pub(super) struct Socket(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    Unconnected,
    /// A duplicate of the descriptor that lapin uses.
    Connected(std::net::TcpStream),
    Ended,
}

impl Socket {
    /// Like [`Connection::connect_uri`], over this socket.
    pub(super) async fn connect(
        &self,
        uri: AMQPUri,
        properties: ConnectionProperties,
        tls: BrokerTls,
    ) -> lapin::Result<Connection> {
        let runtime = lapin::runtime::default_runtime()?;
        let (socket, on) = (self.clone(), runtime.clone());
        let BrokerTls { ca, cert_and_key } = tls;
        let tls = OwnedTLSConfig {
            identity: cert_and_key.map(|(pem, key)| OwnedIdentity::PKCS8 { pem, key }),
            cert_chain: ca,
        };
        let connect = async move |uri: AMQPUri, _| {
            let stream = uri.connect_with_config_async(tls.as_ref(), &on).await?;
            let tcp = match &stream {
                AsyncTcpStream::Plain(tcp) => tcp.get_ref(),
                AsyncTcpStream::Rustls(tls) => tls.get_ref().0.get_ref(),
                // lapin makes only these two.
                _ => return Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into()),
            };
            socket.connected(tcp.as_fd().try_clone_to_owned()?.into())?;
            Ok(stream)
        };
        Connection::connector(uri, runtime, connect, properties).await
    }

    fn connected(&self, stream: std::net::TcpStream) -> std::io::Result<()> {
        let mut state = self.0.lock();
        if matches!(*state, State::Ended) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        *state = State::Connected(stream);
        Ok(())
    }

    /// Ends the connection without a word to the broker: lapin notices it and frees what it holds.
    pub(super) fn end(&self) {
        let state = std::mem::replace(&mut *self.0.lock(), State::Ended);
        if let State::Connected(stream) = state {
            // Fails if the peer has closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Ends the socket when it is dropped, unless it was kept.
pub(super) struct EndOnDrop(Option<Socket>);

impl EndOnDrop {
    pub(super) fn new(socket: &Socket) -> Self {
        Self(Some(socket.clone()))
    }

    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            socket.end();
        }
    }
}
