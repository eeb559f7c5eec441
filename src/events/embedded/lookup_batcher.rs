//! Begins sends whose ids the caller can repeat: looks up earlier sends with the same ids, and enters new ones in the journal.
//!
//! Invariants: one batch of lookups runs at a time, and lookups that arrive meanwhile form the next batch, so that thousands
//! of callers need one thread and one connection; a lookup sees every event that was durable when it was requested. The
//! queue is bounded by the number of calls, as each call waits for its lookup.
//! Neighbours: `reader` has the connections, `send_journal` the begun sends.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    super::{BeginSends, ContentDigest, EarlierSend, EarlierSends, ReadError},
    reader::{Readers, find_send, unavailable},
    send_journal::JournalFile,
};

type LookupResult = Result<EarlierSends, ReadError>;

struct Lookup {
    begin: BeginSends,
    reply: oneshot::Sender<LookupResult>,
}

#[derive(Default)]
struct State {
    queued: Vec<Lookup>,
    is_running: bool,
}

pub(super) struct LookupBatcher {
    readers: Arc<Readers>,
    pub(super) journal: JournalFile,
    state: Mutex<State>,
}

impl LookupBatcher {
    pub(super) fn new(readers: Arc<Readers>, journal: JournalFile) -> Arc<Self> {
        Arc::new(Self {
            readers,
            journal,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// See [`super::super::SendJournal::begin`].
    pub(super) async fn find(self: &Arc<Self>, begin: BeginSends) -> LookupResult {
        let (reply, found) = oneshot::channel();
        let was_running = {
            let mut state = self.state();
            state.queued.push(Lookup { begin, reply });
            std::mem::replace(&mut state.is_running, true)
        };
        if !was_running {
            let runner = BatchRunner {
                batcher: Arc::clone(self),
                is_done: false,
            };
            tokio::task::spawn_blocking(move || runner.run_batches());
        }
        found
            .await
            .unwrap_or_else(|_| Err(ReadError::Unavailable("the lookup task ended".to_owned())))
    }
}

/// Runs batches until the queue is empty. If it is dropped before, the queued lookups fail.
struct BatchRunner {
    batcher: Arc<LookupBatcher>,
    is_done: bool,
}

impl BatchRunner {
    fn run_batches(mut self) {
        while let Some(batch) = self.next_batch() {
            self.run_batch(batch);
        }
    }

    fn next_batch(&mut self) -> Option<Vec<Lookup>> {
        let mut state = self.batcher.state();
        if state.queued.is_empty() {
            // Set under this lock, so that the next lookup starts a new runner.
            state.is_running = false;
            self.is_done = true;
            return None;
        }
        Some(std::mem::take(&mut state.queued))
    }

    fn run_batch(&self, batch: Vec<Lookup>) {
        let mut found = Vec::with_capacity(batch.len());
        let outcome = self.batcher.readers.read(|connection| {
            // One snapshot, and one lock of the file, for the whole batch.
            let snapshot = connection.unchecked_transaction()?;
            for lookup in &batch {
                found.push(find(&snapshot, &lookup.begin)?);
            }
            Ok(())
        });
        // The failed lookup and all that follow it get the error. If a caller has gone away, sending its reply fails harmlessly.
        let mut batch = batch.into_iter();
        let succeeded: Vec<_> = batch.by_ref().take(found.len()).collect();
        let entered = self.enter_in_journal(&succeeded, &mut found);
        for (lookup, found) in succeeded.into_iter().zip(found) {
            let _ = lookup.reply.send(entered.clone().map(|()| found));
        }
        if let Err(error) = outcome {
            for lookup in batch {
                let _ = lookup.reply.send(Err(unavailable(&error)));
            }
        }
    }

    /// Enters the sends without a result in the journal, with one write for the batch.
    fn enter_in_journal(
        &self,
        lookups: &[Lookup],
        found: &mut [EarlierSends],
    ) -> Result<(), ReadError> {
        let requested = lookups.iter().flat_map(|lookup| &lookup.begin.sends);
        let answers = found.iter_mut().flat_map(|found| &mut found.sends);
        let (new, answers): (Vec<(&str, ContentDigest)>, Vec<_>) = requested
            .zip(answers)
            .filter(|(_, answer)| answer.is_none())
            .map(|((wire_id, digest), answer)| ((wire_id.as_str(), *digest), answer))
            .unzip();
        let earlier = self.batcher.journal.begin(&new).map_err(|error| {
            ReadError::Unavailable(format!("cannot enter begun sends in its journal: {error}"))
        })?;
        for (answer, earlier) in answers.into_iter().zip(earlier) {
            *answer = earlier.map(|begun| EarlierSend::Interrupted {
                at: begun.at,
                digest: begun.digest,
            });
        }
        for (lookup, found) in lookups.iter().zip(found) {
            let mut others = lookup.begin.conflicting_ids.iter();
            found.conflicting_id |= others.any(|wire_id| self.batcher.journal.is_begun(wire_id));
        }
        Ok(())
    }
}

fn find(connection: &Connection, begin: &BeginSends) -> rusqlite::Result<EarlierSends> {
    let mut earlier = EarlierSends::default();
    for (wire_id, _) in &begin.sends {
        earlier.sends.push(find_send(connection, wire_id)?);
    }
    for wire_id in &begin.conflicting_ids {
        earlier.conflicting_id |= find_send(connection, wire_id)?.is_some();
    }
    Ok(earlier)
}

impl Drop for BatchRunner {
    fn drop(&mut self) {
        if !self.is_done {
            let mut state = self.batcher.state();
            state.is_running = false;
            state.queued.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        events::{EventLog as _, NewEvent, SendJournal as _, embedded::EmbeddedLog},
        message::id::ApplicationName,
        ops::metrics::Metrics,
        proto::v1,
    };

    fn result(message_id: &str) -> NewEvent {
        let result = Box::new(v1::SendResult {
            message_id: message_id.to_owned(),
            outcome: v1::Outcome::Accepted.into(),
            ..v1::SendResult::default()
        });
        let application = ApplicationName::default_application();
        NewEvent::send_result(&application, "", Some([7; 16]), result, Timestamp::now())
    }

    #[tokio::test]
    async fn concurrent_lookups_get_their_own_results() {
        let folder = tempfile::tempdir().unwrap();
        let an_hour = Duration::from_secs(3600);
        let log = Arc::new(EmbeddedLog::open(folder.path(), an_hour, Metrics::new()).unwrap());
        let sent: Vec<_> = (0..300).map(|n| result(&format!("m{n}"))).collect();
        log.append(Arc::new(sent)).await.unwrap();
        let batcher: Vec<_> = (0..300)
            .map(|n| {
                let log = Arc::clone(&log);
                let wire_id = |id: String| ApplicationName::default_application().wire_id(&id);
                let ids = [wire_id(format!("m{n}")), wire_id(format!("never-{n}"))];
                let sends = ids.map(|id| (id, [7; 16])).to_vec();
                let begin = BeginSends {
                    sends,
                    ..BeginSends::default()
                };
                tokio::spawn(async move { log.begin(begin).await.unwrap() })
            })
            .collect();
        for (n, lookup) in batcher.into_iter().enumerate() {
            let found = tokio::time::timeout(Duration::from_secs(30), lookup)
                .await
                .unwrap()
                .unwrap();
            let ids = found.sends.iter().map(|found| match found.as_ref()? {
                EarlierSend::Done(done) => Some(done.result.message_id.clone()),
                EarlierSend::Interrupted { .. } => panic!("{found:?}"),
            });
            assert_eq!(ids.collect::<Vec<_>>(), [Some(format!("m{n}")), None]);
        }
    }

    fn begin(wire_id: &str) -> BeginSends {
        BeginSends {
            sends: vec![(wire_id.to_owned(), [7; 16])],
            ..BeginSends::default()
        }
    }

    /// This happens if the runtime shuts down before its blocking task starts.
    #[tokio::test]
    async fn queued_lookups_fail_when_the_runner_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let readers = Arc::new(Readers::new(folder.path().join("none.sqlite")));
        let path = folder.path().join("journal");
        let journal = JournalFile::open(path, Timestamp::UNIX_EPOCH, |_| false).unwrap();
        let batcher = LookupBatcher::new(readers, journal);
        batcher.state().is_running = true;
        let waiting = tokio::spawn({
            let batcher = Arc::clone(&batcher);
            async move { batcher.find(begin("a")).await }
        });
        while batcher.state().queued.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(BatchRunner {
            batcher: Arc::clone(&batcher),
            is_done: false,
        });
        let deadline = Duration::from_secs(30);
        let outcome = tokio::time::timeout(deadline, waiting).await.unwrap();
        assert!(matches!(outcome.unwrap(), Err(ReadError::Unavailable(_))));
        // The next lookup starts a new runner and gets its error: there is no such file.
        let next = batcher.find(begin("a"));
        let error = tokio::time::timeout(deadline, next)
            .await
            .unwrap()
            .unwrap_err();
        assert!(error.to_string().contains("open"), "{error}");
    }
}
