//! The one integration test binary: `support` holds the harness, every other module is a theme.

// clippy.toml allows these in test functions only, not in what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod amqp;
mod cli;
mod documents;
mod events;
mod first_light;
mod grpc;
mod infobip;
mod metrics;
mod send;
mod simulator;
mod simulator_clients;
mod simulator_document;
mod simulator_edges;
mod simulator_endpoints;
mod simulator_faults;
mod simulator_fuzz;
mod simulator_parameters;
mod simulator_samples;
mod simulator_time;
mod simulator_xml_samples;
mod support;
