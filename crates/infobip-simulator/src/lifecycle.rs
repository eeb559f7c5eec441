//! The life cycle of an accepted message (scheduled, sent, temporary error, final status) and its reports.
//!
//! Invariant: everything runs in virtual time under the state's lock, and effects carry the time at which the timer was due,
//! so that the same seed and requests give the same statuses at any clock speed.
//! Neighbours: [`super::acceptance`] accepts messages, [`super::outcome`] chooses the final status.

mod bulks;

use crate::{
    codes::id::{DELIVERED_TO_HANDSET, PENDING_TIME_VIOLATION, PENDING_WAITING_DELIVERY},
    config::SimulatorConfig,
    outcome,
    push::{DeliveryReport, DuePush, PushContent},
    state::{SimulatorState, Timer},
    store::{FinalReport, Phase, RowId},
    submission::NotifyTarget,
};

impl SimulatorState {
    /// Sends a message, unless its delivery window is closed or its validity period is over. With `immediately` its final
    /// status is due at once.
    pub(crate) fn dispatch(
        &mut self,
        row: RowId,
        at_ms: i64,
        immediately: bool,
        config: &SimulatorConfig,
    ) {
        let Some(message) = self.messages.get(row) else {
            return;
        };
        let valid_until_ms = message
            .sent_at_ms
            .saturating_add(message.content.validity_ms);
        if at_ms > valid_until_ms {
            let (status, error) = outcome::expired_unsent();
            self.finish(row, at_ms, status, error, config);
            return;
        }
        if let Some(window) = message.content.window {
            let opens_ms = window.next_open_ms(at_ms);
            if opens_ms > at_ms {
                let due_ms = opens_ms.min(valid_until_ms + 1);
                let schedule_version = message.schedule_version;
                self.change_message(row, |message| {
                    message.status = PENDING_TIME_VIOLATION;
                    message.done_at_ms = at_ms;
                    message.rare_mut().held_at_ms = Some(at_ms);
                });
                self.timers.set(
                    due_ms,
                    Timer::Dispatch {
                        row,
                        schedule_version,
                    },
                );
                return;
            }
        }
        let outcome =
            outcome::delivery_outcome(&message.to, &message.id, valid_until_ms - at_ms, config);
        self.change_message(row, |message| {
            message.phase = Phase::Sent;
            message.status = PENDING_WAITING_DELIVERY;
            message.done_at_ms = at_ms;
            message.dispatched_at_ms = Some(at_ms);
        });
        let (mut intermediate, mut final_at_ms) = (
            outcome.intermediate,
            at_ms.saturating_add(outcome.final_after_ms),
        );
        if immediately {
            intermediate = intermediate.map(|(_, error)| (0, error));
            final_at_ms = at_ms;
        }
        if let Some((after_ms, error)) = intermediate {
            self.timers
                .set(at_ms + after_ms, Timer::IntermediateError { row, error });
        }
        self.timers.set(
            final_at_ms,
            Timer::Finish {
                row,
                status: outcome.status,
                error: outcome.error,
            },
        );
    }

    /// Carries out a timer that was due at `at_ms`.
    pub(crate) fn fire(&mut self, timer: Timer, at_ms: i64, config: &SimulatorConfig) {
        match timer {
            Timer::Dispatch {
                row,
                schedule_version,
            } => {
                let Some(message) = self.messages.get(row) else {
                    return;
                };
                let paused = self
                    .messages
                    .bulk(&message.bulk_id)
                    .is_some_and(|bulk| bulk.paused);
                if message.phase == Phase::Scheduled
                    && message.schedule_version == schedule_version
                    && !paused
                {
                    self.dispatch(row, at_ms, false, config);
                }
            }
            Timer::IntermediateError { row, error } => {
                self.change_message(row, |message| {
                    message.status = PENDING_WAITING_DELIVERY;
                    message.error = error;
                    message.done_at_ms = at_ms;
                    message.rare_mut().temporary_error = Some((at_ms, error));
                });
                let Some(message) = self.messages.get(row) else {
                    return;
                };
                if message.content.intermediate_report {
                    self.report(row, at_ms, false, config);
                }
            }
            Timer::Finish { row, status, error } => self.finish(row, at_ms, status, error, config),
            Timer::FlushReports(notify) => {
                if let Some(batch) = self.report_batches.remove(&notify) {
                    self.push_reports(notify, batch.reports, at_ms);
                }
            }
            Timer::Push(id) => self.due_pushes.push(DuePush { id, due_ms: at_ms }),
        }
    }

    /// Gives a message its final status, once.
    fn finish(
        &mut self,
        row: RowId,
        at_ms: i64,
        status: u16,
        error: u16,
        config: &SimulatorConfig,
    ) {
        if self
            .messages
            .get(row)
            .is_none_or(|message| message.phase == Phase::Final)
        {
            return;
        }
        self.change_message(row, |message| {
            message.phase = Phase::Final;
            message.status = status;
            message.error = error;
            message.done_at_ms = at_ms;
            message.handset_deliveries += u32::from(status == DELIVERED_TO_HANDSET);
        });
        self.report(row, at_ms, true, config);
    }

    /// Queues a report for its notify URL, or marks it unread. Intermediate reports are only pushed.
    fn report(&mut self, row: RowId, at_ms: i64, is_final: bool, config: &SimulatorConfig) {
        let Some(message) = self.messages.get(row) else {
            return;
        };
        let Some(notify) = message.content.notify.clone() else {
            if is_final {
                self.messages.mark_unread(row);
            }
            return;
        };
        let report = DeliveryReport {
            row,
            status: message.status,
            error: message.error,
            done_at_ms: message.done_at_ms,
            is_final,
        };
        if is_final && let Some(message) = self.messages.get_mut(row) {
            message.report = FinalReport::Batched;
        }
        let batch = self.report_batches.entry(notify.clone()).or_default();
        batch.reports.push(report);
        if batch.reports.len() >= config.push_batch_max.max(1) {
            let reports = std::mem::take(&mut batch.reports);
            self.report_batches.remove(&notify);
            self.push_reports(notify, reports, at_ms);
        } else if batch.reports.len() == 1 {
            self.timers.set(
                at_ms + config.push_batch_window_ms.max(0),
                Timer::FlushReports(notify),
            );
        }
    }

    /// Creates a push of these reports, to be sent as soon as the lock is released.
    fn push_reports(&mut self, notify: NotifyTarget, reports: Vec<DeliveryReport>, at_ms: i64) {
        let rows: Vec<_> = reports
            .iter()
            .map(|report| (report.row, report.is_final))
            .collect();
        let id = self.pushes.create(PushContent::Reports { notify, reports });
        for (row, is_final) in rows {
            if let Some(message) = self.messages.get_mut(row) {
                if is_final {
                    message.report = FinalReport::Pushed(id);
                } else {
                    message.rare_mut().intermediate_push = Some(id);
                }
            }
        }
        self.due_pushes.push(DuePush { id, due_ms: at_ms });
        self.changes.pushes();
    }

    /// Fires all due timers and flushes all waiting reports now, without waiting for the batching window.
    pub(crate) fn fire_and_flush_now(&mut self, now_ms: i64, config: &SimulatorConfig) {
        while let Some((due_ms, timer)) = self.timers.pop_due(now_ms) {
            self.fire(timer, due_ms, config);
        }
        let waiting: Vec<_> = self.report_batches.keys().cloned().collect();
        for notify in waiting {
            self.fire(Timer::FlushReports(notify), now_ms, config);
        }
    }
}
