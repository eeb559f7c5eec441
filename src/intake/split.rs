//! Responses of pulls: splits them into events, and makes these durable.
//!
//! Invariant: the same response gives the same events and the same keys in quarantine each time, so that it may be split again after a
//! kill or an ambiguous append. Neighbour: `pull` keeps the responses and calls this module.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use super::{Intake, log_quarantined, unread_parts};
use crate::{
    events::{
        AppendError, NewEvent, Quarantined,
        raw::{RawResponse, RowKind},
    },
    infobip::wire::{self, Rows, UnreadableBody},
    ops::kill_point::{self, KillPoint},
    primitives::joined::Joined,
    proto::v1::ReportSource,
};

/// In place of the index of a part, for the whole of a response.
const WHOLE: u64 = u64::MAX;

/// A response of a pull, split.
#[derive(Default)]
pub struct Split {
    pub events: Vec<NewEvent>,
    /// Why no row could be read.
    pub unreadable: Option<String>,
    /// API: `messageCount`. 0 if absent.
    pub message_count: i32,
    /// API: `pendingMessageCount`. 0 if absent.
    pub pending_message_count: i32,
    /// What must be in quarantine too.
    unread: VecDeque<Quarantined>,
}

impl Intake {
    /// Splits the response of a pull into events.
    #[must_use]
    pub fn split(&self, response: &RawResponse) -> Split {
        match response.rows {
            RowKind::Reports => {
                let event = |row| self.report_event(ReportSource::Pull, row);
                split(response, wire::read_reports(&response.body), event)
            }
            RowKind::Received => {
                let read = wire::read_inbox_of(response.id, &response.body);
                split(response, read, |row| self.received_event(row))
            }
        }
    }

    /// Makes a split response durable. After an error, what is left in it is not known to be durable: storing it again is safe.
    ///
    /// # Errors
    /// [`AppendError::Unavailable`] or [`AppendError::Closed`]. An event that is too large for the log is left out; the response is in
    /// quarantine instead.
    pub async fn store_split(
        &self,
        response: &RawResponse,
        split: &mut Split,
    ) -> Result<(), AppendError> {
        while let Some(body) = split.unread.front() {
            self.quarantine.add(body.clone()).await?;
            log_quarantined(body);
            split.unread.pop_front();
        }
        let events = std::mem::take(&mut split.events);
        if events.is_empty() {
            return Ok(());
        }
        let events = Arc::new(events);
        let appended = self.log.append(Arc::clone(&events)).await;
        match appended {
            Ok(()) => {
                kill_point::reached(KillPoint::EventsStored);
                tracing::debug!(events = %Joined(events.iter().map(NewEvent::logged)), "events were stored");
                Ok(())
            }
            Err(AppendError::TooLarge { .. }) => {
                self.store_one_by_one(response, split, &events).await
            }
            Err(error) => {
                split.events = Arc::unwrap_or_clone(events);
                Err(error)
            }
        }
    }

    async fn store_one_by_one(
        &self,
        response: &RawResponse,
        split: &mut Split,
        events: &[NewEvent],
    ) -> Result<(), AppendError> {
        for (index, event) in events.iter().enumerate() {
            match self.log.append(Arc::new(vec![event.clone()])).await {
                Ok(()) => {}
                Err(error @ AppendError::TooLarge { .. }) => {
                    let whole = unread(response, WHOLE, response.body.clone(), error.to_string());
                    let kept = self.quarantine.add(whole).await;
                    if let Err(error) = kept {
                        split.events = events[index..].to_vec();
                        return Err(error);
                    }
                }
                Err(error) => {
                    split.events = events[index..].to_vec();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

fn split<T>(
    response: &RawResponse,
    read: Result<Rows<T>, UnreadableBody>,
    event: impl FnMut(T) -> NewEvent,
) -> Split {
    let parts = unread_parts(&response.body, &read).into_iter().zip(0..);
    let unread = parts.map(|((body, detail), index)| unread(response, index, body, detail));
    let unread = unread.collect();
    match read {
        Ok(rows) => Split {
            events: rows.rows.into_iter().map(event).collect(),
            unreadable: None,
            message_count: rows.message_count.unwrap_or_default(),
            pending_message_count: rows.pending_message_count.unwrap_or_default(),
            unread,
        },
        Err(unreadable) => Split {
            unreadable: Some(unreadable.to_string()),
            unread,
            ..Split::default()
        },
    }
}

/// A part of a response for the quarantine, with a key that is the same each time the response is split.
fn unread(response: &RawResponse, index: u64, body: Bytes, detail: String) -> Quarantined {
    Quarantined {
        key: Some(Uuid::new_v5(&response.id, &index.to_be_bytes())),
        endpoint: response.rows.as_str(),
        content_type: response.content_type.clone(),
        body,
        detail,
    }
}
