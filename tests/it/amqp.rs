//! The AMQP edge and the broker engine of the event log, against a real broker.

mod api_down;
mod commands;
mod custody;
mod custody_of_copies;
mod dead_letters;
mod log;
mod outage;
mod poison;
mod promises;
mod publisher;
mod reconnect;
mod topology;
