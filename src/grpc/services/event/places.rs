//! Counts the streams of events of each application, because each holds events in memory.
//!
//! Invariant: a place is given back when its stream is dropped. Neighbour: `event` takes one for each stream.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

/// Maximum number of streams of events of an application.
pub(super) const MAX_STREAMS: usize = 256;

/// The number of streams of each application that has some. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct StreamPlaces(Arc<Mutex<HashMap<String, usize>>>);

/// The place of one stream.
pub(super) struct StreamPlace {
    application: String,
    places: StreamPlaces,
}

impl StreamPlaces {
    /// Takes a place. `None` if the application has [`MAX_STREAMS`].
    pub(super) fn take(&self, application: &str) -> Option<StreamPlace> {
        let mut streams = self.0.lock();
        let count = streams.entry(application.to_owned()).or_default();
        if *count >= MAX_STREAMS {
            return None;
        }
        *count += 1;
        Some(StreamPlace {
            application: application.to_owned(),
            places: self.clone(),
        })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut streams = self.places.0.lock();
        if let Some(count) = streams.get_mut(&self.application) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.application);
            }
        }
    }
}
