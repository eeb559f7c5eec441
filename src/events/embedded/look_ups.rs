//! Beginning sends whose ids their callers may repeat: earlier ones are looked for, and what has none is noted as begun.
//!
//! Invariants: one look-up is made at a time, and those that come meanwhile share the next one, so that thousands of callers
//! take one thread and one connection; a look-up sees all that was durable when it was asked for. What waits is bounded by
//! the calls that wait for it. Neighbours: `reader` has the connections, `begun_sends` the notes.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    super::{BeginSends, ContentDigest, EarlierSend, EarlierSends, ReadError},
    begun_sends::BegunSends,
    reader::{Readers, find_send, unavailable},
};

type Found = Result<EarlierSends, ReadError>;

struct LookUp {
    begin: BeginSends,
    reply: oneshot::Sender<Found>,
}

#[derive(Default)]
struct State {
    waiting: Vec<LookUp>,
    is_running: bool,
}

/// The look-ups of a log.
pub(super) struct LookUps {
    readers: Arc<Readers>,
    pub(super) begun: BegunSends,
    state: Mutex<State>,
}

impl LookUps {
    pub(super) fn new(readers: Arc<Readers>, begun: BegunSends) -> Arc<Self> {
        Arc::new(Self {
            readers,
            begun,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// See [`super::super::EventLog::begin_sends`].
    pub(super) async fn find(self: &Arc<Self>, begin: BeginSends) -> Found {
        let (reply, found) = oneshot::channel();
        let was_running = {
            let mut state = self.state();
            state.waiting.push(LookUp { begin, reply });
            std::mem::replace(&mut state.is_running, true)
        };
        if !was_running {
            let running = Running {
                look_ups: Arc::clone(self),
                is_done: false,
            };
            tokio::task::spawn_blocking(move || running.answer_all());
        }
        found
            .await
            .unwrap_or_else(|_| Err(ReadError::Unavailable("the reading task ended".to_owned())))
    }
}

/// The one that makes the look-ups. Where it ends early, those that wait hear of it.
struct Running {
    look_ups: Arc<LookUps>,
    is_done: bool,
}

impl Running {
    /// Until none waits.
    fn answer_all(mut self) {
        while let Some(waiting) = self.next() {
            self.answer(waiting);
        }
    }

    fn next(&mut self) -> Option<Vec<LookUp>> {
        let mut state = self.look_ups.state();
        if state.waiting.is_empty() {
            // Under this lock: who comes next begins anew.
            state.is_running = false;
            self.is_done = true;
            return None;
        }
        Some(std::mem::take(&mut state.waiting))
    }

    fn answer(&self, waiting: Vec<LookUp>) {
        let mut found = Vec::with_capacity(waiting.len());
        let outcome = self.look_ups.readers.read(|connection| {
            // One snapshot, and one lock of the file, for all of them.
            let snapshot = connection.unchecked_transaction()?;
            for look_up in &waiting {
                found.push(find(&snapshot, &look_up.begin)?);
            }
            Ok(())
        });
        // Who erred, and with it who comes after, is told so. A caller that went away does not mind.
        let mut waiting = waiting.into_iter();
        let begun: Vec<_> = waiting.by_ref().take(found.len()).collect();
        let noted = self.note_begun(&begun, &mut found);
        for (look_up, found) in begun.into_iter().zip(found) {
            let _ = look_up.reply.send(noted.clone().map(|()| found));
        }
        if let Err(error) = outcome {
            for look_up in waiting {
                let _ = look_up.reply.send(Err(unavailable(&error)));
            }
        }
    }

    /// Notes the sends that the log has no result of, with one write for all.
    fn note_begun(&self, look_ups: &[LookUp], found: &mut [EarlierSends]) -> Result<(), ReadError> {
        let asked = look_ups.iter().flat_map(|look_up| &look_up.begin.sends);
        let answers = found.iter_mut().flat_map(|found| &mut found.sends);
        let (new, answers): (Vec<(&str, ContentDigest)>, Vec<_>) = asked
            .zip(answers)
            .filter(|(_, answer)| answer.is_none())
            .map(|((wire_id, digest), answer)| ((wire_id.as_str(), *digest), answer))
            .unzip();
        let earlier = self.look_ups.begun.begin(&new).map_err(|error| {
            ReadError::Unavailable(format!("can't note in it that sends begin: {error}"))
        })?;
        for (answer, earlier) in answers.into_iter().zip(earlier) {
            *answer = earlier.map(|begun| EarlierSend::Interrupted {
                at: begun.at,
                digest: begun.digest,
            });
        }
        for (look_up, found) in look_ups.iter().zip(found) {
            let mut others = look_up.begin.conflicting_ids.iter();
            found.conflicting_id |= others.any(|wire_id| self.look_ups.begun.is_begun(wire_id));
        }
        Ok(())
    }
}

fn find(connection: &Connection, begin: &BeginSends) -> rusqlite::Result<EarlierSends> {
    let mut earlier = EarlierSends::default();
    for (wire_id, _) in &begin.sends {
        let done = find_send(connection, wire_id)?;
        let done = done.map(|done| EarlierSend::Done(Box::new(done)));
        earlier.sends.push(done);
    }
    for wire_id in &begin.conflicting_ids {
        earlier.conflicting_id |= find_send(connection, wire_id)?.is_some();
    }
    Ok(earlier)
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_done {
            let mut state = self.look_ups.state();
            state.is_running = false;
            state.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        events::{EventLog as _, NewEvent, embedded::EmbeddedLog},
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
    async fn each_of_many_at_once_gets_its_own_answer() {
        let folder = tempfile::tempdir().unwrap();
        let an_hour = Duration::from_secs(3600);
        let log = Arc::new(EmbeddedLog::open(folder.path(), an_hour, Metrics::new()).unwrap());
        let sent: Vec<_> = (0..300).map(|n| result(&format!("m{n}"))).collect();
        log.append(Arc::new(sent)).await.unwrap();
        let look_ups: Vec<_> = (0..300)
            .map(|n| {
                let log = Arc::clone(&log);
                let wire_id = |id: String| ApplicationName::default_application().wire_id(&id);
                let ids = [wire_id(format!("m{n}")), wire_id(format!("never-{n}"))];
                let sends = ids.map(|id| (id, [7; 16])).to_vec();
                let begin = BeginSends {
                    sends,
                    ..BeginSends::default()
                };
                tokio::spawn(async move { log.begin_sends(begin).await.unwrap() })
            })
            .collect();
        for (n, look_up) in look_ups.into_iter().enumerate() {
            let found = tokio::time::timeout(Duration::from_secs(30), look_up)
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

    /// As where the runtime ends before its blocking task began.
    #[tokio::test]
    async fn who_waits_for_a_look_up_that_ended_early_hears_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let readers = Arc::new(Readers::new(folder.path().join("none.sqlite")));
        let begun = folder.path().join("begun");
        let begun = BegunSends::open(begun, Timestamp::UNIX_EPOCH, |_| false).unwrap();
        let look_ups = LookUps::new(readers, begun);
        look_ups.state().is_running = true;
        let waiting = tokio::spawn({
            let look_ups = Arc::clone(&look_ups);
            async move { look_ups.find(begin("a")).await }
        });
        while look_ups.state().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(Running {
            look_ups: Arc::clone(&look_ups),
            is_done: false,
        });
        let deadline = Duration::from_secs(30);
        let heard = tokio::time::timeout(deadline, waiting).await.unwrap();
        assert!(matches!(heard.unwrap(), Err(ReadError::Unavailable(_))));
        // The next one begins anew, and hears of what it finds: no such file.
        let next = look_ups.find(begin("a"));
        let error = tokio::time::timeout(deadline, next)
            .await
            .unwrap()
            .unwrap_err();
        assert!(error.to_string().contains("open"), "{error}");
    }
}
