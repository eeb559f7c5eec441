//! The newest chunks in memory, so that readers at the head, of which there may be hundreds, need no read of the file for each commit.
//!
//! Invariants: only durable chunks, one after the other without a gap; bounded in bytes; empty while nobody reads.
//! Neighbours: the writer adds, `reader` asks here first.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

/// Older chunks are let go above this; the newest one always stays.
const MAX_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct RecentChunk {
    pub(super) first_seq: i64,
    pub(super) last_seq: i64,
    pub(super) events: Box<[u8]>,
}

#[derive(Default)]
pub(super) struct Recent(Mutex<Chunks>);

#[derive(Default)]
struct Chunks {
    chunks: VecDeque<Arc<RecentChunk>>,
    bytes: usize,
}

impl Recent {
    /// Adds durable chunks, which follow those that are there.
    pub(super) fn add(&self, new: impl Iterator<Item = RecentChunk>) {
        let mut recent = self.0.lock();
        for chunk in new {
            let newest = recent.chunks.back().map(|newest| newest.last_seq);
            if newest.is_some_and(|newest| newest + 1 != chunk.first_seq) {
                *recent = Chunks::default();
            }
            recent.bytes += chunk.events.len();
            recent.chunks.push_back(Arc::new(chunk));
            while recent.bytes > MAX_BYTES && recent.chunks.len() > 1 {
                let oldest = recent.chunks.pop_front();
                recent.bytes -= oldest.map_or(0, |oldest| oldest.events.len());
            }
        }
    }

    pub(super) fn clear(&self) {
        *self.0.lock() = Chunks::default();
    }

    /// The chunks with events after `after`. `None` if the next event is not here.
    pub(super) fn after(&self, after: i64) -> Option<Vec<Arc<RecentChunk>>> {
        let recent = self.0.lock();
        let oldest = recent.chunks.front()?.first_seq;
        let newest = recent.chunks.back()?.last_seq;
        if oldest > after + 1 || newest <= after {
            return None;
        }
        let chunks = recent.chunks.iter();
        // A reader at the head needs the last ones.
        let mut found: Vec<_> = chunks
            .rev()
            .take_while(|chunk| chunk.last_seq > after)
            .cloned()
            .collect();
        found.reverse();
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(first_seq: i64, last_seq: i64, bytes: usize) -> RecentChunk {
        RecentChunk {
            first_seq,
            last_seq,
            events: vec![0; bytes].into(),
        }
    }

    #[test]
    fn what_is_not_here_completely_is_read_from_the_file() {
        let recent = Recent::default();
        let after = |after| {
            let found = recent.after(after)?;
            Some(found.iter().map(|chunk| chunk.last_seq).collect::<Vec<_>>())
        };
        assert_eq!(after(0), None);
        let third = MAX_BYTES / 3 + 1;
        recent.add([chunk(5, 6, third), chunk(7, 9, third), chunk(10, 10, 1)].into_iter());
        assert_eq!(after(3), None, "4 is not here");
        assert_eq!(after(4), Some(vec![6, 9, 10]));
        assert_eq!(after(5), Some(vec![6, 9, 10]));
        assert_eq!(after(6), Some(vec![9, 10]));
        assert_eq!(after(9), Some(vec![10]));
        assert_eq!(after(10), None);
        recent.add([chunk(11, 11, third)].into_iter());
        assert_eq!(after(4), None, "too many bytes");
        assert_eq!(after(6), Some(vec![9, 10, 11]));
        recent.add([chunk(12, 12, 2 * MAX_BYTES)].into_iter());
        assert_eq!(after(11), Some(vec![12]), "the newest stays");
        recent.add([chunk(20, 20, 1)].into_iter());
        assert_eq!(after(11), None, "no gap");
        assert_eq!(after(19), Some(vec![20]));
    }
}
