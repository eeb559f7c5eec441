//! The AMQP edge and the broker engine of the event log, against a real broker.

mod commands;
mod custody;
mod dead_letters;
mod log;
mod topology;
