//! The life cycle of an accepted message: scheduled, sent, intermediate error, final status; and its reports.
//!
//! Invariant: everything runs in virtual time under the state's lock, and effects carry the time at which the timer was due,
//! so that the same seed and requests give the same statuses at any clock speed.
//! Neighbours: [`super::acceptance`] accepts messages, [`super::outcome`] chooses the final status.

use crate::{
    config::SimulatorConfig,
    outcome::{self, DELIVERED},
    push::{Payload, Report},
    state::{State, Timer},
    store::{Bulk, Phase, Row},
};

const OUTSIDE_WINDOW: u16 = 1;
const WAITING: u16 = 3;
/// UNDELIVERABLE_NOT_SENT and EC_MESSAGE_CANCELED: a cancelled bulk.
const CANCELED: (u16, u16) = (31, 4100);

impl State {
    /// Sends a message at its time, unless its window is closed or its validity period is over.
    pub(crate) fn dispatch(
        &mut self,
        row: Row,
        at_ms: i64,
        at_once: bool,
        config: &SimulatorConfig,
    ) {
        let Some(message) = self.messages.get_mut(row) else {
            return;
        };
        let valid_until_ms = message
            .sent_at_ms
            .saturating_add(message.content.validity_ms);
        if at_ms > valid_until_ms {
            let (status, error) = outcome::expired_unsent();
            self.end(row, at_ms, status, error, config);
            return;
        }
        if let Some(window) = message.content.window {
            let opens_ms = window.next_open_ms(at_ms);
            if opens_ms > at_ms {
                message.status = OUTSIDE_WINDOW;
                message.done_at_ms = at_ms;
                let due_ms = opens_ms.min(valid_until_ms + 1);
                let schedule = message.schedule;
                self.timers.set(due_ms, Timer::Dispatch { row, schedule });
                return;
            }
        }
        message.phase = Phase::Sent;
        message.status = WAITING;
        message.done_at_ms = at_ms;
        let fate = outcome::fate(&message.to, &message.id, valid_until_ms - at_ms, config);
        let (mut intermediate_ms, mut end_ms) =
            (fate.intermediate, at_ms.saturating_add(fate.ends_after_ms));
        if at_once {
            intermediate_ms = intermediate_ms.map(|(_, error)| (0, error));
            end_ms = at_ms;
        }
        if let Some((after_ms, error)) = intermediate_ms {
            self.timers
                .set(at_ms + after_ms, Timer::Intermediate { row, error });
        }
        self.timers.set(
            end_ms,
            Timer::End {
                row,
                status: fate.status,
                error: fate.error,
            },
        );
    }

    /// Executes a timer that is due.
    pub(crate) fn fire(&mut self, timer: Timer, at_ms: i64, config: &SimulatorConfig) {
        match timer {
            Timer::Dispatch { row, schedule } => {
                let Some(message) = self.messages.get(row) else {
                    return;
                };
                let paused = self
                    .messages
                    .bulk(&message.bulk_id)
                    .is_some_and(|bulk| bulk.paused);
                if message.phase == Phase::Scheduled && message.schedule == schedule && !paused {
                    self.dispatch(row, at_ms, false, config);
                }
            }
            Timer::Intermediate { row, error } => {
                let Some(message) = self.messages.get_mut(row) else {
                    return;
                };
                message.status = WAITING;
                message.error = error;
                message.done_at_ms = at_ms;
                if message.content.intermediate_report {
                    self.report(row, at_ms, false, config);
                }
            }
            Timer::End { row, status, error } => self.end(row, at_ms, status, error, config),
            Timer::Flush(notify) => {
                if let Some(outbox) = self.outboxes.remove(&notify) {
                    let id = self.pushes.open(Payload::Reports {
                        notify,
                        reports: outbox.reports,
                    });
                    self.ready.push((id, at_ms));
                }
            }
            Timer::Push(id) => self.ready.push((id, at_ms)),
        }
    }

    fn end(&mut self, row: Row, at_ms: i64, status: u16, error: u16, config: &SimulatorConfig) {
        let Some(message) = self.messages.get_mut(row) else {
            return;
        };
        if message.phase == Phase::Final {
            return;
        }
        message.phase = Phase::Final;
        message.status = status;
        message.error = error;
        message.done_at_ms = at_ms;
        message.handset_deliveries += u32::from(status == DELIVERED);
        self.report(row, at_ms, true, config);
    }

    /// Queues a report for its notify URL, or marks it unread. Intermediate reports are only pushed.
    fn report(&mut self, row: Row, at_ms: i64, last: bool, config: &SimulatorConfig) {
        let Some(message) = self.messages.get(row) else {
            return;
        };
        let Some(notify) = message.content.notify.clone() else {
            if last {
                self.messages.mark_unread(row);
            }
            return;
        };
        let report = Report {
            row,
            status: message.status,
            error: message.error,
            done_at_ms: message.done_at_ms,
        };
        let outbox = self.outboxes.entry(notify.clone()).or_default();
        outbox.reports.push(report);
        if outbox.reports.len() >= config.push_batch_max.max(1) {
            let reports = std::mem::take(&mut outbox.reports);
            self.outboxes.remove(&notify);
            let id = self.pushes.open(Payload::Reports { notify, reports });
            self.ready.push((id, at_ms));
        } else if outbox.reports.len() == 1 {
            self.timers.set(
                at_ms + config.push_batch_window_ms.max(0),
                Timer::Flush(notify),
            );
        }
    }

    /// Fires all due timers and flushes all waiting reports now, without waiting for the batching window.
    pub(crate) fn hasten(&mut self, now_ms: i64, config: &SimulatorConfig) {
        while let Some((due_ms, timer)) = self.timers.pop_due(now_ms) {
            self.fire(timer, due_ms, config);
        }
        let waiting: Vec<_> = self.outboxes.keys().cloned().collect();
        for notify in waiting {
            self.fire(Timer::Flush(notify), now_ms, config);
        }
    }

    /// Reschedules the messages of a bulk that were not sent yet.
    pub(crate) fn reschedule(&mut self, bulk_id: &str, send_at_ms: i64, config: &SimulatorConfig) {
        let now_ms = self.clock.now_ms();
        for row in self.scheduled_rows(bulk_id) {
            self.messages.set_sent_at(row, send_at_ms.max(now_ms));
            if let Some(message) = self.messages.get_mut(row) {
                message.schedule += 1;
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

    /// Cancels the messages of a bulk that were not sent yet.
    pub(crate) fn cancel(&mut self, bulk_id: &str, config: &SimulatorConfig) {
        if let Some(bulk) = self.messages.bulk_mut(bulk_id) {
            bulk.canceled = true;
        }
        let now_ms = self.clock.now_ms();
        for row in self.scheduled_rows(bulk_id) {
            self.end(row, now_ms, CANCELED.0, CANCELED.1, config);
        }
    }

    fn resume(&mut self, bulk_id: &str, now_ms: i64, config: &SimulatorConfig) {
        if self.messages.bulk(bulk_id).is_some_and(|bulk| bulk.paused) {
            return;
        }
        for row in self.scheduled_rows(bulk_id) {
            let Some(message) = self.messages.get_mut(row) else {
                continue;
            };
            message.schedule += 1;
            let (sent_at_ms, schedule) = (message.sent_at_ms, message.schedule);
            if sent_at_ms > now_ms {
                self.timers
                    .set(sent_at_ms, Timer::Dispatch { row, schedule });
            } else {
                self.dispatch(row, now_ms, false, config);
            }
        }
    }

    /// The rows of a bulk that were not sent yet.
    pub(crate) fn scheduled_rows(&self, bulk_id: &str) -> Vec<Row> {
        let rows = self.messages.bulk(bulk_id).into_iter().flat_map(Bulk::rows);
        rows.filter(|row| {
            self.messages
                .get(*row)
                .is_some_and(|message| message.phase == Phase::Scheduled)
        })
        .collect()
    }
}
