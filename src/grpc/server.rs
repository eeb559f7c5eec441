//! The gRPC server: bound eagerly, hardened against idle and greedy clients, drained under a deadline.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::Sleep,
};
use tokio_util::sync::{CancellationToken, PollSemaphore};
use tonic::transport::{
    Server, ServerTlsConfig,
    server::{Connected, TcpConnectInfo},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    Context,
    account::Account,
    admin::Admin,
    auth::{AuthLayer, Authenticator, TokensFileError},
    calls::CallsLayer,
    event::Events,
    inbox::Inbox,
    lookup::Lookup,
    reference::Reference,
    report::Reports,
    services::Services,
    sms::Sms,
    tls::server_tls,
};
use crate::{
    config::{self, ConfigErrors},
    ops::open_files,
    proto::{self, v1},
};

/// How long accepting rests after it failed, as it does where no more files may be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Files that connections leave to the rest of the process: the event log, the API's connections, the other ports.
const OTHER_FILES: usize = 256;
/// The bytes that every HTTP/2 connection begins with, "PRI * HTTP/2.0…" (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
/// How often health is brought up to date.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port can't be had.
    #[error(
        "can't listen on {address} ({key}): {source}; stop the process that has the port, or set {key} to another address"
    )]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The key that says so.
        key: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The files of TLS.
    #[error(transparent)]
    Tls(#[from] ConfigErrors),
    /// The file of the tokens.
    #[error(transparent)]
    Tokens(#[from] TokensFileError),
    /// Reflection or the transport can't be set up, or accepting failed.
    #[error("the gRPC server ended: {0}")]
    Transport(String),
}

/// Binds a port, eagerly, so that a taken one ends the process before anything else starts.
///
/// # Errors
/// [`ServeError::Bind`] names the address, the key and the remedy.
pub async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Bind {
            address,
            key,
            source,
        })
}

/// The server with its port bound.
pub struct GrpcServer {
    listener: TcpListener,
    config: config::Grpc,
    tls: Option<ServerTlsConfig>,
    authenticator: Arc<Authenticator>,
}

impl GrpcServer {
    /// Reads the files of TLS and tokens, and binds `grpc.listen`.
    ///
    /// # Errors
    /// [`ServeError::Tls`], [`ServeError::Tokens`], [`ServeError::Bind`].
    pub async fn bind(
        config: &config::Grpc,
        applications: &BTreeMap<String, config::Application>,
    ) -> Result<Self, ServeError> {
        let tls = server_tls(config)?;
        let authenticator = Arc::new(Authenticator::new(config, applications)?);
        let listener = bind(config.listen, "grpc.listen").await?;
        Ok(Self {
            listener,
            config: config.clone(),
            tls,
            authenticator,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`; then takes no new calls and waits for those under way.
    ///
    /// # Errors
    /// [`ServeError::Transport`].
    pub async fn serve(self, context: Context, stop: CancellationToken) -> Result<(), ServeError> {
        let limit = self.config.max_message_bytes;
        macro_rules! limited {
            ($server:ident :: $service:ident, $implementation:expr) => {
                v1::$server::$service::new($implementation).max_decoding_message_size(limit)
            };
        }
        let (health, health_service) = tonic_health::server::health_reporter();
        // Before the first call can ask.
        set_health(&health, &context, false).await;
        let mut server = self.builder();
        if let Some(tls) = self.tls {
            let failed = |error: tonic::transport::Error| ServeError::Transport(error.to_string());
            server = server.tls_config(tls).map_err(failed)?;
        }
        let mut services = Services::default()
            .with(health_service.max_decoding_message_size(limit))
            .with(limited!(
                sms_service_server::SmsServiceServer,
                Sms(context.clone())
            ))
            .with(limited!(
                report_service_server::ReportServiceServer,
                Reports(context.clone())
            ))
            .with(limited!(
                inbox_service_server::InboxServiceServer,
                Inbox(context.clone())
            ))
            .with(limited!(
                lookup_service_server::LookupServiceServer,
                Lookup(context.clone())
            ))
            .with(limited!(
                event_service_server::EventServiceServer,
                Events(context.clone())
            ))
            .with(limited!(
                reference_service_server::ReferenceServiceServer,
                Reference
            ))
            .with(limited!(
                account_service_server::AccountServiceServer,
                Account(context.clone())
            ))
            .with(limited!(admin_service_server::AdminServiceServer, Admin));
        if self.config.reflection {
            let build = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            };
            let failed =
                |error: tonic_reflection::server::Error| ServeError::Transport(error.to_string());
            // Many tools still speak v1alpha only.
            let v1 = build().build_v1().map_err(failed)?;
            let v1alpha = build().build_v1alpha().map_err(failed)?;
            services = services
                .with(v1.max_decoding_message_size(limit))
                .with(v1alpha.max_decoding_message_size(limit));
        }
        let server = server
            .layer(CallsLayer::new(
                self.config.max_concurrent_calls,
                limit,
                context.metrics.clone(),
            ))
            .layer(AuthLayer::new(Arc::clone(&self.authenticator)));
        let mut watches = JoinSet::new();
        watches.spawn(tell_health(health, context, stop.clone()));
        watches.spawn(self.authenticator.watch(stop.clone()));
        let connections = Connections::new(
            self.listener,
            allowed_connections(self.config.max_connections),
            self.config.keepalive_timeout,
            self.config.max_connection_age + self.config.max_connection_age_grace,
        );
        let served = server
            .serve_with_incoming_shutdown(services, connections, stop.cancelled())
            .await;
        watches.shutdown().await;
        served.map_err(|error| ServeError::Transport(error.to_string()))
    }

    fn builder(&self) -> Server {
        Server::builder()
            .tcp_nodelay(true)
            .max_concurrent_streams(self.config.max_concurrent_calls_per_connection)
            .http2_keepalive_interval(Some(self.config.keepalive_interval))
            .http2_keepalive_timeout(Some(self.config.keepalive_timeout))
            .http2_max_header_list_size(16 * 1024)
            // With a grace period of its own it would cut connections without having asked them to end first.
            .max_connection_age(self.config.max_connection_age)
    }
}

/// Keeps health up to date until `stop`.
async fn tell_health(health: HealthReporter, context: Context, stop: CancellationToken) {
    let mut interval = tokio::time::interval(HEALTH_INTERVAL);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        set_health(&health, &context, false).await;
    }
    set_health(&health, &context, true).await;
}

/// Health for each service tells the truth: what needs the event log serves while that can be written.
async fn set_health(health: &HealthReporter, context: &Context, stopping: bool) {
    use v1::{
        account_service_server as account, event_service_server as event,
        inbox_service_server as inbox, lookup_service_server as lookup,
        reference_service_server as reference, report_service_server as report,
        sms_service_server as sms,
    };
    let need_the_log = [
        "",
        sms::SERVICE_NAME,
        report::SERVICE_NAME,
        inbox::SERVICE_NAME,
        event::SERVICE_NAME,
    ];
    let need_nothing = [
        lookup::SERVICE_NAME,
        reference::SERVICE_NAME,
        account::SERVICE_NAME,
    ];
    let status = |works: bool| {
        if works {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    };
    for service in need_the_log {
        health
            .set_service_status(service, status(!stopping && context.log.is_ready()))
            .await;
    }
    for service in need_nothing {
        health.set_service_status(service, status(!stopping)).await;
    }
}

/// As many connections as `grpc.max_connections` says and the files of this process allow.
fn allowed_connections(wanted: usize) -> usize {
    let Some(files) = open_files::limit() else {
        return wanted;
    };
    let allowed = files.saturating_sub(OTHER_FILES).max(1);
    if allowed < wanted {
        tracing::warn!(
            max_connections = wanted,
            open_files = files,
            allowed,
            "grpc.max_connections is more than the limit of open files allows: raise that (ulimit -n, LimitNOFILE)"
        );
    }
    wanted.min(allowed)
}

/// Accepted connections, at most so many at once: more wait in the backlog.
struct Connections {
    listener: TcpListener,
    permits: PollSemaphore,
    permit: Option<OwnedSemaphorePermit>,
    /// How long a connection may take to begin.
    first_word: Duration,
    /// How long it may live.
    lifetime: Duration,
    /// After accepting failed.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Connections {
    fn new(listener: TcpListener, most: usize, first_word: Duration, lifetime: Duration) -> Self {
        Self {
            listener,
            permits: PollSemaphore::new(Arc::new(Semaphore::new(most))),
            permit: None,
            first_word,
            lifetime,
            pause: None,
        }
    }
}

impl Stream for Connections {
    type Item = std::io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.permit.is_none() {
            self.permit = ready!(self.permits.poll_acquire(task));
        }
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(task));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(task)) {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    return Poll::Ready(Some(Ok(Connection {
                        stream,
                        bytes_to_begin: PREFACE_BYTES,
                        lifetime: self.lifetime,
                        until: Box::pin(tokio::time::sleep(self.first_word)),
                        write_is_due: false,
                        _permit: self.permit.take(),
                    })));
                }
                // One connection that failed while it was accepted: not the listener's end.
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
                    ) => {}
                // The process is out of files or memory: trying again at once would only burn what is left.
                Err(error) => {
                    tracing::warn!(%error, "a gRPC connection can't be accepted: waiting a little");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// A connection that gives its place back when it is dropped. It fails where it does not begin in time, as keepalive and
/// maximum age begin with its preface, and where it is still there when its lifetime is over.
///
/// A write lets the tasks that are ready go first, once: calls that were settled together, as those of one REST request
/// are, then answer in one system call rather than in one each.
struct Connection {
    stream: TcpStream,
    /// Of its preface, not read yet.
    bytes_to_begin: usize,
    lifetime: Duration,
    until: Pin<Box<Sleep>>,
    /// The others have had their turn.
    write_is_due: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Pending once before each write, at the end of the runtime's queue.
    fn let_others_go_first(&mut self, task: &TaskContext<'_>) -> Poll<()> {
        self.write_is_due = !self.write_is_due;
        if self.write_is_due {
            // What wakes itself while it runs is put behind all that is ready.
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        if self.bytes_to_begin > 0 {
            let bytes_read = buffer.filled().len() - before;
            self.bytes_to_begin = self.bytes_to_begin.saturating_sub(bytes_read);
            if self.bytes_to_begin == 0 {
                let end = tokio::time::Instant::now() + self.lifetime;
                self.until.as_mut().reset(end);
            }
        }
        if read.is_pending() {
            ready!(self.until.as_mut().poll(task));
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        ready!(self.let_others_go_first(task));
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        ready!(self.let_others_go_first(task));
        Pin::new(&mut self.stream).poll_write_vectored(task, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
