//! The composition root: binds the ports, opens the event log, wires the parts together, runs and drains them.
//!
//! Invariants: every port is bound before a task starts; shutdown follows P8
//! (docs/RELIABILITY.md#p8-shutdown-loses-nothing): readiness falls, new calls and commands are refused, those in flight are
//! completed, results become durable, the log is closed. Depends on all other modules; `cli::serve` and `cli::demo` run it.

mod broker;
mod dead_letters;
mod drain;
mod start_log;

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{broker::Broker, drain::Running};
use crate::{
    amqp::{AmqpError, status::Purpose},
    commands::{self, Commands},
    config::{Config, Engine},
    events::{
        Storage,
        embedded::{EmbeddedLog, OpenError, Retention},
        subscription::Subscriptions,
    },
    grpc::{GrpcServer, ServeError, ServiceContext},
    infobip::{ClientBuildError, account::Account},
    intake::Intake,
    message::applications::Applications,
    ops::{
        self,
        listen::{self, BindError},
        metrics::Metrics,
        readiness::Readiness,
    },
    pull::Pulls,
    query::Query,
    send::{SendCore, guards::Guards},
    webhooks,
};

/// Why the bridge did not start, or failed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Log(#[from] OpenError),
    #[error(transparent)]
    Amqp(#[from] AmqpError),
    #[error(transparent)]
    Client(#[from] ClientBuildError),
    #[error(
        "a task of the bridge panicked ({0}): this is a mistake of the bridge, please report it with the lines before"
    )]
    Task(String),
    #[error("cannot read the address of a bound port: {0}")]
    Address(std::io::Error),
}

impl AppError {
    /// Whether the error is in a file that the configuration names.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Serve(ServeError::Tls(_) | ServeError::Tokens(_))
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub grpc: SocketAddr,
    /// Webhooks.
    pub http: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
}

/// A bridge with its ports bound and its event log open.
pub struct App {
    config: Config,
    addresses: Addresses,
    grpc: GrpcServer,
    http: TcpListener,
    admin: TcpListener,
    storage: Storage,
    broker: Option<Broker>,
    account: Arc<Account>,
    applications: Applications,
    metrics: Metrics,
}

impl App {
    /// Binds the ports and opens the event log. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`AppError`], which names the key or the address, and the remedy.
    pub async fn bind(config: Config) -> Result<Self, AppError> {
        ops::open_files::raise_limit();
        let other_connections = config.http.max_connections + ops::admin::LIMITS.max_connections;
        let applications = Applications::new(config.applications.keys());
        let grpc = GrpcServer::bind(
            &config.grpc,
            &config.applications,
            applications.clone(),
            other_connections,
        )
        .await?;
        let http = listen::bind(config.http.listen, "http.listen").await?;
        let admin = listen::bind(config.admin.listen, "admin.listen").await?;
        let addresses = Addresses {
            grpc: grpc.local_addr().map_err(AppError::Address)?,
            http: http.local_addr().map_err(AppError::Address)?,
            admin: admin.local_addr().map_err(AppError::Address)?,
        };
        let metrics = Metrics::new();
        let account = Account::new(&config.infobip, config.send.urgent_percent, metrics.clone())?;
        let broker = Broker::configured(&config.amqp, &metrics)?;
        start_log::log(&config, addresses, broker.as_ref(), grpc.tokens());
        if let Some(broker) = &broker {
            broker.first_attempt().await;
        }
        let storage = match &broker {
            Some(broker) if config.engine() != Engine::Embedded => {
                if let Some(responses) = EmbeddedLog::left_over(&config.events.data_dir) {
                    tracing::warn!(
                        responses,
                        folder = %config.events.data_dir.display(),
                        "responses of pulls wait in the embedded log, but events.engine uses the broker: their rows become events only while \
                         the bridge runs with events.engine = \"embedded\" on this folder"
                    );
                }
                broker.storage(config.events.encoding, metrics.clone())
            }
            _ => {
                let events = &config.events;
                let retention = Retention {
                    age: events.retention,
                    bytes: Some(events.max_bytes).filter(|bytes| *bytes > 0),
                };
                EmbeddedLog::open(&events.data_dir, retention, metrics.clone())?.storage()
            }
        };
        Ok(Self {
            config,
            addresses,
            grpc,
            http,
            admin,
            storage,
            broker,
            account: Arc::new(account),
            applications,
            metrics,
        })
    }

    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown`, then drains within `shutdown.grace`.
    ///
    /// # Errors
    /// [`AppError`] if a server fails, or a task panics without which the process cannot do its work: who started the process shall start
    /// it again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AppError> {
        let grace = self.config.shutdown.grace;
        let watch = self.metrics.tasks().clone();
        let mut running = self.start();
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            Some(ended) = running.servers.join_next() => ended.unwrap_or_else(|error| Err(AppError::Task(error.to_string()))),
            task = watch.panicked() => {
                tracing::error!(task, "a task of the bridge panicked: the process ends, so that it is started again");
                Ok(())
            }
        };
        tracing::info!(
            grace_s = grace.as_secs_f32(),
            "stopping: requests in flight are completed"
        );
        running.drain(Instant::now() + grace).await;
        tracing::info!("stopped");
        // Also one that panicked while the others ended.
        match watch.first() {
            Some(task) => Err(AppError::Task(task.to_owned())),
            None => ended,
        }
    }

    /// Wires the parts together and spawns their tasks.
    fn start(self) -> Running {
        let Self {
            config,
            addresses,
            grpc,
            http,
            admin,
            storage,
            broker,
            account,
            applications,
            metrics,
        } = self;
        let log = Arc::clone(&storage.log);
        let push_url = |endpoint| config.http.push_url(endpoint, addresses.http.port());
        let sender = SendCore::start(
            &config.send,
            &config.infobip,
            push_url("reports"),
            Guards::new(&config.applications, std::time::Instant::now()),
            Arc::clone(&account),
            &storage,
            metrics.clone(),
        );
        let intake = Intake::new(
            Arc::clone(&log),
            storage.quarantine,
            &config.applications,
            applications.clone(),
        );
        let (pulls, pull_worker) = Pulls::start(
            Arc::clone(&account),
            intake.clone(),
            Arc::clone(&log),
            storage.raw,
            &metrics,
        );
        let query = Arc::new(Query::new(
            Arc::clone(&account),
            applications.clone(),
            metrics.clone(),
        ));
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let context = ServiceContext {
            sender: sender.clone(),
            log: Arc::clone(&log),
            account: Arc::clone(&account),
            query: Arc::clone(&query),
            intake: intake.clone(),
            pulls: pulls.clone(),
            subscriptions: storage.subscriptions.map(|store| {
                Subscriptions::new(Arc::clone(&log), store, tasks.clone(), closing.clone())
            }),
            dead_letters: broker
                .as_ref()
                .map(|broker| broker.dead_letters(&metrics, closing.clone(), tasks.clone())),
            lookups_url: push_url("lookups"),
            metrics: metrics.clone(),
            closing: closing.clone(),
            tasks: tasks.clone(),
        };

        let consumers = broker.as_ref().map(|broker| {
            let commands = Commands {
                endpoint: broker.endpoint.clone(),
                topology: broker.topology.clone(),
                publisher: Arc::clone(&broker.publisher),
                sender: Arc::new(sender.clone()),
                query: Arc::clone(&query),
                log: Arc::clone(&log),
                applications: applications.clone(),
                application_from: config.amqp.application_from,
                prefetch: config.amqp.prefetch,
                hold_for: config.amqp.hold_for,
                max_attempts: config.amqp.max_attempts,
                max_age: config.amqp.max_age,
                metrics: metrics.clone(),
            };
            let consuming = commands::run(commands, closing.clone());
            tokio::spawn(metrics.tasks().watch("commands", consuming))
        });
        let stop_http = CancellationToken::new();
        let mut servers = JoinSet::new();
        servers.spawn({
            let stop = closing.clone();
            async move { grpc.serve(context, stop).await.map_err(AppError::from) }
        });
        servers.spawn({
            let stop = stop_http.clone();
            let metrics = metrics.clone();
            async move {
                webhooks::serve(http, &config.http, intake, metrics, stop).await;
                Ok(())
            }
        });
        let readiness = Readiness::new();
        readiness.probe("event log", {
            let log = Arc::clone(&log);
            move || log.outage()
        });
        readiness.remark("sends", {
            let account = Arc::clone(&account);
            move || {
                Some(format!(
                    "the API does not take them: {}",
                    account.breaker.outage()?
                ))
            }
        });
        readiness.remark("look-ups", {
            let query = Arc::clone(&query);
            move || Some(format!("the last one failed: {}", query.lookups.outage()?))
        });
        readiness.remark("pulls", {
            let log = Arc::clone(&log);
            move || {
                // The outage of the log says it all.
                let outage = pulls.outage().filter(|_| log.outage().is_none())?;
                Some(format!("they are refused: {outage}"))
            }
        });
        readiness.remark("clock", {
            let account = Arc::clone(&account);
            move || {
                let ahead_s = account.client.clock_ahead_s()?;
                Some(format!(
                    "this machine's is {} s {} that of the API: messages may expire too early or too late",
                    ahead_s.abs(),
                    if ahead_s > 0 { "ahead of" } else { "behind" }
                ))
            }
        });
        if let Some(broker) = &broker {
            let status = broker.endpoint.status().clone();
            readiness.remark("commands", move || {
                let cause = status.cause(Purpose::Commands)?;
                Some(format!("they are not consumed: {cause}"))
            });
        }
        let stop_admin = CancellationToken::new();
        let watch = metrics.tasks().clone();
        let probes = ops::admin::serve(
            admin,
            ops::admin::LIMITS,
            readiness.clone(),
            metrics,
            stop_admin.clone(),
        );
        let admin = tokio::spawn(watch.watch("admin", probes));
        tracing::info!(grpc = %addresses.grpc, http = %addresses.http, admin = %addresses.admin, "listening");
        Running {
            sender,
            consumers,
            pull_worker,
            servers,
            tasks,
            closing,
            stop_http,
            admin,
            stop_admin,
            readiness,
            log,
            broker,
        }
    }
}
