//! Responses of pulls: splits them into events, and makes these durable.
//!
//! Invariant: the same response gives the same events and the same keys in quarantine each time, so that it may be split again after a
//! kill or an ambiguous append. Neighbour: `pull` keeps the responses and calls this module.

use std::{collections::VecDeque, sync::Arc};

use uuid::Uuid;

use super::{
    Intake, log_quarantined, quarantined,
    reading::{Reading, Unread},
};
use crate::{
    events::{
        AppendError, NewEvent, Quarantined,
        quarantine::{Origin, Source},
        raw::RawResponse,
    },
    ops::kill_point::{self, KillPoint},
    primitives::joined::Joined,
};

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
        let origin = origin(response);
        let read = self.read(&origin, Some(response.id), &response.body);
        let Reading {
            events,
            unread,
            unreadable,
            message_count,
            pending_message_count,
        } = read;
        let parts = unread.into_iter().zip(0..);
        Split {
            events,
            unreadable,
            message_count,
            pending_message_count,
            unread: parts
                .map(|(part, index)| {
                    let id = part_id(response.id, index);
                    quarantined(&origin, &response.content_type, id, part)
                })
                .collect(),
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
                    let whole = Unread {
                        body: response.body.clone(),
                        detail: error.to_string(),
                        is_row: false,
                        request: String::new(),
                    };
                    // Its id makes a replay give the same event ids again.
                    let id = response.id;
                    let whole = quarantined(&origin(response), &response.content_type, id, whole);
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

fn origin(response: &RawResponse) -> Origin {
    Origin {
        endpoint: response.rows.as_str().into(),
        source: Source::Pull,
        ..Origin::default()
    }
}

/// The id of a part of a body: the same each time the body is read.
pub(super) fn part_id(body: Uuid, index: u64) -> Uuid {
    Uuid::new_v5(&body, &index.to_be_bytes())
}
