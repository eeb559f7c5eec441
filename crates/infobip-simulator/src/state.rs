//! The simulator's data, behind one lock: clock, timers, messages, inbox, pushes, short links, account.
//!
//! Invariant: no function here awaits. A push to send is queued in [`SimulatorState::due_pushes`], and `engine` sends it after
//! it has released the lock. Neighbours: [`super::lifecycle`] changes messages, `engine` holds the lock.

mod inbox;
mod short_links;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    changes::Changes,
    clock::{Clock, MINUTE_MS, Timers},
    config::SimulatorConfig,
    phones::{PhoneId, Phones},
    push::{DuePush, DuePushes, PushContent, PushId, Pushes, ReportBatch},
    random::SeededRandom,
    store::{Message, MessageStore, RowId, StatusCounts},
    submission::NotifyTarget,
};

pub(crate) use self::{
    inbox::{Inbox, MoContent, MoMessage, ReceivedMessage},
    short_links::{Click, Device, GeoLocation, RecordedClick, ShortLink, ShortLinks},
};

/// Numbers whose look-ups are counted.
const MAX_LOOKED_UP: usize = 200_000;

/// An action at a virtual time.
#[derive(Debug)]
pub(crate) enum Timer {
    /// Sends a scheduled message, unless it was rescheduled since the timer was set.
    Dispatch {
        row: RowId,
        /// The message's `schedule_version` when the timer was set.
        schedule_version: u32,
    },
    /// Gives a message a temporary error.
    IntermediateError { row: RowId, error: u16 },
    /// Gives a message its final status.
    Finish { row: RowId, status: u16, error: u16 },
    /// Pushes the reports collected for a URL.
    FlushReports(NotifyTarget),
    /// Attempts a push, for the first time or again.
    Push(PushId),
}

/// All data of the simulated account.
#[derive(Debug)]
pub(crate) struct SimulatorState {
    pub(crate) clock: Clock,
    pub(crate) timers: Timers<Timer>,
    pub(crate) messages: MessageStore,
    pub(crate) inbox: Inbox,
    /// The numbers of all messages, in both directions.
    pub(crate) phones: Phones,
    pub(crate) changes: Changes,
    /// Reports that wait for their batch.
    pub(crate) report_batches: BTreeMap<NotifyTarget, ReportBatch>,
    pub(crate) pushes: Pushes,
    /// Pushes to attempt as soon as the lock is released.
    pub(crate) due_pushes: Vec<DuePush>,
    pub(crate) links: ShortLinks,
    pub(crate) account: Account,
    /// For the flooding filter: time and content hash of the messages of the last hour, by number.
    pub(crate) recent_sends: HashMap<Box<str>, VecDeque<(i64, u64)>>,
    /// Incremented by each reset. A push that began in another generation is discarded.
    pub(crate) generation: u64,
    /// When the clock loop wakes up by itself: it is notified only of earlier timers.
    pub(crate) wakes_at_ms: i64,
    /// How many generators [`SimulatorState::next_random`] has returned.
    generator_count: u64,
    seed: u64,
}

/// Credits, quotas, tokens and conversions.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) balance_micros: u64,
    /// Rejected destinations since the start, by their status.
    pub(crate) rejections: StatusCounts,
    /// Times of the requests to the logs in the last minute.
    pub(crate) log_requests: VecDeque<i64>,
    /// Bearer and IBSSO tokens with their expiry times.
    pub(crate) tokens: HashMap<String, i64>,
    /// Messages whose conversion was confirmed, with the time.
    pub(crate) conversions: VecDeque<(Arc<str>, i64)>,
    /// How often each number was looked up, at most [`MAX_LOOKED_UP`] numbers: each time costs.
    pub(crate) lookups: BTreeMap<Box<str>, u64>,
}

impl Account {
    /// Counts look-ups of numbers.
    pub(crate) fn count_lookups(&mut self, numbers: &[String]) {
        for number in numbers {
            if let Some(count) = self.lookups.get_mut(number.as_str()) {
                *count += 1;
            } else if self.lookups.len() < MAX_LOOKED_UP {
                self.lookups.insert(number.as_str().into(), 1);
            }
        }
    }
}

impl SimulatorState {
    /// A fresh account at `start_ms`.
    pub(crate) fn new(config: &SimulatorConfig, start_ms: i64) -> Self {
        Self {
            clock: Clock::new(start_ms, config.speed, config.frozen),
            timers: Timers::default(),
            messages: MessageStore::new(config.bounds),
            inbox: Inbox::new(config),
            phones: Phones::default(),
            changes: Changes::default(),
            report_batches: BTreeMap::new(),
            pushes: Pushes::new(config.bounds.pushes),
            due_pushes: Vec::new(),
            links: ShortLinks::default(),
            account: Account {
                balance_micros: config.balance_micros,
                rejections: StatusCounts::default(),
                log_requests: VecDeque::new(),
                tokens: HashMap::new(),
                conversions: VecDeque::new(),
                lookups: BTreeMap::new(),
            },
            recent_sends: HashMap::new(),
            generation: 0,
            wakes_at_ms: i64::MAX,
            generator_count: 0,
            seed: config.seed,
        }
    }

    /// A random generator for the next item of a kind.
    pub(crate) fn next_random(&mut self, kind: &str) -> SeededRandom {
        self.generator_count += 1;
        SeededRandom::for_item(self.seed, kind, self.generator_count)
    }

    /// Counts a request to the logs; false if the minute's quota is used up.
    pub(crate) fn admit_log_request(&mut self, per_minute: usize) -> bool {
        let now_ms = self.clock.now_ms();
        let recent = &mut self.account.log_requests;
        while recent.front().is_some_and(|at| *at + MINUTE_MS <= now_ms) {
            recent.pop_front();
        }
        if per_minute == 0 {
            return true;
        }
        let admitted = recent.len() < per_minute;
        if admitted {
            recent.push_back(now_ms);
        }
        admitted
    }

    /// Takes the pushes that are due, with the generation that they belong to.
    pub(crate) fn take_due_pushes(&mut self) -> DuePushes {
        DuePushes {
            pushes: std::mem::take(&mut self.due_pushes),
            generation: self.generation,
        }
    }

    /// Creates a push and schedules its first attempt.
    pub(crate) fn schedule_push(&mut self, content: PushContent, at_ms: i64) -> PushId {
        let id = self.pushes.create(content);
        self.timers.set(at_ms, Timer::Push(id));
        self.changes.pushes();
        id
    }

    /// Changes the status or the phase of a message.
    pub(crate) fn change_message(&mut self, row: RowId, change: impl FnOnce(&mut Message)) {
        self.messages.change(row, &mut self.phones, change);
        self.message_changed(row);
    }

    /// Something about the conversation of a phone changed.
    pub(crate) fn phone_changed(&mut self, phone: Option<PhoneId>) {
        self.changes.phone(&mut self.phones, phone);
    }

    /// Something about a message changed that its phone shows.
    pub(crate) fn message_changed(&mut self, row: RowId) {
        if self.changes.is_listening() {
            let phone = self.messages.get(row).and_then(|message| message.phone);
            self.phone_changed(phone);
        }
    }
}
