//! The harness. Each type owns what it starts and stops it.

pub mod authority;
pub mod bridge;
pub mod broker;
pub mod credentials;
pub mod document;
pub mod external_programs;
pub mod fuzz;
pub mod generated;
pub mod http2;
pub mod ports;
pub mod process;
pub mod raw_call;
pub mod relay;
pub mod small_disk;
pub mod wire;

mod eventually;
#[allow(dead_code, reason = "the simulator's tests use the rest")]
pub mod simulator;

pub use self::eventually::{DEADLINE, eventually};
