//! Notices panics of the tasks without which the process would be alive and not do its work.
//!
//! A panic is a mistake of the bridge, and what its task held is lost with it. The process ends then, with a status that makes its
//! supervisor start it again: what it did not acknowledge is delivered again, as after a kill.
//! Tasks whose place another one takes are not watched: connections, calls, subscriptions, the consumers and the session of the broker.
//! Invariant: the first panic stays known until the process ends.
//! Neighbours: who starts a task wraps it; `app` ends the process, and `admin` fails `/live`.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::kill_point;

/// Cheap to clone; clones share what they noticed.
#[derive(Debug, Clone, Default)]
pub struct TaskWatch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    first: OnceLock<&'static str>,
    panicked: CancellationToken,
}

/// Notices a panic of the task or of the thread that owns it.
#[derive(Debug)]
pub struct PanicGuard {
    watch: TaskWatch,
    task: &'static str,
}

impl TaskWatch {
    /// The same task, whose panic is noticed.
    pub fn watch<F: Future>(
        &self,
        task: &'static str,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let guard = self.guard(task);
        async move {
            // A panic drops it while it unwinds.
            let _guard = guard;
            kill_point::may_panic(task, work).await
        }
    }

    /// For a thread, whose panic is noticed if it owns the guard.
    #[must_use]
    pub fn guard(&self, task: &'static str) -> PanicGuard {
        PanicGuard {
            watch: self.clone(),
            task,
        }
    }

    /// The first task that panicked.
    #[must_use]
    pub fn first(&self) -> Option<&'static str> {
        self.0.first.get().copied()
    }

    /// Resolves with the first task that panicked.
    pub async fn panicked(&self) -> &'static str {
        self.0.panicked.cancelled().await;
        self.first().unwrap_or_default()
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Inner { first, panicked } = &*self.watch.0;
        // The first one counts.
        let _ = first.set(self.task);
        panicked.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_panic_is_noticed_and_an_end_is_not() {
        let watch = TaskWatch::default();
        assert_eq!(watch.watch("first", async { 1 }).await, 1);
        let aborted = tokio::spawn(watch.watch("second", std::future::pending::<()>()));
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(watch.first(), None);

        let nested = async {
            tokio::task::yield_now().await;
            panic!("a mistake");
        };
        let task = watch.watch("third", async move { Box::pin(nested).await });
        assert!(tokio::spawn(task).await.unwrap_err().is_panic());
        let guard = watch.guard("fourth");
        let thread = std::thread::spawn(move || {
            let _guard = guard;
            panic!("another one");
        });
        assert!(thread.join().is_err());
        assert_eq!(watch.first(), Some("third"));
        assert_eq!(watch.panicked().await, "third");
    }
}
