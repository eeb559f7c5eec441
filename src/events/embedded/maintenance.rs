//! Periodic jobs of the log: removes old events, and probes whether it can be written again.
//!
//! Neighbours: `writer` does the jobs, `health` tells whether a probe is needed.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{health::Health, writer::Job};

/// How often events older than the retention are removed.
const TRIM_INTERVAL: Duration = Duration::from_secs(30);
/// How often it is checked whether a probe is needed.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Trims the log periodically, and probes it while it cannot be written.
pub(super) async fn run(jobs: mpsc::WeakSender<Job>, health: Arc<Health>) {
    let mut trim_due = Instant::now();
    loop {
        if Instant::now() >= trim_due {
            trim_due = Instant::now() + TRIM_INTERVAL;
            if trim(&jobs).await.is_none() {
                return;
            }
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
        let Some(jobs) = jobs.upgrade() else { return };
        if !health.is_ok() && jobs.send(Job::Probe).await.is_err() {
            return;
        }
    }
}

/// Removes all events that are older than the retention. `None` if the log is closed.
async fn trim(jobs: &mpsc::WeakSender<Job>) -> Option<()> {
    // Appends run between the trims.
    loop {
        let (more, is_there_more) = oneshot::channel();
        jobs.upgrade()?.send(Job::Trim { more }).await.ok()?;
        if !is_there_more.await.unwrap_or(false) {
            return Some(());
        }
    }
}
