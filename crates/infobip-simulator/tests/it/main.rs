//! The simulator's integration tests: one binary, one module for each theme.

// clippy.toml allows these in test functions only, not in the functions that they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod basics;
mod clients;
mod document;
mod edges;
mod endpoints;
mod faults;
mod fuzz;
mod own_interface;
mod parameters;
mod samples;
mod support;
mod time;
mod xml_samples;
