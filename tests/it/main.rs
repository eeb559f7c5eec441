//! The one integration test binary: `support` holds the harness, every other module is a theme.

mod cli;
mod simulator;
mod support;
