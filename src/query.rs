//! The read side: look-ups of numbers, and the logs of sends, for every edge.
//!
//! An edge decodes a request, asks here, and encodes the answer. Here it is decided, once, how many requests a question takes, what a
//! failure means for the next one, and what the API's rows mean. Invariant: a look-up costs, so none is asked again after a request
//! that may have been carried out.
//! Neighbours: `infobip` makes the requests and has the quota of log requests; `grpc` and `commands` ask.

pub mod logs;
pub mod lookup;

use std::sync::Arc;

use self::lookup::Lookups;
use crate::{
    infobip::account::Account,
    message::{applications::Applications, id::ApplicationName},
    ops::metrics::Metrics,
    proto::v1::{FieldViolation, ListSmsLogsRequest, ListSmsLogsResponse},
};

/// Answers the questions of the edges. All of them share one.
pub struct Query {
    account: Arc<Account>,
    applications: Applications,
    pub lookups: Lookups,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The application that the viewer belongs to.
    pub application: ApplicationName,
    /// Whether the viewer may see rows of all applications.
    pub sees_all: bool,
}

impl Viewer {
    /// Whether the viewer may see rows of `application`.
    #[must_use]
    pub fn may_see(&self, application: &str) -> bool {
        self.sees_all || self.application.as_str() == application
    }
}

impl Query {
    #[must_use]
    pub fn new(account: Arc<Account>, applications: Applications, metrics: Metrics) -> Self {
        Self {
            lookups: Lookups::new(Arc::clone(&account), metrics),
            account,
            applications,
        }
    }

    /// A page of the logs of sends. It does not wait for the quota of log requests.
    ///
    /// # Errors
    /// [`logs::LogsPageError`]
    pub async fn logs(
        &self,
        viewer: &Viewer,
        request: &ListSmsLogsRequest,
    ) -> Result<ListSmsLogsResponse, logs::LogsPageError> {
        logs::page(&self.account, &self.applications, viewer, request).await
    }
}

/// One invalid field.
fn violation(field: &str, description: impl ToString) -> FieldViolation {
    FieldViolation {
        field: field.to_owned(),
        description: description.to_string(),
    }
}
