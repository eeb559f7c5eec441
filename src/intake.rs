//! Turns reports, received messages, clicks and look-ups of the API into durable events, for pushes and pulls alike.
//!
//! Invariants: `Ok` means that the events are durable (docs/RELIABILITY.md); a body that cannot be read is quarantined, and a
//! malformed row is quarantined alone, without affecting the other rows; no byte of a body is lost: one that is not UTF-8 is quarantined
//! beside the events of its rows, which have U+FFFD in its place.
//! Neighbours: `reading` reads bodies with `infobip::wire`, `events` stores; `webhooks` calls this module, `pull` its part `split`, and an
//! operator `replay`.

mod reading;
mod replay;
mod split;

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use self::reading::Unread;
pub use self::{
    replay::{QuarantineDesk, QuarantineError},
    split::Split,
};
use crate::{
    config,
    events::{
        AppendError, NewEvent, Quarantine, Quarantined, SharedEventLog,
        quarantine::{Origin, Source},
    },
    infobip::wire::{InboxRow, ReportRow},
    message::{applications::Applications, id::ApplicationName},
    ops::kill_point::{self, KillPoint},
    primitives::joined::Joined,
    proto::v1::{self, ReportSource},
};

#[derive(Debug, Clone, thiserror::Error)]
pub enum IntakeError {
    /// The event log cannot be written: the sender must try again.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The body cannot be read. It is in quarantine.
    #[error("{0}")]
    Unreadable(String),
}

/// The content type of a query.
const FORM: &str = "application/x-www-form-urlencoded";

/// Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    log: SharedEventLog,
    quarantine: Arc<dyn Quarantine>,
    routes: Arc<Vec<Route>>,
    applications: Applications,
    /// Of received messages that are pushed by GET.
    template: Arc<(config::InboundParameters, config::InboundOutput)>,
}

/// Assigns received messages to an application. An absent number or keyword matches everything.
struct Route {
    application: ApplicationName,
    number: Option<String>,
    keyword: Option<String>,
}

impl Intake {
    /// Takes the inbound routes from the configured applications.
    ///
    /// # Panics
    /// If the name of an application is invalid, which the check of the configuration refuses.
    #[must_use]
    pub fn new<'a>(
        log: SharedEventLog,
        quarantine: Arc<dyn Quarantine>,
        configured: impl IntoIterator<Item = (&'a String, &'a config::Application)>,
        applications: Applications,
    ) -> Self {
        let mut routes = Vec::new();
        for (name, application) in configured {
            let name = ApplicationName::parse(name)
                .expect("the check of the configuration refuses invalid application names");
            for route in &application.inbound {
                routes.push(Route {
                    application: name.clone(),
                    number: route.number.clone(),
                    keyword: route.keyword.clone(),
                });
            }
        }
        // The most specific routes first.
        routes.sort_by_key(|route| {
            std::cmp::Reverse((route.number.is_some(), route.keyword.is_some()))
        });
        Self {
            log,
            quarantine,
            routes: Arc::new(routes),
            applications,
            template: Arc::default(),
        }
    }

    /// Reads received messages that are pushed by GET with these names and this formatting.
    #[must_use]
    pub fn with_template(
        self,
        names: config::InboundParameters,
        output: config::InboundOutput,
    ) -> Self {
        let template = Arc::new((names, output));
        Self { template, ..self }
    }

    /// Whether events can be stored now, as far as the event log knows.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.log.is_ready()
    }

    /// The application of a received message: the first route that matches its number and keyword, else `default`. A push by GET
    /// has no keyword, and must go to the same application as the same message pulled: its keyword is the first word of its text,
    /// as it is for the API.
    #[must_use]
    pub fn owner_of(&self, received: &v1::ReceivedMessage) -> ApplicationName {
        let matches = |wanted: &Option<String>, value: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let keyword = match received.keyword.as_str() {
            "" => received.text.split_whitespace().next().unwrap_or_default(),
            found => found,
        };
        self.routes
            .iter()
            .find(|route| {
                matches(&route.number, received.to.trim_start_matches('+'))
                    && matches(&route.keyword, keyword)
            })
            .map_or_else(ApplicationName::default_application, |route| {
                route.application.clone()
            })
    }

    /// Stores delivery reports that were pushed.
    ///
    /// # Errors
    /// [`IntakeError`]. An unreadable body is in quarantine.
    pub async fn reports(
        &self,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        self.store(pushed("reports"), content_type, body).await
    }

    /// Stores received messages.
    ///
    /// # Errors
    /// As [`Intake::reports`].
    pub async fn received(
        &self,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        self.store(pushed("inbound"), content_type, body).await
    }

    /// Stores one received message that was pushed by GET, from the query of its URL.
    ///
    /// # Errors
    /// As [`Intake::reports`].
    pub async fn received_by_query(&self, query: &str) -> Result<Vec<v1::Event>, IntakeError> {
        let origin = Origin {
            source: Source::Query,
            ..pushed("inbound")
        };
        let query = Bytes::copy_from_slice(query.as_bytes());
        self.store(origin, FORM, query).await
    }

    /// Stores clicks.
    ///
    /// # Errors
    /// As [`Intake::reports`].
    pub async fn clicks(
        &self,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        self.store(pushed("clicks"), content_type, body).await
    }

    /// Stores the results of an asynchronous look-up for the application that requested it. `request` identifies the request.
    ///
    /// # Errors
    /// As [`Intake::reports`].
    pub async fn lookups(
        &self,
        application: &ApplicationName,
        request: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        let origin = Origin {
            application: application.as_str().to_owned(),
            request: request.to_owned(),
            ..pushed("lookups")
        };
        self.store(origin, content_type, body).await
    }

    async fn store(
        &self,
        origin: Origin,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        let read = self.read(&origin, None, &body);
        for part in read.unread {
            let body = quarantined(&origin, content_type, Uuid::now_v7(), part);
            self.quarantine.add(body.clone()).await?;
            log_quarantined(&body);
        }
        match read.unreadable {
            Some(detail) => Err(IntakeError::Unreadable(detail)),
            None => self.append(read.events).await,
        }
    }

    fn report_event(&self, source: ReportSource, row: ReportRow) -> NewEvent {
        let report = v1::DeliveryReport {
            source: source.into(),
            ..row.report
        };
        NewEvent::report(&self.applications, &row.wire_id, report, row.source_payload)
    }

    fn received_event(&self, row: InboxRow) -> NewEvent {
        NewEvent::received(
            &self.owner_of(&row.received),
            row.received,
            row.source_payload,
        )
    }

    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<v1::Event>, IntakeError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let events = Arc::new(events);
        self.log.append(Arc::clone(&events)).await?;
        kill_point::reached(KillPoint::EventsStored);
        tracing::debug!(events = %Joined(events.iter().map(NewEvent::logged)), "events were stored");
        let events = Arc::unwrap_or_clone(events);
        Ok(events.into_iter().map(|new| new.event).collect())
    }
}

fn pushed(endpoint: &'static str) -> Origin {
    Origin {
        endpoint: endpoint.into(),
        source: Source::Push,
        ..Origin::default()
    }
}

/// A part of a body, or the whole, for the quarantine.
fn quarantined(origin: &Origin, content_type: &str, id: Uuid, part: Unread) -> Quarantined {
    let mut origin = origin.clone();
    origin.is_row |= part.is_row;
    if origin.request.is_empty() {
        origin.request = part.request;
    }
    Quarantined {
        id,
        origin,
        content_type: content_type.to_owned(),
        body: part.body,
        detail: part.detail,
    }
}

fn log_quarantined(body: &Quarantined) {
    tracing::warn!(
        endpoint = &*body.origin.endpoint,
        bytes = body.body.len(),
        detail = body.detail,
        "unreadable body or row from the API: moved to quarantine"
    );
}
