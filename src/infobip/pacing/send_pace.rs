//! The rate of sends that the account allows, in requests and in messages, and the part of it that only urgent messages may use.
//!
//! A request may begin as soon as the requests and messages before it are paid for. It may have more messages than are paid for: then
//! the next one waits the longer.
//!
//! Invariant: over time, neither rate is exceeded, nor this process's part of it.
//! Neighbours: `send::dispatcher` asks before each request, and pays for it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{config, ops::metrics::Lane};

/// Requests and messages are spread over a second: those of this time may leave at once.
const BURST: Duration = Duration::from_millis(100);

/// Limits sends to `infobip.send_requests_per_second` and `infobip.send_messages_per_second`.
#[derive(Debug)]
pub struct SendPace(Mutex<State>);

#[derive(Debug)]
struct State {
    /// For both lanes.
    shared: Budget,
    /// For urgent messages only. `None` if nothing is reserved, or nothing limited.
    urgent: Option<Budget>,
    replicas: u32,
}

/// What a request is paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Both,
    /// All messages of the request must be urgent.
    Urgent,
}

/// A part of the rates.
#[derive(Debug)]
struct Budget {
    requests: Meter,
    messages: Meter,
}

#[derive(Debug)]
struct Meter {
    /// The account's part, for all replicas. 0: no limit.
    per_second: f64,
    /// When all that was used is paid for.
    paid_at: Option<Instant>,
}

impl SendPace {
    #[must_use]
    pub fn new(config: &config::Infobip, urgent_percent: u32) -> Self {
        let (requests, messages) = (
            config.send_requests_per_second,
            config.send_messages_per_second,
        );
        Self(Mutex::new(State::new(requests, messages, urgent_percent)))
    }

    /// Sets the number of processes that share the rates.
    pub fn set_replicas(&self, replicas: u32) {
        self.0.lock().replicas = replicas.max(1);
    }

    /// What a request of this lane can be paid from now.
    ///
    /// # Errors
    /// When to ask again.
    pub fn share(&self, lane: Lane) -> Result<Share, Instant> {
        self.0.lock().share(lane, Instant::now())
    }

    /// Pays for a request that begins now.
    pub fn pay(&self, share: Share, messages: usize) {
        self.0.lock().pay(share, messages, Instant::now());
    }

    /// Gives back what was paid for messages that were not sent: the API refused their request as a whole, or they were not in it. A
    /// request that was made counts.
    pub fn give_back(&self, share: Share, requests: u32, messages: usize) {
        self.0.lock().give_back(share, requests, messages);
    }

    /// Number of messages that a shared request should not exceed: those of one second, or of the time between two requests if that is
    /// longer.
    #[must_use]
    pub fn max_messages(&self, share: Share) -> usize {
        self.0.lock().max_messages(share)
    }
}

impl State {
    /// A rate of 0 is no limit.
    fn new(requests: u32, messages: u32, urgent_percent: u32) -> Self {
        let budget = |percent: u32| {
            let meter = |rate: u32| Meter {
                per_second: f64::from(rate) * f64::from(percent) / 100.0,
                paid_at: None,
            };
            Budget {
                requests: meter(requests),
                messages: meter(messages),
            }
        };
        let is_reserved = urgent_percent > 0 && (requests > 0 || messages > 0);
        Self {
            shared: budget(100 - urgent_percent),
            urgent: is_reserved.then(|| budget(urgent_percent)),
            replicas: 1,
        }
    }

    fn share(&self, lane: Lane, now: Instant) -> Result<Share, Instant> {
        let not_before = |budget: &Budget| budget.not_before(now, self.replicas);
        let shared = not_before(&self.shared);
        let urgent = self.urgent.as_ref().filter(|_| lane == Lane::Urgent);
        match (urgent.map(not_before), shared) {
            // What is shared is left to normal messages.
            (Some(None), _) => Ok(Share::Urgent),
            (_, None) => Ok(Share::Both),
            (Some(Some(one)), Some(other)) => Err(one.min(other)),
            (None, Some(at)) => Err(at),
        }
    }

    fn budget(&mut self, share: Share) -> &mut Budget {
        match (share, &mut self.urgent) {
            (Share::Urgent, Some(urgent)) => urgent,
            _ => &mut self.shared,
        }
    }

    fn give_back(&mut self, share: Share, requests: u32, messages: usize) {
        let replicas = self.replicas;
        let budget = self.budget(share);
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        budget.requests.give_back(requests, replicas);
        budget.messages.give_back(messages, replicas);
    }

    fn pay(&mut self, share: Share, messages: usize, now: Instant) {
        let replicas = self.replicas;
        let budget = self.budget(share);
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        budget.requests.pay(1, now, replicas);
        budget.messages.pay(messages, now, replicas);
    }

    fn max_messages(&self, share: Share) -> usize {
        let budget = match share {
            Share::Urgent => self.urgent.as_ref().unwrap_or(&self.shared),
            Share::Both => &self.shared,
        };
        let one = budget.messages.takes(1, self.replicas);
        // A little more than a second, because `one` is rounded to a nanosecond.
        let time = Duration::from_millis(1_001).max(budget.requests.takes(1, self.replicas));
        match time.as_nanos().checked_div(one.as_nanos()) {
            None => usize::MAX,
            Some(messages) => usize::try_from(messages).unwrap_or(usize::MAX).max(1),
        }
    }
}

impl Budget {
    /// `None`: a request may begin now.
    fn not_before(&self, now: Instant, replicas: u32) -> Option<Instant> {
        let requests = self.requests.not_before(now, replicas);
        requests.max(self.messages.not_before(now, replicas))
    }
}

impl Meter {
    /// The time of this process's part of the rate that `used` is worth.
    fn takes(&self, used: u32, replicas: u32) -> Duration {
        if self.per_second == 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(f64::from(used) * f64::from(replicas) / self.per_second)
    }

    fn not_before(&self, now: Instant, replicas: u32) -> Option<Instant> {
        let burst = BURST.saturating_sub(self.takes(1, replicas));
        self.paid_at?
            .checked_sub(burst)
            .filter(|until| *until > now)
    }

    fn pay(&mut self, used: u32, now: Instant, replicas: u32) {
        let takes = self.takes(used, replicas);
        if !takes.is_zero() {
            self.paid_at = Some(self.paid_at.map_or(now, |at| at.max(now)) + takes);
        }
    }

    fn give_back(&mut self, used: u32, replicas: u32) {
        let takes = self.takes(used, replicas);
        self.paid_at = self.paid_at.and_then(|at| at.checked_sub(takes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many requests with one message may begin now.
    fn burst(state: &mut State, lane: Lane, now: Instant) -> usize {
        (0..1_000)
            .take_while(|_| {
                let share = state.share(lane, now);
                share.is_ok_and(|share| {
                    state.pay(share, 1, now);
                    true
                })
            })
            .count()
    }

    /// How many begin within ten seconds, one message each.
    fn in_ten_seconds(state: &mut State, lane: Lane, start: Instant) -> usize {
        (0..10_000)
            .map(|ms| burst(state, lane, start + Duration::from_millis(ms)))
            .sum()
    }

    #[test]
    fn a_rate_of_zero_is_unlimited() {
        let mut state = State::new(0, 0, 10);
        let now = Instant::now();
        assert_eq!(burst(&mut state, Lane::Normal, now), 1_000);
        assert_eq!(state.share(Lane::Urgent, now), Ok(Share::Both));
        assert_eq!(state.max_messages(Share::Both), usize::MAX);
    }

    #[test]
    fn requests_are_spread_over_the_second() {
        assert_eq!(
            burst(&mut State::new(50, 0, 0), Lane::Normal, Instant::now()),
            5
        );
        assert_eq!(
            burst(&mut State::new(1, 0, 0), Lane::Normal, Instant::now()),
            1
        );
        let begun = in_ten_seconds(&mut State::new(50, 0, 0), Lane::Normal, Instant::now());
        assert!((500..=505).contains(&begun), "{begun}");
    }

    #[test]
    fn messages_that_are_not_paid_for_delay_the_next_request() {
        let mut state = State::new(0, 100, 0);
        let now = Instant::now();
        state.pay(Share::Both, 1_000, now);
        let until = state.share(Lane::Normal, now).unwrap_err();
        assert!(until > now + SECOND * 9 && until <= now + SECOND * 10);
        assert_eq!(state.share(Lane::Normal, until), Ok(Share::Both));
        assert_eq!(state.max_messages(Share::Both), 100);
    }

    #[test]
    fn messages_that_the_api_did_not_take_are_given_back() {
        let mut state = State::new(0, 20, 10);
        let now = Instant::now();
        state.pay(Share::Both, 10_000, now);
        assert!(state.share(Lane::Normal, now + SECOND * 500).is_err());
        state.give_back(Share::Both, 0, 10_000);
        assert_eq!(state.share(Lane::Normal, now), Ok(Share::Both));
    }

    /// Ten replicas, with one request in two seconds each.
    #[test]
    fn few_requests_carry_the_rate_of_messages() {
        let mut state = State::new(5, 500, 0);
        state.replicas = 10;
        assert_eq!(state.max_messages(Share::Both), 100);
    }

    #[test]
    fn urgent_messages_have_a_part_of_the_rate_whatever_normal_ones_use() {
        let mut state = State::new(50, 100, 20);
        let now = Instant::now();
        state.pay(Share::Both, 10_000, now);
        assert!(state.share(Lane::Normal, now + SECOND * 60).is_err());
        let begun = in_ten_seconds(&mut state, Lane::Urgent, now);
        assert!((100..=102).contains(&begun), "{begun}");

        // Together they keep the rate.
        let mut state = State::new(50, 0, 20);
        let normal = in_ten_seconds(&mut state, Lane::Normal, now);
        let urgent = in_ten_seconds(&mut state, Lane::Urgent, now);
        assert!((400..=405).contains(&normal), "{normal}");
        assert!((100..=101).contains(&urgent), "{urgent}");
    }
}
