//! Turns reports, received messages, clicks and look-ups of the API into durable events, for pushes and pulls alike.
//!
//! Invariants: `Ok` means that the events are durable (docs/RELIABILITY.md); a body that cannot be read is quarantined, and a
//! malformed row is quarantined alone, without affecting the other rows; no byte of a body is lost: one that is not UTF-8 is quarantined
//! beside the events of its rows, which have U+FFFD in its place.
//! Neighbours: `infobip::wire` reads the rows, `events` stores them; `webhooks` calls this module, `pull` its part `split`.

mod split;

use std::sync::Arc;

use bytes::Bytes;

pub use self::split::Split;
use crate::{
    config,
    events::{AppendError, NewEvent, Quarantine, Quarantined, SharedEventLog},
    infobip::wire::{self, InboxRow, LookupRow, ReportRow, Rows, UnreadableBody},
    message::{
        applications::Applications,
        id::{ApplicationName, FOREIGN_APPLICATION},
    },
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

/// Why a body that was read is in quarantine too.
const NOT_UTF8: &str =
    "it is not UTF-8: its rows are events, with U+FFFD in place of the other bytes";

/// Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    log: SharedEventLog,
    quarantine: Arc<dyn Quarantine>,
    routes: Arc<Vec<Route>>,
    applications: Applications,
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
        }
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

    /// Stores delivery reports.
    ///
    /// # Errors
    /// [`IntakeError`]. An unreadable body is in quarantine.
    pub async fn reports(
        &self,
        source: ReportSource,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        let read = wire::read_reports(&body);
        let rows = self.readable("reports", content_type, body, read).await?;
        let events = rows.rows.into_iter();
        self.append(events.map(|row| self.report_event(source, row)).collect())
            .await
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
        let read = wire::read_inbox(&body);
        let rows = self.readable("inbound", content_type, body, read).await?;
        let events = rows.rows.into_iter().map(|row| self.received_event(row));
        self.append(events.collect()).await
    }

    /// Stores one received message that was pushed by GET, from the query of its URL and its decoded parameters, which have the
    /// names and the formatting of the operator's template.
    ///
    /// # Errors
    /// As [`Intake::reports`].
    pub async fn received_by_query(
        &self,
        query: &str,
        parameters: &[(String, String)],
        (names, output): (&config::InboundParameters, config::InboundOutput),
    ) -> Result<Vec<v1::Event>, IntakeError> {
        const FORM: &str = "application/x-www-form-urlencoded";
        let raw = || Bytes::copy_from_slice(query.as_bytes());
        let pairs = parameters.iter().map(|(name, value)| (name, value));
        match wire::received_from_query(pairs, names, output) {
            Ok(row) => {
                let decoded: Vec<u8> = percent_encoding::percent_decode_str(query).collect();
                if std::str::from_utf8(&decoded).is_err() {
                    self.keep("inbound", FORM, raw(), NOT_UTF8.to_owned())
                        .await?;
                }
                self.append(vec![self.received_event(row)]).await
            }
            Err(unreadable) => {
                let detail = unreadable.to_string();
                self.keep("inbound", FORM, raw(), detail.clone()).await?;
                Err(IntakeError::Unreadable(detail))
            }
        }
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
        let read = wire::read_clicks(&body);
        let rows = self.readable("clicks", content_type, body, read).await?;
        let applications = &self.applications;
        let events = rows
            .rows
            .into_iter()
            .map(|row| NewEvent::click(applications, &row.wire_id, row.click, row.source_payload));
        self.append(events.collect()).await
    }

    /// Stores the results of an asynchronous look-up for the application that requested it. One that does not exist any more has
    /// none: its results are `foreign`. `request` identifies the request; where it is empty, the API's ids do: that of the request,
    /// which it leaves out for one number, or that of the row.
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
        let read = wire::read_lookups(&body);
        let rows = self.readable("lookups", content_type, body, read).await?;
        let application = if self.applications.exists(application) {
            application.as_str()
        } else {
            FOREIGN_APPLICATION
        };
        let event = |row: LookupRow| {
            let ids = [request, &rows.bulk_id, &row.lookup_id];
            let request = ids.into_iter().find(|id| !id.is_empty());
            NewEvent::lookup(
                application,
                request.unwrap_or_default(),
                row.lookup,
                row.source_payload,
            )
        };
        self.append(rows.rows.into_iter().map(event).collect())
            .await
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

    /// Returns the readable rows of a body, after the unreadable ones or the unreadable body are in quarantine.
    async fn readable<T>(
        &self,
        endpoint: &'static str,
        content_type: &str,
        body: Bytes,
        read: Result<Rows<T>, UnreadableBody>,
    ) -> Result<Rows<T>, IntakeError> {
        for (body, detail) in unread_parts(&body, &read) {
            self.keep(endpoint, content_type, body, detail).await?;
        }
        read.map_err(|unreadable| IntakeError::Unreadable(unreadable.to_string()))
    }

    async fn keep(
        &self,
        endpoint: &'static str,
        content_type: &str,
        body: Bytes,
        detail: String,
    ) -> Result<(), IntakeError> {
        let body = Quarantined {
            key: None,
            endpoint,
            content_type: content_type.to_owned(),
            body,
            detail,
        };
        log_quarantined(&body);
        Ok(self.quarantine.add(body).await?)
    }
}

/// What of a body must be in quarantine, and why: the whole of it if it cannot be read or is not UTF-8, and the rows that cannot.
fn unread_parts<T>(body: &Bytes, read: &Result<Rows<T>, UnreadableBody>) -> Vec<(Bytes, String)> {
    let rows = match read {
        Ok(rows) => rows,
        Err(unreadable) => return vec![(body.clone(), unreadable.to_string())],
    };
    let mut parts = Vec::new();
    if std::str::from_utf8(body).is_err() {
        parts.push((body.clone(), NOT_UTF8.to_owned()));
    }
    parts.extend(
        rows.bad
            .iter()
            .map(|row| (row.payload.clone().into(), row.detail.clone())),
    );
    parts
}

fn log_quarantined(body: &Quarantined) {
    tracing::warn!(
        endpoint = body.endpoint,
        bytes = body.body.len(),
        detail = body.detail,
        "unreadable body or row from the API: moved to quarantine"
    );
}
