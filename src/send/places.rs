//! Places that all messages share, except for a part that only urgent ones may take: the room of the queue, and the requests in flight.
//!
//! Invariant: normal messages never hold more than all places without the reserved ones.
//! Neighbours: `core` has the room of the queue, `dispatcher` the requests.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{config, ops::metrics::Lane};

/// Never closed.
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// The places that normal messages may hold. Each of theirs is one of `all`, too.
    normal: Arc<Semaphore>,
    count: usize,
    normal_count: usize,
}

/// Places that are free again when it is dropped.
pub(super) struct Taken {
    _all: OwnedSemaphorePermit,
    normal: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// The room of the queue, one place for each destination.
    pub(super) fn in_queue(config: &config::Send) -> Self {
        let all = config.queue_capacity;
        Self::new(all, percent_of(config.urgent_percent, all))
    }

    /// The requests in flight. Of several, at least one is reserved.
    pub(super) fn of_requests(config: &config::Send) -> Self {
        let all = config.max_requests_in_flight;
        let is_reserved = config.urgent_percent > 0 && all > 1;
        let reserved = percent_of(config.urgent_percent, all).max(usize::from(is_reserved));
        Self::new(all, reserved)
    }

    fn new(count: usize, reserved: usize) -> Self {
        let normal_count = count.saturating_sub(reserved);
        Self {
            all: Arc::new(Semaphore::new(count)),
            normal: Arc::new(Semaphore::new(normal_count)),
            count,
            normal_count,
        }
    }

    /// `count`, or all places that this lane may have, if they are fewer.
    fn at_most(&self, lane: Lane, count: usize) -> usize {
        count.min(match lane {
            Lane::Urgent => self.count,
            Lane::Normal => self.normal_count,
        })
    }

    /// Whether [`Self::try_take_at_most`] would take places now.
    pub(super) fn has(&self, lane: Lane, count: usize) -> bool {
        let count = self.at_most(lane, count);
        let for_normal = lane == Lane::Urgent || self.normal.available_permits() >= count;
        for_normal && self.all.available_permits() >= count
    }

    /// Takes `count` places, or all that this lane may have, if so many are free.
    pub(super) fn try_take_at_most(&self, lane: Lane, count: usize) -> Option<Taken> {
        self.try_take(lane, self.at_most(lane, count))
    }

    /// Takes `count` places, if so many are free for this lane.
    pub(super) fn try_take(&self, lane: Lane, count: usize) -> Option<Taken> {
        let count = u32::try_from(count).ok()?;
        let normal = match lane {
            Lane::Urgent => None,
            Lane::Normal => Some(
                Arc::clone(&self.normal)
                    .try_acquire_many_owned(count)
                    .ok()?,
            ),
        };
        let all = Arc::clone(&self.all).try_acquire_many_owned(count).ok()?;
        Some(Taken { _all: all, normal })
    }

    /// Waits for one place. It is for an urgent message, unless [`Self::allow_normal`] allows a normal one.
    pub(super) async fn take_one(&self) -> Taken {
        let all = Arc::clone(&self.all).acquire_owned().await;
        Taken {
            _all: all.expect("the semaphore is never closed"),
            normal: None,
        }
    }

    /// Whether a normal message may have a place of [`Self::take_one`].
    pub(super) fn allow_normal(&self, place: &mut Taken) -> bool {
        if place.normal.is_none() {
            place.normal = Arc::clone(&self.normal).try_acquire_owned().ok();
        }
        place.normal.is_some()
    }

    /// Resolves when a place for a normal message may be free.
    pub(super) async fn normal_freed(&self) {
        drop(self.normal.acquire().await);
    }

    /// Resolves when no place is taken.
    pub(super) async fn all_free(&self) {
        let all = u32::try_from(self.count).unwrap_or(u32::MAX);
        drop(self.all.acquire_many(all).await);
    }
}

impl Taken {
    /// The place is for an urgent message only.
    pub(super) fn for_urgent(&mut self) {
        self.normal = None;
    }
}

/// Rounded down.
fn percent_of(percent: u32, count: usize) -> usize {
    let percent = usize::try_from(percent).expect("config::check bounds it by 50");
    count * percent / 100
}

#[cfg(test)]
impl Taken {
    /// One place of its own.
    pub(super) fn alone() -> Self {
        Places::new(1, 0).try_take(Lane::Urgent, 1).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urgent_messages_may_take_what_is_reserved() {
        let places = Places::new(10, 2);
        assert_eq!(places.at_most(Lane::Normal, 11), 8);
        assert_eq!(places.at_most(Lane::Urgent, 11), 10);
        let normal = places.try_take(Lane::Normal, 8).unwrap();
        assert!(places.has(Lane::Urgent, 2) && !places.has(Lane::Normal, 1));
        assert!(places.try_take(Lane::Normal, 1).is_none());
        let urgent = places.try_take(Lane::Urgent, 1).unwrap();
        let mut last = places.take_one().await;
        assert!(!places.allow_normal(&mut last));
        drop(normal);
        assert!(places.allow_normal(&mut last));
        assert!(places.try_take(Lane::Normal, 8).is_none());
        assert!(places.try_take(Lane::Urgent, 9).is_none());
        drop((urgent, last));
        places.all_free().await;
    }
}
