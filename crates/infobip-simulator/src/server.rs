//! Accepts connections, serves HTTP/1 on them, and closes them when a fault requires it.
//!
//! Invariant: each connection is one task, which also runs the handlers of its requests. A handler that closes its
//! connection signals the [`ConnectionCloser`] and never returns; the task then closes the socket.
//! Neighbour: `http` handles the requests.

mod body;
mod connection;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ::http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use self::connection::ResettableStream;
use crate::{access_log::AccessLine, engine::Engine, http};

pub(crate) use self::{
    body::{HttpResponse, ResponseBody},
    connection::ConnectionCloser,
};

/// Grace period for requests in progress at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Serves until shutdown, then waits for requests in progress.
pub(crate) async fn serve(engine: &Arc<Engine>, listener: TcpListener) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = engine.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(serve_connection(engine.clone(), stream, peer));
            }
            Err(error) => {
                // Most likely out of file descriptors: pause, so that open connections can finish.
                tracing::warn!(%error, "simulator cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve_connection(engine: Arc<Engine>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "simulator connection without TCP_NODELAY");
    }
    let closer = Arc::new(ConnectionCloser::default());
    let stream = ResettableStream {
        stream,
        closer: closer.clone(),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let (engine, closer) = (engine.clone(), closer.clone());
        async move {
            let line = engine
                .config
                .access_log
                .then(|| AccessLine::begin(&request));
            let response = http::handle(&engine, &closer, request).await;
            if let Some(line) = line {
                line.end(response.status());
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "simulator connection ended");
            }
            return;
        }
        () = closer.requested() => return,
        () = engine.shutdown.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // After the grace period only a fault keeps the connection open.
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, connection).await;
}
