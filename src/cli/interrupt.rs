//! Ctrl-C in a client command that has sent something: the command prints how far it came, instead of ending at once.
//!
//! Neighbours: `send` waits for it beside its work; every other client command has the system's default, which ends the process.

/// Resolves at Ctrl-C (SIGINT). The default, the end of the process, is off as soon as this is polled.
pub(super) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the default is still on.
        std::future::pending::<()>().await;
    }
}
