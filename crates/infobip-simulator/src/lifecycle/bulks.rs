//! Changes of scheduled bulks: reschedule, pause, resume, cancel.
//!
//! Invariant: only messages that are not sent yet change. Neighbour: `http::bulks` checks the requests.

use crate::{
    codes::id::{EC_MESSAGE_CANCELED, UNDELIVERABLE_NOT_SENT},
    config::SimulatorConfig,
    state::{SimulatorState, Timer},
    store::{Bulk, Phase, RowId},
};

impl SimulatorState {
    /// Reschedules the messages of a bulk that are not sent yet.
    pub(crate) fn reschedule(&mut self, bulk_id: &str, send_at_ms: i64, config: &SimulatorConfig) {
        let now_ms = self.clock.now_ms();
        for row in self.scheduled_rows(bulk_id) {
            self.messages.set_sent_at(row, send_at_ms.max(now_ms));
            if let Some(message) = self.messages.get_mut(row) {
                message.schedule_version += 1;
            }
        }
        self.resume(bulk_id, now_ms, config);
    }

    /// Pauses or resumes a bulk.
    pub(crate) fn set_paused(&mut self, bulk_id: &str, paused: bool, config: &SimulatorConfig) {
        if let Some(bulk) = self.messages.bulk_mut(bulk_id) {
            bulk.paused = paused;
        }
        if !paused {
            self.resume(bulk_id, self.clock.now_ms(), config);
        }
    }

    /// Cancels the messages of a bulk that are not sent yet.
    pub(crate) fn cancel(&mut self, bulk_id: &str, config: &SimulatorConfig) {
        if let Some(bulk) = self.messages.bulk_mut(bulk_id) {
            bulk.canceled = true;
        }
        let now_ms = self.clock.now_ms();
        for row in self.scheduled_rows(bulk_id) {
            self.finish(
                row,
                now_ms,
                UNDELIVERABLE_NOT_SENT,
                EC_MESSAGE_CANCELED,
                config,
            );
        }
    }

    /// Sends the due messages of a bulk that is not paused, and sets timers for the others.
    fn resume(&mut self, bulk_id: &str, now_ms: i64, config: &SimulatorConfig) {
        if self.messages.bulk(bulk_id).is_some_and(|bulk| bulk.paused) {
            return;
        }
        for row in self.scheduled_rows(bulk_id) {
            let Some(message) = self.messages.get_mut(row) else {
                continue;
            };
            message.schedule_version += 1;
            let (sent_at_ms, schedule_version) = (message.sent_at_ms, message.schedule_version);
            if sent_at_ms > now_ms {
                self.timers.set(
                    sent_at_ms,
                    Timer::Dispatch {
                        row,
                        schedule_version,
                    },
                );
            } else {
                self.dispatch(row, now_ms, false, config);
            }
        }
    }

    /// The rows of a bulk that are not sent yet.
    pub(crate) fn scheduled_rows(&self, bulk_id: &str) -> Vec<RowId> {
        let rows = self.messages.bulk(bulk_id).into_iter().flat_map(Bulk::rows);
        rows.filter(|row| {
            self.messages
                .get(*row)
                .is_some_and(|message| message.phase == Phase::Scheduled)
        })
        .collect()
    }
}
