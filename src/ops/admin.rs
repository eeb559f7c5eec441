//! The HTTP server on `admin.listen`: `/live`, `/ready`, `/metrics`.
//!
//! Invariants: `/live` depends on nothing outside, and fails only if a task of the process panicked; the server keeps answering while the process drains, so that load balancers see
//! `/ready` fail; it ends after its own token is cancelled, even if a client keeps its connection open.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    http_server::{self, Limits},
    metrics::Metrics,
    readiness::Readiness,
};

/// Limits for clients: probes and scrapes are few, short, and come from inside. Each has a connection of its own, so that clients
/// that keep theirs do not keep probes waiting.
pub const LIMITS: Limits = Limits {
    max_connections: 64,
    keep_alive: false,
    header_timeout: Duration::from_secs(10),
    request_timeout: Duration::from_secs(1),
};
/// The media type of OpenMetrics' text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `stop` is cancelled. Cancel it last, after everything else has drained.
pub async fn serve(
    listener: TcpListener,
    limits: Limits,
    readiness: Readiness,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(scrape))
        .with_state((readiness, metrics));
    http_server::serve(listener, router, limits, stop).await;
}

async fn live(State((_, metrics)): State<(Readiness, Metrics)>) -> Response {
    match metrics.tasks().first() {
        None => "live\n".into_response(),
        Some(task) => {
            let dead = format!("not live\na task panicked: {task}\n");
            (StatusCode::SERVICE_UNAVAILABLE, dead).into_response()
        }
    }
}

async fn ready(State((readiness, _)): State<(Readiness, Metrics)>) -> Response {
    let missing = readiness.unmet();
    let (status, first) = match missing.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let mut lines = vec![first.to_owned()];
    lines.extend(missing);
    lines.extend(readiness.remarks());
    (status, lines.join("\n") + "\n").into_response()
}

async fn scrape(State((_, metrics)): State<(Readiness, Metrics)>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot encode the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        task::JoinHandle,
        time::timeout,
    };

    use super::*;

    struct Admin {
        address: SocketAddr,
        readiness: Readiness,
        metrics: Metrics,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    async fn admin() -> Admin {
        admin_with(LIMITS).await
    }

    async fn admin_with(limits: Limits) -> Admin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (readiness, metrics) = (Readiness::new(), Metrics::new());
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(
            listener,
            limits,
            readiness.clone(),
            metrics.clone(),
            stop.clone(),
        ));
        Admin {
            address,
            readiness,
            metrics,
            stop,
            task,
        }
    }

    /// Returns the response, head and body.
    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn ready_names_unmet_conditions_and_live_ignores_them() {
        let admin = admin().await;
        let is_connected = Arc::new(AtomicBool::new(false));
        admin.readiness.probe("broker", {
            let is_connected = Arc::clone(&is_connected);
            move || (!is_connected.load(Ordering::Relaxed)).then(|| "no connection".to_owned())
        });
        let response = get(admin.address, "/ready").await;
        assert!(response.starts_with("HTTP/1.1 503"), "{response}");
        assert!(response.ends_with("broker: no connection\n"), "{response}");
        let response = get(admin.address, "/live").await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        is_connected.store(true, Ordering::Relaxed);
        let response = get(admin.address, "/ready").await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        admin.readiness.end();
        let response = get(admin.address, "/ready").await;
        assert!(response.starts_with("HTTP/1.1 503"), "{response}");
        let response = get(admin.address, "/elsewhere").await;
        assert!(response.starts_with("HTTP/1.1 404"), "{response}");
    }

    /// The shutdown that follows may hang because of it.
    #[tokio::test]
    async fn a_process_whose_task_panicked_is_not_live() {
        let admin = admin().await;
        let task = async { panic!("a mistake") };
        let task = admin.metrics.tasks().watch("dispatcher", task);
        assert!(tokio::spawn(task).await.unwrap_err().is_panic());
        let response = get(admin.address, "/live").await;
        assert!(response.starts_with("HTTP/1.1 503"), "{response}");
        assert!(response.ends_with("panicked: dispatcher\n"), "{response}");
    }

    #[tokio::test]
    async fn metrics_are_scraped() {
        let admin = admin().await;
        admin.metrics.amqp_reconnected();
        let response = get(admin.address, "/metrics").await;
        assert!(response.contains(OPEN_METRICS), "{response}");
        assert!(
            response.contains("\nsmsbridge_amqp_reconnects_total 1\n"),
            "{response}"
        );
        assert!(response.ends_with("# EOF\n"), "{response}");
    }

    #[tokio::test]
    async fn a_hanging_client_does_not_delay_shutdown() {
        let admin = admin().await;
        let mut stuck = TcpStream::connect(admin.address).await.unwrap();
        stuck.write_all(b"GET /live HTTP/1.1\r\n").await.unwrap();
        // Connections are accepted in order, so an answer on a later one shows that this one has been accepted.
        get(admin.address, "/live").await;
        admin.stop.cancel();
        let ended = timeout(Duration::from_secs(30), admin.task).await;
        ended.unwrap().unwrap();
        assert!(TcpStream::connect(admin.address).await.is_err());
    }

    #[tokio::test]
    async fn silent_clients_are_closed_and_do_not_delay_probes() {
        let admin = admin_with(Limits {
            max_connections: 2,
            header_timeout: Duration::from_millis(200),
            ..LIMITS
        })
        .await;
        let mut silent = [
            TcpStream::connect(admin.address).await.unwrap(),
            TcpStream::connect(admin.address).await.unwrap(),
        ];
        silent[1].write_all(b"GET /live HTT").await.unwrap();
        let response = timeout(Duration::from_secs(30), get(admin.address, "/live")).await;
        assert!(response.unwrap().starts_with("HTTP/1.1 200"));
        for stream in &mut silent {
            let mut rest = Vec::new();
            let ended = timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
            ended.expect("it is closed").unwrap();
        }
    }

    #[tokio::test]
    async fn clients_that_keep_their_connections_keep_no_probe_waiting() {
        let admin = admin_with(Limits {
            max_connections: 2,
            header_timeout: Duration::from_secs(300),
            ..LIMITS
        })
        .await;
        let mut kept = Vec::new();
        for path in ["/live", "/elsewhere"] {
            let mut stream = TcpStream::connect(admin.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_exact(&mut [0; 12]).await.unwrap();
            kept.push(stream);
        }
        let response = timeout(Duration::from_secs(30), get(admin.address, "/live")).await;
        assert!(response.unwrap().starts_with("HTTP/1.1 200"));
    }
}
