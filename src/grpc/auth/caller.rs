//! Who calls: found by authentication, carried in the request's extensions.

use tonic::Request;

use crate::grpc::auth::quota::Quotas;
use crate::message::id::ApplicationName;

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The application that it acts for.
    pub application: ApplicationName,
    /// Whether it may see rows and events of all applications.
    pub sees_all: bool,
    /// What its calls count against; they were counted already, messages on a stream were not.
    pub quotas: Quotas,
}

impl Caller {
    /// A caller where no authentication is configured.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            application: ApplicationName::default_application(),
            sees_all: true,
            quotas: Quotas::default(),
        }
    }

    /// The caller of a request.
    pub fn of<T>(request: &Request<T>) -> Self {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .unwrap_or_else(Self::anonymous)
    }

    /// The only application that it may see; `None`: it sees all.
    #[must_use]
    pub fn visible(&self) -> Option<&str> {
        (!self.sees_all).then(|| self.application.as_str())
    }

    /// Whether it may see what belongs to an application.
    #[must_use]
    pub fn may_see(&self, application: &str) -> bool {
        self.sees_all || self.application.as_str() == application
    }
}
