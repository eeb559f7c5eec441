//! The one integration test binary: `support` holds the harness, every other module is a theme.

// clippy.toml allows these in test functions only, not in what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod amqp_log;
mod amqp_topology;
mod auth;
mod cli;
mod commands;
mod contract_document;
mod dead_letters;
mod errors_document;
mod event_fields;
mod every_method;
mod examples;
mod faults;
mod first_light;
mod grpc_connections;
mod grpc_fields;
mod grpc_fuzz;
mod grpc_hostile;
mod grpc_methods;
mod grpc_slow;
mod infobip_client;
mod metrics;
mod overload;
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
mod subscribe;
mod support;
