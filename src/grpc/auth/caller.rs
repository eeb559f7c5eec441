//! The caller of a request, set by authentication and carried in the request's extensions.

use tonic::Request;

use super::quota::Quotas;
use crate::{message::id::ApplicationName, query::Viewer};

#[derive(Debug, Clone)]
pub struct Caller {
    /// The application that the caller belongs to.
    pub application: ApplicationName,
    /// Whether it may see rows and events of all applications.
    pub sees_all: bool,
    /// The quotas of the caller. Its calls have been counted; the messages on its streams have not.
    pub quotas: Quotas,
}

impl Caller {
    /// The caller if no authentication is configured.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            application: ApplicationName::default_application(),
            sees_all: true,
            quotas: Quotas::default(),
        }
    }

    pub fn of<T>(request: &Request<T>) -> Self {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .expect("authentication sets the caller of every call that reaches a service")
    }

    /// The only application whose rows the caller may see. `None`: all applications.
    #[must_use]
    pub fn visible(&self) -> Option<&str> {
        (!self.sees_all).then(|| self.application.as_str())
    }

    /// The caller as `query` needs it.
    #[must_use]
    pub fn viewer(&self) -> Viewer {
        Viewer {
            application: self.application.clone(),
            sees_all: self.sees_all,
        }
    }

    /// Whether the caller may see rows of `application`.
    #[must_use]
    pub fn may_see(&self, application: &str) -> bool {
        self.sees_all || self.application.as_str() == application
    }
}
