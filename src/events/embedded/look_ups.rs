//! Looking for earlier sends, which each send does whose id its caller may repeat.
//!
//! Invariants: one look-up is made at a time, and those that come meanwhile share the next one, so that thousands of callers
//! take one thread and one connection; a look-up sees all that was durable when it was asked for. What waits is bounded by
//! the calls that wait for it. Neighbours: `reader` has the connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{
    super::{ReadError, RecordedSend},
    reader::{Readers, find_send, unavailable},
};

type Found = Result<Vec<Option<RecordedSend>>, ReadError>;

struct LookUp {
    wire_ids: Vec<String>,
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
    state: Mutex<State>,
}

impl LookUps {
    pub(super) fn new(readers: Arc<Readers>) -> Arc<Self> {
        Arc::new(Self {
            readers,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`super::super::EventLog::find_sends`].
    pub(super) async fn find(self: &Arc<Self>, wire_ids: Vec<String>) -> Found {
        let (reply, found) = oneshot::channel();
        let was_running = {
            let mut state = self.state();
            state.waiting.push(LookUp { wire_ids, reply });
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
        let mut waiting = waiting.into_iter();
        let mut erred = None;
        let outcome = self.look_ups.readers.read(|connection| {
            // One snapshot, and one lock of the file, for all of them.
            let snapshot = connection.unchecked_transaction()?;
            for LookUp { wire_ids, reply } in waiting.by_ref() {
                let found: rusqlite::Result<_> = wire_ids
                    .iter()
                    .map(|wire_id| find_send(&snapshot, wire_id))
                    .collect();
                // A caller that went away does not mind. Who erred, and with it who comes after, is told below.
                match found {
                    Ok(found) => drop(reply.send(Ok(found))),
                    Err(error) => {
                        erred = Some(reply);
                        // So that this connection is not kept.
                        return Err(error);
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = outcome {
            let rest = waiting.map(|look_up| look_up.reply);
            for reply in erred.into_iter().chain(rest) {
                let _ = reply.send(Err(unavailable(&error)));
            }
        }
    }
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
        let digest = Some([7; 16]);
        NewEvent::send_result(&ApplicationName::default_application(), "", digest, result)
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
                let ids = vec![wire_id(format!("m{n}")), wire_id(format!("never-{n}"))];
                tokio::spawn(async move { log.find_sends(ids).await.unwrap() })
            })
            .collect();
        for (n, look_up) in look_ups.into_iter().enumerate() {
            let found = tokio::time::timeout(Duration::from_secs(30), look_up)
                .await
                .unwrap()
                .unwrap();
            let ids = found.iter().map(|found| {
                let found = found.as_ref()?;
                Some(found.result.message_id.clone())
            });
            assert_eq!(ids.collect::<Vec<_>>(), [Some(format!("m{n}")), None]);
        }
    }

    /// As where the runtime ends before its blocking task began.
    #[tokio::test]
    async fn who_waits_for_a_look_up_that_ended_early_hears_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let readers = Arc::new(Readers::new(folder.path().join("none.sqlite")));
        let look_ups = LookUps::new(readers);
        look_ups.state().is_running = true;
        let waiting = tokio::spawn({
            let look_ups = Arc::clone(&look_ups);
            async move { look_ups.find(vec!["a".into()]).await }
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
        let next = look_ups.find(vec!["a".into()]);
        let error = tokio::time::timeout(deadline, next)
            .await
            .unwrap()
            .unwrap_err();
        assert!(error.to_string().contains("open"), "{error}");
    }
}
