//! The gRPC server: binds its port, puts services and middleware together, and serves until shutdown.
//!
//! Invariants: the port is bound before anything else starts; every task that the server spawns has ended when `serve` returns.
//! Neighbours: `transport` accepts connections; `middleware` and `auth` are in front of `services`.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic_health::server::HealthReporter;

use super::{
    ServiceContext,
    auth::{Authenticated, Authenticator, TokensFileError},
    middleware::{outermost::Outermost, router::Router},
    services::{
        account::Account,
        admin::Admin,
        event::Events,
        health::{self, EndingHealth},
        inbox::Inbox,
        lookup::Lookup,
        reference::Reference,
        report::Reports,
        sms::Sms,
    },
    transport::{connections, tls::Tls},
};
use crate::{
    config::{self, ConfigErrors},
    message::applications::Applications,
    ops::{
        listen::{self, BindError},
        reload::keep_loaded,
    },
    proto::{
        self,
        v1::{
            account_service_server::AccountServiceServer, admin_service_server::AdminServiceServer,
            event_service_server::EventServiceServer, inbox_service_server::InboxServiceServer,
            lookup_service_server::LookupServiceServer,
            reference_service_server::ReferenceServiceServer,
            report_service_server::ReportServiceServer, sms_service_server::SmsServiceServer,
        },
    },
};

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The TLS files can't be used.
    #[error(transparent)]
    Tls(#[from] ConfigErrors),
    /// The tokens file can't be used.
    #[error(transparent)]
    Tokens(#[from] TokensFileError),
    /// Reflection can't be set up.
    #[error("cannot set up gRPC reflection: {0}")]
    Reflection(String),
}

/// The server with its port bound.
pub struct GrpcServer {
    listener: TcpListener,
    config: config::Grpc,
    tls: Option<Arc<Tls>>,
    authenticator: Arc<Authenticator>,
    other_connections: usize,
}

impl GrpcServer {
    /// Reads the TLS files and the tokens file, and binds `grpc.listen`. `other_connections` is the number of connections that
    /// the other ports may have open: they count against the same limit of open files. `applications` learns those of the tokens.
    ///
    /// # Errors
    /// [`ServeError::Tls`], [`ServeError::Tokens`], [`ServeError::Bind`].
    pub async fn bind(
        config: &config::Grpc,
        configured: &BTreeMap<String, config::Application>,
        applications: Applications,
        other_connections: usize,
    ) -> Result<Self, ServeError> {
        let tls = Tls::read(config)?.map(Arc::new);
        let authenticator = Arc::new(Authenticator::new(config, configured, applications)?);
        let listener = listen::bind(config.listen, "grpc.listen").await?;
        Ok(Self {
            listener,
            config: config.clone(),
            tls,
            authenticator,
            other_connections,
        })
    }

    /// The address that is bound.
    ///
    /// # Errors
    /// The system's error.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The number of bearer tokens. `None` without a tokens file.
    #[must_use]
    pub fn tokens(&self) -> Option<usize> {
        self.authenticator.tokens_file().map(|file| file.count())
    }

    /// Serves until `stop`; then accepts no new calls and waits for the calls in progress.
    ///
    /// # Errors
    /// [`ServeError::Reflection`].
    pub async fn serve(
        self,
        context: ServiceContext,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let health = HealthReporter::new();
        // Before the first call.
        let is_log_ready = context.log.is_ready();
        health::set(&health, is_log_ready).await;

        // From the inside out.
        let router = self.router(&context, health.clone(), &stop)?;
        let authenticated = Authenticated::around(router, Arc::clone(&self.authenticator));
        let service = Outermost::around(
            authenticated,
            self.config.max_concurrent_calls,
            self.config.max_message_bytes,
            context.metrics.clone(),
        );

        let metrics = context.metrics.clone();
        let watch = metrics.tasks().clone();
        let mut background = JoinSet::new();
        let updating = health::update(
            health,
            move || context.log.is_ready(),
            is_log_ready,
            (health::INTERVAL, stop.clone()),
        );
        background.spawn(watch.watch("health", updating));
        if let Some(tokens) = self.authenticator.tokens_file() {
            let reloading = keep_loaded(Arc::clone(tokens), metrics.clone(), stop.clone());
            background.spawn(watch.watch("tokens", reloading));
        }
        if let Some(tls) = &self.tls {
            let reloading = keep_loaded(Arc::clone(tls), metrics, stop.clone());
            background.spawn(watch.watch("certificates", reloading));
        }
        let max_connections =
            connections::allowed(self.config.max_connections, self.other_connections);
        connections::serve(
            self.listener,
            &self.config,
            max_connections,
            self.tls,
            service,
            stop,
        )
        .await;
        background.shutdown().await;
        Ok(())
    }

    fn router(
        &self,
        context: &ServiceContext,
        health: HealthReporter,
        stop: &CancellationToken,
    ) -> Result<Router, ServeError> {
        // The limit is of the unpacked size. Responses are not compressed: most are small, and tonic would compress each of them.
        let limit = self.config.max_message_bytes;
        macro_rules! limited {
            ($server:expr) => {
                $server
                    .max_decoding_message_size(limit)
                    .accept_compressed(CompressionEncoding::Gzip)
            };
        }
        let mut router = Router::default()
            .with(limited!(EndingHealth::server(health, stop.clone())))
            .with(limited!(SmsServiceServer::new(Sms(context.clone()))))
            .with(limited!(ReportServiceServer::new(Reports(context.clone()))))
            .with(limited!(InboxServiceServer::new(Inbox(context.clone()))))
            .with(limited!(LookupServiceServer::new(Lookup(context.clone()))))
            .with(limited!(EventServiceServer::new(Events::new(
                context.clone()
            ))))
            .with(limited!(ReferenceServiceServer::new(Reference)))
            .with(limited!(AccountServiceServer::new(Account(
                context.clone()
            ))))
            .with(limited!(AdminServiceServer::new(Admin(context.clone()))));
        if self.config.reflection {
            let build = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                    // `google.rpc`: the details of statuses, which tools such as grpcurl print.
                    .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            };
            let failed =
                |error: tonic_reflection::server::Error| ServeError::Reflection(error.to_string());
            // Many tools support v1alpha only.
            let v1 = build().build_v1().map_err(failed)?;
            let v1alpha = build().build_v1alpha().map_err(failed)?;
            router = router.with(limited!(v1)).with(limited!(v1alpha));
        }
        Ok(router)
    }
}
