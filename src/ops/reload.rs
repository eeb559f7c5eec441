//! Reloads files while the process runs: certificates and tokens are renewed without a restart.
//!
//! Invariants: a file that can't be used changes nothing, and the same problem is logged once; reading does not block the
//! runtime. Neighbours: `grpc::auth` and `grpc::transport::tls` implement [`Reload`].

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::metrics::{Metrics, ReloadedFiles};

/// Something that is read from files and replaced as a whole when they change.
pub trait Reload: Send + Sync + 'static {
    /// The name in log lines, such as "the tokens file".
    const NAME: &'static str;
    /// The label in the metrics.
    const FILES: ReloadedFiles;
    /// How often the files are read.
    const INTERVAL: Duration;

    /// Reads the files and replaces the current value if they changed. True if they did. Blocks.
    ///
    /// # Errors
    /// Why the files can't be used; the current value stays.
    fn reload(&self) -> Result<bool, String>;
}

/// Reloads until `stop`.
pub async fn keep_loaded<R: Reload>(source: Arc<R>, metrics: Metrics, stop: CancellationToken) {
    let mut last_problem = String::new();
    while stop
        .run_until_cancelled(tokio::time::sleep(R::INTERVAL))
        .await
        .is_some()
    {
        let source = Arc::clone(&source);
        let reloading = tokio::task::spawn_blocking(move || source.reload());
        let reloaded = reloading
            .await
            .unwrap_or_else(|_| Err("reading it panicked".to_owned()));
        match reloaded {
            Ok(changed) => {
                if changed {
                    tracing::info!("{} changed and was read again", R::NAME);
                }
                last_problem.clear();
            }
            Err(problem) if problem == last_problem => metrics.reload_failed(R::FILES),
            Err(problem) => {
                metrics.reload_failed(R::FILES);
                tracing::error!(
                    problem,
                    "{} can't be used: the previous content stays valid",
                    R::NAME
                );
                last_problem = problem;
            }
        }
    }
}
