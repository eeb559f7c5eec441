//! From what the API says to durable events: the one way in for reports, received messages, clicks and look-ups, whether
//! they were pushed, pulled or found in the logs.
//!
//! Invariants: what returns `Ok` is durable (P4, docs/RELIABILITY.md); a body that can't be read is quarantined, and one bad row never
//! spoils its batch: it is quarantined alone. Neighbours: `infobip::wire` reads rows, `events` keeps them; `webhooks` and
//! `grpc` call it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    config,
    events::{AppendError, NewEvent, Quarantined, SharedEventLog},
    infobip::wire::{self, BadRow, InboxRow, LookupRow, Rows, UnreadableBody},
    message::id::ApplicationName,
    proto::v1::{self, ReportSource},
};

/// Why something did not become events.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IntakeError {
    /// The event log can't be written: the sender must try again.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The body can't be read; it is in quarantine.
    #[error("{0}")]
    Unreadable(String),
}

/// The inbox after a pull.
pub struct PulledInbox {
    /// Its messages, as events.
    pub events: Vec<v1::Event>,
    /// API: `messageCount`.
    pub message_count: i32,
    /// API: `pendingMessageCount`.
    pub pending_message_count: i32,
}

/// Turns what the API says into events. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    log: SharedEventLog,
    routes: Arc<Vec<Route>>,
}

struct Route {
    application: ApplicationName,
    number: Option<String>,
    keyword: Option<String>,
}

impl Intake {
    /// An intake with the inbound routes of the configured applications.
    #[must_use]
    pub fn new<'a>(
        log: SharedEventLog,
        applications: impl IntoIterator<Item = (&'a String, &'a config::Application)>,
    ) -> Self {
        let mut routes = Vec::new();
        for (name, application) in applications {
            let Ok(name) = ApplicationName::parse(name) else {
                continue;
            };
            for route in &application.inbound {
                routes.push(Route {
                    application: name.clone(),
                    number: route.number.clone(),
                    keyword: route.keyword.clone(),
                });
            }
        }
        // The more a route asks for, the earlier it is tried.
        routes.sort_by_key(|route| {
            std::cmp::Reverse((route.number.is_some(), route.keyword.is_some()))
        });
        Self {
            log,
            routes: Arc::new(routes),
        }
    }

    /// The application that a received message belongs to: by number and keyword, else `default`.
    #[must_use]
    pub fn owner_of(&self, received: &v1::ReceivedMessage) -> ApplicationName {
        let fits = |wanted: &Option<String>, is: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(is))
        };
        self.routes
            .iter()
            .find(|route| {
                fits(&route.number, received.to.trim_start_matches('+'))
                    && fits(&route.keyword, &received.keyword)
            })
            .map_or_else(ApplicationName::default_application, |route| {
                route.application.clone()
            })
    }

    /// Pushed delivery reports.
    ///
    /// # Errors
    /// [`IntakeError`]; a body that can't be read is in quarantine then.
    pub async fn pushed_reports(
        &self,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        self.reports(ReportSource::Push, content_type, body).await
    }

    /// Pulled delivery reports, as events.
    ///
    /// # Errors
    /// As [`Intake::pushed_reports`].
    pub async fn pulled_reports(
        &self,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        self.reports(ReportSource::Pull, content_type, body).await
    }

    async fn reports(
        &self,
        source: ReportSource,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        let read = wire::read_reports(&body);
        let rows = self.readable("reports", content_type, body, read).await?;
        let events = rows.rows.into_iter().map(|row| {
            let report = v1::DeliveryReport {
                source: source.into(),
                ..row.report
            };
            NewEvent::report(&row.wire_id, report, row.source_payload)
        });
        self.append(events.collect()).await
    }

    /// Pulled messages from phones.
    ///
    /// # Errors
    /// As [`Intake::pushed_reports`].
    pub async fn pulled_inbox(
        &self,
        content_type: &str,
        body: Bytes,
    ) -> Result<PulledInbox, IntakeError> {
        let read = wire::read_inbox(&body);
        let rows = self.readable("inbound", content_type, body, read).await?;
        let (message_count, pending_message_count) = (
            rows.message_count.unwrap_or_default(),
            rows.pending_message_count.unwrap_or_default(),
        );
        let events = self
            .append(
                rows.rows
                    .into_iter()
                    .map(|row| self.received(row))
                    .collect(),
            )
            .await?;
        Ok(PulledInbox {
            events,
            message_count,
            pending_message_count,
        })
    }

    /// One message from a phone, pushed by GET: the decoded parameters.
    ///
    /// # Errors
    /// As [`Intake::pushed_reports`].
    pub async fn pushed_query(
        &self,
        parameters: &[(String, String)],
    ) -> Result<Vec<v1::Event>, IntakeError> {
        match wire::received_from_query(parameters.iter().map(|(name, value)| (name, value))) {
            Ok(row) => self.append(vec![self.received(row)]).await,
            Err(unreadable) => {
                let body = serde_json::to_vec(parameters).unwrap_or_default();
                self.quarantine(
                    "inbound",
                    "application/json",
                    body.into(),
                    unreadable.to_string(),
                )
                .await
            }
        }
    }

    /// Pushed clicks.
    ///
    /// # Errors
    /// As [`Intake::pushed_reports`].
    pub async fn pushed_clicks(
        &self,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        let read = wire::read_clicks(&body);
        let rows = self.readable("clicks", content_type, body, read).await?;
        let events = rows
            .rows
            .into_iter()
            .map(|row| NewEvent::click(&row.wire_id, row.click, row.source_payload));
        self.append(events.collect()).await
    }

    /// Pushed answers to look-ups, for the application that asked.
    ///
    /// # Errors
    /// As [`Intake::pushed_reports`].
    pub async fn pushed_lookups(
        &self,
        application: &ApplicationName,
        content_type: &str,
        body: Bytes,
    ) -> Result<Vec<v1::Event>, IntakeError> {
        let read = wire::read_lookups(&body);
        let rows = self.readable("lookups", content_type, body, read).await?;
        let event = |row: LookupRow| NewEvent::lookup(application, row.lookup, row.source_payload);
        self.append(rows.rows.into_iter().map(event).collect())
            .await
    }

    fn received(&self, row: InboxRow) -> NewEvent {
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
        let events = Arc::unwrap_or_clone(events);
        Ok(events.into_iter().map(|new| new.event).collect())
    }

    /// The rows of a body; what can't be read of it goes into quarantine first.
    async fn readable<T>(
        &self,
        endpoint: &'static str,
        content_type: &str,
        body: Bytes,
        read: Result<Rows<T>, UnreadableBody>,
    ) -> Result<Rows<T>, IntakeError> {
        let rows = match read {
            Ok(rows) => rows,
            Err(unreadable) => {
                return self
                    .quarantine(endpoint, content_type, body, unreadable.to_string())
                    .await;
            }
        };
        for BadRow { payload, detail } in &rows.bad {
            // Its neighbours go on.
            let kept = self
                .quarantine::<()>(
                    endpoint,
                    content_type,
                    payload.clone().into(),
                    detail.clone(),
                )
                .await;
            if let Err(error @ IntakeError::Log(_)) = kept {
                return Err(error);
            }
        }
        Ok(rows)
    }

    /// Keeps what can't be read; always an error, that says whether it is kept.
    async fn quarantine<T>(
        &self,
        endpoint: &'static str,
        content_type: &str,
        body: Bytes,
        detail: String,
    ) -> Result<T, IntakeError> {
        tracing::warn!(
            endpoint,
            bytes = body.len(),
            detail,
            "what came can't be read: it goes into quarantine"
        );
        let content_type = content_type.to_owned();
        self.log
            .quarantine(Quarantined {
                endpoint,
                content_type,
                body,
                detail: detail.clone(),
            })
            .await?;
        Err(IntakeError::Unreadable(detail))
    }
}
