//! The one integration test binary: `support` is the harness, every other module covers one topic.

// clippy.toml allows these in test functions only, not in the functions that they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod amqp;
mod cli;
mod crash;
mod documents;
mod end_to_end;
mod events;
mod grpc;
mod infobip;
mod logs;
mod metrics;
#[cfg(feature = "kill-points")]
mod panics;
mod quarantine;
mod scripts;
mod send;
mod shutdown;
mod support;
mod webhooks;
