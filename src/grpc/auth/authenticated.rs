//! The authentication middleware: finds the caller of each call, or answers the call with an error.
//!
//! Invariant: a request that reaches a service has a [`super::caller::Caller`] in its extensions, except for health.

use std::sync::Arc;

use tokio_rustls::server::TlsStream;
use tonic::{Status, body::Body};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{Authenticator, Caller};
use crate::grpc::{
    failure::Failure,
    middleware::router::{Router, ServiceFuture},
};

/// The client certificate of a connection, verified by TLS.
#[derive(Debug, Clone)]
pub(in crate::grpc) struct Certificate {
    /// Empty if the certificate has none.
    pub(super) common_name: Arc<str>,
}

impl Certificate {
    /// `None` if the client presented no certificate, or one that cannot be parsed.
    pub(in crate::grpc) fn of<I>(stream: &TlsStream<I>) -> Option<Self> {
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates()?.first()?;
        let (_, certificate) = X509Certificate::from_der(shown).ok()?;
        let common_name = certificate.subject().iter_common_name().next();
        let common_name = common_name.and_then(|name| name.as_str().ok());
        Some(Self {
            common_name: common_name.unwrap_or_default().into(),
        })
    }
}

/// The services behind an [`Authenticator`]. Cheap to clone.
#[derive(Clone)]
pub(in crate::grpc) struct Authenticated {
    router: Router,
    authenticator: Arc<Authenticator>,
    certificate: Option<Certificate>,
}

impl Authenticated {
    /// For connections without a client certificate.
    pub(in crate::grpc) fn around(router: Router, authenticator: Arc<Authenticator>) -> Self {
        Self {
            router,
            authenticator,
            certificate: None,
        }
    }

    /// The same for a connection with this client certificate.
    pub(in crate::grpc) fn with_certificate(self, certificate: Option<Certificate>) -> Self {
        Self {
            certificate,
            ..self
        }
    }

    /// Passes an allowed call to its service, after `on_caller` with its caller.
    pub(in crate::grpc) fn call(
        &self,
        mut request: http::Request<Body>,
        on_caller: impl FnOnce(&Caller),
    ) -> ServiceFuture {
        let path = request.uri().path();
        let method = path.strip_prefix('/').unwrap_or(path);
        let certificate = self.certificate.as_ref();
        match self
            .authenticator
            .admit(method, request.headers(), certificate)
        {
            Ok(caller) => {
                if let Some(caller) = caller {
                    on_caller(&caller);
                    request.extensions_mut().insert(caller);
                }
                self.router.call(request)
            }
            Err(denied) => {
                let status = Status::from(Failure::Denied(denied));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}
