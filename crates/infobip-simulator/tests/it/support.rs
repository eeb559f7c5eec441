//! The harness of the simulator's tests. The files included by path are shared with the bridge's tests.

#![allow(
    dead_code,
    reason = "the bridge's tests use the rest of the shared files"
)]

pub mod account;
pub mod receiver;
pub mod samples;

#[path = "../../../../tests/it/support/document.rs"]
pub mod document;
#[path = "../../../../tests/it/support/eventually.rs"]
mod eventually_shared;
#[path = "../../../../tests/it/support/external_programs.rs"]
pub mod external_programs;
#[path = "../../../../tests/it/support/fuzz.rs"]
pub mod fuzz;
#[path = "../../../../tests/it/support/simulator.rs"]
pub mod simulator;

pub use self::eventually_shared::eventually;
