//! Sends pushes: concurrently while the clock runs, and in order of each server during an advance.
//!
//! Invariants: at most `push_concurrency` requests are in flight; a push of an earlier generation is discarded.
//! Neighbours: `push` has the content and the retry cycle, `faults` decides whether a push is reset or duplicated.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use super::Engine;
use crate::push::{self, DuePush, DuePushes, PushId};

impl Engine {
    /// Sends pushes, sequentially for each server, and returns when all are answered.
    pub(crate) async fn send_pushes(self: &Arc<Self>, DuePushes { pushes, generation }: DuePushes) {
        let mut by_server: BTreeMap<String, Vec<DuePush>> = BTreeMap::new();
        for push in pushes {
            // A reset may have removed the push: its attempt then does nothing.
            let Some(url) = self.lock().pushes.url(push.id).map(str::to_owned) else {
                continue;
            };
            let server = reqwest::Url::parse(&url).map(|url| url.origin().ascii_serialization());
            by_server
                .entry(server.unwrap_or(url))
                .or_default()
                .push(push);
        }
        let servers = by_server.into_values().map(|pushes| async {
            for push in pushes {
                self.deliver(push, generation).await;
            }
        });
        futures_util::future::join_all(servers).await;
    }

    /// Sends each push in a task of its own.
    pub(super) fn spawn_pushes(self: &Arc<Self>, DuePushes { pushes, generation }: DuePushes) {
        for push in pushes {
            self.pushes_in_flight.fetch_add(1, Ordering::AcqRel);
            let engine = self.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = engine.shutdown.cancelled() => {}
                    () = engine.deliver(push, generation) => {}
                }
                engine.pushes_in_flight.fetch_sub(1, Ordering::AcqRel);
                engine.push_finished.notify_waiters();
            });
        }
    }

    /// Waits until no spawned push is in flight.
    pub(super) async fn wait_for_pushes(&self) {
        loop {
            let push_finished = self.push_finished.notified();
            if self.pushes_in_flight.load(Ordering::Acquire) == 0 {
                return;
            }
            push_finished.await;
        }
    }

    /// Makes one attempt of a push, and one of its duplicate if a fault duplicates it.
    async fn deliver(self: &Arc<Self>, push: DuePush, generation: u64) {
        let _permit = self
            .push_permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        if let Some(id) = self.attempt(push, generation, true).await {
            let duplicate = DuePush { id, ..push };
            self.attempt(duplicate, generation, false).await;
        }
    }

    /// Makes one attempt of a push and records its result. Returns the id of the duplicate, if a fault makes one.
    async fn attempt(
        self: &Arc<Self>,
        DuePush { id, due_ms }: DuePush,
        generation: u64,
        may_duplicate: bool,
    ) -> Option<PushId> {
        let (push_request, reset) = {
            let mut state = self.lock();
            if state.generation != generation {
                return None;
            }
            let push_request = state.push_request(id, &self.config.currency)?;
            let url = state.pushes.url(id);
            (
                push_request,
                url.is_some_and(|url| self.faults.resets_push(url)),
            )
        };
        let status = if reset {
            None
        } else {
            push::send_request(&self.client, self.config.push_timeout, push_request).await
        };
        let mut state = self.lock();
        if state.generation != generation {
            return None;
        }
        let accepted = status == Some(200);
        let duplicated = may_duplicate
            && accepted
            && state
                .pushes
                .url(id)
                .is_some_and(|url| self.faults.duplicates_push(url));
        let duplicate = if duplicated {
            state.duplicate_push(id)
        } else {
            None
        };
        state.record_attempt(id, due_ms, status);
        self.release(state);
        duplicate
    }
}
