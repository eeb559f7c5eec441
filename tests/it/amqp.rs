//! The AMQP edge and the broker engine of the event log, against a real broker.

mod alarm;
mod api_down;
mod api_outages;
mod attempts;
mod begun_sends;
mod commands;
mod custody;
mod custody_of_copies;
mod dead_letters;
mod doubts;
mod expiry;
mod frozen_broker;
mod log;
mod log_under_load;
pub(crate) mod lookup;
mod lost_sessions;
mod outage;
mod poison;
mod promises;
mod publisher;
mod reconnect;
mod replicas;
mod stuck_queue;
mod tls;
mod topology;
mod untried_copies;
mod urgent_share;
