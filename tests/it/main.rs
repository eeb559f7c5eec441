//! The one integration test binary: `support` holds the harness, every other module is a theme.

mod amqp_log;
mod cli;
mod first_light;
mod send;
mod simulator;
mod simulator_clients;
mod simulator_document;
mod simulator_parameters;
mod simulator_samples;
mod simulator_xml_samples;
mod support;
