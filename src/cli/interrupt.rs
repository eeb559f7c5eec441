//! Ctrl-C in a client command that has sent something: the command prints how far it came, instead of ending at once.
//!
//! Neighbours: `send` waits for it beside its work; every other client command has the system's default, which ends the process.

use std::future::pending;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at Ctrl-C (SIGINT). The default, the end of the process, is off as soon as this is called, not when it is first
/// polled: a message may leave before that, and its id must be printed.
pub(super) fn interrupted() -> impl Future<Output = ()> {
    let interrupts = signal(SignalKind::interrupt());
    async {
        match interrupts {
            Ok(mut interrupts) => {
                interrupts.recv().await;
            }
            // Without a handler the default is still on.
            Err(_) => pending().await,
        }
    }
}
