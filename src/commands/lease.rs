//! The hold of this process on the deliveries of one session: whether the broker may have given them to another consumer.
//!
//! A delivery is lost with its session. A process that was stopped (SIGSTOP, a suspended container) does not notice that the broker has
//! closed its session meanwhile, so a gap in the monotonic clock counts as the end of the session too.
//! Invariant: once lost, a lease stays lost (P2, docs/RELIABILITY.md).
//! Neighbours: `send` asks before each request; `custody` and `waiting` ask before a copy and a question for room.

use std::{
    fmt,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use lapin::{Channel, message::Delivery};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::decoded_size::{TooLarge, decoded_bytes};
use crate::{amqp::Session, send::Lease};

/// The longest time between two looks at the clock, if the process runs.
const LOOK: Duration = Duration::from_secs(1);

/// The hold on the deliveries of one session.
pub(super) struct SessionLease {
    is_open: Box<dyn Fn() -> bool + Send + Sync>,
    lost: CancellationToken,
    clock: Mutex<Clock>,
    /// The process was stopped if it did not look at the clock for this long. The broker ends a session no sooner than two heartbeat
    /// intervals after the last sign of life.
    max_gap: Duration,
}

/// Finds the times in which the process did not run.
struct Clock {
    /// When it was last looked at.
    seen: Instant,
}

impl Clock {
    /// The time since the last look.
    fn look(&mut self, now: Instant) -> Duration {
        let gap = now.saturating_duration_since(self.seen);
        self.seen = self.seen.max(now);
        gap
    }
}

impl SessionLease {
    pub(super) fn new(session: &Session, heartbeat: Duration) -> Self {
        let state = session.state();
        Self::of(move || state.is_open(), heartbeat)
    }

    fn of(is_open: impl Fn() -> bool + Send + Sync + 'static, heartbeat: Duration) -> Self {
        Self {
            is_open: Box::new(is_open),
            lost: CancellationToken::new(),
            clock: Mutex::new(Clock {
                seen: Instant::now(),
            }),
            max_gap: heartbeat,
        }
    }

    /// Ends the hold.
    pub(super) fn end(&self) {
        self.lost.cancel();
    }

    /// Resolves when the hold has ended.
    pub(super) fn lost(&self) -> WaitForCancellationFutureOwned {
        self.lost.clone().cancelled_owned()
    }

    /// Looks at the clock and at the channels until the hold ends.
    pub(super) async fn watch(&self, channels: &[Channel]) {
        let mut look = interval(LOOK.min(self.max_gap / 4));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.lost.cancelled() => return,
                _ = look.tick() => {}
            }
            // The broker closes a single channel of a consumer that keeps a delivery for too long.
            if self.is_lost() || !channels.iter().all(|one| one.status().connected()) {
                self.end();
                return;
            }
        }
    }

    fn look_at_the_clock(&self, now: Instant) {
        // Under the lock, so that nobody finds the clock without the gap and the hold not ended.
        let mut clock = self.clock.lock();
        let gap = clock.look(now);
        if gap >= self.max_gap {
            tracing::warn!(
                gap_s = gap.as_secs_f64(),
                "the process did not run for so long that the broker may have ended its session: its commands are taken for lost"
            );
            self.lost.cancel();
        }
    }
}

impl Lease for SessionLease {
    fn is_lost(&self) -> bool {
        if !self.lost.is_cancelled() {
            self.look_at_the_clock(Instant::now());
            if !(self.is_open)() {
                self.lost.cancel();
            }
        }
        self.lost.is_cancelled()
    }
}

impl fmt::Debug for SessionLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SessionLease");
        shown
            .field("is_lost", &self.lost.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// A delivery and the hold on it.
pub(super) struct HeldDelivery {
    delivery: Delivery,
    pub(super) lease: Arc<SessionLease>,
    /// The memory that its command takes when it is decoded, in bytes; an error if it must not be decoded.
    pub(super) decoded_bytes: Result<usize, TooLarge>,
}

impl HeldDelivery {
    pub(super) fn new(delivery: Delivery, lease: &Arc<SessionLease>) -> Self {
        Self {
            lease: Arc::clone(lease),
            decoded_bytes: decoded_bytes(&delivery),
            delivery,
        }
    }

    /// Whether the delivery can still be acknowledged. If not, the broker delivers the command again.
    pub(super) fn is_usable(&self) -> bool {
        self.delivery.acker.usable() && !self.lease.is_lost()
    }
}

impl Deref for HeldDelivery {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.delivery
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_secs(15);

    /// The process was stopped and does not know yet that the broker has closed its session.
    #[test]
    fn a_gap_in_the_clock_ends_the_hold() {
        let lease = SessionLease::of(|| true, GAP);
        let now = Instant::now();
        lease.look_at_the_clock(now + GAP / 2);
        lease.look_at_the_clock(now + GAP);
        assert!(!lease.is_lost());
        lease.look_at_the_clock(now + GAP * 2);
        assert!(lease.is_lost());
        lease.look_at_the_clock(now + GAP * 2);
        assert!(lease.is_lost(), "for good");
    }

    #[test]
    fn the_end_of_the_session_ends_the_hold() {
        assert!(SessionLease::of(|| false, GAP).is_lost());
    }
}
