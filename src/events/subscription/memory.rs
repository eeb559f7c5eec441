//! The memory of unacknowledged deliveries, for each application: bounded in bytes, because a number of deliveries bounds nothing.
//!
//! Invariant: all subscriptions of an application share one bound; a subscription without an unacknowledged delivery gets one however
//! much memory the others hold, so that none stands still for good. Neighbour: `task` reserves for each delivery.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::proto::v1;

/// The memory of an application.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What a delivery takes beside its event.
const DELIVERY_BYTES: usize = 512;

/// The memory of each application that has subscribers.
#[derive(Default)]
pub(super) struct Memories(Mutex<HashMap<String, Weak<Semaphore>>>);

/// The memory of one application. One permit is one byte.
pub(super) struct DeliveryMemory(Arc<Semaphore>);

/// The memory of one delivery.
pub(super) type Reserved = OwnedSemaphorePermit;

impl Memories {
    pub(super) fn of(&self, application: &str) -> DeliveryMemory {
        let mut memories = self.0.lock();
        if let Some(memory) = memories.get(application).and_then(Weak::upgrade) {
            return DeliveryMemory(memory);
        }
        memories.retain(|_, memory| memory.strong_count() > 0);
        let memory = Arc::new(Semaphore::new(MAX_BYTES));
        memories.insert(application.to_owned(), Arc::downgrade(&memory));
        DeliveryMemory(memory)
    }
}

impl DeliveryMemory {
    /// Reserves memory for a delivery of this event. `None` if there is not enough.
    pub(super) fn reserve(&self, event: &v1::Event) -> Option<Reserved> {
        // The event is held twice: until its subscriber has read it, and until it is acknowledged.
        let bytes = (2 * event.encoded_len() + DELIVERY_BYTES).min(MAX_BYTES);
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()
    }

    #[cfg(test)]
    pub(super) fn of_bytes(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_of_an_application_share_its_memory() {
        let memories = Memories::default();
        let event = v1::Event {
            source_payload: "x".repeat(MAX_BYTES),
            ..Default::default()
        };
        let (one, other) = (memories.of("shop"), memories.of("shop"));
        let reserved = one.reserve(&event).expect("one event, however long");
        let small = v1::Event::default();
        assert!(other.reserve(&small).is_none());
        assert!(memories.of("billing").reserve(&small).is_some());
        drop(reserved);
        assert!(other.reserve(&small).is_some());
        drop((one, other));
        memories.of("ops");
        assert_eq!(memories.0.lock().len(), 1, "unused ones are forgotten");
    }
}
