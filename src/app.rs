//! The composition root: configuration → parts wired together, sockets bound → run → drain.
//!
//! Invariants: every port is bound and every folder opened before anything runs; the process serves until it is told to
//! stop, then drains in the order of P8 (docs/RELIABILITY.md#p8-shutdown-loses-nothing): readiness falls, intake stops, what is
//! in flight finishes, results become durable, the log is closed. Neighbours: knows all; `cli::serve` and `cli::demo` run it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    amqp::{AmqpError, Endpoint, Publisher, Topology},
    commands::{self, Commands},
    config::{self, Config, Engine},
    events::{
        SharedEventLog,
        broker::BrokerLog,
        embedded::{EmbeddedLog, OpenError},
        subscription::Subscriptions,
    },
    grpc::{self, GrpcServer, ServeError},
    infobip::{
        Client, ClientBuildError,
        pacing::{LogQuota, SendPace},
    },
    intake::Intake,
    ops::{self, metrics::Metrics, readiness::Readiness},
    send::{Api, SendCore, guards::Guards},
    webhooks,
};

/// Why the bridge did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A port, or the gRPC server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The event log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The broker's address.
    #[error(transparent)]
    Amqp(#[from] AmqpError),
    /// The client of the API.
    #[error(transparent)]
    Client(#[from] ClientBuildError),
    /// A task of the process ended unexpectedly.
    #[error("a part of the bridge ended unexpectedly: {0}; please report this")]
    Task(String),
    /// An address can't be read back.
    #[error("can't read the address of a bound port: {0}")]
    Address(std::io::Error),
}

/// The broker, where one is configured.
struct Broker {
    endpoint: Endpoint,
    topology: Topology,
    publisher: Arc<Publisher>,
    confirm_timeout: Duration,
}

impl Broker {
    /// Begins to connect; a broker that is down is waited for.
    fn configured(config: &config::Amqp, metrics: &Metrics) -> Result<Option<Self>, AmqpError> {
        let Some(url) = &config.url else {
            return Ok(None);
        };
        let endpoint = Endpoint::parse(url)?;
        let topology = Topology::new(config);
        let confirm_timeout = config.confirm_timeout;
        let publisher = Publisher::start(
            endpoint.clone(),
            topology.clone(),
            confirm_timeout,
            metrics.clone(),
        );
        Ok(Some(Self {
            endpoint,
            topology,
            publisher: Arc::new(publisher),
            confirm_timeout,
        }))
    }

    fn event_log(&self, metrics: Metrics) -> SharedEventLog {
        Arc::new(BrokerLog::new(
            Arc::clone(&self.publisher),
            self.endpoint.clone(),
            self.topology.clone(),
            self.confirm_timeout,
            metrics,
        ))
    }
}

impl AppError {
    /// Whether a file that the configuration names is wrong.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Serve(ServeError::Tls(_) | ServeError::Tokens(_))
        )
    }
}

/// Where a bridge listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// What Infobip calls.
    pub http: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
}

/// A bridge, wired, with its ports bound.
pub struct App {
    config: Config,
    addresses: Addresses,
    grpc: GrpcServer,
    http: TcpListener,
    admin: TcpListener,
    log: SharedEventLog,
    broker: Option<Broker>,
    client: Client,
    metrics: Metrics,
}

impl App {
    /// Binds the ports and opens the event log. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`AppError`]: one clear message that names the key or the address and the remedy.
    pub async fn bind(config: Config) -> Result<Self, AppError> {
        ops::open_files::raise_limit();
        let other_connections = config.http.max_connections + ops::admin::LIMITS.max_connections;
        let grpc = GrpcServer::bind(&config.grpc, &config.applications, other_connections).await?;
        let http = grpc::bind(config.http.listen, "http.listen").await?;
        let admin = grpc::bind(config.admin.listen, "admin.listen").await?;
        let addresses = Addresses {
            grpc: grpc.local_addr().map_err(AppError::Address)?,
            http: http.local_addr().map_err(AppError::Address)?,
            admin: admin.local_addr().map_err(AppError::Address)?,
        };
        let metrics = Metrics::new();
        let client = Client::new(&config.infobip, metrics.clone())?;
        let broker = Broker::configured(&config.amqp, &metrics)?;
        let log: SharedEventLog = match &broker {
            Some(broker) if config.events.engine != Engine::Embedded => {
                broker.event_log(metrics.clone())
            }
            _ => Arc::new(EmbeddedLog::open(
                &config.events.data_dir,
                config.events.retention,
                metrics.clone(),
            )?),
        };
        Ok(Self {
            config,
            addresses,
            grpc,
            http,
            admin,
            log,
            broker,
            client,
            metrics,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown`, then drains within `shutdown.grace`.
    ///
    /// # Errors
    /// [`AppError`] where a server ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AppError> {
        let Self {
            config,
            addresses,
            grpc,
            http,
            admin,
            log,
            broker,
            client,
            metrics,
        } = self;
        let pushed_to = |endpoint: &str| {
            let url = config.http.public_url.as_deref()?.trim_end_matches('/');
            // Port 0 is the port that `http.listen` got: a laptop's or a test's.
            let url = match url.strip_suffix(":0") {
                Some(host) => format!("{host}:{}", addresses.http.port()),
                None => url.to_owned(),
            };
            Some(format!(
                "{url}/infobip/{}/{endpoint}",
                config.http.path_secret()
            ))
        };
        let log_quota = Arc::new(LogQuota::new(config.infobip.log_requests_per_minute));
        let sender = SendCore::start(
            &config.send,
            config.infobip.request_timeout,
            pushed_to("reports"),
            Guards::new(&config.applications, std::time::Instant::now()),
            Api {
                client: client.clone(),
                pace: SendPace::new(config.infobip.send_requests_per_second),
                log_quota: Arc::clone(&log_quota),
            },
            Arc::clone(&log),
            metrics.clone(),
        );
        let intake = Intake::new(Arc::clone(&log), &config.applications);
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let context = grpc::Context {
            sender: sender.clone(),
            log: Arc::clone(&log),
            client,
            log_quota,
            intake: intake.clone(),
            subscriptions: Subscriptions::new(Arc::clone(&log), tasks.clone(), closing.clone()),
            lookups_url: pushed_to("lookups"),
            metrics: metrics.clone(),
            closing: closing.clone(),
            tasks: tasks.clone(),
        };

        // Infobip is heard until the last moment: its reports must not wait for a retry that we can spare it.
        let consuming = broker.as_ref().map(|broker| {
            let commands = Commands {
                endpoint: broker.endpoint.clone(),
                topology: broker.topology.clone(),
                publisher: Arc::clone(&broker.publisher),
                sender: Arc::new(sender.clone()),
                log: Arc::clone(&log),
                application_from: config.amqp.application_from,
                prefetch: config.amqp.prefetch,
            };
            tokio::spawn(commands::run(commands, closing.clone()))
        });
        let stop_http = CancellationToken::new();
        let http_config = config.http.clone();
        let mut servers = JoinSet::new();
        servers.spawn({
            let stop = closing.clone();
            async move { grpc.serve(context, stop).await.map_err(AppError::from) }
        });
        servers.spawn({
            let stop = stop_http.clone();
            let metrics = metrics.clone();
            async move {
                webhooks::serve(http, &http_config, intake, metrics, stop).await;
                Ok(())
            }
        });
        let readiness = Readiness::new();
        readiness.probe("event log", {
            let log = Arc::clone(&log);
            move || (!log.is_ready()).then(|| "it can't be written".to_owned())
        });
        let stop_admin = CancellationToken::new();
        let admin = tokio::spawn(ops::admin::serve(
            admin,
            ops::admin::LIMITS,
            readiness.clone(),
            metrics,
            stop_admin.clone(),
        ));
        tracing::info!(grpc = %addresses.grpc, http = %addresses.http, admin = %addresses.admin, "listening");

        // Whichever comes first: the wish to stop, or a server that can't go on.
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            Some(ended) = servers.join_next() => ended.unwrap_or_else(|error| Err(AppError::Task(error.to_string()))),
        };

        let grace = config.shutdown.grace;
        tracing::info!(
            grace_s = grace.as_secs_f32(),
            "stopping: what is in flight finishes"
        );
        let deadline = Instant::now() + grace;
        readiness.end();
        closing.cancel();
        sender.drain(deadline).await;
        if let Some(consuming) = consuming {
            // Acknowledgements follow the results.
            if tokio::time::timeout_at(deadline, consuming).await.is_err() {
                tracing::warn!(
                    "commands were still under way at the end of the grace period: the broker delivers them again"
                );
            }
        }
        tasks.close();
        let _ = tokio::time::timeout_at(deadline, tasks.wait()).await;
        stop_http.cancel();
        // All answers are out; what a client still holds open ends with the grace period.
        let all_ended = async { while servers.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, all_ended).await.is_err() {
            tracing::warn!("connections were still open at the end of the grace period");
            servers.shutdown().await;
        }
        log.close().await;
        if let Some(broker) = broker {
            broker.publisher.close().await;
        }
        // Probes are answered to the end.
        stop_admin.cancel();
        let _ = admin.await;
        tracing::info!("stopped");
        ended
    }
}
